"""Fuzzing: a changed file is refused with an :class:`InputError` or read, by every reader.

50 changes of each file, or as many as ``ELMOLITE_FUZZ`` says.
"""

import contextlib
import copy
import gzip
import json
import os
import random
import shutil
import struct
import zipfile

import pytest
from hostile import (
    made_once,
    read_archive,
    read_bilm_tf,
    read_corpus,
    read_embedding,
    read_lexicon,
    read_many_langs,
    read_model,
    read_recipe,
    read_task,
    update_checksums,
    write_json,
)

from elmolite.errors import InputError
from elmolite.tasks.static_vectors import StaticVectors

N_CHANGES = int(os.environ.get("ELMOLITE_FUZZ", "50"))
NUMBERS = [0, 1, -1, 7, 255, 2**15, 2**31 - 1, 2**32, 2**53, 2**62, 2**63, 2**64, 10**12, -(2**63)]
VALUES = [
    *(None, True, False, 10**30, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), *NUMBERS),
    *("", "0", "../../x", "/etc/passwd", "a\0b", "\ud800", "x" * 5000, [], [[]], {}, {"": {}}, [0] * 1000),
]
PIECES = [b"\0", b"\xff", b"\n", b"\r", b"\t", b"{", b"[" * 2000, b"\xed\xa0\x80", b"9" * 5000, b"1e999", b"\x80\x04"]


def places(content, path=()):
    """Yield the path to every value of JSON."""
    yield path
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content[:20]):
            yield from places(value, (*path, key))


def changed_json(whole, rng):
    """Replace, wrap, drop or rename values of JSON, or change its bytes."""
    if rng.random() < 0.2:
        return changed_bytes(whole, rng)
    content = json.loads(whole)
    for _ in range(rng.randint(1, 3)):
        path, value = rng.choice(list(places(content))), copy.deepcopy(rng.choice(VALUES))
        if not path:
            content = value
            continue
        parent = content
        for key in path[:-1]:
            parent = parent[key]
        kind = rng.choice(["replace", "replace", "replace", "wrap", "drop", "rename"])
        old = parent[path[-1]]
        if kind == "replace":
            parent[path[-1]] = value
        elif kind == "wrap":
            parent[path[-1]] = [old]
        else:
            del parent[path[-1]]
            if kind == "rename" and isinstance(parent, dict):
                parent[str(value)[:100]] = old
    return json.dumps(content).encode("utf-8", "surrogatepass")


def changed_bytes(whole, rng, head=4096):
    """Flip, cut, repeat or insert bytes, or overwrite numbers, mostly at the beginning."""
    content = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(max(1, min(len(content), head) if rng.random() < 0.5 else len(content)))
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


def vectors(name):
    return lambda folder: StaticVectors.load(folder / name, show_progress=False)


FILES = {  # file -> the manifest whose checksums are updated, and the reader
    "model/config.json": (None, read_model),
    "model/model.safetensors": ("model/config.json", read_model),
    "model/softmax.safetensors": ("model/config.json", read_model),
    "model/vocab.txt": ("model/config.json", read_model),
    "model/tokenizer.json": ("model/config.json", read_model),
    "model/characters.json": ("model/config.json", read_model),
    "lexicon/lexicon.json": ("lexicon/config.json", read_lexicon),
    "corpus/corpus.json": (None, read_corpus),
    "corpus/train.tokens.npy": ("corpus/corpus.json", read_corpus),
    "corpus/train.sentences.npy": ("corpus/corpus.json", read_corpus),
    "corpus/train.documents.npy": ("corpus/corpus.json", read_corpus),
    "corpus/characters.npy": ("corpus/corpus.json", read_corpus),
    "corpus/words.txt": ("corpus/corpus.json", read_corpus),
    "task/task.json": (None, read_task),
    "task/model.safetensors": ("task/task.json", read_task),
    "task/static_words.txt": ("task/task.json", read_task),
    "embedding/embedding.json": (None, read_embedding),
    "embedding/part-00000.safetensors": ("embedding/embedding.json", read_embedding),
    "bilm_tf/options.json": (None, read_bilm_tf),
    "a.zip": (None, read_archive),
    "many_langs/sizes.json": (None, read_many_langs),
    "many_langs/char.dic": (None, read_many_langs),
    "many_langs/encoder.pkl": (None, read_many_langs),
    "many_langs_old/encoder.pkl": (None, read_many_langs),
    "recipe.yaml": (None, read_recipe),
    "vectors.txt": (None, vectors("vectors.txt")),
    "vectors.bin": (None, vectors("vectors.bin")),
    "v.txt.gz": (None, vectors("v.txt.gz")),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = shutil.copytree(made_once(), tmp_path_factory.mktemp("fuzz") / "stranger")
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((folder / "bilm_tf").iterdir()):
            archive.write(path, path.name)
    (folder / "v.txt.gz").write_bytes(gzip.compress((folder / "vectors.txt").read_bytes()))
    return folder


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused_or_read(folder, name):
    manifest, read = FILES[name]
    path, manifest = folder / name, None if manifest is None else folder / manifest
    whole, checksums = path.read_bytes(), None if manifest is None else manifest.read_bytes()
    is_manifest = path.suffix == ".json" and "sha256" in json.loads(whole)
    change, rng = changed_json if path.suffix == ".json" else changed_bytes, random.Random(name)
    n_refused = 0
    for _ in range(N_CHANGES):
        path.write_bytes(change(whole, rng))
        with contextlib.suppress(ValueError, RecursionError):  # no longer JSON
            if is_manifest:
                write_json(path, json.loads(path.read_bytes()), is_manifest=True)
        if manifest is not None:
            update_checksums(manifest)
        try:
            read(folder)
        except InputError:
            n_refused += 1
        finally:
            path.write_bytes(whole)
            if manifest is not None:
                manifest.write_bytes(checksums)
    assert n_refused > 0
    read(folder)  # unchanged, it is valid
