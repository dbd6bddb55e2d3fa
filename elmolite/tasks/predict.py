"""Prediction and evaluation of a trained task on a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from elmolite.data.tokenization import SentenceTokenizer
from elmolite.errors import InputError
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.config import DEFAULT_COLUMNS, ExampleColumns
from elmolite.tasks.data import TaskData, predict
from elmolite.tasks.examples.records import Example
from elmolite.tasks.examples.sources import read_examples
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
    show_progress: bool | None = None,
) -> Iterator[dict[str, Any]]:
    """Predict the examples of a file, with labels or without.

    :param folder: a task folder, or the folder of the run that made it.
    :param path: a file, or ``-`` for standard input; see :func:`read_examples`.
    :param columns: format and columns; by default those of the training examples, if the file has them.
    :param head: factory of the custom head, if the task was trained with one.
    :param encoder: the language model, if the task folder refers to one.
    :param pretokenized: split strings at white space, not with the tokenizer of the task.
    :param show_progress: show a progress bar; by default if the call takes more than five seconds.
    :returns: for each example its sentences, the predicted labels and their probabilities, and if the file has labels
        the gold labels, as values for JSON.
    """
    checkpoint = TaskCheckpoint.from_pretrained(folder, head=head, encoder=encoder)
    description = checkpoint.description
    read = partial(read_examples, path, description.task, needs_labels=False, labels=description.labels)
    trained = columns if str(path) == "-" else replace(checkpoint.columns, **_changed(columns))
    try:
        examples, report = read(trained)
    except InputError:
        if columns.given or not trained.given:  # else the file may lack the columns of the training examples
            raise
        examples, report = read(columns)
    report.log()
    if pretokenized:
        checkpoint.tokenizer = SentenceTokenizer.whitespace()
    data, predictions = _predict(checkpoint, examples, show_progress)
    sentences = list(zip(*data.sides, strict=True))
    for example, tokens, prediction in zip(examples, sentences, predictions, strict=True):
        yield _record(description, example, tokens, prediction)


def evaluate_file(
    folder: str | Path,
    path: str | Path,
    columns: ExampleColumns = DEFAULT_COLUMNS,
    *,
    head: HeadFactory | None = None,
    encoder: str | Path | None = None,
    show_progress: bool | None = None,
) -> TaskScores:
    """Score the predictions for the examples of a labelled file; the parameters are those of :func:`predict_file`."""
    checkpoint = TaskCheckpoint.from_pretrained(folder, head=head, encoder=encoder)
    description = checkpoint.description
    read = read_examples(path, description.task, replace(checkpoint.columns, **_changed(columns)))
    read.report.log()
    check_labels(description, read.examples)
    warn_unknown_labels(description.labels, read.examples)
    _, predictions = _predict(checkpoint, read.examples, show_progress)
    return description.score(*([each.labels for each in part] for part in (read.examples, predictions)))


def _changed(columns: ExampleColumns) -> dict[str, Any]:
    """Return the settings that are not the default ones."""
    return {name: value for name, value in asdict(columns).items() if value != getattr(DEFAULT_COLUMNS, name)}


def _predict(
    checkpoint: TaskCheckpoint, examples: list[Example], show_progress: bool | None
) -> tuple[TaskData, list[Prediction]]:
    data = TaskData(examples, checkpoint.model.to(best_device()), checkpoint.tokenizer)
    return data, predict(checkpoint.model, data, show_progress=show_progress)


def _record(
    description: TaskDescription, example: Example, tokens: Sequence[list[str]], prediction: Prediction
) -> dict[str, Any]:
    """Return the output for one example."""
    labels, has_tags = list(prediction.labels), description.spec.has_token_labels
    if has_tags:
        ids = [description.labels.index(tag) for tag in labels]
        probabilities = [float(each[i]) for each, i in zip(prediction.probabilities, ids, strict=True)]
        record: dict[str, Any] = {"tokens": tokens[0], "tags": labels, "probabilities": probabilities}
    else:
        texts = (each if isinstance(each, str) else " ".join(each) for each in example.sentences)
        record = dict(zip(description.spec.sentences, texts, strict=True))
        record |= {"labels": labels} if description.is_multi_label else {"label": labels[0]}
        record["probabilities"] = dict(zip(description.labels, map(float, prediction.probabilities), strict=True))
    if example.labels:
        record["gold"] = list(example.labels) if has_tags or description.is_multi_label else example.labels[0]
    return record
