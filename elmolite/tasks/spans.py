"""Span tags: scheme detection (BIO, IOB1, BIOUL), span extraction and allowed transitions.

``BIO`` (IOB2) tags begin every span with ``B-``; ``IOB1`` tags use ``B-`` only between adjacent spans of one type;
``BIOUL`` tags also mark the last token of a span and single-token spans, with ``L-`` and ``U-`` (BILOU) or ``E-`` and
``S-`` (IOBES): both pairs of letters are equivalent. Tags may have no type (``B``, ``I``).

Invalid tag sequences are read as ``seqeval`` and ``conlleval`` read them, so that every sequence has spans.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elmolite.errors import InputError

Scheme = Literal["BIO", "IOB1", "BIOUL"]

UNTYPED = "_"
"""Type of a span whose tags are bare letters, as in ``seqeval``."""

_TAG = re.compile(r"([BIELSU])(?:-(.*))?", re.DOTALL)
_ONE_LETTER = str.maketrans("LU", "ES")


class Span(NamedTuple):
    """The tokens ``first`` to ``end - 1`` of a sentence."""

    label: str
    first: int
    end: int


@dataclass(frozen=True, eq=False)
class SpanTable:
    """N spans of many sequences; token indices count through all sequences, concatenated."""

    labels: list[str]
    """All types named by the tags, sorted."""
    label_ids: NDArray[np.int64]
    """Index into ``labels`` of each span, (N)."""
    first: NDArray[np.int64]
    """First token of each span, (N), ascending."""
    end: NDArray[np.int64]
    """One past the last token of each span, (N)."""


class Transitions(NamedTuple):
    """Transitions that a linear-chain model over K tags may take, as booleans."""

    between: NDArray[np.bool_]
    """(K, K): whether the column's tag may follow the row's."""
    start: NDArray[np.bool_]
    """(K): tags that may start a sequence."""
    end: NDArray[np.bool_]
    """(K): tags that may end a sequence."""


def _parse(tag: str) -> tuple[str, str] | None:
    """Return the letter (O, B, I, E or S) and the type of a tag; ``None`` if it belongs to no span scheme."""
    if tag == "O":
        return "O", ""
    match = _TAG.fullmatch(tag)
    return (match[1].translate(_ONE_LETTER), match[2] or UNTYPED) if match else None


def scheme_of(labels: Iterable[str]) -> Scheme | None:
    """Detect the scheme of a tag set; ``None`` for tags that are not spans, such as parts of speech.

    All tags must be ``O`` or have the form of a scheme's tag. Tag sets with an ``I-x`` but no ``B-x`` are IOB1. An IOB1
    tag set that contains every ``B-x`` looks like BIO: use :func:`scheme_of_sequences`.
    """
    tags = set(labels)
    parsed = [_parse(tag) for tag in tags]
    if None in parsed:
        return None
    pairs = {pair for pair in parsed if pair is not None}
    letters = {letter for letter, _ in pairs}
    if "B" not in letters and "O" not in letters:
        return None
    if letters & {"E", "S"}:
        return "BIOUL" if letters & {"B", "S"} else None  # without either it is IOE
    if all(("B", kind) in pairs for letter, kind in pairs if letter == "I"):
        return "BIO" if "B" in letters else None
    return "IOB1"


def scheme_of_sequences(sequences: Sequence[Sequence[str]]) -> Scheme | None:
    """Detect the scheme of tagged sentences: as :func:`scheme_of`, and IOB1 if most spans begin with ``I-``."""
    scheme = scheme_of(set(chain.from_iterable(sequences)))
    if scheme != "BIO":
        return scheme
    tags = list(chain.from_iterable(sequences))
    first = locate(sequences).first
    n_inside = sum(tags[at].startswith("I") for at in first.tolist())
    return "IOB1" if 2 * n_inside > len(first) else "BIO"


def spans(tags: Sequence[str]) -> list[Span]:
    """Return the spans of one tag sequence, in order.

    As in ``seqeval``'s default mode a span begins wherever a type does (``O I-x`` has a span).

    :raises InputError: a tag belongs to no scheme.
    """
    table = locate([tags])
    names = [table.labels[i] for i in table.label_ids]
    return [Span(*span) for span in zip(names, table.first.tolist(), table.end.tolist(), strict=True)]


def locate(sequences: Sequence[Sequence[str]]) -> SpanTable:
    """Find the spans of many tag sequences; spans do not cross sequence boundaries.

    :raises InputError: a tag belongs to no scheme; the message names the sequence and token.
    """
    ids_of: dict[str, int] = {}
    tag_ids = np.fromiter((ids_of.setdefault(tag, len(ids_of)) for tag in chain.from_iterable(sequences)), np.int64)
    parsed = _parse_all(ids_of, sequences)
    labels = sorted({kind for letter, kind in parsed if letter != "O"})
    label_at = {label: i for i, label in enumerate(labels)}
    letters = np.array([letter for letter, _ in parsed], dtype="U1")[tag_ids]
    label_ids = np.array([label_at.get(kind, -1) for _, kind in parsed], dtype=np.int64)[tag_ids]

    is_inside = letters != "O"
    continues = is_inside.copy()
    continues[1:] &= (label_ids[1:] == label_ids[:-1]) & (letters[:-1] != "E") & (letters[:-1] != "S")
    continues &= (letters != "B") & (letters != "S")
    lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
    starts = np.cumsum(lengths) - lengths
    continues[starts[lengths > 0]] = False

    first = np.flatnonzero(is_inside & ~continues)
    last = np.flatnonzero(is_inside & ~np.append(continues[1:], False))
    return SpanTable(labels, label_ids[first], first, last + 1)


def _parse_all(tags: Iterable[str], sequences: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    parsed = []
    for tag in tags:
        pair = _parse(tag)
        if pair is None:
            number, sequence = next((i, sequence) for i, sequence in enumerate(sequences) if tag in sequence)
            if isinstance(sequence, str):
                raise InputError(f"sequence {number + 1} is the string {sequence!r}: expected a list of tags")
            position = f"sequence {number + 1}, token {list(sequence).index(tag) + 1}"
            raise InputError(f"{position}: {tag!r} is not a span tag; expected B-x, I-x, L-x, U-x, E-x, S-x or O")
        parsed.append(pair)
    return parsed


def allowed_transitions(labels: Sequence[str], scheme: Scheme | None) -> Transitions:
    """Return the transitions that keep predictions valid; every transition is valid for IOB1 and without a scheme.

    :param labels: the K tags, in the order of the model's outputs.
    :raises InputError: a label is not a span tag.
    """
    n_labels = len(labels)
    if scheme is None or scheme == "IOB1":
        return Transitions(np.ones((n_labels, n_labels), bool), np.ones(n_labels, bool), np.ones(n_labels, bool))
    parsed = _parse_all(labels, [labels])
    letters = np.array([letter for letter, _ in parsed], dtype="U1")
    kinds = np.array([kind for _, kind in parsed], dtype=object)
    goes_on = np.isin(letters, ["I", "E"])
    is_open = np.isin(letters, ["B", "I"])
    same_span = is_open[:, None] & goes_on[None, :] & (kinds[:, None] == kinds[None, :])
    if scheme == "BIO":
        return Transitions(same_span | ~goes_on[None, :], ~goes_on, np.ones(n_labels, bool))
    return Transitions(same_span | (~is_open[:, None] & ~goes_on[None, :]), ~goes_on, ~is_open)
