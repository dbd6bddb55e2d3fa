"""Static word vectors (GloVe, word2vec, fastText): reading the files, and an embedding module.

Text format: each line is a word, which may contain spaces, and its numbers, separated by single spaces; the first line
may be ``count size``. Binary format of word2vec: always starts with that line; each word is followed by a space and its
numbers as little-endian float32.

Shapes: B sentences, T tokens, V words, D size of a vector.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.data.text import read_lines
from elmolite.errors import InputError

UNKNOWN = "<unk>"
UNKNOWN_ID = 0

_UNKNOWN_NAMES = (UNKNOWN, "<UNK>", "UNK")
_CHUNK_BYTES = 2**20
_MAX_SIZE = 2**16


class StaticVectors(NamedTuple):
    """Words and their vectors."""

    words: list[str]
    """V words, ``<unk>`` first."""
    vectors: NDArray[np.float32]
    """(V, D)."""


class StaticEmbedding(nn.Module):
    """Embedding table of static vectors, frozen or trained; restored from its words, size and ``state_dict()``."""

    def __init__(self, words: Sequence[str], *, size: int, is_trained: bool = False) -> None:
        """:param words: distinct words, ``<unk>`` first; their vectors are zeros until they are loaded."""
        super().__init__()
        self.words = list(words)
        self._ids = {word: number for number, word in enumerate(words)}
        self.weight = nn.Parameter(torch.zeros(len(words), size), requires_grad=is_trained)

    @classmethod
    def of(cls, vectors: StaticVectors, *, is_trained: bool = False) -> StaticEmbedding:
        """Make a module with a copy of the vectors."""
        module = cls(vectors.words, size=vectors.vectors.shape[1], is_trained=is_trained)
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(vectors.vectors))
        return module

    @property
    def size(self) -> int:
        """D."""
        return self.weight.shape[1]

    def ids(self, tokens: Iterable[str]) -> Tensor:
        """Return the id of each token (T), else of its lower-cased form, else of the unknown word."""
        known = self._ids
        found = [known.get(token, known.get(token.lower(), UNKNOWN_ID)) for token in tokens]
        return torch.tensor(found, dtype=torch.int64)

    def forward(self, ids: Tensor) -> Tensor:
        """Look up ids (B, T) as (B, T, D)."""
        return F.embedding(ids, self.weight)


def read_static_vectors(path: str | Path, *, only: Iterable[str] | None = None, n_first: int = 0) -> StaticVectors:
    """Read a file of word vectors, in its order; of a repeated word the first row counts.

    The unknown word has the vector of the file's ``<unk>``, ``<UNK>`` or ``UNK``, or zeros.

    :param path: word2vec's binary format if the name ends in ``.bin`` or ``.bin.gz``, else text in UTF-8, compressed if
        the name ends in ``.gz``. Invalid UTF-8 in words of binary files is replaced.
    :param only: tokens to look up; other words are skipped and need no memory.
    :param n_first: words at the start of the file, its most frequent ones, to keep in any case.
    :raises InputError: the file cannot be read, is empty, truncated or of another format, or has a row of another size
        or a number that is not finite; the message names the line, or in a binary file the word.
    """
    path = Path(path)
    wanted = None if only is None else {form for token in only for form in (token, token.lower())}.union(_UNKNOWN_NAMES)
    words = {UNKNOWN: None}
    unknown: NDArray[np.float32] | None = None
    numbers = bytearray()  # grows in place: no second copy of a large table
    rows = _binary_rows(path) if path.name.endswith((".bin", ".bin.gz")) else _text_rows(path)
    for count, (location, word, content) in enumerate(rows, start=1):
        is_wanted = wanted is None or count <= n_first or word in wanted
        if not is_wanted and count > 1:
            continue
        vector = _parse(content, location)
        if not np.isfinite(vector).all():
            raise InputError(f"{location}: the vector of {word!r} is not finite in float32")
        if count == 1:
            numbers += bytes(vector.nbytes)  # of the unknown word
        if is_wanted and word in _UNKNOWN_NAMES:
            unknown = vector if unknown is None else unknown
        elif is_wanted and word not in words:
            words[word] = None
            numbers += vector.tobytes()
    if not numbers:
        raise InputError(f"{path}: contains no word vectors")
    vectors = np.frombuffer(numbers, np.float32).reshape(len(words), -1)
    if unknown is not None:
        vectors[UNKNOWN_ID] = unknown
    return StaticVectors(list(words), vectors)


def _parse(content: str | bytes, location: str) -> NDArray[np.float32]:
    if isinstance(content, bytes):
        return np.frombuffer(content, "<f4").astype(np.float32)
    fields = content.split(" ")
    try:
        with np.errstate(over="ignore"):  # numbers too large for float32 become infinite and are refused as such
            return np.array(list(map(float, fields)), np.float32)
    except ValueError:
        wrong = next(field for field in fields if not _is_number(field))
        raise InputError(f"{location}: expected {len(fields)} numbers, found {wrong[:60]!r}") from None


Row = tuple[str, str, str | bytes]
"""File and line, or word, for messages; the word; its D numbers."""


def _text_rows(path: Path) -> Iterator[Row]:
    lines: Iterator[tuple[int, str]] = enumerate(read_lines(path), start=1)
    _, first = next(lines, (0, ""))
    count, size = _header(first) or (None, _n_numbers(first))
    if not 0 < size <= _MAX_SIZE:
        raise InputError(f"{path}, line 1: expected a word and its numbers, or 'count size'; found {first[:60]!r}")
    n_rows = 0
    for number, line in lines if count is not None else chain([(1, first)], lines):
        if not line:
            continue
        n_rows += 1
        fields = line.rstrip(" ")
        word = fields.partition(" ")[0]
        if fields.count(" ") != size:  # a word with spaces, or an error
            word = fields.rsplit(" ", size)[0]
            if fields.count(" ") < size or _is_number(word.rpartition(" ")[2]):
                raise InputError(f"{path}, line {number}: expected {size} numbers, got {_n_numbers(line)}")
        yield f"{path}, line {number}", word, fields[len(word) + 1 :]
    if count is not None and n_rows != count:
        raise InputError(f"{path}: expected {count:,} words according to the first line, got {n_rows:,}")


def _header(line: str) -> tuple[int, int] | None:
    """Parse ``count size``; ``None`` for other lines."""
    fields = line.split()
    return (int(fields[0]), int(fields[1])) if len(fields) == 2 and all(map(str.isdecimal, fields)) else None


def _n_numbers(line: str) -> int:
    """Count the numbers at the end of a line, after a word that may be a number itself."""
    fields = line.rstrip(" ").split(" ")
    n_numbers = next((n for n, field in enumerate(reversed(fields)) if not _is_number(field)), len(fields))
    return min(n_numbers, len(fields) - 1)


def _is_number(field: str) -> bool:
    try:
        return math.isfinite(float(field))
    except ValueError:
        return False


def _binary_rows(path: Path) -> Iterator[Row]:
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            first = file.readline(100)
            count, size = _header(first.decode("ascii", "replace")) or (0, 0)
            if not 0 < size <= _MAX_SIZE:
                raise InputError(
                    f"{path}: expected 'count size' as the first line of word2vec's binary format, got {first!r}; of a "
                    "fastText model give the .vec file"
                )
            buffer, offset = b"", 0
            for number in range(1, count + 1):
                while (end := buffer.find(b" ", offset)) < 0 or len(buffer) < end + 1 + 4 * size:
                    more = file.read(_CHUNK_BYTES)
                    if not more:
                        raise InputError(f"{path}: truncated in word {number:,} of {count:,}")
                    buffer, offset = buffer[offset:] + more, 0
                word = buffer[offset:end].lstrip(b"\n").decode("utf-8", "replace")
                offset = end + 1 + 4 * size
                yield f"{path}, word {number}", word, buffer[end + 1 : offset]
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
