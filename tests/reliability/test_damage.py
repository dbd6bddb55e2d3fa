"""Single bits that flip and files that are cut short, in whatever file of elmolite's: each is found, the file is named.

``make test`` has a sample, ``make test-reliability`` ten thousand.
"""

import os
import random

import pytest
import torch
from conftest import make_corpus
from test_faults import SENTENCES, Embedding, Model, Task

from elmolite.checkpoint import Checkpoint
from elmolite.data.corpus import Corpus
from elmolite.embedding.output import EmbeddingFolder
from elmolite.errors import InputError
from elmolite.pretraining import saved_points
from elmolite.pretraining.saved_points import SavedPoints
from elmolite.tasks.checkpoint import TaskCheckpoint

IS_LONG = bool(os.environ.get("ELMOLITE_RELIABILITY"))
N_DAMAGES = 2000 if IS_LONG else 60
"""Of each of five kinds of folders."""


def save_point(folder):
    for step in (1, 2):
        saved_points.write(SavedPoints(folder).path_at(step), {"step": step, "weights": torch.full((500,), step)})


def read_corpus(folder):
    Corpus.open(folder / "corpus").verify()


KINDS = {
    "a model": (lambda folder: Model().begin(folder), lambda folder: Checkpoint.from_pretrained(folder / "model")),
    "a point": (save_point, lambda folder: [saved_points.read(path) for path in SavedPoints(folder).paths()]),
    "a corpus": (lambda folder: make_corpus(folder, SENTENCES), read_corpus),
    "a task": (lambda folder: Task().begin(folder), lambda folder: TaskCheckpoint.from_pretrained(folder / "task")),
    "vectors": (lambda folder: Embedding().begin(folder), lambda folder: list(EmbeddingFolder(folder / "out"))),
}


def damaged(path, rng):
    """Flip a bit, or cut the file short; return what was done."""
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content))
    if rng.random() < 0.2:
        path.write_bytes(content[:at])
        return f"{path.name} cut at {at} of {len(content)}"
    bit = rng.randrange(8)
    content[at] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {at} of {path.name}"


@pytest.mark.parametrize("kind", KINDS)
def test_every_damage_is_found_and_the_file_is_named(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("elmolite.embedding.output.PART_BYTES", 8000)
    make, read = KINDS[kind]
    make(tmp_path)
    paths = sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.name != "text.txt")
    read(tmp_path)
    rng = random.Random(kind)
    n_flipped = 0
    for _ in range(N_DAMAGES):
        path = rng.choice(paths)
        content = path.read_bytes()
        what = damaged(path, rng)
        n_flipped += what.startswith("bit")
        with pytest.raises(InputError) as caught:
            read(tmp_path)
            pytest.fail(f"not found: {what}")
        assert path.name in str(caught.value), f"{what}: {caught.value}"
        path.write_bytes(content)
    read(tmp_path)
    print(
        f"{kind}: {n_flipped} bits flipped, {N_DAMAGES - n_flipped} files cut short, in {len(paths)} files; all found"
    )


@pytest.mark.parametrize("cut", [False, True])
def test_the_last_point_that_is_whole_is_found_and_the_user_is_told(tmp_path, capsys, cut):
    points = SavedPoints(tmp_path)
    for step in (1, 2, 3, 4):
        saved_points.write(points.path_at(step), {"step": step})
    content = points.path_at(4).read_bytes()
    points.path_at(4).write_bytes(content[:100] if cut else content[:100] + b"?" + content[101:])
    points.path_at(3).write_bytes(b"")
    assert points.latest_good() == points.path_at(2)
    said = capsys.readouterr().err.splitlines()
    assert [line.split(" is damaged")[0] for line in said] == [str(points.path_at(4)), str(points.path_at(3))]
    assert all(line.endswith("going on from step-000000002.ckpt") for line in said)
    for step in (1, 2):
        points.path_at(step).unlink()
    with pytest.raises(InputError, match=r"no point to resume from is whole: .*step-000000004.*step-000000003"):
        points.latest_good()


def test_a_damaged_point_does_not_outlive_the_good_ones(tmp_path):
    points = SavedPoints(tmp_path)
    for step in (100, 200):
        saved_points.write(points.path_at(step), {"step": step})
    points.path_at(200).write_bytes(b"damaged")
    saved_points.write(points.path_at(150), {"step": 150})  # the run went on from 100
    points.remove_all_but(1, step=150)
    assert points.paths() == [points.path_at(150)]
