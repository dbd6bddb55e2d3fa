import csv
import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import make_corpus, point_of, random_sentences, small_config

from elmolite.checkpoint import Checkpoint
from elmolite.data.bptt import BPTTBatches
from elmolite.data.vocab import Vocabulary
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.nn import softmax as softmax_module
from elmolite.nn.softmax import make_softmax
from elmolite.pretraining import checkpointing, module, saved_points
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.module import PretrainingModule
from elmolite.pretraining.perplexity import evaluate, run_batch, time_major
from elmolite.pretraining.saved_points import SavedPoints
from elmolite.pretraining.setup import set_up
from elmolite.pretraining.trainer import pretrain
from elmolite.utils.files import file_entry


def config(**changes):
    fields = {"n_rows": 4, "window": 10, "warmup_steps": 3, "learning_rate": 0.01, "n_validations": 3}
    return PretrainingConfig(**{**fields, "log_every_steps": 1, "max_steps": 12, **changes})


def train(corpus, out, *, model=None, init_from=None, resume=False, keep_last=2, **changes):
    return pretrain(
        config(**changes),
        model=model or small_config(),
        corpus=corpus.folder,
        out=out,
        init_from=init_from,
        resume=resume,
        keep_last=keep_last,
        show_progress=False,
    )


def read_log(out):
    with (out / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "adagrad", "learning_rate": 1.0, "max_steps": 600},
        {"softmax": "sampled"},
        {"softmax": "adaptive"},
    ],
)
def test_learns_to_predict_eight_sentences(tmp_path, monkeypatch, changes):
    monkeypatch.setattr(softmax_module, "CUTOFFS", (10, 20))
    learns_eight_sentences(tmp_path, small_config(dropout=0.0), **changes)


@pytest.mark.parametrize("model", [{"cell": "gru"}, {"cell": "rnn"}, {"input": "words"}])
def test_every_kind_of_model_learns_them(tmp_path, model):
    learns_eight_sentences(tmp_path, small_config(dropout=0.0, **model))


def learns_eight_sentences(tmp_path, model, **changes):
    sentences = [[f"s{i}", *(f"w{(3 * i + j) % 20}" for j in range(5))] for i in range(8)]
    corpus = make_corpus(tmp_path / "corpus", sentences * 4, hold_out=False)
    options = {
        "learning_rate": 0.02,
        "n_epochs": 100,
        "max_steps": 300,
        "reset_probability": 1.0,
        "clip_norm": 5.0,
        **changes,
    }
    checkpoint = Checkpoint.from_pretrained(train(corpus, tmp_path / "run", model=model, **options))
    result = evaluate(checkpoint.bilm, checkpoint.softmax, corpus, corpus.train, by_sentence=True)
    # Only the first word of a sentence forward, and the last backward, cannot be known: 8 choices in 7 targets.
    assert result.average < 1.15 * 8 ** (1 / 7)


def test_an_adaptive_softmax_refuses_a_vocabulary_in_another_order(tmp_path, monkeypatch):
    monkeypatch.setattr(softmax_module, "CUTOFFS", (9,))
    sentences = [*random_sentences(40), *[["rare"], ["seldom"]], *random_sentences(400, words=["often"] * 30)]
    words = ["rare", "seldom", *sorted({word for sentence in sentences for word in sentence} - {"rare", "seldom"})]
    words.append(words.pop(words.index("often")))
    given = Vocabulary(["<S>", "</S>", "<UNK>", *words], [0] * (len(words) + 3))
    corpus = make_corpus(tmp_path / "corpus", sentences, vocabulary=given)
    with pytest.raises(InputError, match="in order of frequency"):
        train(corpus, tmp_path / "run", softmax="adaptive")


def test_folder_of_a_run(tmp_path, corpus):
    model = train(corpus, tmp_path / "run")
    assert model == tmp_path / "run" / "model"
    log = read_log(tmp_path / "run")
    assert [int(row["step"]) for row in log if row["loss"]] == list(range(1, 13))
    validations = [row for row in log if row["valid_average"]]
    assert [int(row["step"]) for row in validations] == [0, 4, 8, 12]
    perplexities = [float(row["valid_average"]) for row in validations]
    assert perplexities[0] == pytest.approx(len(corpus.vocabulary), rel=0.1)
    assert min(perplexities) < perplexities[0]
    record = json.loads((model / "config.json").read_text())["training"]
    assert record["training"]["learning_rate"] == 0.01
    assert record["corpus"]["tokens"] == corpus.train.n_tokens
    assert str(corpus.folder) not in (model / "config.json").read_text()


def test_the_best_model_is_kept(tmp_path, corpus):
    model = train(corpus, tmp_path / "run", learning_rate=0.02, max_steps=60, n_validations=6)
    best = min(float(row["valid_average"]) for row in read_log(tmp_path / "run") if row["valid_average"])
    checkpoint = Checkpoint.from_pretrained(model)
    result = evaluate(checkpoint.bilm, checkpoint.softmax, corpus, corpus.valid, by_sentence=False)
    assert result.average == pytest.approx(best, rel=1e-5)


def test_the_average_of_the_weights_is_what_is_validated_and_kept(tmp_path, corpus):
    options = {"learning_rate": 0.05, "schedule": "constant", "n_validations": 1}
    train(corpus, tmp_path / "last", **options)
    model = train(corpus, tmp_path / "average", ema_decay=0.8, **options)
    last, point = (point_of(tmp_path / name) for name in ("last", "average"))
    assert all(torch.equal(last["state_dict"][name], value) for name, value in point["state_dict"].items())
    checkpoint = Checkpoint.from_pretrained(model)
    kept = [*checkpoint.bilm.parameters(), *checkpoint.softmax.parameters()]
    assert all(torch.equal(ours, average) for ours, average in zip(kept, point["average"]["weights"], strict=True))
    assert not torch.equal(kept[0], next(iter(last["state_dict"].values())))
    result = evaluate(checkpoint.bilm, checkpoint.softmax, corpus, corpus.valid, by_sentence=False)
    logged = [row["valid_average"] for row in read_log(tmp_path / "average") if row["valid_average"]]
    assert result.average == pytest.approx(float(logged[-1]), rel=1e-5)


@pytest.mark.parametrize("name", ["activation_regularization", "temporal_activation_regularization"])
def test_activations_are_pulled_towards_zero_or_their_neighbours(tmp_path, corpus, name):
    """The loss in the log stays that of the language model, and what is regularised gets smaller."""
    sizes = []
    for strength in (0.0, 50.0):
        model = train(corpus, tmp_path / str(strength), max_steps=40, **{name: strength})
        vectors = np.concatenate(ELMo.from_pretrained(model).embed(random_sentences(20), layers="top"))
        sizes.append(np.square(vectors if name.startswith("activation") else np.diff(vectors, axis=0)).mean())
        assert float(read_log(tmp_path / str(strength))[1]["loss"]) == pytest.approx(
            math.log(len(corpus.vocabulary)), 0.1
        )
    assert sizes[1] < 0.5 * sizes[0]


def test_a_run_that_starts_from_a_model(tmp_path, corpus):
    """It begins where that model was, says so in its record, and resumes without being told again."""
    first = train(corpus, tmp_path / "first", max_steps=60, learning_rate=0.02)
    reached = min(float(row["valid_average"]) for row in read_log(tmp_path / "first") if row["valid_average"])
    model = train(corpus, tmp_path / "second", init_from=first, seed=5)
    assert float(read_log(tmp_path / "second")[0]["valid_average"]) == pytest.approx(reached, rel=1e-4)
    sha256 = file_entry(first / "config.json")["sha256"]
    assert Checkpoint.from_pretrained(model).training["init_from"] == {"sha256": sha256}
    train(corpus, tmp_path / "second", resume=True, seed=5)
    assert json.loads((tmp_path / "second" / "pretraining.json").read_text())["init_from"] == {"sha256": sha256}


def test_a_record_that_was_changed_is_not_gone_on_with(tmp_path, corpus):
    """Or the run would go on, and nobody would know, with the settings that a flipped bit made of its own."""
    train(corpus, tmp_path, seed=5)
    path = tmp_path / "pretraining.json"
    path.write_text(path.read_text().replace('"seed": 5', '"seed": 4'))
    with pytest.raises(InputError, match=r"pretraining\.json is damaged or was changed"):
        train(corpus, tmp_path, resume=True, seed=4)


def test_a_softmax_of_another_kind_is_no_start(tmp_path, corpus):
    first = train(corpus, tmp_path / "first", softmax="adaptive")
    with pytest.raises(InputError, match="is adaptive, not full"):
        train(corpus, tmp_path / "second", init_from=first, softmax="full")
    model = train(corpus, tmp_path / "second", init_from=first)
    assert isinstance(Checkpoint.from_pretrained(model).softmax, softmax_module.AdaptiveSoftmax)
    train(corpus, tmp_path / "second", resume=True)  # the run remembers which softmax it has


def test_without_held_out_text_the_last_model_is_kept(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", random_sentences(50), hold_out=False)
    model = train(corpus, tmp_path / "run")
    assert Checkpoint.from_pretrained(model).training["step"] == 12


def weights_of(out):
    return point_of(out)["state_dict"]


class DiedError(Exception):
    pass


@pytest.mark.parametrize("dies_at", [5, 8, 11])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"softmax": "sampled", "reset_probability": 0.5, "optimizer": "adagrad", "precision": "bf16-mixed"},
        {"softmax": "sampled", "n_negatives": 8, "ema_decay": 0.9, "model": small_config(input="words")},
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, corpus, monkeypatch, dies_at, changes):
    monkeypatch.setattr(module, "LARGE_VOCABULARY", 10)
    resumed_equals_uninterrupted(tmp_path, corpus, monkeypatch, dies_at, **changes)


@pytest.mark.parametrize("optimizer", ["adagrad", "sgd"])
def test_rows_alone_train_as_whole_tables(tmp_path, corpus, monkeypatch, optimizer):
    options = {"softmax": "sampled", "n_negatives": 8, "optimizer": optimizer, "learning_rate": 0.5, "max_steps": 50}
    options |= {"model": small_config(input="words"), "ema_decay": 0.9}
    train(corpus, tmp_path / "whole", **options)
    monkeypatch.setattr(module, "LARGE_VOCABULARY", 10)
    train(corpus, tmp_path / "rows", **options)
    whole, rows = (point_of(tmp_path / name) for name in ("whole", "rows"))
    torch.testing.assert_close(rows["state_dict"], whole["state_dict"], rtol=0, atol=1e-6)
    for name in ("loss", "gradient_norm", "valid_average"):  # which is that of the moving average
        logs = [[float(row[name] or 0) for row in read_log(tmp_path / out)] for out in ("whole", "rows")]
        assert logs[1] == pytest.approx(logs[0], rel=1e-5)


def test_what_a_row_remembers_is_in_the_point(tmp_path, corpus, monkeypatch):
    """Neither the average nor the moments of a row are those of the latest step alone."""
    monkeypatch.setattr(module, "LARGE_VOCABULARY", 10)
    monkeypatch.setattr(checkpointing, "SAVE_SECONDS", 0)
    monkeypatch.setattr(checkpointing, "CLOCK_STEPS", 1)
    options = {"softmax": "sampled", "n_negatives": 8, "ema_decay": 0.9, "n_validations": 1}
    resumed_equals_uninterrupted(tmp_path, corpus, monkeypatch, 7, **options)


def test_so_does_its_log_where_it_resumes_between_two_lines(tmp_path, corpus, monkeypatch):
    monkeypatch.setattr(checkpointing, "SAVE_SECONDS", 0)
    monkeypatch.setattr(checkpointing, "CLOCK_STEPS", 1)
    resumed_equals_uninterrupted(tmp_path, corpus, monkeypatch, 7, log_every_steps=5, n_validations=1)


REGULARISERS = {
    "activation_regularization": 2.0,
    "temporal_activation_regularization": 1.0,
    "ema_decay": 0.9,
}
DROPOUTS = {"dropout": 0.3, "variational_dropout": True, "embedding_dropout": 0.2}


@pytest.mark.parametrize("model", [{"recurrent_dropout": 0.3}, {"cell": "gru"}])
def test_so_does_one_with_all_regularisers(tmp_path, corpus, monkeypatch, model):
    model = small_config(**DROPOUTS, **model)
    resumed_equals_uninterrupted(tmp_path, corpus, monkeypatch, 6, model=model, **REGULARISERS)


def resumed_equals_uninterrupted(tmp_path, corpus, monkeypatch, dies_at, **changes):
    train(corpus, tmp_path / "whole", **changes)
    step = PretrainingModule.training_step

    def dying_step(self, batch, index):
        if index == dies_at:
            raise DiedError
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainingModule, "training_step", dying_step)
        with pytest.raises(DiedError):
            train(corpus, tmp_path / "parts", **changes)
    train(corpus, tmp_path / "parts", resume=True, **changes)

    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    names = ("step", "loss", "learning_rate", "gradient_norm", "valid_average")
    logs = [[[row[name] for name in names] for row in read_log(tmp_path / out)] for out in ("whole", "parts")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("item", ["lstm_state", "optimizer_states", "state_dict"])
def test_that_comparison_can_fail(tmp_path, corpus, monkeypatch, item):
    """Each part of the resume point, when it is disturbed, is missed."""
    train(corpus, tmp_path / "whole", log_every_steps=5)
    step = PretrainingModule.training_step

    def dying_step(self, batch, index):
        if index == 5:
            raise DiedError
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainingModule, "training_step", dying_step)
        with pytest.raises(DiedError):
            train(corpus, tmp_path / "parts", log_every_steps=5)
    path = SavedPoints(tmp_path / "parts").paths()[0]
    point = saved_points.read(path)
    if item == "lstm_state":
        point[item][0][0].mul_(0.9)
    elif item == "optimizer_states":
        point[item][0]["state"][0]["exp_avg"].mul_(0.9)
    else:
        next(iter(point[item].values()))[1].mul_(1.001)
    saved_points.write(path, point)
    train(corpus, tmp_path / "parts", log_every_steps=5, resume=True)
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert not all(torch.equal(whole[name], parts[name]) for name in whole)


def test_runs_do_not_overwrite_each_other(tmp_path, corpus):
    train(corpus, tmp_path / "run")
    with pytest.raises(InputError, match="--resume"):
        train(corpus, tmp_path / "run")
    with pytest.raises(InputError, match=r"training\.learning_rate = 0\.01, now it is 0\.02"):
        train(corpus, tmp_path / "run", learning_rate=0.02, resume=True)
    with pytest.raises(InputError, match=r"model\.cell_size = 24, now it is 25"):
        train(corpus, tmp_path / "run", model=small_config(cell_size=25), resume=True)
    with pytest.raises(InputError, match=r"nothing to resume \(no points"):
        train(corpus, tmp_path / "other", resume=True)


@pytest.mark.parametrize("max_steps", [12, 13])
def test_resuming_a_finished_run_changes_nothing(tmp_path, corpus, max_steps):
    train(corpus, tmp_path / "run", max_steps=max_steps)
    before, log = weights_of(tmp_path / "run"), read_log(tmp_path / "run")
    train(corpus, tmp_path / "run", max_steps=max_steps, resume=True)
    after = weights_of(tmp_path / "run")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert read_log(tmp_path / "run") == log
    assert [int(row["step"]) for row in log if row["valid_average"]] == [
        0,
        4,
        8,
        12,
        *([13] if max_steps == 13 else []),
    ]


def test_a_run_that_died_before_it_saved_starts_again(tmp_path, corpus, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(PretrainingModule, "training_step", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(corpus, tmp_path / "run")
    train(corpus, tmp_path / "run")
    assert len(weights_of(tmp_path / "run")) > 0


def test_time_alone_saves_too_and_resumes_exactly(tmp_path, corpus, monkeypatch):
    train(corpus, tmp_path / "whole")
    step = PretrainingModule.training_step

    def dying_step(self, batch, index):
        if index == 7:
            raise DiedError
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(checkpointing, "SAVE_SECONDS", 0)
        patch.setattr(checkpointing, "CLOCK_STEPS", 1)
        patch.setattr(PretrainingModule, "training_step", dying_step)
        with pytest.raises(DiedError):
            train(corpus, tmp_path / "parts")
    point = point_of(tmp_path / "parts")
    assert point["global_step"] == 7
    train(corpus, tmp_path / "parts", resume=True)
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    validated = [
        [row["step"] for row in read_log(tmp_path / out) if row["valid_average"]] for out in ("whole", "parts")
    ]
    assert validated[0] == validated[1]


def test_sigterm_saves_and_ends_the_run(tmp_path, corpus, monkeypatch):
    train(corpus, tmp_path / "whole")
    step = PretrainingModule.training_step

    def interrupted_step(self, batch, index):
        if index == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, index)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(PretrainingModule, "training_step", interrupted_step)
        with pytest.raises(KeyboardInterrupt, match=r"interrupted; go on from step 6 with --resume"):
            train(corpus, tmp_path / "parts")
    assert signal.getsignal(signal.SIGTERM) is before
    train(corpus, tmp_path / "parts", resume=True)
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_weights_that_are_no_numbers_replace_no_good_point(tmp_path, corpus, monkeypatch):
    monkeypatch.setattr(checkpointing, "SAVE_SECONDS", 0)
    monkeypatch.setattr(checkpointing, "CLOCK_STEPS", 1)
    step = PretrainingModule.training_step

    def spoiled_step(self, batch, index):
        if index == 6:
            next(self.parameters()).data[1, 0] = math.nan
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainingModule, "training_step", spoiled_step)
        with pytest.raises(InputError, match=r"weights are no longer finite at step 7 .*; the last good point stands"):
            train(corpus, tmp_path / "run", log_every_steps=100, n_validations=1)
    assert all(weight.isfinite().all() for weight in weights_of(tmp_path / "run").values())
    train(corpus, tmp_path / "run", resume=True, log_every_steps=100, n_validations=1)


def test_divergence_is_said_and_not_saved(tmp_path, corpus):
    with pytest.raises(InputError, match=r"training diverged: .* at step \d+"):
        train(corpus, tmp_path / "run", learning_rate=float("inf"), warmup_steps=0)
    assert not (tmp_path / "run" / "model").exists()


def test_another_vocabulary_of_the_same_text_is_another_corpus(tmp_path, corpus):
    train(corpus, tmp_path / "run")
    other = make_corpus(tmp_path / "corpus", random_sentences(400), vocab_size=20)
    with pytest.raises(InputError, match=r"corpus\.sha256"):
        train(other, tmp_path / "run", resume=True)


def test_a_broken_point_is_named_and_the_one_before_it_goes_on(tmp_path, corpus, capsys):
    train(corpus, tmp_path / "run")
    before = weights_of(tmp_path / "run")
    last, one_before = SavedPoints(tmp_path / "run").paths()
    last.write_bytes(b"cut short")
    train(corpus, tmp_path / "run", resume=True)
    assert f"{last} is damaged or truncated" in capsys.readouterr().err
    assert all(torch.equal(weight, before[name]) for name, weight in weights_of(tmp_path / "run").items())
    last.write_bytes(b"cut short")
    one_before.write_bytes(one_before.read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"no point to resume from is whole: .*{last.name}.*{one_before.name}"):
        train(corpus, tmp_path / "run", resume=True)


def test_as_many_points_stay_as_are_wanted(tmp_path, corpus):
    train(corpus, tmp_path / "run", keep_last=3, n_validations=4)
    assert len(SavedPoints(tmp_path / "run").paths()) == 3
    with pytest.raises(InputError, match="keep_last: 0"):
        train(corpus, tmp_path / "run", keep_last=0, resume=True)


def test_a_corpus_smaller_than_a_batch_is_said(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", random_sentences(3), hold_out=False)
    with pytest.raises(InputError, match=r"positions of text are less than one batch of 4 x 10"):
        train(corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_step_adds_up_the_gradients_of_its_windows(tmp_path, corpus):
    """Without clipping the weights move against the gradient of the mean loss over both windows, the state carried."""
    changes = {"optimizer": "sgd", "learning_rate": 0.5, "warmup_steps": 0, "clip_norm": 1e9, "schedule": "constant"}
    changes |= {"n_accumulated": 2, "max_steps": 1, "n_validations": 1, "softmax": "full", "reset_probability": 0.0}
    setup = set_up(config(**changes), model=small_config(dropout=0.0), corpus=corpus.folder)
    bilm, softmax, state, loss, n_targets = setup.model.bilm, setup.softmax, None, 0.0, 0
    for number in range(2):
        batch = setup.train.batch(number)
        forward, backward, state = run_batch(bilm, batch, state or bilm.zero_state(4))
        state = state.detach()
        for hidden, targets in ((forward, batch.forward_targets), (backward, batch.backward_targets)):
            loss = loss + softmax.full_loss(hidden, time_major(targets))
        n_targets += batch.n_targets
    (loss / (2 * n_targets)).backward()
    expected = {f"bilm.{name}": weight - 0.5 * weight.grad for name, weight in bilm.named_parameters()}
    train(corpus, tmp_path / "run", model=small_config(dropout=0.0), **changes)
    found = weights_of(tmp_path / "run")
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight.detach(), rtol=0, atol=1e-6)


def test_a_run_ends_when_nothing_gets_better(tmp_path, corpus, capsys):
    changes = {"learning_rate": 1.0, "schedule": "constant", "max_steps": 60, "n_validations": 20, "patience": 2}
    train(corpus, tmp_path / "run", **changes)
    perplexities = [float(row["valid_average"]) for row in read_log(tmp_path / "run") if row["valid_average"]]
    assert len(perplexities) < 21
    assert min(perplexities[1:]) == perplexities[-3] <= min(perplexities[-2:])
    assert "no better after 2 evaluations" in capsys.readouterr().out


def test_epochs_become_steps(corpus):
    streams = BPTTBatches(corpus, corpus.train, 4, 10, seed=0)
    n = streams.epoch_steps(0)
    assert PretrainingConfig(n_epochs=1).n_steps(streams) == n
    assert PretrainingConfig(n_epochs=2).n_steps(streams) == streams.end_of_epoch(1)
    assert PretrainingConfig(n_epochs=2, n_accumulated=3).n_steps(streams) == math.ceil(streams.end_of_epoch(1) / 3)
    assert PretrainingConfig(n_epochs=2, n_accumulated=3, max_steps=2).n_steps(streams) == 2
    assert PretrainingConfig(n_epochs=0.5).n_steps(streams) == math.ceil(n / 2)
    assert PretrainingConfig(n_epochs=10, max_steps=7).n_steps(streams) == 7
    fresh = BPTTBatches(corpus, corpus.train, 4, 10, seed=0)
    assert PretrainingConfig(n_epochs=10**9, max_steps=7).n_steps(fresh) == 7


def test_learning_rate_rises_and_falls():
    rates = [PretrainingConfig(warmup_steps=10, learning_rate=1.0).learning_rate_at(s, 100) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    short = [PretrainingConfig(warmup_steps=1000, learning_rate=1.0).learning_rate_at(s, 10) for s in range(10)]
    assert max(short) == 1.0
    assert short[-1] < 0.1
    assert rates[-1] < 0.001
    constant = PretrainingConfig(warmup_steps=0, learning_rate=1.0, schedule="constant")
    assert {constant.learning_rate_at(s, 100) for s in (0, 50, 99)} == {1.0}
    linear = PretrainingConfig(warmup_steps=0, learning_rate=1.0, schedule="linear")
    assert linear.learning_rate_at(25, 100) == 0.75


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"n_rows": 0}, "n_rows"),
        ({"max_steps": 0}, "max_steps"),
        ({"reset_probability": 2}, "reset_probability"),
        ({"n_rows": 5, "n_devices": 2}, "n_rows"),
        ({"optimizer": "adamw"}, "optimizer: unknown 'adamw'; did you mean 'adam'"),
        ({"softmax": "hierarchical"}, "softmax"),
        ({"n_accumulated": 0}, "n_accumulated"),
        ({"patience": -1}, "patience"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
    ],
)
def test_impossible_settings_are_refused(changes, name):
    with pytest.raises(InputError, match=name):
        PretrainingConfig(**changes)


@pytest.mark.parametrize(
    ("setting", "kind", "vocabulary_size", "new_kind", "is_sampled"),
    [
        ("auto", "full", 10_000, "full", False),
        ("auto", "full", 100_000, "adaptive", True),  # the model to start from was trained so
        ("auto", "adaptive", 100_000, "adaptive", False),
        ("full", "full", 100_000, "full", False),
        ("sampled", "full", 100, "full", True),
    ],
)
def test_softmax_follows_the_vocabulary(setting, kind, vocabulary_size, new_kind, is_sampled):
    config = PretrainingConfig(softmax=setting, n_negatives=7)
    assert config.softmax_kind(vocabulary_size) == new_kind
    with torch.device("meta"):
        softmax = make_softmax({"kind": kind}, vocabulary_size=vocabulary_size, projection_size=2)
    assert config.negatives_of(softmax) == (7 if is_sampled else None)


def test_two_processes_equal_one(tmp_path, corpus):
    """The same rows over two processes, without dropout: losses and weights agree to rounding."""
    options = [
        "--n-rows",
        "4",
        "--max-steps",
        "12",
        "--model.dropout",
        "0",
        "--warmup-steps",
        "3",
        "--n-validations",
        "2",
    ]
    sizes = ["--model.cell-size", "16", "--model.projection-size", "8", "--model.filters", "[[1, 8], [2, 8]]"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for n in (1, 2):
        command = [
            sys.executable,
            "-m",
            "elmolite.cli.main",
            "pretrain",
            "--corpus",
            corpus.folder,
            "--out",
            tmp_path / str(n),
        ]
        done = subprocess.run(
            [*map(str, command), "--n-devices", str(n), *options, *sizes],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
    one, two = weights_of(tmp_path / "1"), weights_of(tmp_path / "2")
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-4, atol=1e-5)
    points = [point_of(tmp_path / n) for n in "12"]
    torch.testing.assert_close(points[1]["lstm_state"], points[0]["lstm_state"], rtol=1e-3, atol=1e-4)
