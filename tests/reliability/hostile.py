"""Folders and files as a stranger could send them: valid ones, changes that keep them well-formed, an audit hook."""

import atexit
import io
import json
import os
import pickle
import shutil
import sys
import sysconfig
import tempfile
import typing
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import make_corpus, random_sentences, small_config
from helpers.legacy_numpy import write_bilm_tf, write_many_langs
from helpers.models import make_bilm
from helpers.small_tasks import setup_of, train, write_classes, write_vectors

from elmolite import load_recipe
from elmolite.checkpoint import Checkpoint
from elmolite.cli.info import describe_model
from elmolite.data.bptt import BPTTBatches
from elmolite.data.corpus import Corpus
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.embedding.elmo import ELMo
from elmolite.embedding.output import EmbeddingFolder, embed_file
from elmolite.nn.softmax import FullSoftmax
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.trainer import pretrain
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.static_vectors import StaticVectors
from elmolite.utils import files

SENTENCES = [["ban", "kist"], ["lu"], ["dove", "é", "x" * 60]]
RUN = PretrainingConfig(batch_size=2, bptt_length=8, max_steps=4, n_validations=1, warmup_steps=1, softmax="full")
RUN_MODEL = small_config()
MARK = "executed"
"""The file that a :class:`Bomb` writes."""


@cache
def made_once():
    """Return a folder with one of each kind of folder and file, for all tests of the session."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elmolite.tasks.finetune._draw", lambda *of_the_run: None)
        patch.setenv("XDG_CACHE_HOME", str(folder / "user_cache"))
        return _make_all(folder / "good")


def _make_all(folder):
    folder.mkdir()
    corpus = make_corpus(folder / "text", random_sentences(60), characters="unicode", min_character_count=1)
    shutil.move(corpus.folder, folder / "corpus")
    torch.manual_seed(0)
    bilm = make_bilm(small_config(), corpus.characters)
    softmax = FullSoftmax(vocabulary_size=len(corpus.vocabulary), projection_size=12)
    tokenizer = SentenceTokenizer.english()
    Checkpoint(bilm, tokenizer, corpus.characters, softmax, corpus.vocabulary).save_pretrained(folder / "model")
    write_bilm_tf(folder / "bilm_tf")
    for name, is_zip in (("many_langs", True), ("many_langs_old", False)):
        write_many_langs(folder / name, is_zip=is_zip)
    ELMo.from_pretrained(folder / "many_langs").save_pretrained(folder / "lexicon")
    write_vectors(folder / "vectors.txt")
    rows = [f"w{i} ".encode() + np.full(3, i, "<f4").tobytes() for i in range(4)]
    (folder / "vectors.bin").write_bytes(b"4 3\n" + b"\n".join(rows))
    static = str(folder / "vectors.txt")
    setup = setup_of(folder / "model", "classify", train=write_classes(folder / "examples.txt"), static=static)
    shutil.copytree(train(setup, folder / "task_run", n_epochs=1).folder, folder / "task")
    (folder / "lines.txt").write_text("\n".join(" ".join(each) for each in SENTENCES) + "\n")
    embed_file(folder / "model", folder / "lines.txt", folder / "embedding", pretokenized=True, show_progress=False)
    pretrain(RUN, model=RUN_MODEL, corpus=folder / "corpus", out=folder / "run", show_progress=False)
    (folder / "recipe.yaml").write_text("preset: tiny\nmax_steps: 10\nmodel:\n  dropout: 0.2\n")
    return folder


# Readers: how a user reads each folder.


def read_model(folder):
    describe_model(str(folder / "model"))
    ELMo.from_pretrained(folder / "model").embed(SENTENCES)


def read_lexicon(folder):
    ELMo.from_pretrained(folder / "lexicon").embed(SENTENCES)


def read_corpus(folder):
    corpus = Corpus.open(folder / "corpus")
    BPTTBatches(corpus, corpus.train, 2, 8, seed=0).batch(0)
    corpus.sentences(corpus.train, 3)


def read_run(folder):
    options = {"corpus": folder / "corpus", "out": folder / "run", "resume": True, "show_progress": False}
    pretrain(RUN, model=RUN_MODEL, **options)


def read_task(folder):
    TaskCheckpoint.from_pretrained(folder / "task").predict(SENTENCES)


def read_embedding(folder):
    vectors = EmbeddingFolder(folder / "embedding")
    for _ in zip(vectors, range(10), strict=False):
        pass


def read_bilm_tf(folder):
    ELMo.from_pretrained(folder / "bilm_tf").embed(SENTENCES)


def read_archive(folder):
    ELMo.from_pretrained(folder / "a.zip").embed(SENTENCES)


def read_many_langs(folder):
    for name in ("many_langs", "many_langs_old"):
        ELMo.from_pretrained(folder / name).embed(SENTENCES)


def read_recipe(folder):
    load_recipe(folder / "recipe.yaml")


def read_vectors(folder):
    for name in ("vectors.txt", "vectors.bin"):
        StaticVectors.load(folder / name, show_progress=False)


# Changes that keep checksums and formats valid.


def write_json(path, content, *, is_manifest):
    """Write JSON; a manifest with its checksum."""
    if is_manifest and isinstance(content, dict):
        content.pop("sha256", None)
        body = json.dumps(content, indent=2).encode().removesuffix(b"\n}")
        path.write_bytes(body + files._manifest_footer(body))
    else:
        path.write_bytes(json.dumps(content).encode())


def change(path, function):
    """Change the JSON of a file, and its checksum if it has one."""
    content = json.loads(path.read_text())
    function(content)
    write_json(path, content, is_manifest="sha256" in content)


def update_checksums(manifest):
    """Update the sizes and checksums in a manifest."""

    def update(content):
        for name, entry in content.get("files", {}).items():
            entry.update(files.file_entry(manifest.parent / name))
        for number, entry in enumerate(content.get("parts", [])):
            entry.update(files.file_entry(manifest.parent / f"part-{number:05}.safetensors"))

    change(manifest, update)


def replaced(manifest, name, content):
    """Return a change that replaces a file of a folder and updates the manifest."""

    def make(folder):
        path = folder / manifest
        (path.parent / name).write_bytes(content(folder))
        update_checksums(path)

    return make


def in_manifest(manifest, function):
    return lambda folder: change(folder / manifest, lambda content: function(content, folder))


def in_file(name, content):
    return lambda folder: (folder / name).write_bytes(content(folder))


def in_hdf5(name, make):
    """Return a change that replaces an array of the weights of ``bilm_tf``."""

    def apply(folder):
        with h5py.File(folder / "bilm_tf" / "weights.hdf5", "a") as file:
            del file[name]
            make(file, name, folder)

    return apply


# Code.


class Bomb:
    """Object that writes a file when it is unpickled."""

    def __init__(self, folder):
        self.command = f"open({str(folder / MARK)!r}, 'w').close()"

    def __reduce__(self):
        return exec, (self.command,)


def pickled(folder):
    return pickle.dumps(Bomb(folder), protocol=2)


def saved(folder, *, is_zip=True):
    buffer = io.BytesIO()
    content = {"state_dict": Bomb(folder), "weight": torch.zeros(2)}
    torch.save(content, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


def objects(folder):
    """An ``.npy`` file that holds a pickle."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb(folder)], object), allow_pickle=True)
    return buffer.getvalue()


def code(folder):
    return f"__import__('os').system('touch {folder / MARK}')"


def code_in_strings(content, folder):
    """Replace every string of JSON by code, except the names of files."""
    if isinstance(content, dict):
        return {key: code_in_strings(value, folder) if key != "files" else value for key, value in content.items()}
    if isinstance(content, list):
        return [code_in_strings(value, folder) for value in content]
    return code(folder) if isinstance(content, str) else content


def outside(folder):
    """Return a folder next to a stranger's, with files that he would like to have read."""
    place = folder.parent / "outside"
    place.mkdir(exist_ok=True)
    with h5py.File(place / "other.h5", "w") as file:
        file["x"] = np.full(3, 7, np.float32)
    (place / "secret.txt").write_text("a secret\t1\n")
    return place


_CONNECTIONS = ("socket.", "pickle.", "ctypes.dlopen")
_HARMLESS = (("ctypes.dlopen", (None,)), ("socket.gethostname", ()))
"""The process itself; TensorBoard's file names."""
_PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty")
_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")
_INSTALLATION = tuple(
    {
        *(str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        str(Path(files.__file__).parents[1].resolve()),
    }
)
_TYPING = os.path.realpath(typing.__file__)
_MACHINE = ("/proc/", "/sys/", "/dev/null", "/dev/urandom")


class Watch:
    """Audit hook that records executed code, new processes, connections, and files outside the permitted folders.

    A hook cannot be removed: outside of :meth:`over` it does nothing.
    """

    def __init__(self):
        self.allowed: tuple[str, ...] | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._see)

    @contextmanager
    def over(self, *folders):
        """Record violations during the block; files in these folders may be opened."""
        self.seen = []
        self.allowed = tuple(str(folder.resolve()) for folder in folders)
        try:
            yield self.seen
        finally:
            self.allowed = None

    def _see(self, event, arguments):
        if self.allowed is None:
            return
        if event == "exec":  # code that is compiled and not executed is data, as the header of an .npy file
            self._see_code(arguments[0])
        elif event == "open" or event in _CHANGES:
            path = arguments[0]
            if isinstance(path, str | bytes | os.PathLike):
                self._see_path(event, os.fsdecode(path), arguments)
        elif (event in _PROCESSES or event.startswith(_CONNECTIONS)) and (event, arguments) not in _HARMLESS:
            self.seen.append(f"{event} {arguments!r}"[:300])

    def _see_path(self, event, path, arguments):
        folder = arguments[1] if event != "open" and isinstance(arguments[1], int) and arguments[1] >= 0 else None
        real = os.path.realpath(path if folder is None else f"/proc/self/fd/{folder}/{path}")
        is_searched = event == "open" and path in sys.path  # an archive of modules, if it were there
        if not is_searched and not real.startswith((*self.allowed, *_INSTALLATION, *_MACHINE)):
            self.seen.append(f"{event} {arguments!r}"[:300])

    def _see_code(self, code):
        name = code.co_filename
        is_of_typing = os.path.realpath(sys._getframe(2).f_code.co_filename) == _TYPING  # it evaluates annotations
        if not (is_of_typing or name.startswith("<frozen") or os.path.realpath(name).startswith(_INSTALLATION)):
            self.seen.append(f"exec {name} {code.co_names} {code.co_consts}"[:300])
