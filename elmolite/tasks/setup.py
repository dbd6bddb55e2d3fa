"""A language model, labelled examples and settings -> all that a fine-tuning run consists of."""

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
from elmolite.tasks.examples.records import DEFAULT_COLUMNS, Example, ExampleColumns, Task
from elmolite.tasks.heads import HeadConfig, HeadFactory
from elmolite.tasks.inputs import NO_LAYERS
from elmolite.tasks.metrics import check_labels, warn_unknown_labels
from elmolite.tasks.model import TaskModel, build
from elmolite.tasks.spans import scheme_of_sequences
from elmolite.tasks.specs import TASKS, TaskDescription, task_spec
from elmolite.tasks.static_vectors import StaticEmbedding, StaticVectors
from elmolite.utils import files

HELD_OUT_EVERY = 10
"""Where no dev examples are given, of so many training examples the last is set aside."""

Source = str | Path | DatasetExamples
"""A file, or a split of a dataset."""


@dataclass(frozen=True)
class TaskExamples:
    """The examples of a task: to learn from, to choose by, and to measure at the end."""

    task: Task
    train: list[Example]
    dev: list[Example]
    test: list[Example] | None = None
    sources: dict[str, str] = field(default_factory=dict)
    """Of each part, where it was read."""
    columns: ExampleColumns = DEFAULT_COLUMNS
    """How the files are laid out."""

    @classmethod
    def read(
        cls,
        task: Task,
        *,
        train: Source,
        dev: Source | None = None,
        test: Source | None = None,
        columns: ExampleColumns = DEFAULT_COLUMNS,
    ) -> TaskExamples:
        """Read files or splits of a dataset, and say what training did not know.

        :param dev: where it is ``None``, every tenth training example is set aside.
        :raises InputError: one cannot be read, or has a broken example; the message names its place. Or none of the
            training examples has a label.
        """
        task_spec(task)
        parts = {"train": train, "dev": dev, "test": test}
        read = {name: _read(source, task, columns) for name, source in parts.items() if source is not None}
        if dev is None:
            read["dev"] = read["train"][HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
            del read["train"][HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
            if not read["dev"]:
                raise InputError(
                    f"{train}: has {len(read['train'])} examples, too few to set some aside; give dev ones"
                )
        sources = {name: str(source) for name, source in parts.items() if source is not None}
        found = cls(task, **read, sources=sources, columns=columns)
        if not found.labels:
            raise InputError(f"{train}: none of the {len(found.train)} examples to learn from has a label")
        for name in ("dev", "test"):
            warn_unknown_labels(found.labels, read.get(name, []), name)
        return found

    @property
    def labels(self) -> list[str]:
        """The labels of the training examples, sorted."""
        return sorted({label for example in self.train for label in example.labels})

    @property
    def is_multi_label(self) -> bool:
        """Whether an example of classification has several labels, or none."""
        return TASKS[self.task].label_kind == "set" and any(len(example.labels) != 1 for example in self.train)


def _read(source: Source, task: Task, columns: ExampleColumns) -> list[Example]:
    read = source.read(task, columns) if isinstance(source, DatasetExamples) else read_examples(source, task, columns)
    read.report.log()
    return read.examples


@dataclass(frozen=True)
class FinetuningSetup:
    """What a run depends on, beside how it trains."""

    examples: TaskExamples
    encoder: str | Path
    elmo: ELMo
    """What is there."""
    inputs: InputConfig
    head: HeadConfig | HeadFactory
    tokenizer: SentenceTokenizer
    is_untrained: bool = False
    """Whether the language model is used with weights at random: the baseline that shows what pretraining brings."""

    @cached_property
    def description(self) -> TaskDescription:
        """Return what the model consists of."""
        examples = self.examples
        has_tags = TASKS[examples.task].has_token_labels
        return TaskDescription(
            task=examples.task,
            labels=tuple(examples.labels),
            inputs=self.inputs,
            head=None if callable(self.head) else self.head,
            is_multi_label=examples.is_multi_label,
            scheme=scheme_of_sequences([each.labels for each in examples.train]) if has_tags else None,
        )

    def make_model(self, seed: int) -> TaskModel:
        """Make the model, with weights that are a function of the seed.

        :raises InputError: the settings do not go together, or the file of static vectors cannot be read.
        """
        torch.manual_seed(seed)
        elmo = self.elmo if self.inputs.layers != NO_LAYERS else None
        if elmo is not None and self.is_untrained:
            elmo = ELMo(BiLM(elmo.bilm.config, **elmo.indexer.sizes()), elmo.tokenizer, elmo.indexer)
        vectors = self._static_vectors
        static = None if vectors is None else StaticEmbedding.of(vectors, is_trained=self.inputs.train_static)
        return build(self.description, elmo, static, make_head=self.head if callable(self.head) else None)

    def encoder_fingerprint(self) -> dict[str, Any]:
        """Return what tells the language model from others: the checksum of its manifest, which has all the others."""
        return {ENCODER_MANIFEST: files.file_entry(model_folder(self.encoder) / ENCODER_MANIFEST)}

    @cached_property
    def _static_vectors(self) -> StaticVectors | None:
        """The vectors of the words of the examples, but for those of test, and of the first of the file."""
        if self.inputs.static is None:
            return None
        parts = (self.examples.train, self.examples.dev)
        words = {
            word for part in parts for side in tokenise(part, self.tokenizer) for tokens in side for word in tokens
        }
        return StaticVectors.load(self.inputs.static, only=words, n_first=self.inputs.static_words)


def set_up(
    examples: TaskExamples,
    *,
    encoder: str | Path,
    inputs: InputConfig | None = None,
    head: HeadConfig | HeadFactory | None = None,
    pretokenized: bool = False,
    is_untrained: bool = False,
) -> FinetuningSetup:
    """Read the language model, and put all together.

    The parameters are those of :func:`elmolite.finetune`.

    :raises InputError: there is no such model, or it is broken, or a dev or test example has labels that the task
        cannot have.
    """
    kind = TASKS[examples.task].config
    head = head or kind()
    if not callable(head) and not isinstance(head, kind):
        raise InputError(f"head: the task {examples.task} takes {kind.__name__}, got {head}")
    refuse_earlier_model(encoder)
    elmo = ELMo.from_pretrained(encoder)
    tokenizer = SentenceTokenizer.whitespace() if pretokenized else elmo.tokenizer
    setup = FinetuningSetup(examples, encoder, elmo, inputs or InputConfig(), head, tokenizer, is_untrained)
    check_labels(setup.description, [*examples.dev, *(examples.test or [])])
    return setup
