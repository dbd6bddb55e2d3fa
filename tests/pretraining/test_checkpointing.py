import math
import multiprocessing
import os
import shutil
import signal

import pytest
import torch
from helpers.models import small_config
from helpers.pretraining import (
    DiedError,
    assert_same_run,
    before_step,
    die,
    train,
    training_checkpoint,
    validations,
    weights_of,
)

from elmolite.errors import InputError, Preempted
from elmolite.pretraining import checkpointing, module
from elmolite.pretraining.checkpointing import TrainingCheckpoints, load_checkpoint, save_checkpoint


@pytest.fixture
def checkpoints(tmp_path):
    checkpoints = TrainingCheckpoints(tmp_path)
    for step in (3, 20, 100):
        save_checkpoint(checkpoints.path_at(step), {"step": step, "weights": torch.arange(step)})
    return checkpoints


def steps(checkpoints):
    return [int(path.stem.removeprefix("step-")) for path in checkpoints.paths()]


@pytest.mark.parametrize(
    ("keep_last", "step", "left"), [(1, 100, [100]), (2, 100, [100, 20]), (9, 100, [100, 20, 3]), (2, 20, [20, 3])]
)
def test_prune_keeps_the_last_checkpoints_up_to_a_step(checkpoints, keep_last, step, left):
    checkpoints.prune(keep_last=keep_last, step=step)
    assert steps(checkpoints) == left
    assert checkpoints.load_latest()["step"] == left[0]
    assert torch.equal(checkpoints.loaded["weights"], torch.arange(left[0]))


def test_checkpoints_of_version_0_1_are_found_and_pruned(checkpoints, tmp_path):
    (tmp_path / "points").mkdir()
    for step in (3, 20):
        checkpoints.path_at(step).rename(tmp_path / "points" / checkpoints.path_at(step).name)
    assert steps(checkpoints) == [100, 20, 3]
    checkpoints.prune(keep_last=1, step=100)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_a_checkpoint_that_does_not_fit_is_an_input_error(checkpoints):
    """A limit on the size of files stands for a full disk."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"step-000000200\.ckpt: cannot be written: File too large"):
            save_checkpoint(checkpoints.path_at(200), {"weights": torch.zeros(50_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert steps(checkpoints) == [100, 20, 3]


@pytest.mark.parametrize("is_cut", [True, False])
def test_damaged_checkpoints_are_skipped_with_a_warning(checkpoints, caplog, is_cut):
    content, weights = checkpoints.path_at(100).read_bytes(), torch.arange(100).numpy().tobytes()
    damaged = content[:-30] if is_cut else content.replace(weights, b"\1" + weights[1:])
    checkpoints.path_at(100).write_bytes(damaged)
    assert checkpoints.load_latest()["step"] == 20
    assert "step-000000100.ckpt is damaged, truncated" in caplog.text
    assert "resuming from step-000000020.ckpt" in caplog.text
    for path in checkpoints.paths():
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"no checkpoint is intact: .*step-000000100.*step-000000003"):
        checkpoints.load_latest()


def test_a_checksum_footer_of_earlier_versions_is_ignored(checkpoints):
    with checkpoints.path_at(20).open("ab") as file:
        file.write(f"\nsha256 {64 * '0'}\n".encode())
    assert load_checkpoint(checkpoints.path_at(20))["step"] == 20


@pytest.mark.parametrize("content", [[1, 2], {"format_version": 9}])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a")
    with pytest.raises(InputError, match=r"a: format_version (None|9); this version"):
        load_checkpoint(tmp_path / "a")
    with pytest.raises(InputError, match="No such file"):
        load_checkpoint(tmp_path / "b")


def save_often(monkeypatch):
    monkeypatch.setattr(checkpointing, "SAVE_SECONDS", 0)
    monkeypatch.setattr(checkpointing, "AGREE_STEPS", 1)


SAMPLED = {"softmax": "sampled", "n_negatives": 8, "ema_decay": 0.9}
REGULARIZED = {"activation_regularization": 2.0, "temporal_activation_regularization": 1.0, "ema_decay": 0.9}
DROPOUTS = {"dropout": 0.3, "variational_dropout": True, "embedding_dropout": 0.2}


@pytest.mark.slow
@pytest.mark.parametrize("saves_often", [False, True], ids=["at validations", "at every step"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"log_every_steps": 5},
        {"softmax": "sampled", "reset_probability": 0.5, "optimizer": "adagrad", "precision": "bf16-mixed"},
        SAMPLED,  # with moments and averages of rows
        {**SAMPLED, "model": small_config(input="words")},
        {**REGULARIZED, "model": small_config(**DROPOUTS, recurrent_dropout=0.3)},
        {**REGULARIZED, "model": small_config(**DROPOUTS, cell="gru")},
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, corpus, monkeypatch, changes, saves_often):
    monkeypatch.setattr(module, "LARGE_VOCABULARY", 10)
    if saves_often:
        save_often(monkeypatch)
        changes = {**changes, "n_validations": 1}
    train(corpus, tmp_path / "whole", **changes)
    with pytest.raises(DiedError), before_step(7, die):
        train(corpus, tmp_path / "parts", **changes)
    train(corpus, tmp_path / "parts", resume=True, **changes)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def terminate_with_children(_):
    for pid in (os.getpid(), *(child.pid for child in multiprocessing.active_children())):
        os.kill(pid, signal.SIGTERM)


@pytest.mark.multiprocess
def test_batches_of_other_processes_are_the_same(tmp_path, corpus, monkeypatch):
    train(corpus, tmp_path / "whole", accumulate_steps=2)
    monkeypatch.setattr(module, "n_batch_workers", lambda _: 2)
    with pytest.raises(Preempted), before_step(7, terminate_with_children):
        train(corpus, tmp_path / "parts", accumulate_steps=2)
    assert multiprocessing.active_children() == []
    train(corpus, tmp_path / "parts", resume=True, accumulate_steps=2)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_resuming_a_finished_run_changes_nothing(tmp_path, corpus, finished_run):
    shutil.copytree(finished_run, tmp_path / "run")
    train(corpus, tmp_path / "run", resume=True)
    assert_same_run(finished_run, tmp_path / "run")
    train(corpus, tmp_path / "longer", max_steps=13)
    for run, steps in (("run", [0, 4, 8, 12]), ("longer", [0, 4, 8, 12, 13])):
        assert [step for step, _ in validations(tmp_path / run)] == steps


def test_a_run_that_died_before_its_first_checkpoint_starts_again(tmp_path, corpus):
    with pytest.raises(DiedError), before_step(0, die):
        train(corpus, tmp_path / "run")
    train(corpus, tmp_path / "run")
    assert training_checkpoint(tmp_path / "run")["global_step"] == 12


def test_sigterm_saves_and_stops_the_run(tmp_path, corpus, finished_run):
    before = signal.getsignal(signal.SIGTERM)
    with (
        before_step(5, lambda _: os.kill(os.getpid(), signal.SIGTERM)),
        pytest.raises(KeyboardInterrupt, match=r"after step 6; to continue: elmolite pretrain --out .*parts --resume"),
    ):
        train(corpus, tmp_path / "parts")
    assert signal.getsignal(signal.SIGTERM) is before
    train(corpus, tmp_path / "parts", resume=True)
    assert_same_run(finished_run, tmp_path / "parts")


def test_non_finite_weights_are_not_saved(tmp_path, corpus, monkeypatch):
    save_often(monkeypatch)

    def spoil(module):
        next(module.parameters()).data[1, 0] = math.nan

    with (
        before_step(6, spoil),
        pytest.raises(InputError, match=r"weights are not finite at step 7 .*; the last checkpoint is intact"),
    ):
        train(corpus, tmp_path / "run", log_every_steps=100, n_validations=1)
    assert all(weight.isfinite().all() for weight in weights_of(tmp_path / "run").values())
    train(corpus, tmp_path / "run", resume=True, log_every_steps=100, n_validations=1)


def test_keep_last(tmp_path, corpus):
    train(corpus, tmp_path / "run", keep_last=3, n_validations=4)
    assert len(TrainingCheckpoints(tmp_path / "run").paths()) == 3
    with pytest.raises(InputError, match="keep_last must be positive, got 0"):
        train(corpus, tmp_path / "run", keep_last=0, resume=True)
