"""Span tags: scheme detection (BIO, IOB1, BIOUL), span extraction and allowed transitions.

``BIO`` (IOB2) tags begin every span with ``B-``; ``IOB1`` tags use ``B-`` only between adjacent spans of one type;
``BIOUL`` tags also mark the last token of a span and single-token spans, with ``L-`` and ``U-`` (BILOU) or ``E-`` and
``S-`` (IOBES): both pairs of letters are equivalent. Tags may have no type (``B``, ``I``).

Invalid tag sequences are read as ``seqeval`` and ``conlleval`` read them, so that every sequence has spans.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
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


class Transitions(NamedTuple):
    """Transitions that a linear-chain model over K tags may take, as booleans."""

    between: NDArray[np.bool_]
    """(K, K): whether the column's tag may follow the row's."""
    start: NDArray[np.bool_]
    """(K): tags that may start a sequence."""
    end: NDArray[np.bool_]
    """(K): tags that may end a sequence."""


@lru_cache(maxsize=1024)
def _parse(tag: str) -> tuple[str, str] | None:
    """Return the letter (O, B, I, E or S) and the type of a tag; ``None`` if it belongs to no span scheme."""
    if tag == "O":
        return "O", ""
    match = _TAG.fullmatch(tag)
    return (match[1].translate(_ONE_LETTER), match[2] or UNTYPED) if match else None


def _parse_all(tags: Sequence[str]) -> list[tuple[str, str]]:
    pairs = [pair for pair in map(_parse, tags) if pair is not None]
    if len(pairs) < len(tags):
        wrong = next(tag for tag in tags if _parse(tag) is None)
        raise InputError(f"{wrong!r} is not a span tag; expected B-x, I-x, L-x, U-x, E-x, S-x or O")
    return pairs


def scheme_of(sequences: Sequence[Sequence[str]]) -> Scheme | None:
    """Detect the scheme of tagged sentences; ``None`` for tags that are not spans, such as parts of speech.

    All tags must be ``O`` or have the form of a scheme's tag. Tags with an ``I-x`` but no ``B-x`` are IOB1, and so are
    those where most spans begin with ``I-``.
    """
    parsed = {_parse(tag) for tags in sequences for tag in tags}
    if None in parsed:
        return None
    pairs = {pair for pair in parsed if pair is not None}
    letters = {letter for letter, _ in pairs}
    if "B" not in letters and "O" not in letters:
        return None
    if letters & {"E", "S"}:
        return "BIOUL" if letters & {"B", "S"} else None  # without either it is IOE
    if any(("B", kind) not in pairs for letter, kind in pairs if letter == "I"):
        return "IOB1"
    if "B" not in letters:
        return None
    first_tags = [tags[span.first] for tags in sequences for span in spans(tags)]
    n_inside = sum(tag.startswith("I") for tag in first_tags)
    return "IOB1" if 2 * n_inside > len(first_tags) else "BIO"


def spans(tags: Sequence[str]) -> list[Span]:
    """Return the spans of one tag sequence, in order.

    As in ``seqeval``'s default mode a span begins wherever a type does (``O I-x`` has a span).

    :raises InputError: a tag belongs to no scheme.
    """
    found: list[Span] = []
    before = ("O", "")
    for position, (letter, kind) in enumerate(_parse_all(tags)):
        if letter != "O":
            continues = letter in "IE" and before[0] in "BI" and kind == before[1]
            first = found.pop().first if continues else position
            found.append(Span(kind, first, position + 1))
        before = (letter, kind)
    return found


def allowed_transitions(labels: Sequence[str], scheme: Scheme | None) -> Transitions:
    """Return the transitions that keep predictions valid; every transition is valid for IOB1 and without a scheme.

    :param labels: the K tags, in the order of the model's outputs.
    :raises InputError: a label is not a span tag.
    """
    n_labels = len(labels)
    if scheme is None or scheme == "IOB1":
        return Transitions(np.ones((n_labels, n_labels), bool), np.ones(n_labels, bool), np.ones(n_labels, bool))
    letters, kinds = (np.array(part) for part in zip(*_parse_all(labels), strict=True))
    goes_on = np.isin(letters, ["I", "E"])
    is_open = np.isin(letters, ["B", "I"])
    same_span = is_open[:, None] & goes_on[None, :] & (kinds[:, None] == kinds[None, :])
    if scheme == "BIO":
        return Transitions(same_span | ~goes_on[None, :], ~goes_on, np.ones(n_labels, bool))
    return Transitions(same_span | (~is_open[:, None] & ~goes_on[None, :]), ~goes_on, ~is_open)
