"""The distinct words of a text of any size: each has a number, in memory there is a digest of it, on disk the word."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 1 << 16
_FIRST_SLOTS = 1 << 16
_FREE = -1

_KEY_BYTES = 7
"""Bytes of a word that are compared at once: an integer of eight holds them, and how many there are."""


def digests(words: Iterable[bytes]) -> NDArray[np.uint64]:
    """Return 128 bits for each word, (number of words, 2)."""
    joined = b"".join(blake2b(word, digest_size=16).digest() for word in words)
    return np.frombuffer(joined, np.uint64).reshape(-1, 2)


class WordForms:
    """Numbers words in the order in which they appear, and writes them to a file.

    A word takes 16 bytes of memory and 1.5 to 4 slots of a hash table, of 4 bytes each, however long it is; in a
    ``dict`` it would take some 150. Words with the same digest are taken for the same: that two of a billion share one
    has a probability below 1e-20.

    :param path: of the file, a word a line.
    :param n_reserved: numbers that are left free.
    """

    def __init__(self, path: Path, *, n_reserved: int) -> None:
        self.path = path
        self._file = path.open("wb")
        self._n_reserved = n_reserved
        self._n_words = 0
        self._digests = np.empty((_FIRST_SLOTS, 2), np.uint64)  # row i is that of number i + n_reserved
        self._slots = np.full(_FIRST_SLOTS, _FREE, np.int32)  # rows, each at the first free slot behind its own

    def __len__(self) -> int:
        return self._n_words

    def numbers(self, words: bytes, digests: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """Return the number of each word; new ones get the next numbers, in the order in which they stand.

        :param words: different words, a newline behind each.
        :param digests: theirs, (number of words, 2).
        """
        rows = self._find(digests)
        new = np.flatnonzero(rows == _FREE)
        rows[new] = self._add(digests[new])
        lines = words.split(b"\n")
        self._file.write(b"".join(lines[i] + b"\n" for i in new))
        return rows.astype(np.uint32) + np.uint32(self._n_reserved)

    def text(self) -> WordText:
        """Forget the numbers and return the words."""
        self._file.close()
        self._digests, self._slots = self._digests[:0].copy(), self._slots[:0].copy()
        return WordText(self.path)

    def close(self) -> None:
        """Close and delete the file."""
        try:
            self._file.close()
        finally:  # also where the disk is full
            self.path.unlink(missing_ok=True)

    def _own_slots(self, digests: NDArray[np.uint64]) -> NDArray[np.intp]:
        return (digests[:, 0] & np.uint64(len(self._slots) - 1)).astype(np.intp)

    def _find(self, digests: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Return the row of each digest, or that there is none."""
        found = np.full(len(digests), _FREE, np.int32)
        left, slots = np.arange(len(digests)), self._own_slots(digests)
        while len(left):
            rows = self._slots[slots]
            is_there = (rows != _FREE) & (self._digests[rows] == digests[left]).all(axis=1)
            found[left[is_there]] = rows[is_there]
            goes_on = (rows != _FREE) & ~is_there
            left, slots = left[goes_on], self._behind(slots[goes_on])
        return found

    def _behind(self, slots: NDArray[np.intp]) -> NDArray[np.intp]:
        return (slots + 1) & (len(self._slots) - 1)

    def _add(self, digests: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Add digests that are not there and return their rows."""
        begin, end = self._n_words, self._n_words + len(digests)
        if end > len(self._digests):
            more = np.empty((2 * end, 2), np.uint64)  # pages that nobody has touched take no memory
            more[:begin] = self._digests[:begin]
            self._digests = more
        self._digests[begin:end] = digests
        self._n_words = end
        if 3 * end > 2 * len(self._slots):
            self._slots = np.full(1 << (2 * end).bit_length(), _FREE, np.int32)
            begin = 0
        for start in range(begin, end, _AT_ONCE):
            self._place(np.arange(start, min(start + _AT_ONCE, end), dtype=np.int32))
        return np.arange(end - len(digests), end, dtype=np.int32)

    def _place(self, rows: NDArray[np.int32]) -> None:
        """Give rows that have none their slots."""
        slots = self._own_slots(self._digests[rows])
        while len(rows):
            is_free = self._slots[slots] == _FREE
            self._slots[slots[is_free]] = rows[is_free]  # of those that want the same one gets it
            goes_on = self._slots[slots] != rows
            rows, slots = rows[goes_on], self._behind(slots[goes_on])


class WordText:
    """Words that were written a line each, in memory as one text.

    :param path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._text = path.read_bytes() + bytes(8)  # so that eight can be read from any place
        self._ends = np.flatnonzero(np.frombuffer(self._text, np.uint8) == ord("\n"))

    def __len__(self) -> int:
        return len(self._ends)

    def lines(self, indices: NDArray[np.uint32]) -> bytes:
        """Return words, a newline behind each."""
        ends = self._ends[indices] + 1
        starts = self._starts(indices)
        return b"".join([self._text[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)])

    def by_frequency(self, counts: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the indices of the words, most frequent first, and in the order of their bytes where counts are equal.

        The order of UTF-8 is that of the characters.
        """
        order = np.argsort(-counts, kind="stable").astype(np.uint32)
        tied = np.arange(len(order), dtype=np.uint32)  # places in the order that are not decided yet
        group = -counts[order]  # equal for those that are tied with each other, and ascending
        n_compared = 0
        while len(tied):
            key = self._keys(order[tied], n_compared)
            by_key = np.lexsort((key, group))
            order[tied] = order[tied[by_key]]
            key, group = key[by_key], group[by_key]
            differs = np.ones(len(tied), bool)
            differs[1:] = (group[1:] != group[:-1]) | (key[1:] != key[:-1])
            is_tied = ~differs
            is_tied[:-1] |= ~differs[1:]
            tied, group = tied[is_tied], np.cumsum(differs)[is_tied]
            n_compared += _KEY_BYTES
        return order

    def _starts(self, indices: NDArray[np.uint32]) -> NDArray[np.int64]:
        starts: NDArray[np.int64] = self._ends[np.maximum(indices, 1) - 1] + 1
        starts[indices == 0] = 0
        return starts

    def _keys(self, indices: NDArray[np.uint32], n_compared: int) -> NDArray[np.uint64]:
        """Return the next bytes of words as numbers that are ordered as they are."""
        keys = np.empty(len(indices), np.uint64)
        for start in range(0, len(indices), _AT_ONCE):
            chunk = slice(start, start + _AT_ONCE)
            keys[chunk] = self._keys_at_once(indices[chunk], n_compared)
        return keys

    def _keys_at_once(self, indices: NDArray[np.uint32], n_compared: int) -> NDArray[np.uint64]:
        starts = self._starts(indices) + n_compared
        n_left = np.clip(self._ends[indices] - starts, 0, _KEY_BYTES)
        eight_bytes: NDArray[np.uint64] = np.ndarray(len(self._text) - 7, ">u8", self._text, strides=(1,))
        keys: NDArray[np.uint64] = eight_bytes[np.minimum(starts, len(eight_bytes) - 1)].astype(np.uint64)
        masks = np.array([((1 << 8 * n) - 1) << 8 * (8 - n) for n in range(_KEY_BYTES + 1)], np.uint64)
        keys &= masks[n_left]
        keys |= n_left.astype(np.uint64)
        return keys
