"""What a small file says of huge sizes is seen before memory is taken for them, and before time is spent on them.

Under :func:`strangers.limits` each is refused; a number of these once took all memory, or never came to an end.
"""

import io
import json
import pickle
import shutil
import struct
import zipfile

import h5py
import numpy as np
import pytest
import torch
from helpers.legacy_numpy import write_many_langs
from slots import (
    in_folder,
    in_manifest,
    read_archive,
    read_bilm_tf,
    read_corpus,
    read_embedding,
    read_lexicon,
    read_many_langs,
    read_model,
    read_task,
    read_vectors,
)
from strangers import change, limits, made_once, reseal

from elmolite.cli.options import read_config
from elmolite.data.vocab import Vocabulary
from elmolite.errors import InputError
from elmolite.tasks.checkpoint import TaskCheckpoint


def sizes_of(**sizes):
    return in_manifest("model/config.json", lambda content, f: content["model"].update(sizes))


def softmax_of(cutoffs, sizes):
    description = {"kind": "adaptive", "cutoffs": cutoffs, "sizes": sizes}
    return in_manifest("model/config.json", lambda content, f: content.update(softmax=description))


def head_of(**sizes):
    return in_manifest("task/task.json", lambda content, f: content["head"].update(sizes))


def tags(folder):
    def many(content):
        content.update(task="tag", labels=[f"B-{i}" for i in range(60_000)], scheme="BIO", head={"kind": "linear"})

    change(folder / "task" / "task.json", many)


def tensors(header, data=b""):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    packed = struct.pack("<Q", len(content)) + content + data
    return in_folder("model/config.json", "model.safetensors", lambda f: packed)


def array(shape):
    """An ``.npy`` file that has the shape in its header and few numbers behind."""
    header = f"{{'descr': '<u4', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(64)
    return in_folder("corpus/corpus.json", "train.tokens.npy", lambda f: content)


def manifest(content):
    return lambda f: (f / "model" / "config.json").write_bytes(content)


def of_lexicon(number):
    def make(folder):
        path = folder / "lexicon" / "lexicon.json"
        content = json.loads(path.read_text())
        content["characters"]["a"] = number
        path.write_text(json.dumps(content))
        reseal(folder / "lexicon" / "config.json")

    return make


def options_of(**lstm):
    def make(folder):
        change(folder / "bilm_tf" / "options.json", lambda options: options["lstm"].update(lstm))

    return make


def unwritten(folder):
    """An array of 4 GB of which nothing was written, as the options say."""
    options_of(dim=40_000, projection_dim=12_500)(folder)
    with h5py.File(folder / "bilm_tf" / "weights.hdf5", "a") as file:
        name = "RNN_0/RNN/MultiRNNCell/Cell0/LSTMCell/W_0"
        del file[name]
        file.create_dataset(name, (25_000, 160_000), np.float32, chunks=(100, 100))
        file["padding"] = np.zeros(1 << 20, np.float32)


def large_chunks(folder):
    """An array of three numbers, whose one chunk is unpacked to two gigabytes."""
    with h5py.File(folder / "bilm_tf" / "weights.hdf5", "a") as file:
        del file["CNN/b_cnn_0"]
        chunks = {"chunks": (1 << 29,), "maxshape": (None,), "compression": "gzip"}
        file.create_dataset("CNN/b_cnn_0", (3,), np.float32, **chunks)[...] = 1


def crossed_links(folder):
    """Groups each of which has thirty names for the next."""
    with h5py.File(folder / "bilm_tf" / "weights.hdf5", "a") as file:
        below = file.create_group("other")
        for level in range(8):
            above = file.create_group(f"level{level}")
            for number in range(30):
                above[f"CNN{number}"] = below
            below = above
        file["CNN_"] = below


def bomb_of_zeros(folder):
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("options.json", (folder / "bilm_tf" / "options.json").read_bytes())
        with archive.open("weights.hdf5", "w", force_zip64=True) as member:
            for _ in range(2048):
                member.write(bytes(1 << 20))


def torch_file(change_pickle):
    """Change the pickle in a file that torch has saved."""

    def make(folder):
        path = folder / "many_langs" / "encoder.pkl"
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as whole, zipfile.ZipFile(path, "w") as archive:
            for record in whole.infolist():
                content = whole.read(record)
                archive.writestr(record.filename, change_pickle(content) if "data.pkl" in record.filename else content)

    return make


def with_numbers(content):
    """Say of a storage that it has more numbers than there are."""
    return content.replace(b"K\xc0", b"J\0\0\0\x7f")  # 192, of one of the tensors (32, 6)


def of_strides(folder):
    """Tensors as large as the options say, of which all numbers are the same one in the file."""
    write_many_langs(folder / "many_langs")
    change(folder / "many_langs" / "sizes.json", lambda c: c["encoder"].update(dim=1 << 22, projection_dim=1 << 12))
    path = folder / "many_langs" / "encoder.pkl"
    state = torch.load(path, weights_only=True)
    name = "forward_layer_0.input_linearity.weight"
    state[name] = torch.zeros(1).expand(1 << 24, 1 << 12)
    torch.save(state, path)


def nested(content):
    return b"\x80\x02" + b")" + b"\x85" * 900_000 + b"."


def laughing(content):
    return b"\x80\x02)" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(100)) + b"Q."


def laughing_yaml(folder):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    (folder / "recipe.yaml").write_text("\n".join(lines))


def read_recipe(folder):
    read_config(str(folder / "recipe.yaml"))


CASES = {
    "a billion layers": (sizes_of(n_layers=10**9), read_model),
    "a billion highways": (sizes_of(n_highway_layers=10**9), read_model),
    "cells without number": (sizes_of(cell_size=10**18), read_model),
    "a projection that is an identity": (
        sizes_of(cell_size=1 << 24, projection_size=1 << 24, use_projection=False, projection_clip=None),
        read_model,
    ),
    "a billion filters": (sizes_of(filters=[[1, 10**9]]), read_model),
    "a million convolutions": (sizes_of(filters=[[1, 1]] * 1_000_000), read_model),
    "half a layer": (sizes_of(n_layers=1.5), read_model),
    "a million clusters": (softmax_of(list(range(1, 1_000_001)), [1] * 1_000_000), read_model),
    "a cluster of a huge size": (softmax_of([10], [1 << 62]), read_model),
    "a header of an exabyte": (tensors(b"{}" + b" " * 6), read_model),
    "a header longer than the file": (
        in_folder("model/config.json", "model.safetensors", lambda f: struct.pack("<Q", 1 << 60) + b"{}"),
        read_model,
    ),
    "tensors longer than the file": (
        tensors({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
        read_model,
    ),
    "tensors of an odd type": (
        tensors({"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}, bytes(4)),
        read_model,
    ),
    "an array of a trillion": (array((10**12,)), read_corpus),
    "an array whose size wraps around": (array((1 << 32, 1 << 32)), read_corpus),
    "an array of negative size": (array((-4, -4)), read_corpus),
    "an id of a trillion": (of_lexicon(10**12), read_lexicon),
    "an id beyond 64 bits": (of_lexicon(1 << 70), read_lexicon),
    "JSON a million deep": (manifest(b'{"a":' + b"[" * 1_000_000), read_model),
    "JSON of 32 MiB": (manifest(b'{"a": [' + b"0," * (16 << 20) + b"0]}"), read_model),
    "a number of 5,000 digits": (manifest(b'{"format_version": ' + b"9" * 5000 + b"}"), read_model),
    "static vectors of a huge size": (
        in_manifest("task/task.json", lambda content, f: content["static"].update(size=10**9)),
        read_task,
    ),
    "static vectors of a huge size, under a head of one's own": (
        in_manifest("task/task.json", lambda c, f: (c["static"].update(size=1 << 24), c.update(head=None))),
        lambda f: TaskCheckpoint.from_pretrained(f / "task", head=torch.nn.Linear),
    ),
    "a head of a huge size": (head_of(hidden_size=10**9), read_task),
    "a large head": (head_of(hidden_size=60_000), read_task),
    "a head of a million layers": (head_of(n_layers=10**6), read_task),
    "transitions of many tags": (tags, read_task),
    "a part of a quintillion sentences": (
        in_manifest("embedding/embedding.json", lambda content, f: content["parts"][0].update(sentences=10**18)),
        read_embedding,
    ),
    "options of a huge size": (options_of(dim=1 << 24, projection_dim=1 << 24), read_bilm_tf),
    "an array that was never written": (unwritten, read_bilm_tf),
    "chunks larger than their array": (large_chunks, read_bilm_tf),
    "links that cross": (crossed_links, read_bilm_tf),
    "an archive of zeros": (bomb_of_zeros, read_archive),
    "a storage of billions": (torch_file(with_numbers), read_many_langs),
    "tensors that repeat one number": (of_strides, read_many_langs),
    "a pickle a million deep": (torch_file(nested), read_many_langs),
    "a pickle that laughs": (torch_file(laughing), read_many_langs),
    "a pickle of something else": (torch_file(lambda content: pickle.dumps([1, "a"])), read_many_langs),
    "aliases in YAML": (laughing_yaml, read_recipe),
    "YAML a thousand deep": (lambda f: (f / "recipe.yaml").write_text("a: " + "[" * 10_000), read_recipe),
    "YAML of a megabyte": (lambda f: (f / "recipe.yaml").write_text("a: [" + "0," * 500_000), read_recipe),
    "a count of 5,000 digits": (
        lambda f: (f / "vocab.txt").write_text("a\t" + "9" * 5000 + "\n"),
        lambda f: Vocabulary.load(f / "vocab.txt"),
    ),
    "vectors without number": (lambda f: (f / "vectors.bin").write_bytes(b"99999999999999 65536\nx "), read_vectors),
}


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(made_once(), tmp_path / "stranger")


@pytest.mark.parametrize("case", CASES)
def test_huge_sizes_are_seen_before_memory_is_taken(folder, case):
    make, read = CASES[case]
    make(folder)
    with limits(), pytest.raises(InputError):
        read(folder)
