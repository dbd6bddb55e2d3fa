"""Whatever a file from a stranger holds: no code of it runs, and nothing is opened outside its folder.

Each slot of :data:`SLOTS` is a place in which code could sit; it is read as a user would read it, under an audit hook,
after all that is read was read once as it should be.
"""

import contextlib
import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
from helpers.legacy_numpy import write_bilm_tf
from slots import (
    MARK,
    READERS,
    SLOTS,
    in_archive,
    model_elsewhere,
    outside,
    pickled,
    read_bilm_tf,
    read_corpus,
    read_embedding,
    read_finetune_recipe,
    read_many_langs,
    read_model,
    read_recipe,
    read_task,
)
from strangers import (
    SENTENCES,
    Watch,
    change,
    made_once,
    reseal,
)

from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.utils import files

INVALID_AS_THEY_ARE = {read_recipe, read_finetune_recipe}
"""What they name beside the recipe is not there."""


@pytest.fixture(scope="module")
def watch(tmp_path_factory):
    """Read everything once, and then look out."""
    folder = shutil.copytree(made_once(), tmp_path_factory.mktemp("warm") / "stranger")
    in_archive("", pickled)(folder)
    for read in READERS:
        if read in INVALID_AS_THEY_ARE:
            with pytest.raises(InputError):
                read(folder)
        else:
            read(folder)
    return Watch()


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(made_once(), tmp_path / "stranger")


@pytest.mark.parametrize("slot", SLOTS)
def test_no_code_of_a_stranger_runs(folder, watch, slot):
    make, read = SLOTS[slot]
    make(folder)
    with watch.over(folder) as seen, contextlib.suppress(InputError):
        read(folder)
    assert not (folder / MARK).exists()
    assert seen == []


def test_a_bomb_would_be_seen(folder, watch):
    with watch.over(folder) as seen:
        pickle.loads(pickled(folder))
        os.system(":")
        (folder.parent / "beside").write_text("")
    assert (folder / MARK).exists()
    assert {event.split()[0] for event in seen} >= {"pickle.find_class", "exec", "os.system", "open"}


def link_to_secret(name, manifest=None):
    def make(folder):
        path = folder / name
        path.unlink()
        path.symlink_to(outside(folder) / "secret.txt")
        if manifest is not None:
            reseal(folder / manifest)

    return make


def named_in_manifest(name):
    def make(folder):
        mark = files.file_entry(outside(folder) / "secret.txt")
        where = name.format(outside=outside(folder))
        change(folder / "model" / "config.json", lambda content: content["files"].update({where: mark}))

    return make


def linked_encoder(folder):
    shutil.move(folder / "task" / "encoder", outside(folder) / "encoder")
    (folder / "task" / "encoder").symlink_to(outside(folder) / "encoder")


def device(folder):
    (folder / "model" / "config.json").unlink()
    (folder / "model" / "config.json").symlink_to("/dev/zero")


def pipe(folder):
    (folder / "model" / "config.json").unlink()
    os.mkfifo(folder / "model" / "config.json")


ESCAPES = {
    "a name that goes up": (named_in_manifest("../../outside/secret.txt"), read_model),
    "a name from the root": (named_in_manifest("{outside}/secret.txt"), read_model),
    "a name with a NUL": (named_in_manifest("vocab.txt\0"), read_model),
    "a name that is the folder above": (named_in_manifest(".."), read_model),
    "a name too long": (named_in_manifest("x" * 5000), read_model),
    "a name that no file can have": (named_in_manifest("\ud800"), read_model),
    "a link in the manifest": (link_to_secret("model/vocab.txt", "model/config.json"), read_model),
    "the manifest, a link": (link_to_secret("model/config.json"), read_model),
    "the manifest, a device": (device, read_model),
    "the manifest, a pipe": (pipe, read_model),
    "a corpus with a link": (link_to_secret("corpus/words.txt", "corpus/corpus.json"), read_corpus),
    "a part that is a link": (
        link_to_secret("embedding/part-00000.safetensors", "embedding/embedding.json"),
        read_embedding,
    ),
    "a language model that is a link": (linked_encoder, read_task),
    "options that are a link": (link_to_secret("bilm_tf/options.json"), read_bilm_tf),
    "weights that are a link": (link_to_secret("bilm_tf/weights.hdf5"), read_bilm_tf),
    "a list of words that is a link": (link_to_secret("many_langs/word.dic"), read_many_langs),
}


@pytest.mark.parametrize("escape", ESCAPES)
def test_nothing_outside_the_folder_is_opened(folder, watch, escape):
    make, read = ESCAPES[escape]
    make(folder)
    with watch.over(folder) as seen, pytest.raises(InputError):
        read(folder)
    assert seen == []


def test_links_within_the_folder_and_to_the_blobs_of_the_hubs_cache_are_followed(tmp_path):
    expected = ELMo.from_pretrained(made_once() / "model").embed(SENTENCES)
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "0123", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    inside = tmp_path / "inside" / "files"
    inside.mkdir(parents=True)
    for path in (made_once() / "model").iterdir():
        shutil.copy(path, blobs / f"sha-{path.name}")
        (snapshot / path.name).symlink_to(f"../../blobs/sha-{path.name}")
        shutil.copy(path, inside / path.name)
        (inside.parent / path.name).symlink_to(f"files/{path.name}")
    for folder in (snapshot, inside.parent):
        for ours, theirs in zip(ELMo.from_pretrained(folder).embed(SENTENCES), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_file_that_the_user_names_may_be_a_link(tmp_path, folder):
    (tmp_path / "options.json").symlink_to(folder / "bilm_tf" / "options.json")
    (tmp_path / "weights.hdf5").symlink_to(folder / "bilm_tf" / "weights.hdf5")
    assert ELMo.from_pretrained(tmp_path / "options.json", tmp_path / "weights.hdf5").n_layers == 3


@pytest.mark.parametrize("name", ["../options.json", "/options.json", "a/../../options.json"])
def test_names_in_an_archive_lead_nowhere(tmp_path, watch, name):
    write_bilm_tf(tmp_path / "old")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "old" / "options.json", name)
        archive.write(tmp_path / "old" / "weights.hdf5", name.replace("options.json", "weights.hdf5"))
    before = sorted(tmp_path.rglob("*"))
    with watch.over(tmp_path) as seen:
        assert ELMo.from_pretrained(tmp_path / "a.zip").n_layers == 3
    assert seen == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_in_an_archive_is_the_text_of_its_target(tmp_path, folder, watch):
    member = zipfile.ZipInfo("options.json")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(member, str(folder / "bilm_tf" / "options.json"))
        archive.write(folder / "bilm_tf" / "weights.hdf5", "weights.hdf5")
    with watch.over(tmp_path / "a.zip") as seen, pytest.raises(InputError, match="not a readable JSON file"):
        ELMo.from_pretrained(tmp_path / "a.zip")
    assert seen == []


def test_a_task_that_refers_to_a_model_elsewhere_is_read_when_the_user_says_where(folder):
    expected = TaskCheckpoint.from_pretrained(folder / "task").predict(SENTENCES)
    where = model_elsewhere(folder)
    change(folder / "task" / "task.json", lambda c: c["encoder"].update(folder="anywhere"))
    with pytest.raises(InputError, match=r"its language model is not in it.*--encoder"):
        TaskCheckpoint.from_pretrained(folder / "task")
    config = json.loads((folder / "task" / "task.json").read_text())["encoder"]["config.json"]
    assert config == files.file_entry(folder / "task" / "encoder" / "config.json")
    shutil.copytree(folder / "task" / "encoder", where, dirs_exist_ok=True)
    found = TaskCheckpoint.from_pretrained(folder / "task", encoder=where).predict(SENTENCES)
    assert [each.labels for each in found] == [each.labels for each in expected]


def test_a_manifest_that_is_written_as_it_was_is_read(folder):
    """What the tests above change is all that is wrong with their folders."""
    for name, read in (("model/config.json", read_model), ("corpus/corpus.json", read_corpus)):
        change(folder / name, lambda content: None)
        reseal(folder / name)
        read(folder)
