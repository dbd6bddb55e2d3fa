import csv
import json
import math
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
import torch
from small_tasks import (
    SMALL,
    config,
    onset_tags,
    setup_of,
    span_tags,
    train,
    weights_of,
    write_classes,
    write_label_sets,
    write_pairs,
    write_tagged,
)

from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.tasks import layer_cache
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.config import FinetuningConfig
from elmolite.tasks.examples.records import ExampleColumns
from elmolite.tasks.finetune import finetune
from elmolite.tasks.heads import ClassifyConfig, EntailConfig, TagConfig
from elmolite.tasks.module import BestEpoch, FinetuningModule
from elmolite.tasks.objectives import MultiLabel, SequenceLabels, SingleLabel, TokenLabels
from elmolite.tasks.predict import evaluate_file
from elmolite.tasks.setup import FinetuningSetup

pytestmark = pytest.mark.usefixtures("no_pictures", "own_cache")


def swapped(path):
    """Examples with the labels of one another: what is learnt from the others is wrong of all of these."""
    return write_classes(path, labels=("right", "left"))


def weights(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def differing(a, b):
    return {name for name in a if not torch.equal(a[name], b[name])}


def write_spans(path):
    return write_tagged(path, span_tags)


LEARNT = {
    **{
        f"classify, {pooling} of an LSTM": (ClassifyConfig(pooling=pooling, **SMALL), write_classes, {"n_epochs": 8})
        for pooling in ("mean", "max", "attention", "final")
    },
    **{
        f"classify, {pooling} of words": (
            ClassifyConfig(kind="linear", pooling=pooling),
            write_classes,
            {"n_epochs": 20},
        )
        for pooling in ("mean", "max", "attention")
    },
    "classify, convolutions": (
        ClassifyConfig(kind="cnn", hidden_size=16, dropout=0.0),
        write_classes,
        {"n_epochs": 12},
    ),
    "classify, biattentive": (
        ClassifyConfig(kind="biattentive", hidden_size=16, dropout=0.0),
        write_classes,
        {"n_epochs": 20, "learning_rate": 0.01},
    ),
    "label sets": (ClassifyConfig(**SMALL), write_label_sets, {"n_epochs": 15}),
    "tags, LSTM": (TagConfig(**SMALL), write_tagged, {"n_epochs": 20, "learning_rate": 0.06}),
    "tags, LSTM and CRF": (TagConfig(crf="always", **SMALL), write_tagged, {"n_epochs": 20, "learning_rate": 0.06}),
    "tags, linear": (TagConfig(kind="linear", dropout=0.0), write_tagged, {"n_epochs": 25, "learning_rate": 0.06}),
    "spans, LSTM": (TagConfig(crf="never", **SMALL), write_spans, {"n_epochs": 25, "learning_rate": 0.06}),
    "spans, LSTM and CRF": (TagConfig(**SMALL), write_spans, {"n_epochs": 20, "learning_rate": 0.06}),
    "spans, linear and CRF": (
        TagConfig(kind="linear", dropout=0.0),
        write_spans,
        {"n_epochs": 20, "learning_rate": 0.06},
    ),
    "pairs, ESIM": (
        EntailConfig(hidden_size=32, dropout=0.0),
        write_pairs,
        {"n_epochs": 14, "learning_rate": 0.01, "batch_size": 4},
    ),
    "pairs, linear": (EntailConfig(kind="linear", dropout=0.0), write_pairs, {"n_epochs": 30}),
}
OBJECTIVES = {
    "label sets": MultiLabel,
    "tags, LSTM and CRF": SequenceLabels,
    "spans, LSTM and CRF": SequenceLabels,
    "spans, linear and CRF": SequenceLabels,
    "tags, LSTM": TokenLabels,
    "tags, linear": TokenLabels,
    "spans, LSTM": TokenLabels,
}


@pytest.mark.parametrize("case", LEARNT)
def test_every_task_learns_its_training_examples(tmp_path, model_folder, case):
    head, write, options = LEARNT[case]
    task = {ClassifyConfig: "classify", TagConfig: "tag", EntailConfig: "entail"}[type(head)]
    columns = ExampleColumns(label_separator="|" if case == "label sets" else None)
    path = write(tmp_path / "examples")
    setup = setup_of(model_folder, task, train=path, head=head, columns=columns)
    result = train(setup, tmp_path / "run", **options)
    assert result.dev.value > 0.98
    assert result.epochs[-1]["loss"] < result.epochs[0]["loss"] / 2
    model = TaskCheckpoint.from_pretrained(result.folder).model
    assert type(model.objective) is OBJECTIVES.get(case, SingleLabel)
    assert evaluate_file(result.folder, path, columns).value == result.dev.value


@pytest.mark.parametrize("encoder_training", ["frozen", "all"])
def test_the_seed_decides_all(tmp_path, model_folder, encoder_training):
    """Whether the layers were computed or found in the cache."""
    setup = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"), dropout=0.3)
    first, again, other = (
        train(setup, tmp_path / f"run{i}", seed=seed, encoder_training=encoder_training)
        for i, seed in enumerate((1, 1, 2))
    )
    assert weights_of(first) == weights_of(again) != weights_of(other)
    encoders = [(each.folder / "encoder" / "model.safetensors").read_bytes() for each in (first, again, other)]
    assert encoders[0] == encoders[1]
    assert (encoders[0] == encoders[2]) == (encoder_training == "frozen")


def test_the_seed_decides_the_order_of_the_examples_too(tmp_path, model_folder, monkeypatch):
    make = FinetuningSetup.make_model
    monkeypatch.setattr(FinetuningSetup, "make_model", lambda self, seed: make(self, 0))
    setup = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"))
    first, again, other = (train(setup, tmp_path / f"run{i}", seed=seed) for i, seed in enumerate((1, 1, 2)))
    assert weights_of(first) == weights_of(again) != weights_of(other)


def test_another_head_or_seed_computes_no_layers_again(tmp_path, model_folder, monkeypatch):
    made = []
    compute = layer_cache._compute
    monkeypatch.setattr(layer_cache, "_compute", lambda e, s: made.append(len(s)) or compute(e, s))
    files = {"train": write_classes(tmp_path / "a.txt"), "dev": write_classes(tmp_path / "b.txt", seed=9)}
    cache = tmp_path / "cache"

    def entries():
        return {path: path.stat().st_mtime_ns for path in cache.glob("*/layers.npy")}

    train(setup_of(model_folder, "classify", **files), tmp_path / "run0", n_epochs=1)
    first = entries()
    assert len(made) == len(first) == 2
    linear = ClassifyConfig(kind="linear", pooling="mean")
    train(setup_of(model_folder, "classify", **files, head=linear, layers="top"), tmp_path / "run1", n_epochs=1, seed=7)
    assert entries() == first
    assert len(made) == 2
    train(setup_of(model_folder, "classify", **files), tmp_path / "run2", n_epochs=1, cache_precision="float16")
    assert len(made) == len(entries()) == 4


def test_a_language_model_that_is_trained_needs_no_cache(tmp_path, model_folder):
    setup = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"))
    train(setup, tmp_path / "run", n_epochs=1, encoder_training="all")
    assert not (tmp_path / "cache").exists()


def test_the_layers_may_be_over_the_limit_of_the_cache(tmp_path, model_folder):
    setup = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"))
    with pytest.raises(InputError, match="--cache-limit"):
        train(setup, tmp_path / "run", cache_limit=1e-6)
    assert not (tmp_path / "run").exists()


def test_without_a_cache_the_layers_are_computed_anew(tmp_path, model_folder, monkeypatch):
    monkeypatch.setattr(layer_cache.LayerCache, "of", mock.Mock(side_effect=AssertionError))
    setup = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"))
    assert train(setup, tmp_path / "out", cache_limit=0.0).epochs


@pytest.mark.parametrize("encoder_training", ["frozen", "all"])
def test_what_a_head_reads_is_standardised_over_the_training_examples(tmp_path, model_folder, encoder_training):
    setup = setup_of(model_folder, "tag", train=write_tagged(tmp_path / "a.conll"), normalization="standard")
    result = train(setup, tmp_path / "out", n_epochs=1, encoder_training=encoder_training)
    layers = np.concatenate(setup.elmo.embed([each.sentences[0] for each in setup.examples.train]), axis=1)
    found = TaskCheckpoint.from_pretrained(result.folder).model.inputs.standardization
    np.testing.assert_allclose(found.mean.numpy(), layers.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(found.deviation.numpy(), layers.std(axis=1), rtol=1e-3)


def test_a_frozen_language_model_stays_as_it_is(tmp_path, model_folder):
    setup = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"))
    before = weights(setup.elmo)
    result = train(setup, tmp_path / "run")
    assert not differing(before, weights(setup.elmo))
    assert not differing(before, weights(TaskCheckpoint.from_pretrained(result.folder).model.elmo))


def test_a_trained_one_learns_at_its_own_rate_in_a_copy(tmp_path, model_folder):
    """AdamW's first step changes what changes most by the learning rate."""
    setup = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"))
    options = {"n_epochs": 1, "batch_size": 64, "encoder_training": "all", "encoder_learning_rate": 2e-4}
    before, head = weights(setup.elmo), weights(setup.make_model(0).head)
    model = TaskCheckpoint.from_pretrained(train(setup, tmp_path / "run", **options).folder).model
    assert differing(before, weights(model.elmo)) >= {name for name, _ in setup.elmo.named_parameters()}
    assert not differing(before, weights(setup.elmo))

    def largest_step(a, b):
        return max(float((a[name] - b[name]).abs().max()) for name in a)

    assert largest_step(before, weights(model.elmo)) == pytest.approx(2e-4, rel=0.01)
    assert largest_step(head, weights(model.head)) == pytest.approx(0.03, rel=0.01)


def test_gradual_training_adds_a_layer_an_epoch_from_the_top(tmp_path, model_folder, monkeypatch):
    after_epoch = []
    measure = FinetuningModule.on_validation_epoch_end
    monkeypatch.setattr(
        FinetuningModule,
        "on_validation_epoch_end",
        lambda self: after_epoch.append(weights(self.model.elmo)) or measure(self),
    )
    setup = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"))
    after_epoch.append(weights(setup.elmo))
    train(setup, tmp_path / "run", n_epochs=5, encoder_training="gradual")
    changed = [differing(a, b) for a, b in pairwise(after_epoch)]
    parameters = {name for name, _ in setup.elmo.named_parameters()}
    top, lower = ({name for name in parameters if f"_stack.layers.{number}." in name} for number in (1, 0))
    assert top
    assert lower
    assert changed == [set(), top, top | lower, parameters, parameters]


@pytest.mark.parametrize(
    ("encoder_training", "kind"),
    [("frozen", "lstm"), ("frozen", "biattentive"), ("all", "lstm"), ("gradual", "lstm")],
)
def test_the_weights_of_the_best_epoch_are_kept(tmp_path, model_folder, encoder_training, kind):
    """The longer it learns the worse it gets on these dev examples, whose labels are swapped."""
    dev = swapped(tmp_path / "dev.txt")
    head = ClassifyConfig(kind=kind, **SMALL)
    setup = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"), dev=dev, head=head)
    options = {"encoder_training": encoder_training, "encoder_learning_rate": 0.001}
    result = train(setup, tmp_path / "run", n_epochs=6, **options)
    values = [epoch["dev"] for epoch in result.epochs]
    assert values[-1] < max(values)
    assert result.best_epoch == 1 + values.index(max(values))
    assert evaluate_file(result.folder, dev).value == result.dev.value == max(values)
    short = train(setup, tmp_path / "short", n_epochs=result.best_epoch, **options)
    assert weights_of(result) == weights_of(short)
    encoders = [(each.folder / "encoder" / "model.safetensors").read_bytes() for each in (result, short)]
    assert encoders[0] == encoders[1]


def test_it_stops_early_and_keeps_the_first_of_equals(tmp_path, model_folder):
    path = write_classes(tmp_path / "a.txt")
    result = train(setup_of(model_folder, "classify", train=path), tmp_path / "run", n_epochs=40, patience=3)
    values = [epoch["dev"] for epoch in result.epochs]
    assert len(values) == result.best_epoch + 3 < 40
    assert values[-4:] == [1.0] * 4
    assert values.index(1.0) == result.best_epoch - 1


def test_where_nothing_is_right_yet_the_loss_on_the_dev_examples_counts():
    best, module = BestEpoch(patience=2, show=False), mock.Mock(spec=FinetuningModule)
    module.config, module.model = FinetuningConfig(), torch.nn.Module()
    module.model.head = torch.nn.Linear(1, 1)
    module.mean_loss.return_value = 1.0
    trainer = mock.Mock(should_stop=False)
    chosen = []
    for epoch, (value, loss) in enumerate([(0.0, 3.0), (0.0, 2.0), (0.0, 2.5), (0.1, 4.0), (0.1, 1.0), (0.1, 0.5)]):
        trainer.current_epoch, module.dev_loss, module.dev_scores = epoch, loss, mock.Mock(value=value)
        module.dev_scores.name = "F1"
        best.on_train_epoch_end(trainer, module)
        chosen.append((best.epoch, trainer.should_stop))
    assert chosen == [(1, False), (2, False), (2, False), (4, False), (4, False), (4, True)]


def test_the_test_examples_choose_nothing(tmp_path, model_folder):
    dev, right = (write_classes(tmp_path / f"{name}.txt", seed=seed) for name, seed in (("dev", 3), ("right", 5)))
    wrong = write_classes(tmp_path / "wrong.txt", seed=5, labels=("right", "left"))
    files = {"train": write_classes(tmp_path / "a.txt"), "dev": dev}
    without, good, bad = (
        train(setup_of(model_folder, "classify", **files, test=test), tmp_path / f"run{i}", n_epochs=6)
        for i, test in enumerate((None, right, wrong))
    )
    assert weights_of(without) == weights_of(good) == weights_of(bad)
    assert without.best_epoch == good.best_epoch == bad.best_epoch
    assert without.dev.value == good.dev.value == bad.dev.value
    assert without.test is None
    assert good.test.value == 1 - bad.test.value == evaluate_file(good.folder, right).value > 0.9


def test_the_order_of_the_dev_examples_does_not_matter(tmp_path, model_folder):
    files = [write_classes(tmp_path / "a.txt", seed=4), tmp_path / "b.txt"]
    files[1].write_text("".join(sorted(files[0].read_text().splitlines(keepends=True))))
    first, other = (
        train(setup_of(model_folder, "classify", train=files[0], dev=dev), tmp_path / f"run{i}", n_epochs=2)
        for i, dev in enumerate(files)
    )
    assert weights_of(first) == weights_of(other)
    assert [each["dev"] for each in first.epochs] == [each["dev"] for each in other.epochs]


def test_mixes_are_learnt_and_pulled_towards_the_average(tmp_path, model_folder):
    path = write_tagged(tmp_path / "a.conll", onset_tags)
    setup = setup_of(model_folder, "tag", train=path, mixes_at_output=True)
    free, pulled = (train(setup, tmp_path / f"run{p}", n_epochs=4, mix_penalty=p) for p in (0.0, 100.0))
    for place in ("input", "output"):
        assert sum(free.mixes[place].weights) == pytest.approx(1)
        spread = [max(each.mixes[place].weights) - min(each.mixes[place].weights) for each in (free, pulled)]
        assert spread[1] < spread[0] / 2
    assert free.mixes["input"] != free.mixes["output"]
    learnt = ", ".join(f"{weight:.3f}" for weight in free.mixes["output"].weights)
    assert f"weights of the layers at the output: {learnt}; gamma {free.mixes['output'].gamma:.3f}" in free.describe()


def test_what_a_run_leaves(tmp_path, model_folder):
    files = {"train": write_classes(tmp_path / "a.txt"), "test": write_classes(tmp_path / "c.txt", seed=5)}
    result = train(setup_of(model_folder, "classify", **files), tmp_path / "run", n_epochs=2, seed=3)
    assert result.folder == tmp_path / "run" / "model"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["log.csv", "metrics.json", "model"]
    with (tmp_path / "run" / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == result.epochs
    assert [list(epoch) for epoch in result.epochs] == [["epoch", "loss", "dev", "dev_loss", "seconds"]] * 2
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {name: metrics[name] for name in result.as_dict()} == json.loads(json.dumps(result.as_dict()))
    assert metrics["task"] == "classify"
    assert metrics["training"]["seed"] == 3
    assert metrics["head"]["hidden_size"] == SMALL["hidden_size"]
    assert metrics["inputs"]["layers"] == "mix"
    assert metrics["test"]["value"] == result.test.value
    assert metrics["test"]["labels"]["labels"]["left"]["support"] == 16
    assert len(metrics["mixes"]["input"]["weights"]) == 3
    assert result.describe().startswith(f"test of epoch {result.best_epoch}:\n")


def test_a_run_tells_its_epochs(tmp_path, model_folder, capsys):
    path = write_classes(tmp_path / "a.txt")
    result = finetune(
        "classify", encoder=model_folder, train=path, dev=path, out=tmp_path / "run", config=config(n_epochs=2)
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(lines) == 2
    assert lines[0].startswith(f"epoch 1: loss {result.epochs[0]['loss']:.4f}, dev accuracy ")
    assert ", the best, " in lines[0]


def test_nothing_is_trained_where_the_folder_may_not_be_replaced(tmp_path, model_folder):
    setup = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"))
    first = train(setup, tmp_path / "run", n_epochs=1)
    before = weights_of(first)
    with pytest.raises(InputError, match=r"run/model exists already: .*--overwrite"):
        train(setup, tmp_path / "run", seed=1, cache=tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert weights_of(first) == before
    train(setup, tmp_path / "run", seed=1, overwrite=True)
    assert weights_of(first) != before
    (first.folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"contains files elmolite did not write \(notes.txt\)"):
        train(setup, tmp_path / "run", overwrite=True, cache=tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["notes.txt", "notes.txt/run"])
def test_nothing_is_trained_where_nothing_can_be_written(tmp_path, model_folder, name):
    (tmp_path / "notes.txt").write_text("mine")
    setup = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"))
    with pytest.raises(InputError, match=r"cannot be written: .*notes\.txt is a file"):
        train(setup, tmp_path / name, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_loss_that_is_no_number_is_explained(tmp_path, model_folder, monkeypatch):
    monkeypatch.setattr(SingleLabel, "loss", lambda self, scores, targets, mask: scores.sum() * math.nan)
    setup = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"))
    with pytest.raises(InputError, match="training diverged: the loss is nan; try a lower --learning-rate"):
        train(setup, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bfloat16_learns_too(tmp_path, model_folder):
    setup = setup_of(model_folder, "tag", train=write_tagged(tmp_path / "a.conll", span_tags))
    result = train(setup, tmp_path / "run", n_epochs=3, precision="bf16-mixed")
    assert result.epochs[-1]["loss"] < result.epochs[0]["loss"]
    assert all(
        value.dtype == torch.float32 for value in weights(TaskCheckpoint.from_pretrained(result.folder).model).values()
    )


def test_random_weights_in_the_place_of_the_pretrained_ones(tmp_path, model_folder):
    path = write_classes(tmp_path / "a.txt")
    setup = setup_of(model_folder, "classify", train=path, is_untrained=True)
    result = train(setup, tmp_path / "run", n_epochs=1, refers_to_encoder=True)
    encoder = TaskCheckpoint.from_pretrained(result.folder).model.elmo
    assert differing(weights(ELMo.from_pretrained(model_folder)), weights(encoder))
    assert (result.folder / "encoder").is_dir()
    assert evaluate_file(result.folder, path).value == result.dev.value


def interrupted_at(epoch, error):
    """Make training steps of an epoch, from 0, raise."""
    step = FinetuningModule.training_step

    def training_step(self, batch, number):
        if self.current_epoch == epoch:
            raise error
        return step(self, batch, number)

    return mock.patch.object(FinetuningModule, "training_step", training_step)


def test_an_interrupted_run_leaves_the_best_epoch_so_far(tmp_path, model_folder):
    path = write_classes(tmp_path / "a.txt")
    setup = setup_of(model_folder, "classify", train=path)
    with interrupted_at(2, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt, match="the best so far, is in"):
        train(setup, tmp_path / "run", n_epochs=9)
    whole = train(setup, tmp_path / "whole", n_epochs=2)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert evaluate_file(tmp_path / "run", path).value == whole.dev.value == metrics["dev"]["value"]
    with interrupted_at(0, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt, match="nothing was written"):
        train(setup, tmp_path / "other", n_epochs=9)
    assert not (tmp_path / "other" / "model").exists()


@pytest.mark.parametrize(("encoder_training", "expected"), [("frozen", False), ("all", True)])
def test_a_language_model_that_learns_has_its_dropout(tmp_path, model_folder, encoder_training, expected):
    seen = []
    step = FinetuningModule.training_step

    def training_step(self, batch, number):
        seen.append((self.model.training, self.model.elmo.bilm.training))
        return step(self, batch, number)

    setup = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"))
    with mock.patch.object(FinetuningModule, "training_step", training_step):
        train(setup, tmp_path / "run", n_epochs=2, encoder_training=encoder_training)
    assert set(seen) == {(True, expected)}


class Constant(torch.nn.Module):
    """Gives the scores of one shape, whatever it reads."""

    def __init__(self, *shape):
        super().__init__()
        self.scores = torch.nn.Parameter(torch.zeros(shape))

    def forward(self, words):
        return self.scores + 0 * words.vectors.sum()


@pytest.mark.parametrize(
    ("task", "head", "message"),
    [
        ("classify", lambda size, n: Constant(3, 5), r"the head gives \(3, 5\) where scores \(8, 2\) are needed"),
        ("tag", lambda size, n: Constant(8, n), r"the head gives \(8, 3\) where scores \(8, \d, 3\) are needed"),
        ("entail", lambda size, n: Constant(8, n), "the head cannot read a batch: .*premise and hypothesis, as two"),
        ("classify", lambda: Constant(1), "the head cannot be made: .*the width of its input and the number of its"),
        (
            "classify",
            lambda size, n: torch.nn.Linear(size, n),
            "the head cannot read a batch: .*is given TokenF",
        ),
    ],
)
def test_a_head_of_one_s_own_that_does_not_fit_is_explained(tmp_path, model_folder, task, head, message):
    writer = {"classify": write_classes, "tag": write_tagged, "entail": write_pairs}[task]
    name = {"classify": "a.txt", "tag": "a.conll", "entail": "a.tsv"}[task]
    setup = setup_of(model_folder, task, train=writer(tmp_path / name), head=head)
    with pytest.raises(InputError, match=message):
        train(setup, tmp_path / "out")
