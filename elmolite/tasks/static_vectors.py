"""One vector a word, whatever its sentence: those of GloVe, word2vec and fastText, and a module that holds them.

Shapes: B sentences, T tokens, V words, D size of a vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.errors import InputError
from elmolite.tasks.vector_files import Table, Wanted, read_binary, read_text

UNKNOWN = "<unk>"
UNKNOWN_ID = 0

_UNKNOWNS = (UNKNOWN, "<UNK>", "UNK")
"""What files call the vector of the words that they have none for."""


class WordIds:
    """Words and their ids: the place in :attr:`words`, where the unknown word is first."""

    def __init__(self, words: Sequence[str]) -> None:
        """:param words: the unknown word first, none twice.

        :raises InputError: they are others.
        """
        self.words = list(words)
        self._ids = {word: number for number, word in enumerate(self.words)}
        if self.words[:1] != [UNKNOWN]:
            raise InputError(f"the words of static vectors begin with {UNKNOWN}, not with {self.words[:1]}")
        if len(self._ids) < len(self.words):
            twice = next(word for number, word in enumerate(self.words) if self._ids[word] != number)
            raise InputError(f"the words of static vectors hold {twice!r} twice")

    def __len__(self) -> int:
        return len(self.words)

    def id(self, token: str) -> int:
        """Return the id of a token, or of its lower-case form, or of the unknown word."""
        found = self._ids.get(token)
        return self._ids.get(token.lower(), UNKNOWN_ID) if found is None else found

    def ids(self, tokens: Iterable[str]) -> NDArray[np.int64]:
        """Return the id of each token, (T)."""
        return np.array([self.id(token) for token in tokens], np.int64)


class StaticVectors:
    """Words and their vectors."""

    def __init__(self, words: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """:param vectors: (V, D), the unknown word's first.

        :raises InputError: there are more or fewer vectors than words.
        """
        self.ids = WordIds(words)
        self.vectors = vectors
        if vectors.ndim != 2 or len(vectors) != len(self.ids):
            raise InputError(f"vectors of shape {vectors.shape} for {len(self.ids)} words")

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        only: Iterable[str] | None = None,
        n_first: int = 0,
        show_progress: bool = True,
    ) -> StaticVectors:
        """Read a file; its words keep their order, and of a word that stands there twice the first counts.

        The unknown word has the vector of the file's ``<unk>``, ``<UNK>`` or ``UNK``, or zeros.

        :param path: word2vec's binary format where the name ends in ``.bin`` or ``.bin.gz``, else text, compressed
            where it ends in ``.gz``. Text must be UTF-8; in binary files, whose words are often cut inside a character,
            such characters are replaced.
        :param only: the tokens to look up. Other words are passed over: they need no memory, and their numbers are not
            looked at.
        :param n_first: rows at the beginning, where files have the frequent words, that are kept all the same.
        :raises InputError: the file cannot be read, is empty, cut short or of another format, or has a row of another
            size or with what is not a finite number; the message names the line, or in a binary file the word.
        """
        path = Path(path)
        read = read_binary if path.name.endswith((".bin", ".bin.gz")) else read_text
        return cls(*_collect(path, read(path, wanted=_wanted(only, n_first), show_progress=show_progress)))

    @property
    def words(self) -> list[str]:
        """The words, ``<unk>`` first; the place is the row in :attr:`vectors`."""
        return self.ids.words

    @property
    def size(self) -> int:
        """D."""
        return int(self.vectors.shape[1])


class StaticEmbedding(nn.Module):
    """Looks words up in a table of vectors, which is trained or stays as it is.

    Made again from its words, its size and its ``state_dict()``.
    """

    def __init__(self, words: Sequence[str], *, size: int, is_trained: bool = False) -> None:
        """:param words: as in :class:`WordIds`; their vectors are zeros until they are loaded."""
        super().__init__()
        self.ids = WordIds(words)
        self.weight = nn.Parameter(torch.zeros(len(self.ids), size), requires_grad=is_trained)

    @classmethod
    def of(cls, vectors: StaticVectors, *, is_trained: bool = False) -> StaticEmbedding:
        """Take a copy of vectors."""
        module = cls(vectors.words, size=vectors.size, is_trained=is_trained)
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(vectors.vectors))
        return module

    @property
    def size(self) -> int:
        """D."""
        return self.weight.shape[1]

    def forward(self, ids: Tensor) -> Tensor:
        """Look up ids (B, T) as (B, T, D)."""
        return F.embedding(ids, self.weight)


def _wanted(tokens: Iterable[str] | None, n_first: int) -> Wanted:
    """Return what tells whether :meth:`WordIds.id` may look for a word, or it is among the first."""
    if tokens is None:
        return lambda _, __: True
    words = {form for token in tokens for form in (token, token.lower())} | set(_UNKNOWNS)
    return lambda number, word: number <= n_first or word in words


def _collect(path: Path, table: Table) -> tuple[list[str], NDArray[np.float32]]:
    """Put the unknown word first, and drop what stands there twice."""
    numbers = bytearray(4 * table.size)  # grows in place: no second copy of a large table
    unknown: NDArray[np.float32] | None = None
    words = {UNKNOWN: None}
    for place, word, vector in table.rows:
        if not np.isfinite(vector).all():
            raise InputError(f"{path}, {table.unit} {place}: {word!r} has a number that float32 cannot hold")
        if word in _UNKNOWNS:
            unknown = vector if unknown is None else unknown
        elif word not in words:
            words[word] = None
            numbers += vector.tobytes()
    vectors = np.frombuffer(numbers, np.float32).reshape(len(words), table.size)
    if unknown is not None:
        vectors[UNKNOWN_ID] = unknown
    return list(words), vectors
