"""Fine-tuning: train a task, choose the epoch by the dev examples, and write the task folder, scores and plots."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader

from elmolite.data.tokenization import SentenceTokenizer
from elmolite.embedding.batching import BATCH_TOKENS, batches_by_length
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError, Terminated
from elmolite.formats.loading import refuse_earlier_model
from elmolite.hub import (
    METRICS_FILE as METRICS_FILE,
    MODEL_MANIFEST as ENCODER_MANIFEST,
    RUN_MODEL as MODEL_FOLDER,
    TASK_MANIFEST as MANIFEST,
    model_folder,
)
from elmolite.nn.bilm import BiLM
from elmolite.reports import plots
from elmolite.tasks.checkpoint import ENCODER_FOLDER, TaskCheckpoint
from elmolite.tasks.config import (
    DEFAULT_COLUMNS,
    HEAD_CONFIGS,
    ExampleColumns,
    FinetuningConfig,
    HeadConfig,
    InputConfig,
)
from elmolite.tasks.data import ShuffledBatches, TaskBatch, TaskData, predict, tokenize
from elmolite.tasks.examples.sources import Source, TaskExamples
from elmolite.tasks.heads import HeadFactory
from elmolite.tasks.inputs import NO_LAYERS, LearntMix
from elmolite.tasks.metrics import TaskScores, check_labels
from elmolite.tasks.model import SentenceBatch, TaskModel
from elmolite.tasks.module import BestEpoch, FinetuningModule
from elmolite.tasks.spans import scheme_of
from elmolite.tasks.specs import TaskDescription
from elmolite.tasks.static_vectors import StaticEmbedding, StaticVectors, read_static_vectors
from elmolite.utils import files, folders
from elmolite.utils.config import accepts_renamed_arguments
from elmolite.utils.console import ProgressBar, html_table
from elmolite.utils.torch import best_device, quiet_lightning, trainer_devices

STANDARDIZATION_BATCHES = 100
"""Maximum number of training batches over which the layers are standardized."""

CacheFolder = str | Path | Literal[False] | None
"""Folder of the layer cache; ``None`` for the user's, ``False`` for no cache."""


@dataclass(frozen=True)
class FinetuningResult:
    """Result of a run."""

    folder: Path
    dev: TaskScores
    test: TaskScores | None
    best_epoch: int
    epochs: list[dict[str, float]]
    """Number, loss, dev score, dev loss and seconds of training of each epoch."""
    mixes: dict[str, LearntMix]

    def __repr__(self) -> str:
        test = "" if self.test is None else f"test {self.test.name} {self.test.value:.4f}, "
        scores = f"dev {self.dev.name} {self.dev.value:.4f}, {test}best epoch {self.best_epoch} of {len(self.epochs)}"
        return f"FinetuningResult({str(self.folder)!r}, {scores})"

    def _repr_html_(self) -> str:
        parts = {"dev": self.dev, "test": self.test}
        rows = [[name, f"{part.value:.4f}"] for name, part in parts.items() if part is not None]
        return html_table([["", self.dev.name], *rows])

    def describe(self) -> str:
        """Return the scores and the learnt weights of the layers as text."""
        scores, name = (self.test, "test") if self.test is not None else (self.dev, "dev")
        lines = [f"{name} scores of epoch {self.best_epoch}:", scores.describe()]
        for name, mix in self.mixes.items():
            weights = ", ".join(f"{weight:.3f}" for weight in mix.weights)
            lines.append(f"layer weights of the {name} mix: {weights}; gamma {mix.gamma:.3f}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "best_epoch": self.best_epoch,
            "mixes": {name: mix._asdict() for name, mix in self.mixes.items()},
            "dev": self.dev.as_dict(),
            "test": None if self.test is None else self.test.as_dict(),
            "epochs": self.epochs,
        }


@dataclass(frozen=True)
class FinetuningRun:
    """Everything that a run depends on, except how it trains; see :meth:`build`."""

    examples: TaskExamples
    encoder: str | Path
    elmo: ELMo
    inputs: InputConfig
    head: HeadConfig | HeadFactory
    tokenizer: SentenceTokenizer
    random_init: bool = False
    """Whether the language model has random weights: the baseline for pretraining."""

    @classmethod
    def build(
        cls,
        examples: TaskExamples,
        *,
        encoder: str | Path,
        inputs: InputConfig | None = None,
        head: HeadConfig | HeadFactory | None = None,
        pretokenized: bool = False,
        random_init: bool = False,
    ) -> FinetuningRun:
        """Load the language model and check that examples, inputs and head fit the task.

        The parameters are those of :func:`elmolite.finetune`.
        """
        kind = HEAD_CONFIGS[examples.task]
        head = head or kind()
        if not callable(head) and not isinstance(head, kind):
            raise InputError(f"head must be a {kind.__name__} for the task {examples.task}, got {head}")
        refuse_earlier_model(encoder)
        elmo = ELMo.from_pretrained(encoder)
        tokenizer = SentenceTokenizer.whitespace() if pretokenized else elmo.tokenizer
        run = cls(examples, encoder, elmo, inputs or InputConfig(), head, tokenizer, random_init)
        check_labels(run.description, [*examples.dev, *(examples.test or [])])
        return run

    @cached_property
    def description(self) -> TaskDescription:
        """The configuration of the model."""
        examples = self.examples
        has_tags = examples.spec.has_token_labels
        return TaskDescription(
            task=examples.task,
            labels=tuple(examples.labels),
            inputs=self.inputs,
            head=None if callable(self.head) else self.head,
            is_multi_label=examples.is_multi_label,
            scheme=scheme_of([each.labels for each in examples.train]) if has_tags else None,
        )

    def make_model(self, seed: int) -> TaskModel:
        """Build the model, with random weights that are a function of the seed."""
        torch.manual_seed(seed)
        elmo = self.elmo if self.inputs.layers != NO_LAYERS else None
        if elmo is not None and self.random_init:
            elmo = ELMo(BiLM(elmo.bilm.config, **elmo.indexer.sizes()), elmo.tokenizer, elmo.indexer)
        vectors = self._static_vectors
        static = None if vectors is None else StaticEmbedding.of(vectors, is_trained=self.inputs.train_static)
        custom_head = self.head if callable(self.head) else None
        return TaskModel.build(self.description, elmo, static, custom_head=custom_head)

    def encoder_entry(self) -> dict[str, Any]:
        """Return the checksum of the language model's manifest, which has the checksums of its files."""
        return {ENCODER_MANIFEST: files.file_entry(model_folder(self.encoder) / ENCODER_MANIFEST)}

    @cached_property
    def _static_vectors(self) -> StaticVectors | None:
        """Vectors of the words of the training and dev examples, and of the first words of the file."""
        if self.inputs.static is None:
            return None
        parts = (self.examples.train, self.examples.dev)
        words = {
            word for part in parts for side in tokenize(part, self.tokenizer) for tokens in side for word in tokens
        }
        return read_static_vectors(self.inputs.static, only=words, n_first=self.inputs.static_words)


@accepts_renamed_arguments
def finetune(
    task: str | TaskExamples,
    *,
    encoder: str | Path,
    train: Source | None = None,
    dev: Source | None = None,
    test: Source | None = None,
    out: str | Path,
    config: FinetuningConfig | None = None,
    inputs: InputConfig | None = None,
    head: HeadConfig | HeadFactory | None = None,
    columns: ExampleColumns = DEFAULT_COLUMNS,
    pretokenized: bool = False,
    random_init: bool = False,
    cache: CacheFolder = None,
    overwrite: bool = False,
    show_progress: bool = True,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
) -> FinetuningResult:
    """Train a task on the layers of a language model, as ``elmolite finetune`` does.

    >>> result = finetune(
    ...     "classify",
    ...     encoder="mini-en",
    ...     train="reviews.csv",
    ...     out="task",
    ...     config=FinetuningConfig(n_epochs=1),
    ...     head=ClassifyConfig(kind="linear"),
    ...     cache=False,
    ...     show_progress=False,
    ... )
    >>> TaskCheckpoint.from_pretrained(result.folder).description.labels
    ('bad', 'good')

    :param task: ``classify``, ``tag`` or ``entail``; or examples that :meth:`TaskExamples.read` has read, which
        replace ``train``, ``dev``, ``test`` and ``columns``.
    :param encoder: a model folder, the name of a released model, or ``owner/model`` of the Hugging Face Hub.
    :param train: training examples: a file, or a split of a Hugging Face dataset.
    :param dev: examples that choose the epoch; ``None`` sets every tenth training example aside.
    :param test: examples that are scored at the end.
    :param out: folder of the run: the task folder ``model/``, scores and plots.
    :param head: settings of a head of the task; or a factory of a custom head, called with the input size and the
        number of labels: a module that takes :class:`TokenFeatures` of each sentence and returns scores (B, labels),
        or (B, T, labels) if each token has a label.
    :param columns: format and columns of the files.
    :param pretokenized: split sentences at white space, not with the tokenizer of the language model.
    :param random_init: give the language model random weights: the baseline for pretraining.
    :param cache: folder for the layers of a frozen language model; ``None`` for the user's cache, ``False`` to
        compute them again in every epoch.
    :param overwrite: replace an earlier run in ``out``.
    :param callbacks: of Lightning; the module logs ``loss``, ``dev`` and ``dev_loss`` each epoch.
    :param loggers: of Lightning.
    :raises InputError: a file cannot be read, or settings contradict each other.
    """
    if isinstance(task, str):
        if train is None:
            raise InputError("train is missing: a file, or a split of a dataset")
        task = TaskExamples.read(task, train=train, dev=dev, test=test, columns=columns)
    elif not (train is dev is test is None):
        raise InputError("train, dev and test are part of the examples that were given as task")
    run = FinetuningRun.build(
        task, encoder=encoder, inputs=inputs, head=head, pretokenized=pretokenized, random_init=random_init
    )
    return fit(
        run,
        config or FinetuningConfig(),
        Path(out),
        cache=cache,
        overwrite=overwrite,
        show_progress=show_progress,
        callbacks=callbacks,
        loggers=loggers,
    )


def fit(
    run: FinetuningRun,
    config: FinetuningConfig,
    out: Path,
    *,
    cache: CacheFolder = None,
    refers_to_encoder: bool = False,
    overwrite: bool = False,
    show_progress: bool = True,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
) -> FinetuningResult:
    """Train a run, restore its best epoch, score the test examples, and write everything to ``out``.

    :param refers_to_encoder: store the name of the language model, not a copy, if it was not trained.
    """
    folders.check_replaceable(out / MODEL_FOLDER, MANIFEST, overwrite=overwrite, folders=(ENCODER_FOLDER,))
    is_frozen = config.encoder_training == "frozen"
    if not is_frozen:  # leave the language model as it is for the next run
        run = replace(run, elmo=deepcopy(run.elmo))
    device = best_device()
    description, model = run.description, run.make_model(config.seed).to(device)
    data = _task_data(run, model, config, cache, show_progress=show_progress)
    _standardize(model, data["train"], config, show=None if show_progress else False)
    if callable(run.head):
        first = data["train"].sentences(range(min(config.batch_size, len(data["train"]))))
        model.check_head([side.to(device) for side in first])
    dev_batches = list(batches_by_length(data["dev"].lengths.tolist(), BATCH_TOKENS))
    dev_labels = [run.examples.dev[index].labels for batch in dev_batches for index in batch]
    module = FinetuningModule(model, description, config, dev_labels)
    best = BestEpoch(patience=config.patience, show=show_progress)
    with quiet_lightning():
        trainer = _trainer(config, device, loggers=[*loggers], callbacks=[best, *callbacks])
        interruption = _train(trainer, module, data["train"], data["dev"], dev_batches)
    if best.scores is None:
        raise (interruption or KeyboardInterrupt)("interrupted in the first epoch; nothing was written")
    best.restore(module)
    model.to(device).eval()
    test = None
    if run.examples.test is not None:
        predicted = [prediction.labels for prediction in predict(model, data["test"], show_progress=show_progress)]
        test = description.score([each.labels for each in run.examples.test], predicted)
    result = FinetuningResult(
        out / MODEL_FOLDER, best.scores, test, best.epoch, best.epochs, model.inputs.learnt_mixes()
    )
    encoder = run.encoder if refers_to_encoder and is_frozen and not run.random_init else None
    checkpoint = TaskCheckpoint(description, model, run.tokenizer, run.examples.columns)
    checkpoint.save_pretrained(result.folder, encoder=encoder, overwrite=True)
    _write(result, run, config, out)
    _draw(result, run.examples.task, out)
    if interruption is not None:
        raise interruption(f"interrupted; the model of epoch {best.epoch}, the best so far, is in {result.folder}")
    return result


def _task_data(
    run: FinetuningRun, model: TaskModel, config: FinetuningConfig, cache: CacheFolder, *, show_progress: bool
) -> dict[str, TaskData]:
    """Return the examples of each part, with the layers of a frozen language model unless ``cache`` is false."""
    parts = {"train": run.examples.train, "dev": run.examples.dev, "test": run.examples.test}
    data = {name: TaskData(part, model, run.tokenizer) for name, part in parts.items() if part is not None}
    if config.encoder_training == "frozen" and cache is not False and config.cache_limit != 0:
        folder = None if cache is None else Path(cache)
        for part in data.values():
            part.cache_layers(folder, dtype=config.cache_dtype, show_progress=show_progress)
    return data


def _trainer(
    config: FinetuningConfig, device: torch.device, *, loggers: list[Logger], callbacks: list[Callback]
) -> Trainer:
    """Return a Lightning trainer that leaves checkpoints and progress to this package."""
    return Trainer(
        accelerator=device.type,
        devices=trainer_devices(device),
        precision=config.precision,
        max_epochs=config.n_epochs,
        gradient_clip_val=config.max_grad_norm,
        num_sanity_val_steps=0,
        logger=loggers or False,
        log_every_n_steps=1,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _standardize(model: TaskModel, train: TaskData, config: FinetuningConfig, *, show: bool | None) -> None:
    """Measure the layers of some training batches, if they are standardized."""
    device = next(model.parameters()).device
    batches = islice(ShuffledBatches(train.lengths, config.batch_size, seed=config.seed), STANDARDIZATION_BATCHES)
    with ProgressBar("standardizing", unit="batches", show=show) as bar:

        def sentences() -> Iterator[list[SentenceBatch]]:
            for indices in batches:
                yield [side.to(device) for side in train.sentences(indices)]
                bar.update(1)

        model.fit_standardization(sentences())


def _train(
    trainer: Trainer, module: FinetuningModule, train: TaskData, dev: TaskData, dev_batches: list[list[int]]
) -> type[KeyboardInterrupt] | None:
    """Train, and return the type of the exception that interrupted the training, if one did."""
    config, elmo = module.config, module.model.elmo
    module.model.train()
    if config.encoder_training == "all" and elmo is not None:
        elmo.unfreeze()
    batches = ShuffledBatches(train.lengths, config.batch_size, seed=config.seed)
    try:
        trainer.fit(
            module,
            DataLoader[TaskBatch](train, batch_size=None, sampler=batches),
            DataLoader[TaskBatch](dev, batch_size=None, sampler=dev_batches),
        )
    except SystemExit as error:  # how Lightning ends on Ctrl-C and SIGTERM
        return Terminated if isinstance(error.__context__, Terminated) else KeyboardInterrupt
    return None


def _write(result: FinetuningResult, run: FinetuningRun, config: FinetuningConfig, out: Path) -> None:
    """Write the scores and the log of the epochs."""
    settings = {
        "task": run.examples.task,
        "encoder": {"name": str(run.encoder), **run.encoder_entry()},
        "is_untrained": run.random_init,
        "examples": run.examples.sources,
        "inputs": asdict(run.inputs),
        "head": None if callable(run.head) else asdict(run.head),
        "training": asdict(config),
    }
    files.write_bytes(out / METRICS_FILE, files.json_bytes({**settings, **result.as_dict()}))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(result.epochs[0]))
    writer.writeheader()
    writer.writerows(result.epochs)
    files.write_bytes(out / "log.csv", text.getvalue().encode())


def _draw(result: FinetuningResult, task: str, out: Path) -> None:
    """Plot the epochs, the confusion matrix and the layer weights; remove the plots of an earlier run."""
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
        weights = {name: mix.weights for name, mix in result.mixes.items()}
        names = layer_names(len(next(iter(weights.values()))))
        plots.draw_layer_weights(weights, out / "layers.png", title=f"{out.name}: weights", layer_names=names)


def layer_names(n_layers: int) -> list[str]:
    """Return display names of the layers."""
    return ["token layer", *(f"LSTM layer {number}" for number in range(1, n_layers))]
