"""A task folder and a file -> predictions, or what they are worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from elmolite.data.tokenization import SentenceTokenizer
from elmolite.errors import InputError
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.data import TaskData, predict
from elmolite.tasks.examples.files import read_examples
from elmolite.tasks.examples.records import DEFAULT_COLUMNS, Example, ExampleColumns, Examples, Task
from elmolite.tasks.heads import HeadFactory
from elmolite.tasks.metrics import TaskScores, check_labels, warn_unknown_labels
from elmolite.tasks.objectives import Prediction
from elmolite.tasks.specs import TaskDescription
from elmolite.utils.torch import best_device


def predict_file(
    folder: str | Path,
    path: str | Path,
    columns: ExampleColumns = DEFAULT_COLUMNS,
    *,
    head: HeadFactory | None = None,
    encoder: str | Path | None = None,
    pretokenized: bool = False,
) -> Iterator[dict[str, Any]]:
    """Predict the examples of a file.

    :param folder: a task folder, or that of the run which made it.
    :param path: a file with labels or without, or ``-``; see :func:`read_examples`.
    :param columns: how the file is laid out, where that is neither recognised nor as in the training examples.
    :param pretokenized: cut strings at white space, and not as the task's tokenizer does.
    :param head: makes the head, where it was one of your own.
    :param encoder: the language model, where the task's folder refers to one elsewhere.
    :returns: for each example what was read, the labels, their probabilities and, where the file has them, the gold
        labels: values for JSON.
    :raises InputError: the folder or the file cannot be used; the message names file and line.
    """
    checkpoint = TaskCheckpoint.from_pretrained(folder, head=head, encoder=encoder)
    task, labels = checkpoint.description.task, checkpoint.description.labels
    read = _read_to_predict(path, task, labels, columns, checkpoint.columns)
    read.report.log()
    if pretokenized:
        checkpoint.tokenizer = SentenceTokenizer.whitespace()
    data, predictions = _predict(checkpoint, read.examples)
    sides = list(zip(*data.sides, strict=True))
    for example, tokens, prediction in zip(read.examples, sides, predictions, strict=True):
        yield _record(checkpoint.description, example, tokens, prediction)


def _read_to_predict(
    path: str | Path, task: Task, labels: Sequence[str], said: ExampleColumns, learnt: ExampleColumns
) -> Examples:
    """Read a file that is laid out as the training examples were, or as is recognised."""
    as_learnt = replace(learnt, **({"format": "auto"} | _said(said)))
    if str(path) != "-" and as_learnt.given:
        try:
            return read_examples(path, task, as_learnt, needs_labels=False, labels=labels)
        except InputError as as_learnt_error:
            if said.given:
                raise
            try:
                return read_examples(path, task, said, needs_labels=False, labels=labels)
            except InputError:
                raise as_learnt_error from None
    return read_examples(path, task, said, needs_labels=False, labels=labels)


def evaluate_file(
    folder: str | Path,
    path: str | Path,
    columns: ExampleColumns = DEFAULT_COLUMNS,
    *,
    head: HeadFactory | None = None,
    encoder: str | Path | None = None,
) -> TaskScores:
    """Measure the predictions of the examples of a file.

    :param folder: a task folder, or that of the run which made it.
    :param columns: how the file is laid out, where that is not as in the training examples.
    :param head: makes the head, where it was one of your own.
    :param encoder: the language model, where the task's folder refers to one elsewhere.
    :raises InputError: the folder or the file cannot be used, or an example has no label or such as the task cannot
        have; the message names file and line.
    """
    checkpoint = TaskCheckpoint.from_pretrained(folder, head=head, encoder=encoder)
    columns = replace(checkpoint.columns, **_said(columns))
    read = read_examples(path, checkpoint.description.task, columns)
    read.report.log()
    examples = read.examples
    check_labels(checkpoint.description, examples)
    warn_unknown_labels(checkpoint.description.labels, examples)
    _, predictions = _predict(checkpoint, examples)
    predicted = [prediction.labels for prediction in predictions]
    return checkpoint.description.score([example.labels for example in examples], predicted)


def _said(columns: ExampleColumns) -> dict[str, Any]:
    """Return what differs from what is recognised."""
    return {name: value for name, value in asdict(columns).items() if value != getattr(DEFAULT_COLUMNS, name)}


def _predict(checkpoint: TaskCheckpoint, examples: list[Example]) -> tuple[TaskData, list[Prediction]]:
    data = TaskData(examples, checkpoint.model.to(best_device()), checkpoint.tokenizer)
    return data, predict(checkpoint.model, data)


def _record(
    description: TaskDescription, example: Example, tokens: Sequence[list[str]], prediction: Prediction
) -> dict[str, Any]:
    """Return what is written of an example."""
    labels = list(prediction.labels)
    if description.spec.has_token_labels:
        ids = [description.labels.index(tag) for tag in labels]
        of_tags = [float(each[i]) for each, i in zip(prediction.probabilities, ids, strict=True)]
        record: dict[str, Any] = {"tokens": tokens[0], "tags": labels, "probabilities": of_tags}
    else:
        texts = (each if isinstance(each, str) else " ".join(each) for each in example.sentences)
        record = dict(zip(description.spec.sentences, texts, strict=True))
        record |= {"labels": labels} if description.is_multi_label else {"label": labels[0]}
        record["probabilities"] = dict(zip(description.labels, map(float, prediction.probabilities), strict=True))
    if example.labels:
        is_one = not description.spec.has_token_labels and not description.is_multi_label
        record["gold"] = example.labels[0] if is_one else list(example.labels)
    return record
