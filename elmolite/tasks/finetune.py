"""Fine-tuning: one run, from a setup to a task folder with its scores and pictures."""

from __future__ import annotations

import csv
import gc
import io
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from elmolite.embedding.batching import BATCH_TOKENS, batches_by_length
from elmolite.reports import plots
from elmolite.tasks.checkpoint import ENCODER_FOLDER, MANIFEST, TaskCheckpoint
from elmolite.tasks.config import GIB, FinetuningConfig, InputConfig
from elmolite.tasks.data import ShuffledBatches, TaskBatch, TaskData, predict
from elmolite.tasks.examples.records import DEFAULT_COLUMNS, Example, ExampleColumns, Task
from elmolite.tasks.heads import HeadConfig, HeadFactory
from elmolite.tasks.inputs import LearntMix
from elmolite.tasks.metrics import TaskScores
from elmolite.tasks.model import TaskModel
from elmolite.tasks.module import BestEpoch, FinetuningModule
from elmolite.tasks.setup import FinetuningSetup, Source, TaskExamples, set_up
from elmolite.utils import files, folders
from elmolite.utils.lightning import quiet_lightning
from elmolite.utils.torch import best_device

MODEL_FOLDER = "model"
METRICS_FILE = "metrics.json"
STANDARDIZATION_BATCHES = 100
"""What a head reads is standardised over at most so many batches of the training examples."""


@dataclass(frozen=True)
class FinetuningResult:
    """What came of a run."""

    folder: Path
    dev: TaskScores
    test: TaskScores | None
    best_epoch: int
    epochs: list[dict[str, float]]
    """Of each its number, mean loss, value on the dev examples and seconds of training."""
    mixes: dict[str, LearntMix]

    def describe(self) -> str:
        """Return the scores and what the mixes have learnt, for a person."""
        measured, name = (self.test, "test") if self.test is not None else (self.dev, "dev")
        lines = [f"{name} of epoch {self.best_epoch}:", measured.describe()]
        for place, mix in self.mixes.items():
            weights = ", ".join(f"{weight:.3f}" for weight in mix.weights)
            lines.append(f"weights of the layers at the {place}: {weights}; gamma {mix.gamma:.3f}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "best_epoch": self.best_epoch,
            "mixes": {place: mix._asdict() for place, mix in self.mixes.items()},
            "dev": self.dev.as_dict(),
            "test": None if self.test is None else self.test.as_dict(),
            "epochs": self.epochs,
        }


def finetune(
    task: Task,
    *,
    encoder: str | Path,
    train: Source,
    dev: Source | None = None,
    test: Source | None = None,
    out: str | Path,
    config: FinetuningConfig | None = None,
    inputs: InputConfig | None = None,
    head: HeadConfig | HeadFactory | None = None,
    columns: ExampleColumns = DEFAULT_COLUMNS,
    pretokenized: bool = False,
    is_untrained: bool = False,
    cache: str | Path | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
) -> FinetuningResult:
    """Train a task on the layers of a language model, as ``elmolite finetune`` does.

    :param task: ``classify``, ``tag`` or ``entail``.
    :param encoder: a model folder, or the name of a released model.
    :param train: examples to learn from: a file, or a split of a Hugging Face dataset.
    :param dev: examples that choose the epoch; without them every tenth training example does.
    :param test: examples to measure at the end.
    :param out: folder for the task folder ``model/``, scores and pictures.
    :param head: settings of a head of the task; or a factory of a custom head, called with the input size and the
        number of labels: a module that takes :class:`TokenFeatures` of each sentence and returns scores (B, labels),
        or (B, T, labels) if each token has a label.
    :param columns: how the files are laid out, where that should not be recognised.
    :param pretokenized: cut sentences at white space, whatever the language model's text was.
    :param is_untrained: use the language model with weights at random, to see what pretraining brings.
    :param cache: folder for the layers of a frozen language model; ``None`` for the user's.
    :param overwrite: replace what an earlier run left in ``out``.
    :raises InputError: a file cannot be read or is broken, or the settings do not go together.
    """
    setup = set_up(
        TaskExamples.read(task, train=train, dev=dev, test=test, columns=columns),
        encoder=encoder,
        inputs=inputs,
        head=head,
        pretokenized=pretokenized,
        is_untrained=is_untrained,
    )
    return run(
        setup,
        config or FinetuningConfig(),
        Path(out),
        cache=None if cache is None else Path(cache),
        overwrite=overwrite,
        show_progress=show_progress,
    )


def run(
    setup: FinetuningSetup,
    config: FinetuningConfig,
    out: Path,
    *,
    cache: Path | None = None,
    refers_to_encoder: bool = False,
    overwrite: bool = False,
    show_progress: bool = True,
) -> FinetuningResult:
    """Train a task, choose the epoch by the dev examples, measure the test examples, and write all of it.

    :param out: the folder of the run, which gets the task folder ``model/``, scores, the log of the epochs, pictures.
    :param cache: folder for the layers of a frozen language model; ``None`` for the user's.
    :param refers_to_encoder: do not copy the language model, if it is as it was, but note which it is.
    :param overwrite: replace what an earlier run left in ``out``.
    :raises InputError: the settings do not go together, or something cannot be read or written.
    """
    folders.check_writable(out)
    folders.check_replaceable(out / MODEL_FOLDER, MANIFEST, overwrite=overwrite, folders=(ENCODER_FOLDER,))
    if config.encoder_training != "frozen":  # the next run begins with the language model as it was
        setup = replace(setup, elmo=deepcopy(setup.elmo))
    description, model = setup.description, setup.make_model(config.seed).to(best_device())
    parts = {"train": setup.examples.train, "dev": setup.examples.dev, "test": setup.examples.test}
    data = {
        name: _data(part, model, setup, config, cache, show_progress=show_progress)
        for name, part in parts.items()
        if part is not None
    }
    _standardise(model, data["train"], config)
    if callable(setup.head):
        first = data["train"].sentences(range(min(config.batch_size, len(data["train"]))))
        model.check_head([side.to(best_device()) for side in first])
    dev_batches = list(batches_by_length(data["dev"].lengths.tolist(), BATCH_TOKENS))
    dev_labels = [setup.examples.dev[number].labels for batch in dev_batches for number in batch]
    module = FinetuningModule(model, description, config, dev_labels)
    best = BestEpoch(patience=config.patience, show=show_progress)
    is_whole = _fit(module, data["train"], data["dev"], dev_batches, config, best)
    if best.scores is None:
        raise KeyboardInterrupt("interrupted in the first epoch; nothing was written")
    best.restore(module)
    model.to(best_device()).eval()
    test = None
    if setup.examples.test is not None:
        predicted = [prediction.labels for prediction in predict(model, data["test"])]
        test = description.score([each.labels for each in setup.examples.test], predicted)
    result = FinetuningResult(
        out / MODEL_FOLDER, best.scores, test, best.epoch, best.epochs, model.inputs.learnt_mixes()
    )
    is_as_it_was = config.encoder_training == "frozen" and not setup.is_untrained
    encoder = setup.encoder if refers_to_encoder and is_as_it_was else None
    checkpoint = TaskCheckpoint(description, model, setup.tokenizer, setup.examples.columns)
    checkpoint.save_pretrained(result.folder, encoder=encoder, overwrite=True)
    _write(result, setup, config, out)
    gc.collect()  # the trainer's cycles hold the cached layers, which would count as in use
    if not is_whole:
        raise KeyboardInterrupt(f"interrupted; the model of epoch {best.epoch}, the best so far, is in {result.folder}")
    return result


def _data(
    part: list[Example],
    model: TaskModel,
    setup: FinetuningSetup,
    config: FinetuningConfig,
    cache: Path | None,
    *,
    show_progress: bool,
) -> TaskData:
    data = TaskData(part, model, setup.tokenizer)
    if config.encoder_training == "frozen" and config.cache_limit > 0:
        data.keep_layers(
            cache,
            precision=config.cache_precision,
            limit_bytes=int(config.cache_limit * GIB),
            show_progress=show_progress,
        )
    return data


def _standardise(model: TaskModel, train: TaskData, config: FinetuningConfig) -> None:
    """Measure the layers of some training examples, where a head reads them standardised."""
    device = next(model.parameters()).device
    batches = islice(ShuffledBatches(train.lengths, config.batch_size, seed=config.seed), STANDARDIZATION_BATCHES)
    model.fit_standardization([side.to(device) for side in train.sentences(numbers)] for numbers in batches)


def _fit(
    module: FinetuningModule,
    train: TaskData,
    dev: TaskData,
    dev_batches: list[list[int]],
    config: FinetuningConfig,
    best: BestEpoch,
) -> bool:
    """Train; return whether nothing interrupted it."""
    module.model.train()
    if config.encoder_training == "all" and module.model.elmo is not None:
        module.model.elmo.unfreeze()
    batches = ShuffledBatches(train.lengths, config.batch_size, seed=config.seed)
    with quiet_lightning():
        trainer = Trainer(
            accelerator="auto",
            devices=1,
            precision=config.precision,
            max_epochs=config.n_epochs,
            gradient_clip_val=config.clip_norm,
            num_sanity_val_steps=0,
            logger=False,
            callbacks=[best],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            trainer.fit(
                module,
                DataLoader[TaskBatch](train, batch_size=None, sampler=batches),
                DataLoader[TaskBatch](dev, batch_size=None, sampler=dev_batches),
            )
        except SystemExit:  # Lightning's way out on Ctrl-C and SIGTERM
            return False
    return True


def _write(result: FinetuningResult, setup: FinetuningSetup, config: FinetuningConfig, out: Path) -> None:
    """Write the scores, the log and the pictures."""
    settings = {
        "task": setup.examples.task,
        "encoder": {"name": str(setup.encoder), **setup.encoder_fingerprint()},
        "is_untrained": setup.is_untrained,
        "examples": setup.examples.sources,
        "inputs": asdict(setup.inputs),
        "head": None if callable(setup.head) else asdict(setup.head),
        "training": asdict(config),
    }
    files.write_bytes(out / METRICS_FILE, files.json_bytes({**settings, **result.as_dict()}))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(result.epochs[0]))
    writer.writeheader()
    writer.writerows(result.epochs)
    files.write_bytes(out / "log.csv", text.getvalue().encode())
    _draw(result, setup.examples.task, out)


def _draw(result: FinetuningResult, task: str, out: Path) -> None:
    """Draw the epochs, the confusions and the weights of the layers, in the place of an earlier run's."""
    for name in ("training.png", "confusion.png", "layers.png"):
        (out / name).unlink(missing_ok=True)
    plots.draw_training(
        out / "training.png",
        losses={
            name: [epoch[key] for epoch in result.epochs] for name, key in (("training", "loss"), ("dev", "dev_loss"))
        },
        metrics={result.dev.name: [epoch["dev"] for epoch in result.epochs]},
        title=f"{task}: {out.name}",
    )
    part, scores = ("dev", result.dev) if result.test is None else ("test", result.test)
    if scores.confusion is not None:
        title = f"{out.name}, {part}: {scores.name} {scores.value:.4f}"
        plots.draw_confusion(scores.confusion.labels, scores.confusion.counts, out / "confusion.png", title=title)
    if result.mixes:
        weights = {place: mix.weights for place, mix in result.mixes.items()}
        names = layer_names(len(next(iter(weights.values()))))
        plots.draw_layer_weights(weights, out / "layers.png", title=f"{out.name}: weights", layer_names=names)


def layer_names(n_layers: int) -> list[str]:
    """Return what a person calls the layers."""
    return ["token layer", *(f"LSTM layer {number}" for number in range(1, n_layers))]
