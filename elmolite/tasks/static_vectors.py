"""Static word vectors (GloVe, word2vec, fastText): reading the files, and an embedding module.

Text format: each line is a word, which may contain spaces, and its numbers, separated by single spaces; the first line
may be ``count size``. Binary format of word2vec: always starts with that line; each word is followed by a space and its
numbers as little-endian float32.

Shapes: B sentences, T tokens, V words, D size of a vector.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from elmolite.data.text import read_lines
from elmolite.errors import InputError

UNKNOWN = "<unk>"
UNKNOWN_ID = 0

_UNKNOWN_NAMES = (UNKNOWN, "<UNK>", "UNK")
_CHUNK_BYTES = 2**20
_MAX_WORD_BYTES = 2**16
_MAX_SIZE = 2**16
_MAX_HEADER_BYTES = 100
_FASTTEXT_MODEL = (793712314).to_bytes(4, "little")

Row = tuple[int, str, NDArray[np.float32]]
"""The number of a line or a word, from 1; the word; its vector (D)."""

RowFilter = Callable[[int, str], bool]
"""Whether to read the row with this number and word."""


class WordIds:
    """Mapping from words to ids, which are indices into :attr:`words`; the unknown word is first."""

    def __init__(self, words: Sequence[str]) -> None:
        """:param words: distinct words, the first ``<unk>``.

        :raises InputError: the first word is another, or a word is repeated.
        """
        self.words = list(words)
        self._ids = {word: number for number, word in enumerate(self.words)}
        if self.words[:1] != [UNKNOWN]:
            raise InputError(f"the first word of static vectors must be {UNKNOWN}, got {self.words[:1]}")
        if len(self._ids) < len(self.words):
            repeated = next(word for number, word in enumerate(self.words) if self._ids[word] != number)
            raise InputError(f"duplicate word in static vectors: {repeated!r}")

    def __len__(self) -> int:
        return len(self.words)

    def id(self, token: str) -> int:
        """Return the id of a token, else of its lower-cased form, else of the unknown word."""
        found = self._ids.get(token)
        return self._ids.get(token.lower(), UNKNOWN_ID) if found is None else found

    def ids(self, tokens: Iterable[str]) -> NDArray[np.int64]:
        """Return the id of each token, (T)."""
        return np.array([self.id(token) for token in tokens], np.int64)


class StaticVectors:
    """Words and their vectors."""

    def __init__(self, words: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """:param vectors: (V, D), the first of the unknown word.

        :raises InputError: the numbers of words and vectors differ.
        """
        self.ids = WordIds(words)
        self.vectors = vectors
        if vectors.ndim != 2 or len(vectors) != len(self.ids):
            raise InputError(f"expected one vector for each of {len(self.ids)} words, got shape {vectors.shape}")

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        only: Iterable[str] | None = None,
        n_first: int = 0,
        show_progress: bool = True,
    ) -> StaticVectors:
        """Read a file of word vectors, in its order; of a repeated word the first row counts.

        The unknown word has the vector of the file's ``<unk>``, ``<UNK>`` or ``UNK``, or zeros.

        :param path: word2vec's binary format if the name ends in ``.bin`` or ``.bin.gz``, else text in UTF-8,
            compressed if the name ends in ``.gz``. Invalid UTF-8 in words of binary files is replaced.
        :param only: tokens to look up; other words are skipped and need no memory.
        :param n_first: rows at the start of the file, its most frequent words, to keep in any case.
        :raises InputError: the file cannot be read, is empty, truncated or of another format, or has a row of another
            size or a number that is not finite; the message names the line, or in a binary file the word.
        """
        path = Path(path)
        read = read_binary if path.name.endswith((".bin", ".bin.gz")) else read_text
        return cls(*_collect(path, read(path, keep=_row_filter(only, n_first), show_progress=show_progress)))

    @property
    def words(self) -> list[str]:
        """The words, ``<unk>`` first; indices are rows of :attr:`vectors`."""
        return self.ids.words

    @property
    def size(self) -> int:
        """D."""
        return int(self.vectors.shape[1])


class StaticEmbedding(nn.Module):
    """Embedding table of static vectors, frozen or trained; restored from its words, size and ``state_dict()``."""

    def __init__(self, words: Sequence[str], *, size: int, is_trained: bool = False) -> None:
        """:param words: as in :class:`WordIds`; their vectors are zeros until they are loaded."""
        super().__init__()
        self.ids = WordIds(words)
        self.weight = nn.Parameter(torch.zeros(len(self.ids), size), requires_grad=is_trained)

    @classmethod
    def of(cls, vectors: StaticVectors, *, is_trained: bool = False) -> StaticEmbedding:
        """Make a module with a copy of the vectors."""
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


def _row_filter(tokens: Iterable[str] | None, n_first: int) -> RowFilter:
    """Keep the first rows and every word that :meth:`WordIds.id` may look up."""
    if tokens is None:
        return lambda _, __: True
    words = {form for token in tokens for form in (token, token.lower())} | set(_UNKNOWN_NAMES)
    return lambda number, word: number <= n_first or word in words


def _collect(path: Path, table: VectorTable) -> tuple[list[str], NDArray[np.float32]]:
    """Put the unknown word first and drop repeated words."""
    numbers = bytearray(4 * table.size)  # grows in place: no second copy of a large table
    unknown: NDArray[np.float32] | None = None
    words = {UNKNOWN: None}
    for number, word, vector in table.rows:
        if not np.isfinite(vector).all():
            raise InputError(f"{path}, {table.unit} {number}: the vector of {word!r} is not finite in float32")
        if word in _UNKNOWN_NAMES:
            unknown = vector if unknown is None else unknown
        elif word not in words:
            words[word] = None
            numbers += vector.tobytes()
    vectors = np.frombuffer(numbers, np.float32).reshape(len(words), table.size)
    if unknown is not None:
        vectors[UNKNOWN_ID] = unknown
    return list(words), vectors


class VectorTable(NamedTuple):
    """Rows of a file of word vectors."""

    size: int
    """D."""
    rows: Iterator[Row]
    unit: str
    """Meaning of the row numbers: "line" or "word"."""


def read_text(path: Path, *, keep: RowFilter, show_progress: bool) -> VectorTable:
    """Read the text format.

    :raises InputError: the first line is invalid; or, while iterating, a row has another size or an invalid number, or
        the number of rows differs from the first line's.
    """
    lines: Iterator[tuple[int, str]] = enumerate(read_lines(path), start=1)
    _, first = next(lines, (0, ""))
    if not first.strip():
        raise InputError(f"{path}: the file or its first line is empty")
    header = _header(first)
    if header is None:
        count, size = None, _n_numbers(first)
        lines = chain([(1, first)], lines)
    else:
        count, size = header
    if not 0 < size <= _MAX_SIZE:
        raise InputError(f"{path}, line 1: expected a word and its numbers, or 'count size'; found {first[:60]!r}")
    return VectorTable(size, _text_rows(path, _progress(lines, count, show_progress), count, size, keep), "line")


def _progress(rows: Iterable[Any], count: int | None, show_progress: bool) -> Iterable[Any]:
    disable = None if show_progress else True
    shown: Iterable[Any] = tqdm(rows, desc="word vectors", total=count, unit="words", unit_scale=True, disable=disable)
    return shown


def _header(line: str) -> tuple[int, int] | None:
    """Parse ``count size``; ``None`` for other lines."""
    fields = line.split() if len(line) < _MAX_HEADER_BYTES else []
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


def _text_rows(
    path: Path, lines: Iterable[tuple[int, str]], count: int | None, size: int, keep: RowFilter
) -> Iterator[Row]:
    n_rows = 0
    for number, line in lines:
        if not line:
            continue
        n_rows += 1
        fields = line.rstrip(" ")
        word = fields.partition(" ")[0]
        if fields.count(" ") != size:  # a word with spaces, or an error
            word = fields.rsplit(" ", size)[0]
            if fields.count(" ") < size or _is_number(word.rpartition(" ")[2]):
                raise InputError(f"{path}, line {number}: expected {size} numbers, got {_n_numbers(line)}")
        if keep(number, word):
            yield number, word, _parse_numbers(path, number, fields[len(word) + 1 :].split(" "))
    if count is not None and n_rows != count:
        raise InputError(f"{path}: expected {count:,} words according to the first line, got {n_rows:,}")


def _parse_numbers(path: Path, number: int, fields: list[str]) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):  # numbers too large for float32 become infinite and are refused as such
            return np.array([float(field) for field in fields], np.float32)
    except ValueError:
        wrong = next(field for field in fields if not _is_number(field))
        raise InputError(f"{path}, line {number}: expected {len(fields)} numbers, found {wrong[:60]!r}") from None


def read_binary(path: Path, *, keep: RowFilter, show_progress: bool) -> VectorTable:
    """Read word2vec's binary format.

    :raises InputError: the file is empty or of another format; or, while iterating, is truncated or too long.
    """
    with _open(path) as file:
        start = file.readline(_MAX_HEADER_BYTES)
    header = _header(start.decode("ascii", "replace")) if start.endswith(b"\n") else None
    if start.startswith(_FASTTEXT_MODEL):
        raise InputError(f"{path}: is a fastText model; expected word vectors, such as its .vec file")
    if not start:
        raise InputError(f"{path}: the file is empty")
    if header is None or not 0 < header[1] <= _MAX_SIZE:
        raise InputError(f"{path}: expected 'count size' as the first line of word2vec's binary format, got {start!r}")
    return VectorTable(header[1], _binary_rows(path, *header, keep, show_progress=show_progress), "word")


def _binary_rows(path: Path, count: int, size: int, keep: RowFilter, *, show_progress: bool) -> Iterator[Row]:
    n_bytes = 4 * size
    buffer, offset = b"", 0
    with _open(path) as file:
        file.readline()
        for number in _progress(range(1, count + 1), count, show_progress):
            while (end := buffer.find(b" ", offset)) < 0 or len(buffer) < end + 1 + n_bytes:
                if end < 0 and len(buffer) - offset > _MAX_WORD_BYTES:
                    raise InputError(f"{path}, word {number}: longer than 64 KiB; not word2vec's binary format")
                more = file.read(_CHUNK_BYTES)
                if not more:
                    raise InputError(f"{path}: truncated in word {number:,} of {count:,}")
                buffer, offset = buffer[offset:] + more, 0
            word = buffer[offset:end].lstrip(b"\n").decode("utf-8", "replace")
            offset = end + 1 + n_bytes
            if keep(number, word):
                yield number, word, np.frombuffer(buffer, "<f4", size, end + 1).astype(np.float32)
        if (buffer[offset:] + file.read(_CHUNK_BYTES)).strip():
            raise InputError(f"{path}: has data after word {count:,}, the last according to its first line")


@contextmanager
def _open(path: Path) -> Iterator[io.BufferedReader]:
    try:
        with path.open("rb") as raw:
            yield io.BufferedReader(gzip.GzipFile(fileobj=raw)) if path.name.endswith(".gz") else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: broken gzip file: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
