"""What a model's predictions on a task are worth: the one value that chooses a model, and all the others."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from elmolite.errors import InputError
from elmolite.tasks.confusion import Confusion, confusion_matrix
from elmolite.tasks.examples.example import Example
from elmolite.tasks.metrics import ClassificationReport, label_report, multi_label_report, span_report, token_report
from elmolite.tasks.model import TaskDescription
from elmolite.tasks.spans import locate


@dataclass(frozen=True, eq=False)
class TaskScores:
    """How good predictions are."""

    name: str
    """Of the value: ``accuracy``; ``F1`` of spans, and micro-averaged of labels of which several can hold."""
    value: float
    labels: ClassificationReport
    """Of labels, or tags."""
    spans: ClassificationReport | None
    """Of spans, where tags mark them."""
    confusion: Confusion | None
    """Of labels of which each example, or token, has one."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        parts = {"labels": self.labels, "spans": self.spans, "confusion": self.confusion}
        given = {name: part.as_dict() for name, part in parts.items() if part is not None}
        return {"name": self.name, "value": self.value, **given}

    def describe(self) -> str:
        """Return tables for a person: of spans where there are any, else of labels and how they were confused."""
        if self.spans is not None:
            return self.spans.describe()
        tables = [self.labels.describe()]
        if self.confusion is not None:
            tables.append(self.confusion.describe())
        return "\n\n".join(tables)


def check_labels(description: TaskDescription, examples: Sequence[Example]) -> None:
    """Refuse labels that predictions cannot be held against; those that training did not know are no such.

    :raises InputError: an example has several labels, or none, where each has one, or a tag that marks no span where
        the others do; the message names its place.
    """
    known = set(description.labels)
    for example in examples:
        if description.task != "tag" and not description.is_multi_label and len(example.labels) != 1:
            raise InputError(f"{example.place}: {len(example.labels)} labels; the examples to learn from have one each")
        if description.scheme is not None and not known.issuperset(example.labels):
            try:
                locate([example.labels])
            except InputError as error:
                raise InputError(f"{example.place}: {error}") from None


def tell_unknown_labels(known: Collection[str], examples: Sequence[Example], part: str = "") -> None:
    """Say, if there is a label that training did not know, where it is first.

    :param part: what the examples are: "dev", "test".
    """
    strange = [example for example in examples if not set(known).issuperset(example.labels)]
    if strange:
        label = next(label for label in strange[0].labels if label not in known)
        print(
            f"{strange[0].place}: label {label!r} is not among the {len(known)} of the training examples; so in "
            f"{len(strange)} of the {part}{' ' * bool(part)}examples, where it can only be missed",
            file=sys.stderr,
        )


def score(
    description: TaskDescription, gold: Sequence[tuple[str, ...]], predicted: Sequence[tuple[str, ...]]
) -> TaskScores:
    """Measure predictions.

    :param gold: the labels of each example, as :class:`Example` has them.
    :param predicted: those that a model gives it.
    """
    if description.is_multi_label:
        labels = multi_label_report(gold, predicted)
        return TaskScores("F1", labels.micro.f1, labels, spans=None, confusion=None)
    flat = [list(chain.from_iterable(each)) for each in (gold, predicted)]
    matrix = confusion_matrix(*flat)
    if description.task != "tag":
        labels = label_report(*flat)
        return TaskScores("accuracy", labels.accuracy, labels, spans=None, confusion=matrix)
    labels = token_report(gold, predicted)
    if description.scheme is None:
        return TaskScores("accuracy", labels.accuracy, labels, spans=None, confusion=matrix)
    spans = span_report(gold, predicted)
    return TaskScores("F1", spans.micro.f1, labels, spans=spans, confusion=matrix)
