"""Which label was taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmolite.errors import InputError, nearest
from elmolite.tasks.metrics import Labels, check_lengths, encode_labels
from elmolite.utils.console import display_width, printable, table

MAX_TERMINAL_WIDTH = 110
"""A wider confusion matrix is shown as the list of its most frequent confusions ..."""
N_CONFUSIONS = 20
"""... of which it has so many."""


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often each label was taken for each."""

    labels: list[str]
    """The K labels."""
    counts: NDArray[np.int64]
    """(K, K): how often the label of the row was right and that of the column predicted."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {"labels": self.labels, "counts": self.counts.tolist()}

    def most_frequent(self, n: int) -> list[tuple[str, str, int]]:
        """Return the ``n`` most frequent confusions: what was right, what was predicted, how often."""
        wrong = self.counts.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:n]
        found = [(int(row), int(column)) for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True)]
        return [(self.labels[i], self.labels[j], int(wrong[i, j])) for i, j in found if wrong[i, j]]

    def describe(self) -> str:
        """Return the matrix, or where it is too wide the most frequent confusions, for a person."""
        names = [printable(label) for label in self.labels]
        if all(display_width(name) <= 6 for name in names):
            head, names_of_rows = names, names
        else:
            head = [str(number) for number in range(1, len(names) + 1)]
            names_of_rows = [f"{number:>{len(head[-1])}} {name}" for number, name in zip(head, names, strict=True)]
        rows = [["", *head]]
        rows.extend(
            [name, *(str(count) if count else "." for count in counts)]
            for name, counts in zip(names_of_rows, self.counts.tolist(), strict=True)
        )
        matrix = table(rows, gap=1) if len(names) <= MAX_TERMINAL_WIDTH // 3 else ""
        if matrix and max(map(display_width, matrix.split("\n"))) <= MAX_TERMINAL_WIDTH:
            return f"rows: the right label, columns: the predicted one\n{matrix}"
        return self._describe_most_frequent()

    def _describe_most_frequent(self) -> str:
        supports = dict(zip(self.labels, self.counts.sum(axis=1).tolist(), strict=True))
        rows = [["right", "predicted", "times", "share"]]
        for right, predicted, count in self.most_frequent(N_CONFUSIONS):
            rows.append([printable(right), printable(predicted), f"{count:,}", f"{count / supports[right]:.1%}"])
        if len(rows) == 1:
            return f"no confusions among {len(self.labels):,} labels"
        return f"the most frequent confusions among {len(self.labels):,} labels\n{table(rows, n_left=2)}"


def confusion_matrix(gold: Labels, predicted: Labels, *, labels: Sequence[str] | None = None) -> Confusion:
    """Count which label was taken for which.

    :param labels: the K labels in the order of the rows; those that occur, sorted, if not given.
    :raises InputError: the two are not of one length, or hold a label that is not among ``labels``.
    """
    check_lengths(gold, predicted)
    names, ids = encode_labels(chain(gold, predicted))
    if labels is not None:
        place = {label: i for i, label in enumerate(labels)}
        if strange := next((name for name in names if name not in place), None):
            raise InputError(f"{strange!r} is not among the {len(place)} labels{nearest(strange, place)}")
        ids = np.array([place[name] for name in names], dtype=np.int64)[ids]
        names = list(labels)
    pairs = ids[: len(gold)] * len(names) + ids[len(gold) :]
    counts = np.bincount(pairs, minlength=len(names) ** 2).reshape(len(names), len(names))
    return Confusion(names, counts)
