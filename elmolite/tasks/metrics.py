"""What predictions are worth: accuracy, precision, recall and F1 of labels, of sets of labels and of spans.

All take what is right first, then what was predicted. **A ratio without a denominator is 0**: the precision of a label
that was never predicted, the recall of one that never was right, everything of no examples. A macro average is over
the labels that are right or predicted somewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from operator import eq
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from elmolite.errors import InputError
from elmolite.tasks.spans import locate
from elmolite.utils.console import printable, table

MAX_TERMINAL_LABELS = 40
"""Of more labels, a table shows the most frequent."""

Labels = Sequence[str] | NDArray[np.str_]


@dataclass(frozen=True)
class Scores:
    """Precision, recall and F1 between 0 and 1."""

    precision: float
    recall: float
    f1: float
    support: int
    """How often the label is right, whatever was predicted."""


@dataclass(frozen=True)
class ClassificationReport:
    """How well labels, or spans of each type, were predicted."""

    accuracy: float
    """The share of examples, or tokens, whose label is right; where several labels can hold, whose labels all are."""
    micro: Scores
    """Over all labels together. Where every example has one label, these are the accuracy."""
    macro: Scores
    """The mean of the labels, each with the same weight."""
    labels: dict[str, Scores]
    """Of each label that is right or predicted somewhere, sorted by name."""
    n_examples: int
    unit: Literal["examples", "tokens"] = "examples"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    def describe(self) -> str:
        """Return a table, the most frequent labels first, for a person."""
        by_support = sorted(self.labels.items(), key=lambda item: -item[1].support)
        rows = [["", "precision", "recall", "F1", "support"]]
        rows.extend(_row(printable(label), scores) for label, scores in by_support[:MAX_TERMINAL_LABELS])
        if rest := [scores for _, scores in by_support[MAX_TERMINAL_LABELS:]]:
            rows.append(_row(f"mean of {len(rest):,} rarer ones", _mean(rest)))
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


def accuracy(gold: Labels, predicted: Labels) -> float:
    """Return the share of labels that are right.

    :raises InputError: the two are not of one length.
    """
    check_lengths(gold, predicted)
    return sum(map(eq, gold, predicted)) / len(gold) if len(gold) else 0.0


def label_report(
    gold: Labels, predicted: Labels, *, unit: Literal["examples", "tokens"] = "examples"
) -> ClassificationReport:
    """Measure labels of which each example has one.

    :param unit: what the examples are, for the table.
    :raises InputError: the two are not of one length.
    """
    check_lengths(gold, predicted)
    labels, ids = encode_labels(chain(gold, predicted))
    gold_ids, predicted_ids = ids[: len(gold)], ids[len(gold) :]
    n_right, n_predicted, n_gold = (
        np.bincount(part, minlength=len(labels))
        for part in (gold_ids[gold_ids == predicted_ids], predicted_ids, gold_ids)
    )
    return _report(labels, n_right, n_predicted, n_gold, n_whole=int(n_right.sum()), n_examples=len(gold), unit=unit)


def token_report(gold: Sequence[Labels], predicted: Sequence[Labels]) -> ClassificationReport:
    """Measure the tags of sentences, each token for itself.

    :raises InputError: there are not as many sentences, or a sentence has not as many tags; the message names it.
    """
    _check_sentences(gold, predicted)
    return label_report(list(chain.from_iterable(gold)), list(chain.from_iterable(predicted)), unit="tokens")


def span_report(
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    *,
    strict: Literal["BIO", "BIOUL"] | None = None,
) -> ClassificationReport:
    """Measure the spans that tags mark: one is right if its type, first and last token are.

    The accuracy is that of the tags.

    :param strict: which spans count, as :func:`elmolite.tasks.spans.spans` takes it.
    :raises InputError: there are not as many sentences, a sentence has not as many tags (the message names it), or a
        tag is of no span scheme.
    """
    _check_sentences(gold, predicted)
    table_of_both = locate([*gold, *predicted], strict=strict)
    n_tokens = sum(map(len, gold))
    n_gold_spans = int(np.searchsorted(table_of_both.first, n_tokens))
    gold_part, predicted_part = slice(None, n_gold_spans), slice(n_gold_spans, None)
    label_ids, first, end = table_of_both.label_ids, table_of_both.first, table_of_both.end

    # Spans of one tagging do not overlap, so that the first token names a span.
    end_of_predicted, label_of_predicted = np.full(n_tokens, -1), np.full(n_tokens, -1)
    end_of_predicted[first[predicted_part] - n_tokens] = end[predicted_part] - n_tokens
    label_of_predicted[first[predicted_part] - n_tokens] = label_ids[predicted_part]
    is_right = end_of_predicted[first[gold_part]] == end[gold_part]
    is_right &= label_of_predicted[first[gold_part]] == label_ids[gold_part]

    n_right, n_predicted, n_gold = (
        np.bincount(part, minlength=len(table_of_both.labels))
        for part in (label_ids[gold_part][is_right], label_ids[predicted_part], label_ids[gold_part])
    )
    n_whole = sum(map(eq, chain.from_iterable(gold), chain.from_iterable(predicted)))
    return _report(
        table_of_both.labels, n_right, n_predicted, n_gold, n_whole=n_whole, n_examples=n_tokens, unit="tokens"
    )


def multi_label_report(gold: Sequence[Collection[str]], predicted: Sequence[Collection[str]]) -> ClassificationReport:
    """Measure labels of which an example can have several, or none.

    The accuracy is the share of examples whose labels are exactly the right ones.

    :raises InputError: the two are not of one length, or have a text where a set of labels belongs.
    """
    check_lengths(gold, predicted)
    if text := next((labels for labels in chain(gold, predicted) if isinstance(labels, str)), None):
        raise InputError(f"the labels of an example are the text {text!r}: expected a set or list of labels")
    labels, ids = encode_labels(chain.from_iterable(chain(gold, predicted)))
    n_gold_labels = sum(map(len, gold))
    n_labels = max(1, len(labels))
    # A label of an example as one number; the same label twice counts once.
    gold_pairs, predicted_pairs = (
        np.unique(np.repeat(np.arange(len(examples)), list(map(len, examples))) * n_labels + part)
        for examples, part in ((gold, ids[:n_gold_labels]), (predicted, ids[n_gold_labels:]))
    )
    right_pairs = np.intersect1d(gold_pairs, predicted_pairs, assume_unique=True)
    pairs = (right_pairs, predicted_pairs, gold_pairs)
    n_right, n_predicted, n_gold = (np.bincount(part % n_labels, minlength=len(labels)) for part in pairs)
    right_of, predicted_of, gold_of = (np.bincount(part // n_labels, minlength=len(gold)) for part in pairs)
    n_whole = int(((right_of == predicted_of) & (right_of == gold_of)).sum())
    return _report(labels, n_right, n_predicted, n_gold, n_whole=n_whole, n_examples=len(gold), unit="examples")


def encode_labels(labels: Iterable[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the different labels, sorted, and of each label its place among them, (N)."""
    ids_of: dict[str, int] = {}
    ids = np.fromiter((ids_of.setdefault(label, len(ids_of)) for label in labels), np.int64)
    names = [str(label) for label in ids_of]
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(names), dtype=np.int64)
    place[order] = np.arange(len(names))
    return [names[i] for i in order], place[ids]


def _report(
    labels: Sequence[str],
    n_right: NDArray[np.int64],
    n_predicted: NDArray[np.int64],
    n_gold: NDArray[np.int64],
    *,
    n_whole: int,
    n_examples: int,
    unit: Literal["examples", "tokens"],
) -> ClassificationReport:
    """Make a report of the counts of each label."""
    scores = {
        label: _scores(*counts)
        for label, *counts in zip(labels, n_right.tolist(), n_predicted.tolist(), n_gold.tolist(), strict=True)
        if counts[1] or counts[2]
    }
    return ClassificationReport(
        accuracy=n_whole / n_examples if n_examples else 0.0,
        micro=_scores(int(n_right.sum()), int(n_predicted.sum()), int(n_gold.sum())),
        macro=_mean(scores.values()),
        labels=scores,
        n_examples=n_examples,
        unit=unit,
    )


def _scores(n_right: int, n_predicted: int, n_gold: int) -> Scores:
    return Scores(
        precision=n_right / n_predicted if n_predicted else 0.0,
        recall=n_right / n_gold if n_gold else 0.0,
        f1=2 * n_right / (n_predicted + n_gold) if n_predicted + n_gold else 0.0,
        support=n_gold,
    )


def check_lengths(gold: Sequence[Any] | NDArray[Any], predicted: Sequence[Any] | NDArray[Any]) -> None:
    """Refuse predictions that are not as many as the examples."""
    if len(gold) != len(predicted):
        raise InputError(f"{len(predicted):,} predictions for {len(gold):,} examples")


def _check_sentences(gold: Sequence[Sequence[str] | Any], predicted: Sequence[Sequence[str] | Any]) -> None:
    if len(gold) != len(predicted):
        raise InputError(f"predictions for {len(predicted):,} sentences where there are {len(gold):,}")
    for number, (right, given) in enumerate(zip(gold, predicted, strict=True), start=1):
        if len(right) != len(given):
            raise InputError(f"sentence {number:,}: {len(given)} predicted tags for {len(right)} tokens")
