"""Token -> character ids; the only owner of the special ids.

A token is its UTF-8 bytes between a begin and an end mark, padded to 50 ids, as in bilm-tf and AllenNLP. Ids are
shifted by one so that 0 is left for a padded token: 1..256 are bytes, 257..261 the specials below, 262 ids in all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

N_CHARACTERS = 262
"""Number of character ids, the 0 of a padded token included."""
MAX_CHARACTERS = 50
"""Ids of a token, begin and end mark included: at most 48 bytes of it count."""

_BEGIN_SENTENCE, _END_SENTENCE, _BEGIN_WORD, _END_WORD, PADDING = (i + 1 for i in (256, 257, 258, 259, 260))


def is_cut(token: str) -> bool:
    """Tell whether a token has more bytes than are encoded."""
    return len(_utf8(token)) > MAX_CHARACTERS - 2


def _utf8(token: str) -> bytes:
    """Encode; lone surrogates, which UTF-8 has no bytes for, are dropped as AllenNLP does."""
    return token.encode("utf-8", "ignore")


def character_ids(tokens: Sequence[str]) -> NDArray[np.int16]:
    """Encode tokens, each on its own.

    :returns: ids, of shape (number of tokens, 50).
    """
    rows = np.full((len(tokens), MAX_CHARACTERS), PADDING, dtype=np.int16)
    rows[:, 0] = _BEGIN_WORD
    for row, token in zip(rows, tokens, strict=True):
        encoded = np.frombuffer(_utf8(token)[: MAX_CHARACTERS - 2], dtype=np.uint8)
        row[1 : len(encoded) + 1] = encoded
        row[1 : len(encoded) + 1] += 1
        row[len(encoded) + 1] = _END_WORD
    return rows


def sentence_marks() -> NDArray[np.int16]:
    """Return the ids of ``<S>`` and ``</S>``, of shape (2, 50)."""
    rows = np.full((2, MAX_CHARACTERS), PADDING, dtype=np.int16)
    rows[:, 0] = _BEGIN_WORD
    rows[:, 1] = _BEGIN_SENTENCE, _END_SENTENCE
    rows[:, 2] = _END_WORD
    return rows


def trim(rows: NDArray[np.int16]) -> NDArray[np.int16]:
    """Drop the columns that are padding in every row.

    :param rows: ids, of shape (U, C).
    :returns: a view of shape (U, longest token).
    """
    used = (rows != PADDING).any(axis=0)
    return rows[:, : int(used.sum())]
