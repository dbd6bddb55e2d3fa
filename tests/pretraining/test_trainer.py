import copy
import json
import logging
import math
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.data import make_corpus, random_sentences
from helpers.models import small_config
from helpers.pretraining import before_step, make_config, read_log, train, training_checkpoint, validations, weights_of
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.loggers.logger import DummyLogger
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._pytree import tree_map_only

from elmolite.checkpoint import Checkpoint
from elmolite.cli.main import main
from elmolite.data.vocab import Vocabulary
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.nn import softmax as softmax_module
from elmolite.nn.char_cnn import CharacterCNN
from elmolite.nn.packed_linear import TorchLinear
from elmolite.pretraining import module
from elmolite.pretraining.evaluation import evaluate, run_batch, time_major
from elmolite.pretraining.setup import PretrainingRun
from elmolite.utils.files import file_entry


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        ({}, {}),
        ({"optimizer": "adagrad", "learning_rate": 1.0, "max_steps": 300}, {}),
        ({"softmax": "sampled"}, {}),
        ({"softmax": "adaptive"}, {}),
        ({}, {"cell": "gru"}),
        ({}, {"cell": "rnn"}),
        ({}, {"input": "words"}),
    ],
)
def test_learns_to_predict_eight_sentences(tmp_path, monkeypatch, changes, sizes):
    monkeypatch.setattr(softmax_module, "CUTOFFS", (10, 20))
    sentences = [[f"s{i}", *(f"w{(3 * i + j) % 20}" for j in range(5))] for i in range(8)]
    corpus = make_corpus(tmp_path / "corpus", sentences * 4, hold_out=False)
    options = {"batch_size": 8, "learning_rate": 0.03, "max_steps": 120, "reset_probability": 1.0, "max_grad_norm": 5.0}
    options |= {"n_epochs": 100, "n_validations": 1, "log_every_steps": 40}
    model = train(corpus, tmp_path / "run", model=small_config(dropout=0.0, **sizes), **{**options, **changes})
    checkpoint = Checkpoint.from_pretrained(model)
    result = evaluate(checkpoint.bilm, checkpoint.softmax, corpus, corpus.train, by_sentence=True)
    # Only the first word of a sentence forward, and the last backward, is unpredictable: 8 choices in 7 targets.
    assert result.average < 1.15 * 8 ** (1 / 7)


def test_an_adaptive_softmax_refuses_a_vocabulary_in_another_order(tmp_path, monkeypatch):
    monkeypatch.setattr(softmax_module, "CUTOFFS", (9,))
    sentences = random_sentences(40)
    words = sorted({word for sentence in sentences for word in sentence})
    given = Vocabulary(["<S>", "</S>", "<UNK>", *words, "often"], [0] * (len(words) + 4))
    corpus = make_corpus(tmp_path / "corpus", [*sentences, *[["often"] * 30] * 40], vocabulary=given)
    with pytest.raises(InputError, match="sorted by frequency"):
        train(corpus, tmp_path / "run", softmax="adaptive")


def test_run_folder(corpus, finished_run):
    model = finished_run / "model"
    assert [int(row["step"]) for row in read_log(finished_run) if row["loss"]] == list(range(1, 13))
    steps, perplexities = zip(*validations(finished_run), strict=True)
    assert steps == (0, 4, 8, 12)
    assert perplexities[0] == pytest.approx(len(corpus.vocabulary), rel=0.1)
    assert min(perplexities) < perplexities[0]
    record = json.loads((model / "config.json").read_text())["training"]
    assert record["training"]["learning_rate"] == 0.01
    assert record["corpus"]["tokens"] == corpus.train.n_tokens
    assert str(corpus.folder) not in (model / "config.json").read_text()


def test_the_best_model_is_exported(tmp_path, corpus):
    """With this learning rate the first validation is better than the last."""
    options = {"learning_rate": 0.2, "schedule": "constant", "max_grad_norm": 100.0, "max_steps": 12}
    checkpoint = Checkpoint.from_pretrained(train(corpus, tmp_path / "run", **options))
    result = evaluate(checkpoint.bilm, checkpoint.softmax, corpus, corpus.valid, by_sentence=False)
    perplexities = [average for step, average in validations(tmp_path / "run") if step]
    assert result.average == pytest.approx(min(perplexities), rel=1e-5)
    assert perplexities[-1] > 1.2 * result.average


def test_the_ema_is_validated_and_exported(tmp_path, corpus):
    options = {"learning_rate": 0.05, "schedule": "constant", "n_validations": 1}
    train(corpus, tmp_path / "last", **options)
    model = train(corpus, tmp_path / "ema", ema_decay=0.8, **options)
    last, point = (training_checkpoint(tmp_path / name) for name in ("last", "ema"))
    assert all(torch.equal(last["state_dict"][name], value) for name, value in point["state_dict"].items())
    checkpoint = Checkpoint.from_pretrained(model)
    kept = [*checkpoint.bilm.parameters(), *checkpoint.softmax.parameters()]
    assert all(torch.equal(ours, average) for ours, average in zip(kept, point["average"]["weights"], strict=True))
    result = evaluate(checkpoint.bilm, checkpoint.softmax, corpus, corpus.valid, by_sentence=False)
    assert result.average == pytest.approx(validations(tmp_path / "ema")[-1][1], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["activation_regularization", "temporal_activation_regularization"])
def test_activation_regularization_shrinks_activations_or_their_changes(tmp_path, corpus, name):
    """The logged loss is that of the language model alone."""
    sizes = []
    for strength in (0.0, 50.0):
        model = train(corpus, tmp_path / str(strength), max_steps=40, **{name: strength})
        vectors = np.concatenate(ELMo.from_pretrained(model).embed(random_sentences(20), layers="top"))
        sizes.append(np.square(vectors if name.startswith("activation") else np.diff(vectors, axis=0)).mean())
        loss = float(read_log(tmp_path / str(strength))[1]["loss"])
        assert loss == pytest.approx(math.log(len(corpus.vocabulary)), 0.1)
    assert sizes[1] < 0.5 * sizes[0]


def test_warm_start(tmp_path, corpus):
    """The run starts at the perplexity of the model, records it, and resumes without ``init_from``."""
    first = train(corpus, tmp_path / "first", max_steps=20, learning_rate=0.02)
    reached = min(best for _, best in validations(tmp_path / "first"))
    model = train(corpus, tmp_path / "second", init_from=first, seed=5)
    assert validations(tmp_path / "second")[0][1] == pytest.approx(reached, rel=1e-4)
    sha256 = file_entry(first / "config.json")["sha256"]
    assert Checkpoint.from_pretrained(model).training["init_from"] == {"sha256": sha256}
    train(corpus, tmp_path / "second", resume=True, seed=5)
    assert json.loads((tmp_path / "second" / "pretraining.json").read_text())["init_from"] == {"sha256": sha256}


def test_a_warm_start_needs_the_same_kind_of_softmax(tmp_path, corpus):
    first = train(corpus, tmp_path / "first", softmax="adaptive")
    with pytest.raises(InputError, match="must be auto or adaptive, as in the model to start from, got full"):
        train(corpus, tmp_path / "second", init_from=first, softmax="full")
    model = train(corpus, tmp_path / "second", init_from=first)
    assert isinstance(Checkpoint.from_pretrained(model).softmax, softmax_module.AdaptiveSoftmax)
    train(corpus, tmp_path / "second", resume=True)  # with the softmax of the run


def test_without_validation_text_the_last_model_is_exported(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", random_sentences(50), hold_out=False)
    model = train(corpus, tmp_path / "run")
    assert Checkpoint.from_pretrained(model).training["step"] == 12


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adagrad", "sgd"])
def test_row_sparse_updates_equal_dense_updates(tmp_path, corpus, monkeypatch, optimizer):
    options = {"softmax": "sampled", "n_negatives": 8, "optimizer": optimizer, "learning_rate": 0.5, "max_steps": 50}
    options |= {"model": small_config(input="words"), "ema_decay": 0.9}
    train(corpus, tmp_path / "whole", **options)
    monkeypatch.setattr(module, "LARGE_VOCABULARY", 10)
    train(corpus, tmp_path / "rows", **options)
    whole, rows = (training_checkpoint(tmp_path / name) for name in ("whole", "rows"))
    torch.testing.assert_close(rows["state_dict"], whole["state_dict"], rtol=0, atol=1e-6)
    for name in ("loss", "gradient_norm", "valid_average"):
        logs = [[float(row[name] or 0) for row in read_log(tmp_path / out)] for out in ("whole", "rows")]
        assert logs[1] == pytest.approx(logs[0], rel=1e-5)


def test_runs_do_not_overwrite_each_other(tmp_path, corpus, finished_run):
    for changes, message in [
        ({}, "already contains a run: pass `resume=True`"),
        ({"learning_rate": 0.02, "resume": True}, r"training\.learning_rate = 0\.01, got 0\.02"),
        ({"model": small_config(cell_size=25), "resume": True}, r"model\.cell_size = 24, got 25"),
    ]:
        with pytest.raises(InputError, match=message):
            train(corpus, finished_run, **changes)
    other = make_corpus(tmp_path / "corpus", random_sentences(400), vocab_size=20)
    with pytest.raises(InputError, match=r"corpus\.sha256"):
        train(other, finished_run, resume=True)
    with pytest.raises(InputError, match=r"nothing to resume \(no checkpoints"):
        train(corpus, tmp_path / "other", resume=True)


def test_a_diverged_model_is_not_exported(tmp_path, corpus):
    with pytest.raises(InputError, match=r"training diverged: .* at step \d+"):
        train(corpus, tmp_path / "run", learning_rate=1e38, warmup_steps=0)
    assert not (tmp_path / "run" / "model").exists()


def test_a_corpus_smaller_than_a_batch_is_refused(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", random_sentences(3), hold_out=False)
    with pytest.raises(InputError, match=r"\d+ positions\) is smaller than a batch of 4 x 10"):
        train(corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("softmax", ["full", "adaptive"])
def test_gradient_accumulation(tmp_path, corpus, monkeypatch, softmax):
    """A step of SGD follows the gradient of the mean loss over both batches, with the state carried."""
    monkeypatch.setattr(softmax_module, "CUTOFFS", (9, 20))
    changes = {"optimizer": "sgd", "learning_rate": 0.5, "warmup_steps": 0, "max_grad_norm": 1e9}
    changes |= {"schedule": "constant", "accumulate_steps": 2, "max_steps": 1, "n_validations": 1}
    changes |= {"softmax": softmax, "reset_probability": 0.0}
    run = PretrainingRun.build(make_config(**changes), model=small_config(dropout=0.0), corpus=corpus.folder)
    bilm, state, loss, n_targets = run.model.bilm, None, 0.0, 0
    for number in range(2):
        batch = run.train.batch(number)
        forward, backward, state = run_batch(bilm, batch, state or bilm.zero_state(4))
        state = state.detach()
        for hidden, targets in ((forward, batch.forward_targets), (backward, batch.backward_targets)):
            loss = loss + run.softmax.full_loss(hidden, time_major(targets))
        n_targets += batch.n_targets
    (loss / (2 * n_targets)).backward()
    expected = {f"bilm.{name}": weight - 0.5 * weight.grad for name, weight in bilm.named_parameters()}
    train(corpus, tmp_path / "run", model=small_config(dropout=0.0), **changes)
    found = weights_of(tmp_path / "run")
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("softmax", "optimizer", "model_input"),
    [("full", "adam", "words"), ("sampled", "sgd", "characters"), ("adaptive", "adagrad", "characters")],
)
def test_a_step_needs_no_value_on_the_host(corpus, monkeypatch, softmax, optimizer, model_input):
    """Fake tensors have no values: an operation for which the host would wait for a GPU raises."""
    monkeypatch.setattr(softmax_module, "CUTOFFS", (9, 20))
    # As on a GPU: on a CPU the words are grouped by length.
    monkeypatch.setattr(
        CharacterCNN, "forward", lambda self, ids: self._encode(ids, self._ops(TorchLinear, TorchLinear, None))
    )
    config = make_config(softmax=softmax, optimizer=optimizer, accumulate_steps=2, ema_decay=0.9)
    run = PretrainingRun.build(config, model=small_config(dropout=0.1, input=model_input), corpus=corpus.folder)
    dataset = module._BatchesOfSteps(run.train, slice(1, 3), 2, run.softmax.bounds)
    batches = dataset[0], dataset[1]
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        training = module.PretrainingModule(*map(copy.deepcopy, (run.model.bilm, run.softmax)), config, n_steps=10)
        training.trainer = SimpleNamespace(world_size=1, global_rank=0, strategy=None)
        training.manual_backward = torch.Tensor.backward
        wrapped = LightningOptimizer(training.configure_optimizers())
        wrapped.step = wrapped.optimizer.step
        training.optimizers = lambda: wrapped
        for step, of_step in enumerate(batches):
            training.training_step(tree_map_only(torch.Tensor, fake.from_tensor, of_step), step)
        with pytest.raises(DataDependentOutputException):
            training.guard.check(training)


def test_early_stopping(tmp_path, corpus, caplog):
    caplog.set_level(logging.INFO, logger="elmolite")
    changes = {"learning_rate": 1.0, "schedule": "constant", "max_steps": 60, "n_validations": 20, "patience": 2}
    train(corpus, tmp_path / "run", **changes)
    perplexities = [value for _, value in validations(tmp_path / "run")]
    assert len(perplexities) < 21
    assert min(perplexities[1:]) == perplexities[-3] <= min(perplexities[-2:])
    assert "no improvement in 2 validations" in caplog.text


class ToyCallback(Callback):
    """Counts hooks, with a state that a checkpoint holds."""

    def __init__(self):
        self.n_steps = self.n_validations = 0

    def on_train_batch_end(self, trainer, *_):
        self.n_steps += 1

    def on_validation_end(self, trainer, _):
        self.n_validations += 1

    def state_dict(self):
        return {"n_steps": self.n_steps}

    def load_state_dict(self, state):
        self.n_steps = state["n_steps"]


def test_callbacks_and_loggers(tmp_path, corpus):
    callback, logger, logged = ToyCallback(), DummyLogger(), set()
    logger.log_metrics = lambda metrics, step=None: logged.update((step, name) for name in metrics)
    with pytest.raises(ZeroDivisionError), before_step(6, lambda _: 1 / 0):
        train(corpus, tmp_path / "run", callbacks=[callback], loggers=[logger])
    assert (callback.n_steps, callback.n_validations) == (6, 2)
    assert {(0, "valid_average"), (1, "loss"), (4, "valid_forward"), (6, "gradient_norm")} <= logged
    resumed = ToyCallback()
    train(corpus, tmp_path / "run", callbacks=[resumed], loggers=[logger], resume=True)
    assert (resumed.n_steps, resumed.n_validations) == (12, 2)  # of the run, and since it resumed
    assert [int(row["step"]) for row in read_log(tmp_path / "run") if row["loss"]] == list(range(1, 13))


def test_callbacks_of_lightning(tmp_path, corpus):
    saver = ModelCheckpoint(tmp_path / "best", monitor="valid_average", save_top_k=1)
    stopper = EarlyStopping("valid_average", stopping_threshold=1e9)
    train(corpus, tmp_path / "run", callbacks=[saver, stopper, LearningRateMonitor()], loggers=[DummyLogger()])
    assert len(list((tmp_path / "best").iterdir())) == 1
    assert [step for step, _ in validations(tmp_path / "run")] == [0, 4]


@pytest.mark.multiprocess
def test_two_processes_equal_one(tmp_path, corpus):
    """The same batches on two processes, without dropout: losses and weights agree to rounding."""
    options = "--batch-size 4 --max-steps 12 --model.dropout 0 --warmup-steps 3 --n-validations 2 --model.cell-size 16 "
    options += "--model.projection-size 8 --model.filters [[1,8],[2,8]]"
    arguments = ["pretrain", "--corpus", str(corpus.folder), *options.split()]
    assert main([*arguments, "--out", str(tmp_path / "1")]) == 0
    command = [sys.executable, "-m", "elmolite", *arguments, "--out", str(tmp_path / "2"), "--n-devices", "2"]
    done = subprocess.run(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
    assert done.returncode == 0, done.stderr
    one, two = (training_checkpoint(tmp_path / n) for n in "12")
    torch.testing.assert_close(two["state_dict"], one["state_dict"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(two["lstm_state"], one["lstm_state"], rtol=1e-3, atol=1e-4)
