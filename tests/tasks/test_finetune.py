import csv
import json
import math
from dataclasses import replace
from functools import partial
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
import torch
from helpers.small_tasks import (
    SMALL,
    config,
    setup_of,
    span_tags,
    train,
    weights_of,
    write_classes,
    write_lines,
    write_pairs,
    write_tagged,
    write_vectors,
)
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.loggers import CSVLogger

from elmolite.errors import InputError, Terminated
from elmolite.tasks import layer_cache
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.config import ClassifyConfig, EntailConfig, FinetuningConfig, InputConfig, TagConfig
from elmolite.tasks.examples.sources import TaskExamples
from elmolite.tasks.finetune import finetune
from elmolite.tasks.module import BestEpoch, FinetuningModule
from elmolite.tasks.objectives import SingleLabel
from elmolite.tasks.predict import evaluate_file

pytestmark = pytest.mark.usefixtures("no_pictures", "own_cache")


def weights(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def equal(a, b):
    return {name for name in a if torch.equal(a[name], b[name])}


def encoder_of(result):
    return (result.folder / "encoder" / "model.safetensors").read_bytes()


@pytest.fixture
def run(tmp_path, model_folder):
    return setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"))


LARGER = EntailConfig(hidden_size=32, dropout=0.0)


@pytest.mark.parametrize(
    ("task", "head", "write", "options"),
    [
        ("classify", ClassifyConfig(**SMALL), write_classes, {"n_epochs": 8}),
        ("tag", TagConfig(**SMALL), partial(write_tagged, tags=span_tags), {"n_epochs": 20, "learning_rate": 0.06}),
        pytest.param(
            "entail",
            LARGER,
            write_pairs,
            {"n_epochs": 14, "learning_rate": 0.01, "batch_size": 4},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_task_learns_its_training_examples(tmp_path, model_folder, task, head, write, options):
    path = write(tmp_path / "examples")
    result = train(setup_of(model_folder, task, train=path, head=head), tmp_path / "run", **options)
    assert result.dev.value > 0.98
    assert result.epochs[-1]["loss"] < result.epochs[0]["loss"] / 2
    assert evaluate_file(result.folder, path).value == result.dev.value


@pytest.mark.parametrize("encoder_training", ["frozen", "all"])
def test_a_run_is_a_function_of_the_seed(tmp_path, model_folder, encoder_training):
    """Whether the layers were computed or read from the cache."""
    run = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"), dropout=0.3)
    first, again, other = (
        train(run, tmp_path / f"run{i}", n_epochs=2, seed=seed, encoder_training=encoder_training)
        for i, seed in enumerate((1, 1, 2))
    )
    assert weights_of(first) == weights_of(again) != weights_of(other)
    assert encoder_of(first) == encoder_of(again)
    unchanged = (model_folder / "model.safetensors").read_bytes()
    assert (encoder_of(first) == encoder_of(other) == unchanged) == (encoder_training == "frozen")


def test_another_head_or_seed_computes_no_layers_again(tmp_path, model_folder, monkeypatch):
    computed = []
    compute = layer_cache._compute
    monkeypatch.setattr(layer_cache, "_compute", lambda e, s: computed.append(len(s)) or compute(e, s))
    files = {"train": write_classes(tmp_path / "a.txt"), "dev": write_classes(tmp_path / "b.txt", seed=9)}
    train(setup_of(model_folder, "classify", **files), tmp_path / "run0", n_epochs=1)
    assert len(computed) == 2
    linear = ClassifyConfig(kind="linear", pooling="mean")
    run = setup_of(model_folder, "classify", **files, head=linear, layers="top")
    train(run, tmp_path / "run1", n_epochs=1, seed=7)
    train(run, tmp_path / "run2", n_epochs=1, cache=False)
    train(run, tmp_path / "trained", n_epochs=1, encoder_training="all")
    with pytest.warns(FutureWarning, match="cache_limit is deprecated"):
        train(run, tmp_path / "deprecated", n_epochs=1, cache_limit=0, cache_dtype="float16")
    assert len(computed) == 2
    train(run, tmp_path / "run3", n_epochs=1, cache_dtype="float16")
    assert len(computed) == len(list((tmp_path / "cache").glob("*/layers.npy"))) == 4


@pytest.mark.parametrize("encoder_training", ["frozen", "all"])
def test_layers_are_standardized_over_the_training_examples(tmp_path, model_folder, encoder_training):
    run = setup_of(model_folder, "tag", train=write_tagged(tmp_path / "a.conll"), normalization="standard")
    result = train(run, tmp_path / "out", n_epochs=1, encoder_training=encoder_training)
    layers = np.concatenate(run.elmo.embed([each.sentences[0] for each in run.examples.train]), axis=1)
    found = TaskCheckpoint.from_pretrained(result.folder).model.inputs.standardization
    np.testing.assert_allclose(found.mean.numpy(), layers.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(found.deviation.numpy(), layers.std(axis=1), rtol=1e-3)


def test_a_trained_language_model_is_a_copy_with_its_own_learning_rate(tmp_path, run):
    """AdamW's first step changes the weight with the largest change by the learning rate."""
    options = {"n_epochs": 1, "batch_size": 64, "encoder_training": "all", "encoder_learning_rate": 2e-4}
    before, head = weights(run.elmo), weights(run.make_model(0).head)
    model = TaskCheckpoint.from_pretrained(train(run, tmp_path / "run", **options).folder).model
    assert not equal(before, weights(model.elmo)) & {name for name, _ in run.elmo.named_parameters()}
    assert equal(before, weights(run.elmo)) == set(before)

    def largest_step(a, b):
        return max(float((a[name] - b[name]).abs().max()) for name in a)

    assert largest_step(before, weights(model.elmo)) == pytest.approx(2e-4, rel=0.01)
    assert largest_step(head, weights(model.head)) == pytest.approx(0.03, rel=0.01)


def test_gradual_training_unfreezes_a_layer_an_epoch_from_the_top(tmp_path, run, monkeypatch):
    after_epoch = [weights(run.elmo)]
    score = FinetuningModule.on_validation_epoch_end
    monkeypatch.setattr(
        FinetuningModule,
        "on_validation_epoch_end",
        lambda self: after_epoch.append(weights(self.model.elmo)) or score(self),
    )
    train(run, tmp_path / "run", n_epochs=5, encoder_training="gradual")
    changed = [set(a) - equal(a, b) for a, b in pairwise(after_epoch)]
    parameters = {name for name, _ in run.elmo.named_parameters()}
    top, lower = ({name for name in parameters if f"_stack.layers.{number}." in name} for number in (1, 0))
    assert top
    assert changed == [set(), top, top | lower, parameters, parameters]


@pytest.mark.parametrize(
    ("encoder_training", "kind"), [("frozen", "biattentive"), ("all", "lstm"), ("gradual", "lstm")]
)
def test_the_weights_of_the_best_epoch_are_kept(tmp_path, model_folder, encoder_training, kind):
    """The labels of the dev examples are swapped, so that the score falls with training."""
    dev = write_classes(tmp_path / "dev.txt", labels=("right", "left"))
    head = ClassifyConfig(kind=kind, **SMALL)
    run = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"), dev=dev, head=head)
    options = {"encoder_training": encoder_training, "encoder_learning_rate": 0.001}
    result = train(run, tmp_path / "run", n_epochs=6, **options)
    values = [epoch["dev"] for epoch in result.epochs]
    assert values[-1] < max(values)
    assert result.best_epoch == 1 + values.index(max(values))
    assert evaluate_file(result.folder, dev).value == result.dev.value == max(values)
    short = train(run, tmp_path / "short", n_epochs=result.best_epoch, **options)
    assert weights_of(result) == weights_of(short)
    assert encoder_of(result) == encoder_of(short)


def test_early_stopping_keeps_the_first_of_equal_epochs(tmp_path, run):
    result = train(run, tmp_path / "run", n_epochs=40, patience=3)
    values = [epoch["dev"] for epoch in result.epochs]
    assert len(values) == result.best_epoch + 3 < 40
    assert values[-4:] == [1.0] * 4
    assert values.index(1.0) == result.best_epoch - 1


def test_while_the_score_is_0_the_dev_loss_counts():
    best, trainer = BestEpoch(patience=2), mock.Mock(should_stop=False)
    module = mock.Mock(spec=FinetuningModule, config=FinetuningConfig(), model=torch.nn.Module())
    module.model.head = torch.nn.Linear(1, 1)
    module.mean_loss.return_value = 1.0
    chosen = []
    for epoch, (value, loss) in enumerate([(0.0, 3.0), (0.0, 2.0), (0.0, 2.5), (0.1, 4.0), (0.1, 1.0), (0.1, 0.5)]):
        trainer.current_epoch, module.dev_loss, module.dev_scores = epoch, loss, mock.Mock(value=value)
        best.on_train_epoch_end(trainer, module)
        chosen.append((best.epoch, trainer.should_stop))
    assert chosen == [(1, False), (2, False), (2, False), (4, False), (4, False), (4, True)]


def test_the_test_examples_influence_nothing(tmp_path, model_folder):
    dev, right = (write_classes(tmp_path / f"{name}.txt", seed=seed) for name, seed in (("dev", 3), ("right", 5)))
    wrong = write_classes(tmp_path / "wrong.txt", seed=5, labels=("right", "left"))
    files = {"train": write_classes(tmp_path / "a.txt"), "dev": dev}
    without, good, bad = (
        train(setup_of(model_folder, "classify", **files, test=test), tmp_path / f"run{i}", n_epochs=6)
        for i, test in enumerate((None, right, wrong))
    )
    assert weights_of(without) == weights_of(good) == weights_of(bad)
    assert without.best_epoch == good.best_epoch == bad.best_epoch
    assert without.test is None
    assert good.test.value == 1 - bad.test.value == evaluate_file(good.folder, right).value > 0.9


def test_mixes_are_learnt_and_pulled_towards_the_average(tmp_path, model_folder):
    run = setup_of(model_folder, "tag", train=write_tagged(tmp_path / "a.conll"), output_mix=True)
    free, pulled = (train(run, tmp_path / f"run{p}", n_epochs=12, mix_penalty=p) for p in (0.0, 100.0))
    for name in ("input", "output"):
        assert sum(free.mixes[name].weights) == pytest.approx(1)
        spread = [max(each.mixes[name].weights) - min(each.mixes[name].weights) for each in (free, pulled)]
        assert spread[1] < spread[0] / 2
    assert free.mixes["input"] != free.mixes["output"]
    assert "layer weights of the output mix: 0." in free.describe()


def test_the_files_the_log_and_the_metrics_of_a_run(tmp_path, model_folder, caplog):
    caplog.set_level("INFO", logger="elmolite")
    files = {"train": write_classes(tmp_path / "a.txt"), "test": write_classes(tmp_path / "c.txt", seed=5)}
    logged = []
    callback = LambdaCallback(on_validation_end=lambda trainer, _: logged.append(+trainer.callback_metrics["dev"]))
    result = finetune(
        TaskExamples.read("classify", **files),
        encoder=model_folder,
        out=tmp_path / "run",
        config=config(n_epochs=2, seed=3),
        inputs=InputConfig(normalization="layer"),
        head=ClassifyConfig(**SMALL),
        callbacks=[callback],
        loggers=[CSVLogger(tmp_path / "lightning")],
    )
    assert result.folder == tmp_path / "run" / "model"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["log.csv", "metrics.json", "model"]
    with (tmp_path / "run" / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == result.epochs
    assert [list(epoch) for epoch in result.epochs] == [["epoch", "loss", "dev", "dev_loss", "seconds"]] * 2
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics.items() >= json.loads(json.dumps(result.as_dict())).items()
    assert (metrics["task"], metrics["training"]["seed"], metrics["inputs"]["layers"]) == ("classify", 3, "mix")
    assert metrics["head"]["hidden_size"] == SMALL["hidden_size"]
    assert metrics["test"]["labels"]["labels"]["left"]["support"] == 16
    assert result.describe().startswith(f"test scores of epoch {result.best_epoch}:\n")
    assert repr(result).startswith(
        f"FinetuningResult({str(result.folder)!r}, dev accuracy {result.dev.value:.4f}, test "
    )
    assert f"<td>test</td><td>{result.test.value:.4f}</td>" in result._repr_html_()
    assert f"epoch 1: loss {result.epochs[0]['loss']:.4f}, dev accuracy " in caplog.text
    assert logged == pytest.approx([each["dev"] for each in result.epochs])
    assert "dev_loss" in next((tmp_path / "lightning").glob("**/metrics.csv")).read_text()


def test_an_existing_folder_is_checked_before_training(tmp_path, run):
    first = train(run, tmp_path / "run", n_epochs=1)
    before = weights_of(first)
    with pytest.raises(InputError, match=r"run/model exists already: .*`overwrite=True`"):
        train(run, tmp_path / "run", seed=1, cache=tmp_path / "other")
    assert weights_of(first) == before
    train(run, tmp_path / "run", seed=1, n_epochs=1, overwrite=True)
    assert weights_of(first) != before
    (first.folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"contains files elmolite did not write \(notes.txt\)"):
        train(run, tmp_path / "run", overwrite=True, cache=tmp_path / "other")
    with pytest.raises(InputError, match=r"notes\.txt is a file: choose another name"):
        train(run, first.folder / "notes.txt" / "run", cache=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_divergence_is_explained(tmp_path, run, monkeypatch):
    monkeypatch.setattr(SingleLabel, "loss", lambda self, scores, targets, mask: scores.sum() * math.nan)
    with pytest.raises(InputError, match="training diverged: the loss is nan; try a lower `learning_rate`"):
        train(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bfloat16_learns_too(tmp_path, model_folder):
    run = setup_of(model_folder, "tag", train=write_tagged(tmp_path / "a.conll", span_tags))
    result = train(run, tmp_path / "run", n_epochs=3, precision="bf16-mixed")
    assert result.epochs[-1]["loss"] < result.epochs[0]["loss"]
    saved = weights(TaskCheckpoint.from_pretrained(result.folder).model)
    assert all(value.dtype == torch.float32 for value in saved.values())


def test_an_untrained_language_model_is_saved(tmp_path, run):
    untrained = replace(run, random_init=True)
    result = train(untrained, tmp_path / "run", n_epochs=1, refers_to_encoder=True)
    encoder = TaskCheckpoint.from_pretrained(result.folder).model.elmo
    assert not torch.equal(next(encoder.parameters()), next(run.elmo.parameters()))
    assert evaluate_file(result.folder, tmp_path / "a.txt").value == result.dev.value


def interrupted_in(epoch, exception=KeyboardInterrupt):
    """Make the training steps of an epoch, from 0, raise KeyboardInterrupt, or another exception."""
    step = FinetuningModule.training_step

    def training_step(self, batch, batch_idx):
        if self.current_epoch == epoch:
            raise exception
        return step(self, batch, batch_idx)

    return mock.patch.object(FinetuningModule, "training_step", training_step)


def test_an_interrupted_run_saves_the_best_epoch_so_far(tmp_path, run):
    with interrupted_in(2), pytest.raises(KeyboardInterrupt, match="the best so far, is in"):
        train(run, tmp_path / "run", n_epochs=9)
    whole = train(run, tmp_path / "whole", n_epochs=2)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert evaluate_file(tmp_path / "run", tmp_path / "a.txt").value == whole.dev.value == metrics["dev"]["value"]
    with interrupted_in(0, Terminated), pytest.raises(Terminated, match="nothing was written"):
        train(run, tmp_path / "other", n_epochs=9)
    assert not (tmp_path / "other" / "model").exists()


def test_an_untrained_language_model_has_the_same_sizes_and_random_weights(run):
    untrained = replace(run, random_init=True)
    first, again, other = (untrained.make_model(seed).elmo for seed in (1, 1, 2))
    a, b, pretrained = weights(first), weights(other), weights(run.elmo)
    name = next(name for name in a if "forward_stack" in name)
    assert equal(a, weights(again)) == set(a)
    assert name not in equal(a, b) | equal(a, pretrained)
    assert a[name].shape == pretrained[name].shape
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_static_vectors_are_of_the_words_of_train_and_dev(tmp_path, model_folder):
    words = {"train": "ban", "dev": "kin", "test": "lun"}
    parts = {name: write_lines(tmp_path / f"{name}.txt", f"x {word}") for name, word in words.items()}
    parts["static"] = str(write_vectors(tmp_path / "vectors.txt", ["ban", "bast", "kin", "lun"]))
    for n_first, expected in ((0, ["<unk>", "ban", "kin"]), (2, ["<unk>", "ban", "bast", "kin"])):
        model = setup_of(model_folder, "classify", **parts, layers="none", static_words=n_first).make_model(0)
        assert model.inputs.static.words == expected
        assert model.elmo is None
        assert not model.inputs.static.weight.requires_grad
    trained = setup_of(model_folder, "classify", **parts, train_static=True).make_model(0)
    assert trained.inputs.static.weight.requires_grad
    assert trained.inputs.size == trained.elmo.size + 6


def test_unknown_tasks_and_heads_of_other_tasks_are_refused(tmp_path, model_folder):
    path = write_classes(tmp_path / "a.txt")
    with pytest.raises(InputError, match="unknown task 'clasify'; did you mean 'classify'"):
        TaskExamples.read("clasify", train=path)
    with pytest.raises(InputError, match="head must be a ClassifyConfig for the task classify, got TagConfig"):
        setup_of(model_folder, "classify", train=path, head=TagConfig())
