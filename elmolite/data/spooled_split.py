"""Sentences of a corpus that is being made, in files: memory holds no more of them than what is being copied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 20

Number = TypeVar("Number", bound=np.generic)


class NumberFile(Generic[Number]):
    """Numbers on end in a file, written at its end and read in chunks."""

    def __init__(self, path: Path, dtype: type[Number]) -> None:
        self.path = path
        self._dtype = np.dtype(dtype)
        self._file = path.open("w+b")
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, numbers: NDArray[Number]) -> None:
        """Add numbers at the end."""
        self._file.seek(self._length * self._dtype.itemsize)
        self._file.write(numbers.astype(self._dtype, copy=False).tobytes())
        self._length += len(numbers)

    def chunks(self) -> Iterator[NDArray[Number]]:
        """Yield all numbers, about a million at a time."""
        for start in range(0, self._length, _CHUNK):
            yield self._read(start, min(start + _CHUNK, self._length))

    def last(self, n: int) -> NDArray[Number]:
        """Return the last numbers, all where there are fewer."""
        return self._read(max(0, self._length - n), self._length)

    def cut_off(self, start: int) -> NDArray[Number]:
        """Remove the numbers from a place on, and return them."""
        numbers = self._read(start, self._length)
        self._length = start
        return numbers

    def close(self) -> None:
        """Close and delete the file."""
        try:
            self._file.close()
        finally:  # also where the disk is full
            self.path.unlink(missing_ok=True)

    def _read(self, start: int, end: int) -> NDArray[Number]:
        self._file.seek(start * self._dtype.itemsize)
        return np.frombuffer(self._file.read((end - start) * self._dtype.itemsize), self._dtype)


class SpooledSplit:
    """What :class:`elmolite.data.corpus.Split` holds, in files and without the ends.

    :param folder: where the files lie.
    :param name: what their names begin with.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.tokens = NumberFile(folder / f"{name}.tokens.spool", np.uint32)
        self.sentences = NumberFile(folder / f"{name}.sentences.spool", np.int64)
        self.documents = NumberFile(folder / f"{name}.documents.spool", np.int64)

    @property
    def n_positions(self) -> int:
        """Number of tokens, sentence marks counted."""
        return len(self.tokens)

    @property
    def n_tokens(self) -> int:
        """Number of tokens, sentence marks not counted."""
        return len(self.tokens) - len(self.sentences)

    @property
    def n_sentences(self) -> int:
        """Number of sentences."""
        return len(self.sentences)

    @property
    def n_documents(self) -> int:
        """Number of documents."""
        return len(self.documents)

    def add(self, ids: NDArray[np.uint32], document_lengths: NDArray[np.int64]) -> None:
        """Add documents.

        :param ids: word forms, 0 in front of each sentence.
        :param document_lengths: in ids; one without ids is none.
        """
        lengths = document_lengths[document_lengths > 0]
        sentences = np.flatnonzero(ids == 0)
        documents = np.searchsorted(sentences, np.cumsum(lengths) - lengths)
        self.documents.append(documents + self.n_sentences)
        self.sentences.append(sentences + self.n_positions)
        self.tokens.append(ids)

    def cut_off(self, n_positions: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Remove sentences at the end, the fewest that have so many positions together; the first of several stays.

        :returns: what :meth:`add` takes.
        """
        n_sentences = self.n_sentences
        sentences = self.sentences.last(n_positions + 1)  # each has a position at least
        first = n_sentences - len(sentences)
        cut = first + int(np.searchsorted(sentences, self.n_positions - n_positions, side="right")) - 1
        cut = max(cut, 1)
        documents = self.documents.last(n_sentences - cut)
        documents = documents[documents >= cut]
        self.documents.cut_off(self.n_documents - len(documents))
        self.sentences.cut_off(cut)
        ids = self.tokens.cut_off(int(sentences[cut - first]))
        begins = np.union1d(sentences[cut - first], sentences[documents - first])
        return ids, np.diff(begins, append=begins[0] + len(ids))

    def close(self) -> None:
        """Close and delete the files."""
        with ExitStack() as stack:
            for file in (self.tokens, self.sentences, self.documents):
                stack.callback(file.close)
