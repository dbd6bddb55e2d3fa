"""Evaluation of predicted labels, label sets, tags and spans: accuracy, precision, recall, F1 and confusion matrices.

All functions take the gold labels first, then the predictions. **A ratio without a denominator is 0**: the precision of
a label that is never predicted, the recall of a label without gold examples, every score of no examples. Macro averages
are over the labels that occur among the gold labels or the predictions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from operator import eq
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from elmolite.errors import InputError
from elmolite.tasks.spans import locate
from elmolite.utils.console import display_width, printable, table

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

Labels = Sequence[str] | NDArray[np.str_]


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
    unit: Literal["examples", "tokens"] = "examples"

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


def label_report(
    gold: Labels, predicted: Labels, *, unit: Literal["examples", "tokens"] = "examples"
) -> ClassificationReport:
    """Evaluate examples with one label each.

    :param unit: name of the examples in the printed table.
    :raises InputError: the lengths differ.
    """
    _check_lengths(gold, predicted)
    labels, ids = _encode(chain(gold, predicted))
    gold_ids, predicted_ids = ids[: len(gold)], ids[len(gold) :]
    n_correct, n_predicted, n_gold = (
        np.bincount(part, minlength=len(labels))
        for part in (gold_ids[gold_ids == predicted_ids], predicted_ids, gold_ids)
    )
    return _report(
        labels, n_correct, n_predicted, n_gold, n_exact=int(n_correct.sum()), n_examples=len(gold), unit=unit
    )


def token_report(gold: Sequence[Labels], predicted: Sequence[Labels]) -> ClassificationReport:
    """Evaluate the tags of sentences, token by token.

    :raises InputError: the number of sentences, or of tags of a sentence, differs.
    """
    _check_sentences(gold, predicted)
    return label_report(list(chain.from_iterable(gold)), list(chain.from_iterable(predicted)), unit="tokens")


def span_report(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> ClassificationReport:
    """Evaluate the spans of tagged sentences: type, first and last token must match. The accuracy is of the tags.

    :raises InputError: the number of sentences, or of tags of a sentence, differs, or a tag belongs to no span scheme.
    """
    _check_sentences(gold, predicted)
    spans = locate([*gold, *predicted])
    n_tokens = sum(map(len, gold))
    n_gold_spans = int(np.searchsorted(spans.first, n_tokens))
    gold_part, predicted_part = slice(None, n_gold_spans), slice(n_gold_spans, None)
    label_ids, first, end = spans.label_ids, spans.first, spans.end

    # The spans of a tagging do not overlap, so the first token identifies a span.
    predicted_end, predicted_label = np.full(n_tokens, -1), np.full(n_tokens, -1)
    predicted_end[first[predicted_part] - n_tokens] = end[predicted_part] - n_tokens
    predicted_label[first[predicted_part] - n_tokens] = label_ids[predicted_part]
    is_correct = predicted_end[first[gold_part]] == end[gold_part]
    is_correct &= predicted_label[first[gold_part]] == label_ids[gold_part]

    n_correct, n_predicted, n_gold = (
        np.bincount(part, minlength=len(spans.labels))
        for part in (label_ids[gold_part][is_correct], label_ids[predicted_part], label_ids[gold_part])
    )
    n_exact = sum(map(eq, chain.from_iterable(gold), chain.from_iterable(predicted)))
    return _report(spans.labels, n_correct, n_predicted, n_gold, n_exact=n_exact, n_examples=n_tokens, unit="tokens")


def label_set_report(gold: Sequence[Collection[str]], predicted: Sequence[Collection[str]]) -> ClassificationReport:
    """Evaluate examples with any number of labels each. The accuracy is the share of exact matches.

    :raises InputError: the lengths differ, or a string is given instead of a set of labels.
    """
    _check_lengths(gold, predicted)
    if text := next((labels for labels in chain(gold, predicted) if isinstance(labels, str)), None):
        raise InputError(f"expected a set or list of labels for each example, got the string {text!r}")
    labels, ids = _encode(chain.from_iterable(chain(gold, predicted)))
    n_gold_labels = sum(map(len, gold))
    n_labels = max(1, len(labels))
    # One number for each (example, label); repeated labels count once.
    gold_pairs, predicted_pairs = (
        np.unique(np.repeat(np.arange(len(examples)), list(map(len, examples))) * n_labels + part)
        for examples, part in ((gold, ids[:n_gold_labels]), (predicted, ids[n_gold_labels:]))
    )
    correct_pairs = np.intersect1d(gold_pairs, predicted_pairs, assume_unique=True)
    pairs = (correct_pairs, predicted_pairs, gold_pairs)
    n_correct, n_predicted, n_gold = (np.bincount(part % n_labels, minlength=len(labels)) for part in pairs)
    correct_of, predicted_of, gold_of = (np.bincount(part // n_labels, minlength=len(gold)) for part in pairs)
    n_exact = int(((correct_of == predicted_of) & (correct_of == gold_of)).sum())
    return _report(labels, n_correct, n_predicted, n_gold, n_exact=n_exact, n_examples=len(gold), unit="examples")


def _encode(labels: Iterable[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct labels, sorted, and the index of each label among them, (N)."""
    ids_of: dict[str, int] = {}
    ids = np.fromiter((ids_of.setdefault(label, len(ids_of)) for label in labels), np.int64)
    names = [str(label) for label in ids_of]
    order = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    return [names[i] for i in order], rank[ids]


def _report(
    labels: Sequence[str],
    n_correct: NDArray[np.int64],
    n_predicted: NDArray[np.int64],
    n_gold: NDArray[np.int64],
    *,
    n_exact: int,
    n_examples: int,
    unit: Literal["examples", "tokens"],
) -> ClassificationReport:
    """Make a report from the counts of each label."""
    scores = {
        label: _scores(*counts)
        for label, *counts in zip(labels, n_correct.tolist(), n_predicted.tolist(), n_gold.tolist(), strict=True)
        if counts[1] or counts[2]
    }
    return ClassificationReport(
        accuracy=n_exact / n_examples if n_examples else 0.0,
        micro=_scores(int(n_correct.sum()), int(n_predicted.sum()), int(n_gold.sum())),
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


def _check_lengths(gold: Sequence[Any] | NDArray[Any], predicted: Sequence[Any] | NDArray[Any]) -> None:
    """Raise an InputError unless there are as many predictions as examples."""
    if len(gold) != len(predicted):
        raise InputError(f"got {len(predicted):,} predictions for {len(gold):,} examples")


def _check_sentences(gold: Sequence[Sequence[str] | Any], predicted: Sequence[Sequence[str] | Any]) -> None:
    _check_lengths(gold, predicted)
    for number, (tags, predicted_tags) in enumerate(zip(gold, predicted, strict=True), start=1):
        if len(tags) != len(predicted_tags):
            raise InputError(f"sentence {number:,}: got {len(predicted_tags)} predicted tags for {len(tags)} tokens")


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
        names = [printable(label) for label in self.labels]
        if all(display_width(name) <= 6 for name in names):
            head, row_names = names, names
        else:
            head = [str(number) for number in range(1, len(names) + 1)]
            row_names = [f"{number:>{len(head[-1])}} {name}" for number, name in zip(head, names, strict=True)]
        rows = [["", *head]]
        rows.extend(
            [name, *(str(count) if count else "." for count in counts)]
            for name, counts in zip(row_names, self.counts.tolist(), strict=True)
        )
        matrix = table(rows, gap=1) if len(names) <= MAX_TERMINAL_WIDTH // 3 else ""
        if matrix and max(map(display_width, matrix.split("\n"))) <= MAX_TERMINAL_WIDTH:
            return f"rows: gold label, columns: predicted label\n{matrix}"
        return self._describe_most_frequent()

    def _describe_most_frequent(self) -> str:
        supports = dict(zip(self.labels, self.counts.sum(axis=1).tolist(), strict=True))
        rows = [["gold", "predicted", "count", "share"]]
        for gold, predicted, count in self.most_frequent(N_CONFUSIONS):
            rows.append([printable(gold), printable(predicted), f"{count:,}", f"{count / supports[gold]:.1%}"])
        if len(rows) == 1:
            return f"no confusions among {len(self.labels):,} labels"
        return f"most frequent confusions among {len(self.labels):,} labels\n{table(rows, n_left=2)}"


def confusion_matrix(gold: Labels, predicted: Labels) -> Confusion:
    """Count the predicted labels of each gold label; the labels are those that occur, sorted.

    :raises InputError: the lengths differ.
    """
    _check_lengths(gold, predicted)
    names, ids = _encode(chain(gold, predicted))
    pairs = ids[: len(gold)] * len(names) + ids[len(gold) :]
    counts = np.bincount(pairs, minlength=len(names) ** 2).reshape(len(names), len(names))
    return Confusion(names, counts)


@dataclass(frozen=True, eq=False)
class TaskScores:
    """Evaluation of a task: the metric that selects a model, and reports."""

    name: str
    """Name of the metric: ``accuracy``, or ``F1`` (of spans; micro-averaged, of label sets)."""
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
        if self.spans is not None:
            return self.spans.describe()
        tables = [self.labels.describe()]
        if self.confusion is not None:
            tables.append(self.confusion.describe())
        return "\n\n".join(tables)


TaggedExamples = Sequence[tuple[str, ...]]
"""The labels of each example, or the tags of its tokens."""


def score_labels(gold: TaggedExamples, predicted: TaggedExamples) -> TaskScores:
    """Evaluate one label per example by accuracy."""
    flat = list(chain.from_iterable(gold)), list(chain.from_iterable(predicted))
    report = label_report(*flat)
    return TaskScores("accuracy", report.accuracy, report, confusion=confusion_matrix(*flat))


def score_label_sets(gold: TaggedExamples, predicted: TaggedExamples) -> TaskScores:
    """Evaluate any number of labels per example by micro-averaged F1."""
    report = label_set_report(gold, predicted)
    return TaskScores("F1", report.micro.f1, report)


def score_tags(gold: TaggedExamples, predicted: TaggedExamples) -> TaskScores:
    """Evaluate one tag per token by accuracy."""
    report = token_report(gold, predicted)
    matrix = confusion_matrix(list(chain.from_iterable(gold)), list(chain.from_iterable(predicted)))
    return TaskScores("accuracy", report.accuracy, report, confusion=matrix)


def score_spans(gold: TaggedExamples, predicted: TaggedExamples) -> TaskScores:
    """Evaluate tags of a span scheme by the F1 of exact spans."""
    of_tags, report = score_tags(gold, predicted), span_report(gold, predicted)
    return TaskScores("F1", report.micro.f1, of_tags.labels, spans=report, confusion=of_tags.confusion)


Scorer = Callable[[TaggedExamples, TaggedExamples], TaskScores]


def sentence_scorer(description: TaskDescription) -> Scorer:
    """Return the scorer for one label, or a set of labels, of each sentence or pair."""
    return score_label_sets if description.is_multi_label else score_labels


def tag_scorer(description: TaskDescription) -> Scorer:
    """Return the scorer for one label a token, which may mark spans."""
    return score_tags if description.scheme is None else score_spans


def check_labels(description: TaskDescription, examples: Sequence[Example]) -> None:
    """Check that examples can be scored; labels unseen in training can.

    :raises InputError: an example has several labels or none where the training examples have one each, or a tag that
        belongs to no span scheme where the training tags do; the message names file and line.
    """
    known = set(description.labels)
    for example in examples:
        if not (description.spec.has_token_labels or description.is_multi_label) and len(example.labels) != 1:
            raise InputError(f"{example.location}: {len(example.labels)} labels; the training examples have one each")
        if description.scheme is not None and not known.issuperset(example.labels):
            try:
                locate([example.labels])
            except InputError as error:
                raise InputError(f"{example.location}: {error}") from None


def warn_unknown_labels(known: Collection[str], examples: Sequence[Example], part: str = "") -> None:
    """Log a warning if examples have labels that are not among the training labels.

    :param part: name of the examples: "dev", "test".
    """
    unknown = [example for example in examples if not set(known).issuperset(example.labels)]
    if unknown:
        label = next(label for label in unknown[0].labels if label not in known)
        name = f"{part} examples" if part else "examples"
        logger.warning(
            f"{unknown[0].location}: label {label!r} is not among the {len(known)} labels of the training examples; "
            f"{len(unknown)} {name} have unseen labels, which count as errors"
        )
