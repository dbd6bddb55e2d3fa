"""Text files -> documents of lines.

A document is a block of lines between blank lines; where a text has none, a run of 1,000 lines. A file's end is
always a document's end. Files may be compressed with gzip; ``-`` is standard input.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import io
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from elmolite.errors import InputError

MAX_DOCUMENT_LINES = 1000
"""A longer document is cut here, so that one without blank lines needs no more memory than this many lines."""


@dataclass
class Progress:
    """How much has been read, for a progress bar: ``n_read`` of ``n_total`` (0 when unknown) bytes on disk or rows."""

    n_total: int = 0
    n_read: int = 0
    unit: str = "B"


def find_files(sources: Sequence[str]) -> list[Path | None]:
    """Expand files, folders (all files below, hidden ones excepted), globs and ``-`` (``None``), in order.

    :raises InputError: a source does not exist, or a folder or pattern holds no file.
    """
    found: list[Path | None] = []
    for source in sources:
        try:
            found.extend(_find(source))
        except OSError as error:
            raise InputError(f"{source}: cannot be read: {error.strerror}") from None
    if not found:
        raise InputError("no text was given: name files, folders, patterns or - for standard input")
    return found


def _find(source: str) -> list[Path | None]:
    path = Path(source)
    if source == "-":
        return [None]
    if path.is_dir():
        inside = [file for file in sorted(path.rglob("*")) if file.is_file() and not _is_hidden(file, path)]
        if not inside:
            raise InputError(f"{source}: the folder holds no files")
        return list(inside)
    if path.exists():
        return [path]
    names = glob.glob(source, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute patterns)
    matches = sorted(name for name in names if Path(name).is_file())
    if not matches:
        raise InputError(f"{source}: no such file, folder or pattern")
    return [Path(match) for match in matches]


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def read_lines(path: Path | None, progress: Progress | None = None, *, encoding: str = "utf-8") -> Iterator[str]:
    """Yield the lines of a text without their line ends; a byte order mark of UTF-8 is dropped.

    :param path: a file, compressed if its name ends in ``.gz``; ``None`` is standard input.
    :param encoding: one that contains ASCII, as ``latin-1`` does.
    :raises InputError: the file cannot be read, is binary or in another encoding; the message names the line.
    """
    name = "standard input" if path is None else str(path)
    number = 0
    try:
        with _open(path) as raw:
            file = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if name.endswith(".gz") else raw
            counts = progress is not None and raw.seekable()
            at = 0
            for number, line in enumerate(file, start=1):
                if progress is not None and counts and number % 256 == 0:
                    here = raw.tell()
                    progress.n_read += here - at
                    at = here
                if b"\0" in line:
                    raise InputError(f"{name}, line {number}: holds a NUL byte; this is a binary file or UTF-16")
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                yield line.decode(encoding).rstrip("\r\n")
            if progress is not None and counts:
                progress.n_read += raw.tell() - at
    except UnicodeDecodeError as error:
        bad = error.object[error.start]
        raise InputError(
            f"{name}, line {number}: not {encoding.upper()} (byte 0x{bad:02x} at column {error.start + 1})"
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{name}: broken gzip file after line {number}: {error}") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror or error}") from None


def _open(path: Path | None) -> AbstractContextManager[IO[bytes]]:
    return nullcontext(sys.stdin.buffer) if path is None else path.open("rb")


def read_documents(sources: Sequence[str], progress: Progress | None = None) -> Iterator[list[str]]:
    """Find the files, then yield their documents.

    :param sources: what :func:`find_files` takes.
    :raises InputError: a source is missing (at once), empty, binary or undecodable (when its turn comes).
    """
    files = find_files(sources)
    if progress is not None and None not in files:
        progress.n_total = sum(file.stat().st_size for file in files if file is not None)
    return _documents_of(files, progress)


def _documents_of(files: Sequence[Path | None], progress: Progress | None) -> Iterator[list[str]]:
    for file in files:
        has_text = False
        for document in group_lines(read_lines(file, progress)):
            has_text = True
            yield document
        if not has_text:
            raise InputError(f"{file or 'standard input'}: the file is empty (no line with text)")


def group_lines(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield documents, each a list of lines that are not blank: blocks between blank lines, cut when they are long."""
    document: list[str] = []
    for line in lines:
        is_blank = not line or line.isspace()
        if not is_blank:
            document.append(line)
        if document and (is_blank or len(document) == MAX_DOCUMENT_LINES):
            yield document
            document = []
    if document:
        yield document
