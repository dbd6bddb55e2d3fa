"""Files of unknown origin: a changed file of a model is refused with an ``InputError`` or read, and no code runs."""

import copy
import gzip
import io
import json
import pickle
import random
import shutil
import struct
import zipfile

import numpy as np
import pytest
import torch
from helpers.data import write_sentences
from helpers.legacy_numpy import write_bilm_tf, write_many_langs
from helpers.models import make_bilm, small_config
from helpers.small_tasks import write_vectors

from elmolite import load_recipe
from elmolite.cli.info import model as describe_model
from elmolite.data.bptt import BPTTBatches
from elmolite.data.corpus import Corpus
from elmolite.data.indexers import UnicodeIndexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.embedding.elmo import ELMo
from elmolite.embedding.output import EmbeddingFolder, embed_file
from elmolite.errors import InputError
from elmolite.pretraining.checkpointing import load_checkpoint, save_checkpoint
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.static_vectors import read_static_vectors
from elmolite.utils import files

SENTENCES = [["ban", "kist"], ["lu"], ["dove", "é", "x" * 60]]


def read_model(folder):
    describe_model(str(folder))
    ELMo.from_pretrained(folder).embed(SENTENCES)


def read_elmo(source):
    ELMo.from_pretrained(source).embed(SENTENCES)


def read_corpus(folder):
    corpus = Corpus.open(folder)
    BPTTBatches(corpus, corpus.train, 2, 8, seed=0).batch(0)
    corpus.sentences(corpus.train, 3)


def read_task(folder):
    TaskCheckpoint.from_pretrained(folder).predict(SENTENCES)


def read_embedding(folder):
    vectors = EmbeddingFolder(folder)
    for i in range(len(vectors)):
        vectors[i]


def read_static(path):
    read_static_vectors(path)


READERS = {  # of a file or folder
    **{
        "model": read_model,
        "unicode": read_model,
        "corpus": read_corpus,
        "task": read_task,
        "embedding": read_embedding,
    },
    **dict.fromkeys(["lexicon", "bilm_tf", "bilm_tf.zip", "many_langs", "many_langs_old"], read_elmo),
    **dict.fromkeys(["vectors.txt", "vectors.bin", "vectors.txt.gz"], read_static),
    "recipe.yaml": load_recipe,
    "training_checkpoint": load_checkpoint,
}
MANIFESTS = {  # with the checksums of the other files of the folder
    **dict.fromkeys(["model", "unicode", "lexicon"], "config.json"),
    **{"corpus": "corpus.json", "task": "task.json", "embedding": "embedding.json"},
}
FILES = [
    *(f"model/{name}" for name in ("model.safetensors", "softmax.safetensors", "vocab.txt", "tokenizer.json")),
    *("unicode/characters.json", "lexicon/lexicon.json", "task/model.safetensors", "task/static_words.txt"),
    *(f"corpus/{name}" for name in ("characters.npy", "words.txt")),
    *(f"corpus/train.{name}.npy" for name in ("tokens", "sentences", "documents")),
    *("embedding/part-00000.safetensors", "bilm_tf/options.json", "bilm_tf.zip"),
    *("many_langs/sizes.json", "many_langs/char.dic", "many_langs/encoder.pkl", "many_langs_old/encoder.pkl"),
    *("vectors.txt", "vectors.bin", "vectors.txt.gz", "recipe.yaml"),
]


@pytest.fixture(scope="module")
def original(tmp_path_factory, corpus, model_folder, tasks):
    """A folder with one of each kind of folder and file."""
    folder = tmp_path_factory.mktemp("original")
    for name, source in (("model", model_folder), ("corpus", corpus.folder), ("task", tasks["classify"][0].folder)):
        shutil.copytree(source, folder / name)
    indexer = UnicodeIndexer("abdeikolstuvxé")
    bilm = make_bilm(small_config(), indexer, seed=0).eval()
    ELMo(bilm, SentenceTokenizer.whitespace(), indexer).save_pretrained(folder / "unicode")
    lines = write_sentences(folder / "lines.txt", SENTENCES)
    embed_file(model_folder, lines, folder / "embedding", pretokenized=True, show_progress=False)
    (folder / "bilm_tf").mkdir()
    write_bilm_tf(folder / "bilm_tf")
    with zipfile.ZipFile(folder / "bilm_tf.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((folder / "bilm_tf").iterdir()):
            archive.write(path, path.name)
    write_many_langs(folder / "many_langs")
    write_many_langs(folder / "many_langs_old", is_zip=False)
    ELMo.from_pretrained(folder / "many_langs").save_pretrained(folder / "lexicon")
    write_vectors(folder / "vectors.txt")
    (folder / "vectors.txt.gz").write_bytes(gzip.compress((folder / "vectors.txt").read_bytes()))
    rows = [f"w{i} ".encode() + np.full(3, i, "<f4").tobytes() for i in range(4)]
    (folder / "vectors.bin").write_bytes(b"4 3\n" + b"\n".join(rows))
    (folder / "recipe.yaml").write_text("preset: tiny\nmax_steps: 10\nmodel:\n  dropout: 0.2\n")
    save_checkpoint(folder / "training_checkpoint", {"step": 1})
    for name, read in READERS.items():
        read(folder / name)
    return folder


@pytest.fixture
def place(original, tmp_path, request):
    """A copy of a file, or of the folder of a file, with the reader of it."""
    name = request.getfixturevalue("file").split("/")[0]
    (shutil.copytree if (original / name).is_dir() else shutil.copy)(original / name, tmp_path / name)
    return tmp_path / name


def replace(path, content):
    """Write a file, with valid checksums in the manifest of its folder."""
    path.write_bytes(content)
    manifest = path.parent / MANIFESTS.get(path.parent.name, "")
    if path == manifest or not manifest.is_file():
        return
    listed = json.loads(manifest.read_bytes())
    del listed["sha256"]
    for name, entry in listed.get("files", {}).items():
        entry.update(files.file_entry(path.parent / name))
    for number, entry in enumerate(listed.get("parts", [])):
        entry.update(files.file_entry(path.parent / f"part-{number:05}.safetensors"))
    files.write_manifest(manifest, listed)


class Bomb:
    """Object that writes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return exec, (f"open({str(self.mark)!r}, 'w').close()",)


def in_torch_file(bomb, *, is_zip):
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(2), "bomb": bomb}, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


def in_array_file(bomb):
    buffer = io.BytesIO()
    np.save(buffer, np.array([bomb], object), allow_pickle=True)
    return buffer.getvalue()


PICKLES = {
    "pickle": lambda bomb: pickle.dumps(bomb, protocol=2),
    "torch": lambda bomb: in_torch_file(bomb, is_zip=True),
    "torch before zip": lambda bomb: in_torch_file(bomb, is_zip=False),
    "array of objects": in_array_file,
}


@pytest.mark.parametrize("file", [*FILES, "model/config.json", "bilm_tf/weights.hdf5", "training_checkpoint"])
def test_no_reader_runs_the_code_in_a_pickle(tmp_path, place, file):
    for make in PICKLES.values():
        replace(tmp_path / file, make(Bomb(tmp_path / "executed")))
        with pytest.raises(InputError):
            READERS[place.name](place)
        assert not (tmp_path / "executed").exists()
    pickle.loads(PICKLES["pickle"](Bomb(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("tag", ["object/apply:os.mkdir", "object/new:os.mkdir"])
def test_a_recipe_calls_no_function(tmp_path, tag):
    (tmp_path / "recipe.yaml").write_text(f"max_steps: !!python/{tag} [{str(tmp_path / 'executed')!r}]\n")
    with pytest.raises(InputError):
        load_recipe(tmp_path / "recipe.yaml")
    assert not (tmp_path / "executed").exists()


NUMBERS = [0, 1, -1, 7, 255, 2**15, 2**31 - 1, 2**32, 2**53, 2**62, 2**63, 2**64, 10**12, -(2**63)]
VALUES = [
    *(None, True, False, 10**30, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), *NUMBERS),
    *("", "0", "../../x", "/etc/passwd", "a\0b", "\ud800", "x" * 5000, [], [[]], {}, {"": {}}, [0] * 1000),
]
PIECES = [b"\0", b"\xff", b"\n", b"\r", b"\t", b"{", b"[" * 2000, b"\xed\xa0\x80", b"9" * 5000, b"1e999", b"\x80\x04"]


def places(content):
    """Yield the container and the key of every value of JSON."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content[:20]):
        yield content, key
        if isinstance(value, dict | list):
            yield from places(value)


def changed_json(whole, rng):
    """Replace, wrap or drop values of JSON, or change its bytes."""
    if rng.random() < 0.2:
        return changed_bytes(whole, rng)
    content = json.loads(whole)
    for _ in range(rng.randint(1, 3)):
        container, key = rng.choice(list(places(content)) or [({"": 0}, "")])
        kind = rng.choice(["replace", "replace", "replace", "wrap", "drop"])
        if kind == "replace":
            container[key] = copy.deepcopy(rng.choice(VALUES))
        elif kind == "wrap":
            container[key] = [container[key]]
        else:
            del container[key]
    return json.dumps(content).encode("utf-8", "surrogatepass")


def changed_bytes(whole, rng):
    """Flip, cut, repeat or insert bytes, or overwrite numbers, mostly at the beginning."""
    content = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(max(1, min(len(content), 4096) if rng.random() < 0.5 else len(content)))
        kind = rng.choice(["flip", "flip", "number", "number", "cut", "remove", "repeat", "insert"])
        if kind == "flip" and content:
            content[at] ^= rng.randint(1, 255)
        elif kind == "number":
            form = rng.choice(["<Q", "<I", "<H", ">I"])
            size = struct.calcsize(form)
            content[at : at + size] = struct.pack(form, rng.choice(NUMBERS) % (1 << 8 * size))
        elif kind == "cut":
            del content[at:]
        elif kind == "remove":
            del content[at : at + rng.randint(1, 64)]
        elif kind == "repeat":
            content[at:at] = content[at : at + rng.randint(1, 256)]
        else:
            content[at:at] = rng.choice(PIECES)
    return bytes(content)


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith(("corpus", "lexicon"))])
def test_a_changed_file_is_refused_or_read(tmp_path, is_full, place, file):
    path, rng, n_refused = tmp_path / file, random.Random(file), 0
    whole = path.read_bytes()
    change = changed_json if path.suffix == ".json" else changed_bytes
    for _ in range(100 if is_full else 10):
        replace(path, change(whole, rng))
        try:
            READERS[place.name](place)
        except InputError:
            n_refused += 1
    assert n_refused > 0
