"""Hostile input: no code in it runs, nothing outside its folder is opened, huge sizes are refused with one message.

Everything is read under an audit hook, after it was read once as it should be.
"""

import contextlib
import json
import os
import pickle
import shutil
import struct
import zipfile

import h5py
import numpy as np
import pytest
import torch
from helpers.legacy_numpy import write_bilm_tf
from hostile import (
    MARK,
    SENTENCES,
    Watch,
    change,
    code,
    code_in_strings,
    in_file,
    in_hdf5,
    in_manifest,
    made_once,
    objects,
    outside,
    pickled,
    read_archive,
    read_bilm_tf,
    read_corpus,
    read_embedding,
    read_lexicon,
    read_many_langs,
    read_model,
    read_recipe,
    read_run,
    read_task,
    read_vectors,
    replaced,
    saved,
    update_checksums,
)

from elmolite.data.vocab import Vocabulary
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.pretraining.checkpointing import TrainingCheckpoints
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.setup import TaskExamples
from elmolite.utils import files

MODEL, LEXICON, CORPUS, TASK = "model/config.json", "lexicon/config.json", "corpus/corpus.json", "task/task.json"
EMBEDDING = "embedding/embedding.json"
BIAS = "CNN/b_cnn_0"
READERS = (
    *(read_model, read_lexicon, read_corpus, read_run, read_task, read_embedding),
    *(read_bilm_tf, read_archive, read_many_langs, read_recipe, read_vectors),
)


def in_archive(name="", content=pickled):
    """Pack the model of bilm-tf into an archive, with other content in one of its files."""

    def make(folder):
        with zipfile.ZipFile(folder / "a.zip", "w") as archive:
            for path in sorted((folder / "bilm_tf").iterdir()):
                archive.writestr(path.name, content(folder) if path.name == name else path.read_bytes())

    return make


@pytest.fixture(scope="module")
def watch(tmp_path_factory):
    folder = shutil.copytree(made_once(), tmp_path_factory.mktemp("warm") / "stranger")
    in_archive()(folder)
    for read in READERS:
        read(folder)
    return Watch()


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(made_once(), tmp_path / "stranger")


def strings_of(manifest, key):
    return in_manifest(manifest, lambda content, f: content.update({key: code_in_strings(content[key], f)}))


def in_checkpoint(content):
    """Replace the latest training checkpoint."""
    return lambda folder: TrainingCheckpoints(folder / "run").paths()[0].write_bytes(content(folder))


def custom_head(content, folder):
    (folder / "task" / "evil.py").write_text(code(folder) + "\nHead = print\n")
    content.update(head=None, own_head="evil.py:Head", custom_head="evil.py:Head")


def model_elsewhere(folder):
    shutil.copytree(folder / "model", outside(folder) / "model", dirs_exist_ok=True)
    return str(outside(folder) / "model")


def other_encoder(place):
    return in_manifest(TASK, lambda content, f: content["encoder"].update(folder=place(f)))


def yaml_tag(tag):
    return in_file("recipe.yaml", lambda f: f"max_steps: !!python/{tag} [{code(f)!r}]\n".encode())


def string_array(file, name, folder):
    file.create_dataset(name, (3,), h5py.string_dtype())[...] = code(folder)


def reference_array(file, name, folder):
    file.create_dataset(name, (3,), h5py.ref_dtype)[0] = file["CNN"].ref


def external_array(file, name, folder):
    file.create_dataset(name, (3,), np.float32, external=[(str(outside(folder) / "other.h5"), 0, 12)])


def script_among_examples(folder):
    (folder / "examples.txt").unlink()
    (folder / "examples.txt").mkdir()
    (folder / "examples.txt" / "examples.txt.py").write_text(code(folder))


def read_examples(folder):
    TaskExamples.read("classify", train=folder / "examples.txt")


SLOTS = {
    "config of a model": (strings_of(MODEL, "model"), read_model),
    "training record": (strings_of(MODEL, "training"), read_model),
    "config of the softmax": (strings_of(MODEL, "softmax"), read_model),
    "kind of indexer": (strings_of(MODEL, "indexer"), read_model),
    "config.json, pickled": (in_file(MODEL, pickled), read_model),
    "model.safetensors, pickled": (replaced(MODEL, "model.safetensors", pickled), read_model),
    "model.safetensors, of torch": (replaced(MODEL, "model.safetensors", saved), read_model),
    "vocab.txt": (replaced(MODEL, "vocab.txt", pickled), read_model),
    "tokenizer.json": (replaced(MODEL, "tokenizer.json", pickled), read_model),
    "strings of tokenizer.json": (
        replaced(
            MODEL,
            "tokenizer.json",
            lambda f: json.dumps(code_in_strings(json.loads((f / "model" / "tokenizer.json").read_text()), f)).encode(),
        ),
        read_model,
    ),
    "characters.json": (replaced(MODEL, "characters.json", pickled), read_model),
    "lexicon.json": (replaced(LEXICON, "lexicon.json", pickled), read_lexicon),
    "corpus.json": (in_file(CORPUS, pickled), read_corpus),
    "tokens": (replaced(CORPUS, "train.tokens.npy", objects), read_corpus),
    "character table": (replaced(CORPUS, "characters.npy", objects), read_corpus),
    "words.txt": (replaced(CORPUS, "words.txt", pickled), read_corpus),
    "training checkpoint": (in_checkpoint(saved), read_run),
    "training checkpoint, before zip": (in_checkpoint(lambda f: saved(f, is_zip=False)), read_run),
    "training checkpoint, a plain pickle": (in_checkpoint(pickled), read_run),
    "inputs of a task": (strings_of(TASK, "inputs"), read_task),
    "labels of a task": (strings_of(TASK, "labels"), read_task),
    "head of a task": (strings_of(TASK, "head"), read_task),
    "custom head of a task": (in_manifest(TASK, custom_head), read_task),
    "weights of a task": (replaced(TASK, "model.safetensors", saved), read_task),
    "language model of a task on the Hub": (other_encoder(lambda f: "stranger/model"), read_task),
    "language model of a task elsewhere": (other_encoder(model_elsewhere), read_task),
    "language model of a task, a path up": (other_encoder(lambda f: "encoder/../../model"), read_task),
    "embedding.json": (in_file(EMBEDDING, pickled), read_embedding),
    "shard of vectors": (replaced(EMBEDDING, "part-00000.safetensors", saved), read_embedding),
    "options.json": (in_file("bilm_tf/options.json", pickled), read_bilm_tf),
    "weights.hdf5": (in_file("bilm_tf/weights.hdf5", pickled), read_bilm_tf),
    "strings in HDF5": (in_hdf5(BIAS, string_array), read_bilm_tf),
    "references in HDF5": (in_hdf5(BIAS, reference_array), read_bilm_tf),
    "external data in HDF5": (in_hdf5(BIAS, external_array), read_bilm_tf),
    "weights in an archive": (in_archive("weights.hdf5", saved), read_archive),
    "encoder.pkl": (in_file("many_langs/encoder.pkl", saved), read_many_langs),
    "encoder.pkl, before zip": (
        in_file("many_langs_old/encoder.pkl", lambda f: saved(f, is_zip=False)),
        read_many_langs,
    ),
    "encoder.pkl, a plain pickle": (in_file("many_langs/encoder.pkl", pickled), read_many_langs),
    "path of options": (
        in_file("many_langs/config.json", lambda f: json.dumps({"config_path": f"{outside(f)}/secret.txt"}).encode()),
        read_many_langs,
    ),
    "function in a recipe": (yaml_tag("object/apply:os.system"), read_recipe),
    "object in a recipe": (yaml_tag("object/new:os.system"), read_recipe),
    "static vectors, pickled": (in_file("vectors.txt", pickled), read_vectors),
    "binary vectors, pickled": (in_file("vectors.bin", pickled), read_vectors),
    "examples, pickled": (in_file("examples.txt", pickled), read_examples),
    "script among examples": (script_among_examples, read_examples),
}


@pytest.mark.parametrize("slot", SLOTS)
def test_no_code_runs(folder, watch, slot):
    make, read = SLOTS[slot]
    make(folder)
    with watch.over(folder) as seen, contextlib.suppress(InputError):
        read(folder)
    assert not (folder / MARK).exists()
    assert seen == []


def test_the_watch_sees_a_bomb(folder, watch):
    with watch.over(folder) as seen:
        pickle.loads(pickled(folder))
        os.system(":")
        (folder.parent / "other").write_text("")
    assert (folder / MARK).exists()
    assert {event.split()[0] for event in seen} >= {"pickle.find_class", "exec", "os.system", "open"}


def link_to_secret(name, manifest=None):
    def make(folder):
        path = folder / name
        path.unlink()
        path.symlink_to(outside(folder) / "secret.txt")
        if manifest is not None:
            update_checksums(folder / manifest)

    return make


def named_in_manifest(name):
    def make(folder):
        entry = files.file_entry(outside(folder) / "secret.txt")
        where = name.format(outside=outside(folder))
        change(folder / MODEL, lambda content: content["files"].update({where: entry}))

    return make


def linked_encoder(folder):
    shutil.move(folder / "task" / "encoder", outside(folder) / "encoder")
    (folder / "task" / "encoder").symlink_to(outside(folder) / "encoder")


def device(folder):
    (folder / MODEL).unlink()
    (folder / MODEL).symlink_to("/dev/zero")


def pipe(folder):
    (folder / MODEL).unlink()
    os.mkfifo(folder / MODEL)


ESCAPES = {
    "a name that goes up": (named_in_manifest("../../outside/secret.txt"), read_model),
    "a name from the root": (named_in_manifest("{outside}/secret.txt"), read_model),
    "a name with a NUL": (named_in_manifest("vocab.txt\0"), read_model),
    "the folder above": (named_in_manifest(".."), read_model),
    "a name too long": (named_in_manifest("x" * 5000), read_model),
    "a name that no file can have": (named_in_manifest("\ud800"), read_model),
    "a link in the manifest": (link_to_secret("model/vocab.txt", MODEL), read_model),
    "the manifest, a link": (link_to_secret(MODEL), read_model),
    "the manifest, a device": (device, read_model),
    "the manifest, a pipe": (pipe, read_model),
    "a corpus with a link": (link_to_secret("corpus/words.txt", CORPUS), read_corpus),
    "a shard that is a link": (link_to_secret("embedding/part-00000.safetensors", EMBEDDING), read_embedding),
    "a language model that is a link": (linked_encoder, read_task),
    "weights that are a link": (link_to_secret("bilm_tf/weights.hdf5"), read_bilm_tf),
    "a lexicon that is a link": (link_to_secret("many_langs/word.dic"), read_many_langs),
}


@pytest.mark.parametrize("escape", ESCAPES)
def test_nothing_outside_the_folder_is_opened(folder, watch, escape):
    make, read = ESCAPES[escape]
    make(folder)
    with watch.over(folder) as seen, pytest.raises(InputError):
        read(folder)
    assert seen == []


def test_links_within_the_folder_and_to_the_blobs_of_the_hub_cache_are_followed(tmp_path):
    expected = ELMo.from_pretrained(made_once() / "model").embed(SENTENCES)
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "0123", tmp_path / "models--a--b" / "blobs"
    inside = tmp_path / "inside" / "files"
    for place in (snapshot, blobs, inside):
        place.mkdir(parents=True)
    for path in (made_once() / "model").iterdir():
        shutil.copy(path, blobs / f"sha-{path.name}")
        (snapshot / path.name).symlink_to(f"../../blobs/sha-{path.name}")
        shutil.copy(path, inside / path.name)
        (inside.parent / path.name).symlink_to(f"files/{path.name}")
    for folder in (snapshot, inside.parent):
        for ours, theirs in zip(ELMo.from_pretrained(folder).embed(SENTENCES), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_file_that_the_user_names_may_be_a_link(tmp_path, folder):
    for name in ("options.json", "weights.hdf5"):
        (tmp_path / name).symlink_to(folder / "bilm_tf" / name)
    assert ELMo.from_pretrained(tmp_path / "options.json", tmp_path / "weights.hdf5").n_layers == 3


@pytest.mark.parametrize("place", ["../", "/", "a/../../"])
def test_names_in_an_archive_lead_nowhere(tmp_path, watch, place):
    write_bilm_tf(tmp_path / "old")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("options.json", "weights.hdf5"):
            archive.write(tmp_path / "old" / name, place + name)
    before = sorted(tmp_path.rglob("*"))
    with watch.over(tmp_path) as seen:
        assert ELMo.from_pretrained(tmp_path / "a.zip").n_layers == 3
    assert seen == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_task_whose_language_model_is_elsewhere_needs_its_path(folder):
    expected = TaskCheckpoint.from_pretrained(folder / "task").predict(SENTENCES)
    where = shutil.copytree(folder / "task" / "encoder", outside(folder) / "encoder")
    change(folder / TASK, lambda content: content["encoder"].update(folder="anywhere"))
    with pytest.raises(InputError, match="--encoder"):
        TaskCheckpoint.from_pretrained(folder / "task")
    found = TaskCheckpoint.from_pretrained(folder / "task", encoder=where).predict(SENTENCES)
    assert [each.labels for each in found] == [each.labels for each in expected]


def test_manifests_that_are_written_again_are_valid(folder):
    """The changes of these tests are all that is wrong with their folders."""
    for name, read in ((MODEL, read_model), (CORPUS, read_corpus), (TASK, read_task), (EMBEDDING, read_embedding)):
        change(folder / name, lambda content: None)
        update_checksums(folder / name)
        read(folder)


def sizes_of(**sizes):
    return in_manifest(MODEL, lambda content, f: content["model"].update(sizes))


def clusters(cutoffs, sizes):
    description = {"kind": "adaptive", "cutoffs": cutoffs, "sizes": sizes}
    return in_manifest(MODEL, lambda content, f: content.update(softmax=description))


def head_of(**sizes):
    return in_manifest(TASK, lambda content, f: content["head"].update(sizes))


def header(length, content):
    return replaced(MODEL, "model.safetensors", lambda f: struct.pack("<Q", length) + content)


def array_of(shape):
    """An ``.npy`` file whose header names a shape and which has 64 bytes of data."""
    description = f"{{'descr': '<u4', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(description)) + description.encode() + bytes(64)
    return replaced(CORPUS, "train.tokens.npy", lambda f: content)


def options_of(**lstm):
    return lambda folder: change(folder / "bilm_tf" / "options.json", lambda options: options["lstm"].update(lstm))


def aliases(folder):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    (folder / "recipe.yaml").write_text("\n".join(lines))


def read_counts(folder):
    Vocabulary.load(folder / "vocab.txt")


SIZES = {
    "a billion layers": (sizes_of(n_layers=10**9), read_model),
    "a billion highways": (sizes_of(n_highway_layers=10**9), read_model),
    "10^18 cells": (sizes_of(cell_size=10**18), read_model),
    "a projection that is an identity": (
        sizes_of(cell_size=1 << 24, projection_size=1 << 24, use_projection=False, projection_clip=None),
        read_model,
    ),
    "a billion filters": (sizes_of(filters=[[1, 10**9]]), read_model),
    "a million clusters": (clusters(list(range(1, 1_000_001)), [1] * 1_000_000), read_model),
    "a huge cluster": (clusters([10], [1 << 62]), read_model),
    "a header longer than the file": (header(1 << 60, b"{}"), read_model),
    "tensors longer than the file": (
        header(66, b'{"a": {"dtype": "F32", "shape": [1099511627776], "data_offsets": [0, 4398046511104]}}'[:66]),
        read_model,
    ),
    "an array of a trillion": (array_of((10**12,)), read_corpus),
    "an array whose size overflows": (array_of((1 << 32, 1 << 32)), read_corpus),
    "JSON a million deep": (in_file(MODEL, lambda f: b'{"a":' + b"[" * 1_000_000), read_model),
    "JSON of 32 MiB": (in_file(MODEL, lambda f: b'{"a": [' + b"0," * (16 << 20) + b"0]}"), read_model),
    "a number of 5,000 digits": (in_file(MODEL, lambda f: b'{"format_version": ' + b"9" * 5000 + b"}"), read_model),
    "huge static vectors": (in_manifest(TASK, lambda c, f: c["static"].update(size=10**9)), read_task),
    "huge static vectors under a custom head": (
        in_manifest(TASK, lambda c, f: (c["static"].update(size=1 << 24), c.update(head=None))),
        lambda f: TaskCheckpoint.from_pretrained(f / "task", head=torch.nn.Linear),
    ),
    "a huge head": (head_of(hidden_size=10**9), read_task),
    "a head of a million layers": (head_of(n_layers=10**6), read_task),
    "a shard of 10^18 sentences": (
        in_manifest(EMBEDDING, lambda content, f: content["parts"][0].update(sentences=10**18)),
        read_embedding,
    ),
    "huge options": (options_of(dim=1 << 24, projection_dim=1 << 24), read_bilm_tf),
    "aliases in YAML": (aliases, read_recipe),
    "YAML a thousand deep": (in_file("recipe.yaml", lambda f: b"a: " + b"[" * 10_000), read_recipe),
    "a count of 5,000 digits": (in_file("vocab.txt", lambda f: b"a\t" + b"9" * 5000 + b"\n"), read_counts),
    "10^14 vectors": (in_file("vectors.bin", lambda f: b"99999999999999 65536\nx "), read_vectors),
}


@pytest.mark.parametrize("case", SIZES)
def test_huge_sizes_are_refused(folder, case):
    make, read = SIZES[case]
    make(folder)
    with pytest.raises(InputError):
        read(folder)
