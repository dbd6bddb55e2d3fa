"""Setup of a fine-tuning run: its examples, language model, inputs and head."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from elmolite.checkpoint import CONFIG_FILE as ENCODER_MANIFEST
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.formats.loading import refuse_earlier_model
from elmolite.hub import model_folder
from elmolite.nn.bilm import BiLM
from elmolite.tasks.config import InputConfig
from elmolite.tasks.data import tokenise
from elmolite.tasks.examples.files import read_examples
from elmolite.tasks.examples.hf_datasets import DatasetExamples
from elmolite.tasks.examples.records import DEFAULT_COLUMNS, Example, ExampleColumns
from elmolite.tasks.heads import HeadConfig, HeadFactory
from elmolite.tasks.inputs import NO_LAYERS
from elmolite.tasks.metrics import check_labels, warn_unknown_labels
from elmolite.tasks.model import TaskModel
from elmolite.tasks.spans import scheme_of
from elmolite.tasks.specs import TASKS, TaskDescription, TaskSpec, task_spec
from elmolite.tasks.static_vectors import StaticEmbedding, StaticVectors
from elmolite.utils import files

DEV_EVERY = 10
"""Without dev examples every tenth training example is set aside as one."""

Source = str | Path | DatasetExamples
"""A file, or a split of a Hugging Face dataset."""


@dataclass(frozen=True)
class TaskExamples:
    """Training, dev and test examples of a task."""

    task: str
    train: list[Example]
    dev: list[Example]
    test: list[Example] | None = None
    sources: dict[str, str] = field(default_factory=dict)
    """Name of each part -> where it was read from."""
    columns: ExampleColumns = DEFAULT_COLUMNS

    @classmethod
    def read(
        cls,
        task: str,
        *,
        train: Source,
        dev: Source | None = None,
        test: Source | None = None,
        columns: ExampleColumns = DEFAULT_COLUMNS,
    ) -> TaskExamples:
        """Read files or splits of a dataset, and warn of labels unseen in training.

        :param task: a key of :data:`elmolite.tasks.specs.TASKS`.
        :param dev: ``None`` sets every tenth training example aside.
        :raises InputError: an example is broken (the message names file and line), or no training example has a label.
        """
        task_spec(task)
        sources = {name: source for name, source in (("train", train), ("dev", dev), ("test", test)) if source}
        parts = {name: _read(source, task, columns) for name, source in sources.items()}
        if dev is None:
            parts["dev"] = parts["train"][DEV_EVERY - 1 :: DEV_EVERY]
            del parts["train"][DEV_EVERY - 1 :: DEV_EVERY]
            if not parts["dev"]:
                n_examples = len(parts["train"])
                raise InputError(f"{train}: {n_examples} examples are too few to set some aside; give dev examples")
        names = {name: str(source) for name, source in sources.items()}
        examples = cls(task, **parts, sources=names, columns=columns)
        if not examples.labels:
            raise InputError(f"{train}: none of the {len(examples.train)} training examples has a label")
        for name in ("dev", "test"):
            warn_unknown_labels(examples.labels, parts.get(name, []), name)
        return examples

    @property
    def spec(self) -> TaskSpec:
        """The entry of the task in :data:`TASKS`."""
        return TASKS[self.task]

    @property
    def labels(self) -> list[str]:
        """The labels of the training examples, sorted."""
        return sorted({label for example in self.train for label in example.labels})

    @property
    def is_multi_label(self) -> bool:
        """Whether examples have sets of labels: one has several labels, or none."""
        return self.spec.label_kind == "set" and any(len(example.labels) != 1 for example in self.train)


def _read(source: Source, task: str, columns: ExampleColumns) -> list[Example]:
    read = source.read(task, columns) if isinstance(source, DatasetExamples) else read_examples(source, task, columns)
    read.report.log()
    return read.examples


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
        kind = examples.spec.config
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
            word for part in parts for side in tokenise(part, self.tokenizer) for tokens in side for word in tokens
        }
        return StaticVectors.load(self.inputs.static, only=words, n_first=self.inputs.static_words)
