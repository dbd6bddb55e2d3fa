"""A run that is killed and resumed equals one that was not, bit for bit, wherever it was killed.

``make test-all`` has a sample, ``make test-reliability`` all of it.
"""

import random
import signal
import time
from dataclasses import replace
from functools import partial

import pytest
from helpers.data import make_corpus, random_sentences
from helpers.pretraining import training_checkpoint
from helpers.runs import (
    SAVE_EVERY_STEP,
    Run,
    batches_of,
    check_same,
    finish,
    has_checkpoint,
    kill_in,
    said_by,
    sampled,
    start,
    wait_for_log,
)

from elmolite.data.bptt import BPTTBatches
from elmolite.data.corpus import Corpus
from elmolite.errors import PREEMPTED_EXIT_CODE
from elmolite.pretraining.module import PretrainingModule

_VALIDATED = PretrainingModule.on_validation_epoch_end


def best_at_step_9(self):
    """End a validation, with the best result at step 9 on every processor."""
    _VALIDATED(self)
    result = self.last_perplexity
    self.last_perplexity = replace(result, average=result.average + 1000 * abs(self.step - 9))


MODULE, CHECKPOINTING = "pretraining.module.PretrainingModule", "pretraining.checkpointing"
LARGE = {"pretraining.module.LARGE_VOCABULARY": 10, "nn.softmax.CUTOFFS": (10, 20)}
BEST_AT_STEP_9 = {f"{MODULE}.on_validation_epoch_end": best_at_step_9}
KINDS = {
    "full, reset": {"settings": {"softmax": "full", "reset_probability": 1.0}},
    "sampled, carried": {"settings": {"softmax": "sampled", "reset_probability": 0.0, "optimizer": "adagrad"}},
    "sampled rows, average": {
        "settings": {"softmax": "sampled", "n_negatives": 8, "ema_decay": 0.9, "n_validations": 2},
        "model": {"input": "words", "dropout": 0.2, "variational_dropout": True},
        "patches": LARGE,
    },
    "adaptive, regularised": {
        "settings": {"softmax": "adaptive", "activation_regularization": 2.0},
        "model": {"recurrent_dropout": 0.3, "embedding_dropout": 0.2},
        "patches": LARGE,
    },
    "accumulated, patient": {
        "settings": {"accumulate_steps": 2, "n_validations": 8, "patience": 3},
        "patches": BEST_AT_STEP_9,
    },
    "gru, bf16, sgd": {"settings": {"precision": "bf16-mixed", "optimizer": "sgd"}, "model": {"cell": "gru"}},
    "two processes": {"settings": {"n_nodes": 2, "softmax": "sampled", "ema_decay": 0.9}, "patches": LARGE},
}
QUICK_KIND = "sampled rows, average"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A hundred distinct sentences; an epoch has some 15 steps."""
    sentences = list({tuple(sentence): sentence for sentence in random_sentences(140)}.values())[:100]
    assert len(sentences) == 100
    return make_corpus(tmp_path_factory.mktemp("corpus"), sentences).folder


def run_of(corpus, kind, **changes):
    options = KINDS[kind]
    settings = {**options.get("settings", {}), **changes}
    return Run(corpus, settings, options.get("model", {}), {**SAVE_EVERY_STEP, **options.get("patches", {})})


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """Return the folder of a run without interruption, and the seconds from the first line of its log to its end."""
    made = {}

    def get(kind):
        if kind not in made:
            out = tmp_path_factory.mktemp("whole") / "run"
            started = start(run_of(corpus, kind), out)
            wait_for_log(out)
            begun = time.monotonic()
            assert set(started.exit_codes()) == {0}, said_by(out)
            made[kind] = out, time.monotonic() - begun
        return made[kind]

    return get


@pytest.mark.parametrize("seed", sampled(range(50), 0, 1, 2))
def test_killed_at_any_moment(tmp_path, corpus, whole, is_full, seed):
    kind = list(KINDS)[seed % len(KINDS)] if is_full else QUICK_KIND
    (out, seconds), run = whole(kind), run_of(corpus, kind)
    started = start(run, tmp_path / "run")
    wait_for_log(tmp_path / "run")
    time.sleep(random.Random(seed).uniform(0, seconds))
    started.kill()
    started.exit_codes()
    finish(run, tmp_path / "run")
    check_same(out, tmp_path / "run")


def border(corpus):
    """Return the step at which the second epoch begins."""
    opened = Corpus.open(corpus)
    return BPTTBatches(opened, opened.train, 4, 10, seed=0).end_of_epoch(0)


EDGES = {  # function, and the call of it that kills the process
    "before the first step": (f"{MODULE}.training_step", 0),
    "in the second step": (f"{MODULE}.training_step", 1),
    "in the first step of an epoch": (f"{MODULE}.training_step", None),
    "in the last step": (f"{MODULE}.training_step", 23),
    "in a validation": (f"{MODULE}.validation_step", 1),
    "after the last validation": (f"{CHECKPOINTING}.CheckpointCallback.save", 1),
    "at the end of a validation": (f"{MODULE}.on_validation_epoch_end", 1),
    "at the end of the last validation": (f"{MODULE}.on_validation_epoch_end", 2),
    "while a model is exported": ("utils.files.file_entry", 5),
    "between the model and the checkpoint": (f"{CHECKPOINTING}.CheckpointCallback._save_checkpoint", 9),
    "while a checkpoint is written": ("utils.files.sync", 12),
    "while an old checkpoint is deleted": (f"{CHECKPOINTING}.TrainingCheckpoints.prune", 12),
}


@pytest.mark.parametrize(
    "edge",
    sampled(EDGES, "in a validation", "at the end of the last validation", "while a checkpoint is written"),
)
def test_killed_at_an_edge(tmp_path, corpus, whole, edge):
    run, (target, n) = run_of(corpus, QUICK_KIND), EDGES[edge]
    arm = partial(kill_in, target, border(corpus) if n is None else n)
    assert start(run, tmp_path / "run", arms=[arm]).exit_codes() == [-signal.SIGKILL]
    finish(run, tmp_path / "run")
    check_same(whole(QUICK_KIND)[0], tmp_path / "run")


def test_killed_between_two_windows_of_a_step_and_after_early_stopping_has_counted(tmp_path, corpus, whole):
    kind = "accumulated, patient"
    out, _ = whole(kind)
    assert training_checkpoint(out)["global_step"] == 9 + 3 * 3, "the run was not stopped early"
    for n in (3, 2 * 14 + 1):  # calls of _loss, two per step, since the start of the run
        resume = has_checkpoint(tmp_path / "run")
        calls = n - 2 * (training_checkpoint(tmp_path / "run")["global_step"] if resume else 0)
        arm = partial(kill_in, f"{MODULE}._loss", calls)
        started = start(run_of(corpus, kind), tmp_path / "run", resume=resume, arms=[arm])
        assert started.exit_codes() == [-signal.SIGKILL], said_by(tmp_path / "run")
    counted = [
        state["n_worse"] for state in training_checkpoint(tmp_path / "run")["callbacks"].values() if "n_worse" in state
    ]
    assert counted == [1]
    finish(run_of(corpus, kind), tmp_path / "run")
    check_same(out, tmp_path / "run")
    finish(run_of(corpus, kind), tmp_path / "run")  # and a run that has ended early stays so
    check_same(out, tmp_path / "run")


@pytest.mark.parametrize("kind", sampled(KINDS, "two processes"))
def test_killed_in_one_step_after_another(tmp_path, corpus, whole, is_full, kind):
    for step in range(1, 11 if is_full else 3):
        resume = has_checkpoint(tmp_path / "run")
        arm = partial(kill_in, f"{MODULE}.training_step", 1)  # a step further each time
        started = start(run_of(corpus, kind), tmp_path / "run", resume=resume, arms=[arm])
        assert started.exit_codes()[0] == -signal.SIGKILL, step
    finish(run_of(corpus, kind), tmp_path / "run")
    check_same(whole(kind)[0], tmp_path / "run")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", sampled(["sampled, carried", "two processes"], "sampled, carried"))
def test_a_signal_saves_and_ends_the_run(tmp_path, corpus, whole, kind, number):
    """Nothing else saves a checkpoint; of two processes only the second gets the signal."""
    (out, _), run = whole(kind), run_of(corpus, kind)
    run = Run(run.corpus, run.settings, run.model, {**run.patches, f"{CHECKPOINTING}.SAVE_SECONDS": 1e9})
    started = start(run, tmp_path / "run")
    wait_for_log(tmp_path / "run", 5)
    started.kill(rank=-1, number=number)
    assert set(started.exit_codes()) == {PREEMPTED_EXIT_CODE}, said_by(tmp_path / "run")
    finish(run_of(corpus, kind), tmp_path / "run")
    check_same(out, tmp_path / "run")


def test_the_batches_of_each_step_are_compared(whole):
    """No step has the batches of another, so that a changed order would be found."""
    digests = [line.split()[2] for line in batches_of(whole(QUICK_KIND)[0])]
    assert len(digests) == len(set(digests)) == 24


def raise_in_step_5():
    step = PretrainingModule.training_step

    def training_step(self, batches, index):
        if index == 5:
            raise RuntimeError("out of memory")
        return step(self, batches, index)

    PretrainingModule.training_step = training_step


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_a_rank_is_reported_once_and_ends_the_other(tmp_path, corpus, rank):
    arms = [raise_in_step_5 if each == rank else None for each in range(2)]
    codes = start(run_of(corpus, "two processes"), tmp_path / "run", arms=arms).exit_codes(timeout=60)
    assert 0 not in codes
    said = said_by(tmp_path / "run")
    assert said.count("RuntimeError: ") == said.count("RuntimeError: out of memory") == 1
    assert "ReportedByRankZero: another rank ended, see its error" in said


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_other(tmp_path, corpus, rank):
    run = run_of(corpus, "two processes", max_steps=100_000)
    run = Run(run.corpus, run.settings, run.model, {**run.patches, f"{CHECKPOINTING}.SAVE_SECONDS": 1e9})
    started = start(run, tmp_path / "run")
    wait_for_log(tmp_path / "run", 5)
    started.kill(rank=rank)
    assert started.exit_codes(timeout=60)[1 - rank] != 0
