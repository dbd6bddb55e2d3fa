"""Evaluation of predicted labels, label sets, tags and spans: accuracy, precision, recall, F1 and confusion matrices.

All functions take the gold labels first, then the predictions. **A ratio without a denominator is 0**: the precision of
a label that is never predicted, the recall of a label without gold examples, every score of no examples. Macro averages
are over the labels that occur among the gold labels or the predictions.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence, Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from elmolite.errors import InputError
from elmolite.tasks.spans import spans
from elmolite.utils.console import display_width, n_of, printable, table

if TYPE_CHECKING:
    from elmolite.tasks.examples.records import Example
    from elmolite.tasks.specs import TaskDescription

logger = logging.getLogger("elmolite")

MAX_TERMINAL_LABELS = 40
"""Maximum rows of a printed report; the least frequent labels are averaged."""
MAX_TERMINAL_WIDTH = 110
"""Maximum width of a printed confusion matrix; above it the most frequent confusions are listed."""
N_CONFUSIONS = 20
"""Maximum length of that list."""

Labels = Sequence[str]
Unit = Literal["examples", "tokens"]
Item = tuple[str, int] | tuple[str, int, int, int]
"""A label, or the type of a span, and its position."""


@dataclass(frozen=True)
class Scores:
    """Precision, recall and F1 between 0 and 1."""

    precision: float
    recall: float
    f1: float
    support: int
    """Number of gold occurrences."""


@dataclass(frozen=True)
class ClassificationReport:
    """Scores of each label, or of each span type, and their averages."""

    accuracy: float
    """Share of examples, or tokens, predicted correctly; of label sets, share of exact matches."""
    micro: Scores
    """Micro average. Equal to the accuracy if every example has one label."""
    macro: Scores
    """Unweighted mean over labels."""
    labels: dict[str, Scores]
    """Scores of each label that occurs, sorted by name."""
    n_examples: int
    unit: Unit = "examples"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def describe(self) -> str:
        """Return a table for the terminal, most frequent labels first."""
        by_support = sorted(self.labels.items(), key=lambda item: -item[1].support)
        rows = [["", "precision", "recall", "F1", "support"]]
        rows.extend(_row(printable(label), scores) for label, scores in by_support[:MAX_TERMINAL_LABELS])
        if rest := [scores for _, scores in by_support[MAX_TERMINAL_LABELS:]]:
            rows.append(_row(f"mean of {len(rest):,} rarer labels", _mean(rest)))
        averages = [_row("macro average", self.macro)]
        if not self.micro.precision == self.micro.recall == self.accuracy:
            averages.append(_row("micro average", self.micro))
        lines = table([*rows, [], *averages])
        return f"{lines}\naccuracy {self.accuracy:.4f} of {self.n_examples:,} {self.unit}"


def _row(name: str, scores: Scores) -> list[str]:
    return [name, f"{scores.precision:.4f}", f"{scores.recall:.4f}", f"{scores.f1:.4f}", f"{scores.support:,}"]


def _mean(scores: Collection[Scores]) -> Scores:
    if not scores:
        return Scores(0.0, 0.0, 0.0, 0)
    precision, recall, f1 = (
        float(np.mean([getattr(one, name) for one in scores])) for name in ("precision", "recall", "f1")
    )
    return Scores(precision, recall, f1, sum(one.support for one in scores))


def label_report(gold: Labels, predicted: Labels, *, unit: Unit = "examples") -> ClassificationReport:
    """Evaluate examples with one label each.

    :param unit: name of the examples in the printed table.
    """
    items = ({(label, number) for number, label in enumerate(labels)} for labels in (gold, predicted))
    return _report(*items, n_exact=_n_equal(gold, predicted), n_examples=len(gold), unit=unit)


def label_set_report(gold: Sequence[Collection[str]], predicted: Sequence[Collection[str]]) -> ClassificationReport:
    """Evaluate examples with any number of labels each. The accuracy is the share of exact matches."""
    items = (
        {(label, number) for number, labels in enumerate(examples) for label in labels}
        for examples in (gold, predicted)
    )
    n_exact = _n_equal(list(map(set, gold)), list(map(set, predicted)))
    return _report(*items, n_exact=n_exact, n_examples=len(gold), unit="examples")


def span_report(gold: Sequence[Labels], predicted: Sequence[Labels]) -> ClassificationReport:
    """Evaluate the spans of tagged sentences: type, first and last token must match. The accuracy is of the tags.

    :raises InputError: a tag belongs to no span scheme.
    """
    items = (
        {(span.label, number, span.first, span.end) for number, tags in enumerate(sentences) for span in spans(tags)}
        for sentences in (gold, predicted)
    )
    n_exact = sum(_n_equal(*tags) for tags in zip(gold, predicted, strict=True))
    return _report(*items, n_exact=n_exact, n_examples=sum(map(len, gold)), unit="tokens")


def _n_equal(gold: Sequence[Any], predicted: Sequence[Any]) -> int:
    return sum(one == other for one, other in zip(gold, predicted, strict=True))


def _report(
    gold: AbstractSet[Item], predicted: AbstractSet[Item], *, n_exact: int, n_examples: int, unit: Unit
) -> ClassificationReport:
    """Score the predicted items by the gold ones, of each label and of all."""
    n_correct, n_predicted, n_gold = (
        Counter(label for label, *_ in items) for items in (gold & predicted, predicted, gold)
    )
    scores = {
        label: _scores(n_correct[label], n_predicted[label], n_gold[label])
        for label in sorted(n_predicted.keys() | n_gold.keys())
    }
    return ClassificationReport(
        accuracy=n_exact / n_examples if n_examples else 0.0,
        micro=_scores(n_correct.total(), n_predicted.total(), n_gold.total()),
        macro=_mean(scores.values()),
        labels=scores,
        n_examples=n_examples,
        unit=unit,
    )


def _scores(n_correct: int, n_predicted: int, n_gold: int) -> Scores:
    return Scores(
        precision=n_correct / n_predicted if n_predicted else 0.0,
        recall=n_correct / n_gold if n_gold else 0.0,
        f1=2 * n_correct / (n_predicted + n_gold) if n_predicted + n_gold else 0.0,
        support=n_gold,
    )


@dataclass(frozen=True, eq=False)
class Confusion:
    """Confusion matrix."""

    labels: list[str]
    """The K labels."""
    counts: NDArray[np.int64]
    """(K, K): occurrences of the row's label predicted as the column's."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"labels": self.labels, "counts": self.counts.tolist()}

    def most_frequent(self, n: int) -> list[tuple[str, str, int]]:
        """Return the ``n`` most frequent confusions as (gold label, predicted label, count)."""
        wrong = self.counts.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:n]
        found = [(int(row), int(column)) for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True)]
        return [(self.labels[i], self.labels[j], int(wrong[i, j])) for i, j in found if wrong[i, j]]

    def describe(self) -> str:
        """Return the matrix for the terminal, or the most frequent confusions if it is too wide."""
        names = head = [printable(label) for label in self.labels]
        if any(display_width(name) > 6 for name in names):
            head = [str(number) for number in range(1, len(names) + 1)]
            names = [f"{number:>{len(head[-1])}} {name}" for number, name in zip(head, names, strict=True)]
        if len(names) <= MAX_TERMINAL_WIDTH // 3:
            rows = [
                [name, *(str(count) if count else "." for count in counts)]
                for name, counts in zip(names, self.counts.tolist(), strict=True)
            ]
            matrix = table([["", *head], *rows], gap=1)
            if max(map(display_width, matrix.split("\n"))) <= MAX_TERMINAL_WIDTH:
                return f"rows: gold label, columns: predicted label\n{matrix}"
        confusions = self.most_frequent(N_CONFUSIONS)
        if not confusions:
            return f"no confusions among {len(self.labels):,} labels"
        supports = dict(zip(self.labels, self.counts.sum(axis=1).tolist(), strict=True))
        rows = [
            [printable(gold), printable(predicted), f"{count:,}", f"{count / supports[gold]:.1%}"]
            for gold, predicted, count in confusions
        ]
        shown = table([["gold", "predicted", "count", "share"], *rows], n_left=2)
        return f"most frequent confusions among {len(self.labels):,} labels\n{shown}"


def confusion_matrix(gold: Labels, predicted: Labels) -> Confusion:
    """Count the predicted labels of each gold label; the labels are those that occur, sorted."""
    labels = sorted({*gold, *predicted})
    index = {label: number for number, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), np.int64)
    for pair, count in Counter(zip(gold, predicted, strict=True)).items():
        counts[index[pair[0]], index[pair[1]]] = count
    return Confusion(labels, counts)


@dataclass(frozen=True, eq=False)
class TaskScores:
    """Evaluation of a task: the metric that selects a model, and reports."""

    name: str
    """``accuracy``, or ``F1`` (of spans; micro-averaged, of label sets)."""
    value: float
    labels: ClassificationReport
    """Of labels, or tags."""
    spans: ClassificationReport | None = None
    """Of spans, for tags of a span scheme."""
    confusion: Confusion | None = None
    """``None`` for label sets."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        parts = {"labels": self.labels, "spans": self.spans, "confusion": self.confusion}
        given = {name: part.as_dict() for name, part in parts.items() if part is not None}
        return {"name": self.name, "value": self.value, **given}

    def describe(self) -> str:
        """Return tables for the terminal: of spans if there are any, else of labels and their confusions."""
        parts = [self.spans] if self.spans is not None else [self.labels, self.confusion]
        return "\n\n".join(part.describe() for part in parts if part is not None)


def score_sentences(description: TaskDescription, gold: Sequence[Labels], predicted: Sequence[Labels]) -> TaskScores:
    """Evaluate one label an example by accuracy, or sets of labels by micro-averaged F1."""
    if description.is_multi_label:
        report = label_set_report(gold, predicted)
        return TaskScores("F1", report.micro.f1, report)
    return _score_each(gold, predicted, "examples")


def score_tokens(description: TaskDescription, gold: Sequence[Labels], predicted: Sequence[Labels]) -> TaskScores:
    """Evaluate one tag a token by accuracy, or by the F1 of exact spans if tags mark them."""
    of_tags = _score_each(gold, predicted, "tokens")
    if description.scheme is None:
        return of_tags
    report = span_report(gold, predicted)
    return replace(of_tags, name="F1", value=report.micro.f1, spans=report)


def _score_each(gold: Sequence[Labels], predicted: Sequence[Labels], unit: Unit) -> TaskScores:
    flat = list(chain.from_iterable(gold)), list(chain.from_iterable(predicted))
    report = label_report(*flat, unit=unit)
    return TaskScores("accuracy", report.accuracy, report, confusion=confusion_matrix(*flat))


def check_labels(description: TaskDescription, examples: Sequence[Example]) -> None:
    """Check that examples can be scored; labels unseen in training can.

    :raises InputError: an example has several labels or none where the training examples have one each, or a tag that
        belongs to no span scheme where the training tags do; the message names file and line.
    """
    known = set(description.labels)
    for example in examples:
        if not (description.spec.has_token_labels or description.is_multi_label) and len(example.labels) != 1:
            raise InputError(
                f"{example.location}: {n_of(len(example.labels), 'label')}; the training examples have one each"
            )
        if description.scheme is not None and not known.issuperset(example.labels):
            try:
                spans(example.labels)
            except InputError as error:
                raise InputError(f"{example.location}: {error}") from None


def warn_unknown_labels(known: Collection[str], examples: Sequence[Example], part: str = "") -> None:
    """Log a warning if examples have labels that are not among the training labels.

    :param part: name of the examples: "dev", "test".
    """
    unknown = [example for example in examples if not set(known).issuperset(example.labels)]
    if unknown:
        label = next(label for label in unknown[0].labels if label not in known)
        name = f"{part} example" if part else "example"
        logger.warning(
            f"{unknown[0].location}: label {label!r} is not among the {len(known)} labels of the training examples; "
            f"{n_of(len(unknown), name)} with unseen labels, which count as errors"
        )
