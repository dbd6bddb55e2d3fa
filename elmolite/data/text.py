r"""Read text files as documents of lines.

A document is a block of lines between blank lines; a text without blank lines is split into documents of 1,000 lines.
The end of a file always ends a document. Files may be compressed with gzip; ``-`` is standard input.

Lines end in ``\n`` or ``\r\n``. Input that is altered while reading (a carriage return inside a line, a byte order mark
in the middle of a text, a very long line) is counted in a :class:`ReadReport` and logged.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import io
import logging
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from elmolite.errors import InputError

logger = logging.getLogger("elmolite")

MAX_DOCUMENT_LINES = 1000
"""Maximum number of lines of a document; longer ones are split, so that memory stays bounded."""
MAX_DOCUMENT_CHARACTERS = 4 << 20
"""Maximum number of characters of a document, more than "War and Peace" has."""
MAX_LINE_BYTES = 16 << 20
"""Maximum size of a line of a sentence or task file."""
PIECE_BYTES = 1 << 20
"""Maximum size of a line of running text; longer ones are read in pieces of at most this size."""

BLANK_LINES = "blank lines left out"

_SIGNATURES = {
    b"\xff\xfe": "UTF-16; convert it: iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "UTF-16; convert it: iconv -f UTF-16 -t UTF-8",
    b"\x1f\x8b": "compressed with gzip; rename it to end in .gz",
    b"PK\x03\x04": "a zip archive, as office documents are; unpack it, or save it as plain text",
    b"%PDF-": "a PDF document; extract its text first",
}


@dataclass
class Progress:
    """Amount of input read, for a progress bar: ``n_read`` of ``n_total`` (0: unknown) bytes on disk, or rows."""

    n_total: int = 0
    n_read: int = 0
    unit: str = "bytes"
    n_lines: int = 0
    n_blank_lines: int = 0


class ReadReport:
    """Counts of skipped or altered input, reported in one line.

    :ivar source: the name of the file or dataset, for messages.
    :ivar unit: the name of its parts, "line" or "row".
    """

    def __init__(self, source: str, *, unit: str = "line") -> None:
        self.source = source
        self.unit = unit
        self._found: dict[str, tuple[int, int]] = {}
        """Issue -> (count, number of the first line or row)."""

    def add(self, issue: str, number: int, *, times: int = 1) -> None:
        """Count an issue.

        :param issue: in the plural, as "blank lines left out".
        :param number: the line or row.
        """
        count, first = self._found.get(issue, (0, number))
        self._found[issue] = count + times, first

    def describe(self) -> str:
        """Return all counts in one line, or an empty string if nothing was counted."""
        found = self._found.items()
        return "; ".join(f"{issue}: {times:,} (first in {self.unit} {number:,})" for issue, (times, number) in found)

    def log(self) -> None:
        """Log all counts as one warning, if there are any."""
        if self._found:
            logger.warning("%s: %s", self.source, self.describe())


def check_file(path: str | Path) -> None:
    """Check that a file exists; ``-`` is standard input."""
    if str(path) != "-" and (Path(path).is_dir() or not Path(path).exists()):
        problem = "is a folder, not a file" if Path(path).is_dir() else "no such file"
        raise InputError(f"{path}: {problem}")


def find_files(sources: Sequence[str]) -> list[Path | None]:
    """Expand files, folders (all files below, except hidden ones), globs and ``-`` (``None``), in order.

    :raises InputError: a source does not exist, a folder cannot be listed, or a folder or pattern matches no file.
    """
    found: list[Path | None] = []
    for source in sources:
        try:
            found.extend([None] if source == "-" else _find(source))
        except OSError as error:
            raise InputError(f"{error.filename or source}: cannot be read: {error.strerror}") from None
    if not found:
        raise InputError("no text given; expected files, folders, patterns or - for standard input")
    return found


def _find(source: str) -> list[Path]:
    path = Path(source)
    if path.exists() and not path.is_dir():
        return [path]
    names = [source] if path.is_dir() else sorted(glob.glob(source, recursive=True))  # noqa: PTH207 (absolute patterns)
    found = [file for name in map(Path, names) for file in (_files_below(name) if name.is_dir() else [name])]
    if not found:
        problem = "the folder contains no files" if path.is_dir() else "no such file, folder or pattern"
        raise InputError(f"{source}: {problem}")
    return list(dict.fromkeys(found))  # ** matches a folder and the files in it


def _files_below(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise error

    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found.extend(Path(parent, name) for name in names if not name.startswith("."))
    return sorted(found)


def read_lines(
    path: Path | None,
    progress: Progress | None = None,
    *,
    encoding: str = "utf-8",
    drops_marks: bool = False,
    cuts_long_lines: bool = False,
    report: ReadReport | None = None,
) -> Iterator[str]:
    """Yield the lines of a text file without line ends, and without a UTF-8 byte order mark at its start.

    :param path: a file, compressed if its name ends in ``.gz``; ``None`` is standard input.
    :param encoding: an encoding that contains ASCII, as ``latin-1`` does.
    :param drops_marks: also drop byte order marks at the start of other lines, as concatenated files have them.
    :param cuts_long_lines: yield a line of more than :data:`PIECE_BYTES` in pieces, cut at white space.
    :param report: counts altered input; by default, these counts are logged at the end.
    :raises InputError: the file cannot be read, is binary or in another encoding, or has a line of more than
        :data:`MAX_LINE_BYTES`; the message names the line.
    """
    name = "standard input" if path is None else str(path)
    issues = report or ReadReport(name)
    reader = _LineReader(name, encoding, drops_marks, cuts_long_lines, issues, progress or Progress())
    try:
        with nullcontext(sys.stdin.buffer) if path is None else path.open("rb") as raw:
            yield from reader.read(raw)
    except UnicodeDecodeError as error:
        bad = error.object[error.start]
        raise InputError(
            f"{name}, line {reader.number}: not {encoding.upper()} (byte 0x{bad:02x} at column {error.start + 1})"
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{name}: broken gzip file after line {reader.number}: {error}") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror or error}") from None
    if report is None:
        issues.log()


@dataclass
class _LineReader:
    """Reads, checks and decodes the lines of one file; ``number`` is that of the last line read."""

    name: str
    encoding: str
    drops_marks: bool
    cuts_long_lines: bool
    report: ReadReport
    progress: Progress
    number: int = 0

    def read(self, raw: IO[bytes]) -> Iterator[str]:
        """Yield the lines of a file, and count the bytes read on disk."""
        file = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if self.name.endswith(".gz") else raw
        tell = raw.tell if raw.seekable() else int
        n_before = self.progress.n_read
        for count, line in enumerate(self._lines(file), start=1):
            if count % 256 == 0:
                self.progress.n_read = n_before + tell()
            yield line
        self.progress.n_read = n_before + tell()

    def _lines(self, file: IO[bytes]) -> Iterator[str]:
        """Yield the lines, or the pieces of long ones."""
        limit = PIECE_BYTES if self.cuts_long_lines else MAX_LINE_BYTES
        rest, is_start = b"", True
        while chunk := rest + file.readline(limit - len(rest)):
            is_whole = chunk.endswith(b"\n") or len(chunk) < limit
            if is_start:
                self.number += 1
                self.progress.n_lines += 1
                chunk = self._checked_start(chunk)
            rest = b""
            if not is_whole:
                chunk, rest = self._cut(chunk, is_start=is_start)
            text = self._decoded(chunk)
            is_line, is_blank = is_start and is_whole, not text or text.isspace()
            self.progress.n_blank_lines += is_line and is_blank
            if is_line or not is_blank:  # a blank piece would end the document
                yield text
            is_start = is_whole

    def _checked_start(self, line: bytes) -> bytes:
        """Return the start of a line without byte order marks; refuse a first line of a file that is not text."""
        if self.number == 1:
            for signature, kind in _SIGNATURES.items():
                if line.startswith(signature):
                    raise InputError(f"{self.name}, line 1: expected UTF-8 text, but the file is {kind}")
            if not line.endswith(b"\n") and b"\r" in line.rstrip(b"\r"):
                raise InputError(f"{self.name}, line 1: lines end in \\r alone; expected \\n or \\r\\n")
            line = line.removeprefix(codecs.BOM_UTF8)
        while self.drops_marks and line.startswith(codecs.BOM_UTF8):
            self.report.add("byte order marks inside the text, left out", self.number)
            line = line.removeprefix(codecs.BOM_UTF8)
        return line

    def _cut(self, line: bytes, *, is_start: bool) -> tuple[bytes, bytes]:
        """Cut a long line after its last word, or after the last character of a word that is as long."""
        if not self.cuts_long_lines:
            raise InputError(f"{self.name}, line {self.number}: longer than the maximum of {MAX_LINE_BYTES:,} bytes")
        if is_start:
            self.report.add(f"lines of more than {PIECE_BYTES:,} bytes, read in pieces", self.number)
        end = max(line.rfind(b" "), line.rfind(b"\t"))
        if end <= 0:
            end = len(line.decode(self.encoding, "ignore").encode(self.encoding))
        return line[:end], line[end:]

    def _decoded(self, line: bytes) -> str:
        """Return a line as text without its line end."""
        if b"\0" in line:
            raise InputError(f"{self.name}, line {self.number}: contains a NUL byte; is this a binary file or UTF-16?")
        text = line.decode(self.encoding).rstrip("\r\n")
        if "\r" in text:
            self.report.add("carriage returns inside lines, read as white space", self.number, times=text.count("\r"))
        return text


def read_documents(files: Sequence[Path | None], progress: Progress | None = None) -> Iterator[list[str]]:
    """Yield the documents of text files, each a list of non-blank lines.

    :param files: as :func:`find_files` returns them.
    :raises InputError: a file is empty, binary or undecodable.
    """
    progress = progress or Progress()
    if None not in files:
        with suppress(OSError):  # the name of an unreadable file comes when it is read
            progress.n_total = sum(file.stat().st_size for file in files if file is not None)
    for file in files:
        has_text = False
        for document in group_lines(read_lines(file, progress, drops_marks=True, cuts_long_lines=True)):
            has_text = True
            yield document
        if not has_text:
            raise InputError(f"{file or 'standard input'}: the file is empty (no line with text)")


def group_lines(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield documents, each a list of non-blank lines: the blocks between blank lines, split if they are long."""
    document: list[str] = []
    n_characters = 0
    for line in lines:
        is_blank = not line or line.isspace()
        if not is_blank:
            document.append(line)
            n_characters += len(line)
        is_long = len(document) == MAX_DOCUMENT_LINES or n_characters >= MAX_DOCUMENT_CHARACTERS
        if document and (is_blank or is_long):
            yield document
            document, n_characters = [], 0
    if document:
        yield document
