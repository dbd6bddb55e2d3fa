"""Tags that mark spans: which scheme they are of, the spans they mark, what may follow what.

``BIO`` (IOB2) tags begin every span with ``B-``; ``IOB1`` tags only one that touches another of its type; ``BIOUL``
tags also mark the last token of a span and a span of one token, with ``L-`` and ``U-`` (BILOU) or ``E-`` and ``S-``
(IOBES): both pairs of letters are read as the same. Tags may be of no type (``B``, ``I``).

Tags that break the rules are read as ``seqeval`` and ``conlleval`` read them, so that every sequence has spans.
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
BioulLetters = Literal["LU", "ES"]

UNTYPED = "_"
"""The label of a span whose tags are bare letters, as ``seqeval`` has it."""

_TAG = re.compile(r"([BIELSU])(?:-(.*))?", re.DOTALL)
_ONE_LETTER = str.maketrans("LU", "ES")


class Span(NamedTuple):
    """The tokens ``first`` to ``end - 1`` of a sentence."""

    label: str
    first: int
    end: int


@dataclass(frozen=True, eq=False)
class SpanTable:
    """The spans of many sequences, N in all, by their position in the tokens of all sequences one after the other."""

    labels: list[str]
    """The types that the tags name, sorted, whether or not a span is of it."""
    label_ids: NDArray[np.int64]
    """Of each span its place in ``labels``, (N)."""
    first: NDArray[np.int64]
    """The first token of each span, (N), ascending."""
    end: NDArray[np.int64]
    """The token after its last, (N)."""


class Transitions(NamedTuple):
    """What a linear-chain model over K tags may do, as booleans."""

    between: NDArray[np.bool_]
    """(K, K): whether the tag of the column may follow the tag of the row."""
    start: NDArray[np.bool_]
    """(K): whether a sequence may start with the tag."""
    end: NDArray[np.bool_]
    """(K): whether a sequence may end with it."""


def _parse(tag: str) -> tuple[str, str] | None:
    """Return the letter, one of O B I E S, and the type; ``None`` for what is no tag of a span scheme."""
    if tag == "O":
        return "O", ""
    match = _TAG.fullmatch(tag)
    return (match[1].translate(_ONE_LETTER), match[2] or UNTYPED) if match else None


def scheme_of(labels: Iterable[str]) -> Scheme | None:
    """Recognise the scheme of a set of tags; ``None`` where they are no spans, as parts of speech are not.

    All must be ``O`` or of a scheme's form, so that ``E-mail`` among other names makes no scheme. Tags with an ``I-x``
    for which there is no ``B-x`` are IOB1. IOB1 tags that happen to have each ``B-x`` cannot be told from BIO by their
    names: :func:`scheme_of_sequences` tells.
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
    """Recognise the scheme of tagged sentences: as :func:`scheme_of`, and IOB1 where most spans begin with ``I-``."""
    scheme = scheme_of(set(chain.from_iterable(sequences)))
    if scheme != "BIO":
        return scheme
    tags = list(chain.from_iterable(sequences))
    first = locate(sequences).first
    n_inside = sum(tags[at].startswith("I") for at in first.tolist())
    return "IOB1" if 2 * n_inside > len(first) else "BIO"


def spans(tags: Sequence[str], *, strict: Literal["BIO", "BIOUL"] | None = None) -> list[Span]:
    """Return the spans of one sequence of tags, in order.

    :param strict: count only spans that are tagged as this scheme demands, as ``seqeval``'s strict mode does; otherwise
        a span begins wherever a type does, as in its default mode (``O I-x`` has a span).
    :raises InputError: a tag is of no scheme, or not of the strict one.
    """
    table = locate([tags], strict=strict)
    names = [table.labels[i] for i in table.label_ids]
    return [Span(*span) for span in zip(names, table.first.tolist(), table.end.tolist(), strict=True)]


def locate(sequences: Sequence[Sequence[str]], *, strict: Literal["BIO", "BIOUL"] | None = None) -> SpanTable:
    """Find the spans of many sequences; no span goes from one into the next.

    :param strict: as :func:`spans` takes it.
    :raises InputError: a tag is of no scheme, or not of the strict one; the message says where it stands.
    """
    if strict not in (None, "BIO", "BIOUL"):
        raise InputError(f"strict={strict!r}: spans are strict in BIO or in BIOUL")
    ids_of: dict[str, int] = {}
    tag_ids = np.fromiter((ids_of.setdefault(tag, len(ids_of)) for tag in chain.from_iterable(sequences)), np.int64)
    parsed = _parse_all(ids_of, sequences, strict)
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
    if strict is not None:
        is_whole = letters[first] == "B"
        if strict == "BIOUL":
            is_whole = (is_whole & (letters[last] == "E")) | (letters[first] == "S")
        first, last = first[is_whole], last[is_whole]
    return SpanTable(labels, label_ids[first], first, last + 1)


def _parse_all(tags: Iterable[str], sequences: Sequence[Sequence[str]], strict: str | None) -> list[tuple[str, str]]:
    parsed = []
    for tag in tags:
        pair = _parse(tag)
        if pair is None or (strict == "BIO" and pair[0] in "ES"):
            number, sequence = next((i, sequence) for i, sequence in enumerate(sequences) if tag in sequence)
            if isinstance(sequence, str):
                raise InputError(f"sequence {number + 1} is the text {sequence!r}: expected a list of tags")
            expected = "B-x, I-x or O" if strict == "BIO" else "B-x, I-x, L-x, U-x, E-x, S-x or O"
            place = f"sequence {number + 1}, token {list(sequence).index(tag) + 1}"
            raise InputError(f"{place}: {tag!r} is no tag of a span; expected {expected}")
        parsed.append(pair)
    return parsed


def allowed_transitions(labels: Sequence[str], scheme: Scheme | None) -> Transitions:
    """Say which tags may follow which, start and end a sequence, so that what a model predicts is always valid.

    Tags of no scheme may all, and IOB1 tags too, since every sequence of them can be read. With ``O`` among the labels
    there is a valid sequence of every length.

    :param labels: the K tags, in the order of the model's outputs.
    :raises InputError: a label is no tag of the scheme.
    """
    n_labels = len(labels)
    if scheme is None or scheme == "IOB1":
        return Transitions(np.ones((n_labels, n_labels), bool), np.ones(n_labels, bool), np.ones(n_labels, bool))
    parsed = _parse_all(labels, [labels], "BIO" if scheme == "BIO" else None)
    letters = np.array([letter for letter, _ in parsed], dtype="U1")
    kinds = np.array([kind for _, kind in parsed], dtype=object)
    goes_on = np.isin(letters, ["I", "E"])
    is_open = np.isin(letters, ["B", "I"])
    same_span = is_open[:, None] & goes_on[None, :] & (kinds[:, None] == kinds[None, :])
    if scheme == "BIO":
        return Transitions(same_span | ~goes_on[None, :], ~goes_on, np.ones(n_labels, bool))
    return Transitions(same_span | (~is_open[:, None] & ~goes_on[None, :]), ~goes_on, ~is_open)


def to_bio(tags: Sequence[str]) -> list[str]:
    """Write the spans of tags of any scheme as BIO tags, which are always valid."""
    return _write(tags, middle="I", last="I", single="B")


def to_bioul(tags: Sequence[str], *, letters: BioulLetters = "LU") -> list[str]:
    """Write the spans of tags of any scheme as BIOUL tags, which are always valid.

    :param letters: those of the last token of a span and of a span of one: ``LU`` or ``ES``.
    """
    if letters not in ("LU", "ES"):
        raise InputError(f"letters={letters!r}: BIOUL has LU or ES")
    return _write(tags, middle="I", last=letters[0], single=letters[1])


def _write(tags: Sequence[str], *, middle: str, last: str, single: str) -> list[str]:
    written = ["O"] * len(tags)
    for label, first, end in spans(tags):
        n_tokens = end - first
        letters = [single] if n_tokens == 1 else ["B", *[middle] * (n_tokens - 2), last]
        written[first:end] = [letter if label == UNTYPED else f"{letter}-{label}" for letter in letters]
    return written
