"""Files of word vectors -> words and their numbers, row by row.

In the text format a line is a word, which may hold spaces, and its numbers, with a space before each; a first line
``count size`` may stand in front. In word2vec's binary format that line always stands in front, and a word is followed
by a space and its numbers as little-endian float32.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from elmolite.data.text import read_lines
from elmolite.errors import InputError

_CHUNK_BYTES = 2**20
_MAX_WORD_BYTES = 2**16
_MAX_SIZE = 2**16
_MAX_HEADER = 100
_FASTTEXT_MODEL = (793712314).to_bytes(4, "little")

Row = tuple[int, str, NDArray[np.float32]]
"""The number of a line or of a word, from 1; the word; its vector (D)."""

Wanted = Callable[[int, str], bool]
"""Tells of the number of a row and its word whether they are wanted."""


class Table(NamedTuple):
    """What is in a file."""

    size: int  # of a vector
    rows: Iterator[Row]
    unit: str  # what the number of a row counts: lines or words


def read_text(path: Path, *, wanted: Wanted, show_progress: bool) -> Table:
    """Read the text format, compressed where the name ends in ``.gz``.

    :param wanted: which words to give; the numbers of the others are not looked at.
    :raises InputError: the file is empty or no such text (at once), or a row is of another size or holds what is no
        number, or there are not as many rows as the first line says (when its turn comes); the message names the line.
    """
    lines: Iterator[tuple[int, str]] = enumerate(read_lines(path), start=1)
    _, first = next(lines, (0, ""))
    if not first.strip():
        raise InputError(f"{path}: the file is empty, or its first line is")
    header = _header(first)
    if header is None:
        count, size = None, _n_numbers(first)
        lines = chain([(1, first)], lines)
    else:
        count, size = header
    if not 0 < size <= _MAX_SIZE:
        raise InputError(f"{path}, line 1: expected a word and its numbers, or 'count size'; found {first[:60]!r}")
    shown = tqdm(
        lines, desc="word vectors", total=count, unit="words", unit_scale=True, disable=None if show_progress else True
    )
    return Table(size, _text_rows(path, shown, count, size, wanted), "line")


def _header(line: str) -> tuple[int, int] | None:
    """Read ``count size``; ``None`` where the line is another."""
    fields = line.split() if len(line) < _MAX_HEADER else []
    return (int(fields[0]), int(fields[1])) if len(fields) == 2 and all(map(str.isdecimal, fields)) else None


def _n_numbers(line: str) -> int:
    """Count the numbers at the end of a line, behind a word that may be a number itself."""
    fields = line.rstrip(" ").split(" ")
    n_numbers = next((n for n, field in enumerate(reversed(fields)) if not _is_number(field)), len(fields))
    return min(n_numbers, len(fields) - 1)


def _is_number(field: str) -> bool:
    try:
        return math.isfinite(float(field))
    except ValueError:
        return False


def _text_rows(
    path: Path, lines: Iterable[tuple[int, str]], count: int | None, size: int, wanted: Wanted
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
                raise InputError(f"{path}, line {number}: {_n_numbers(line)} numbers where {size} were expected")
        if wanted(number, word):
            yield number, word, _numbers(path, number, fields[len(word) + 1 :].split(" "))
    if count is not None and n_rows != count:
        raise InputError(f"{path}: {n_rows:,} words where the first line says {count:,}: the file is not whole")


def _numbers(path: Path, number: int, fields: list[str]) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused as such
            return np.array([float(field) for field in fields], np.float32)
    except ValueError:
        wrong = next(field for field in fields if not _is_number(field))
        raise InputError(f"{path}, line {number}: expected {len(fields)} numbers, found {wrong[:60]!r}") from None


def read_binary(path: Path, *, wanted: Wanted, show_progress: bool) -> Table:
    """Read word2vec's binary format, compressed where the name ends in ``.gz``.

    What is not UTF-8 in a word is replaced.

    :param wanted: which words to give.
    :raises InputError: the file is empty or of another format (at once), or cut short or goes on behind its last word
        (when its turn comes); the message names the word.
    """
    with _opened(path) as file:
        start = file.readline(_MAX_HEADER)
    header = _header(start.decode("ascii", "replace")) if start.endswith(b"\n") else None
    if start.startswith(_FASTTEXT_MODEL):
        raise InputError(f"{path}: this is a fastText model, not a table of vectors; take its .vec file")
    if not start:
        raise InputError(f"{path}: the file is empty")
    if header is None or not 0 < header[1] <= _MAX_SIZE:
        raise InputError(f"{path}: word2vec's binary format begins with a line 'count size', this with {start[:60]!r}")
    return Table(header[1], _binary_rows(path, *header, wanted, show_progress=show_progress), "word")


def _binary_rows(path: Path, count: int, size: int, wanted: Wanted, *, show_progress: bool) -> Iterator[Row]:
    n_bytes = 4 * size
    buffer, at = b"", 0
    shown = tqdm(
        range(1, count + 1), desc="word vectors", unit="words", unit_scale=True, disable=None if show_progress else True
    )
    with _opened(path) as file:
        file.readline()
        for number in shown:
            while (end := buffer.find(b" ", at)) < 0 or len(buffer) < end + 1 + n_bytes:
                if end < 0 and len(buffer) - at > _MAX_WORD_BYTES:
                    raise InputError(f"{path}, word {number}: no end of the word; this is not word2vec's binary format")
                more = file.read(_CHUNK_BYTES)
                if not more:
                    raise InputError(f"{path}: ends in word {number:,} of {count:,}: the file is cut short")
                buffer, at = buffer[at:] + more, 0
            word = buffer[at:end].lstrip(b"\n").decode("utf-8", "replace")
            at = end + 1 + n_bytes
            if wanted(number, word):
                yield number, word, np.frombuffer(buffer, "<f4", size, end + 1).astype(np.float32)
        if (buffer[at:] + file.read(_CHUNK_BYTES)).strip():
            raise InputError(f"{path}: goes on behind word {count:,}, which is the last by its first line")


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    try:
        with path.open("rb") as raw:
            yield io.BufferedReader(gzip.GzipFile(fileobj=raw)) if path.name.endswith(".gz") else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: broken gzip file: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
