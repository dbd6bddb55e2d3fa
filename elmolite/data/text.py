r"""Text files -> documents of lines.

A document is a block of lines between blank lines; where a text has none, a run of 1,000 lines. A file's end is
always a document's end. Files may be compressed with gzip; ``-`` is standard input.

A line ends in ``\n`` or ``\r\n``. A NUL byte, or what is not of the encoding, is an error that names file and line.
What is read otherwise than it stands (a carriage return inside a line, a byte order mark between texts that were put
together, a line too long for memory) is told on standard error.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import io
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from elmolite.data.file_signatures import not_text
from elmolite.data.remarks import Remarks
from elmolite.errors import InputError

MAX_DOCUMENT_LINES = 1000
"""A longer document is cut here, so that one without blank lines needs no more memory than this many lines ..."""
MAX_DOCUMENT_CHARACTERS = 4 << 20
"""... or about so many characters, which is more than War and Peace has."""

MAX_LINE_BYTES = 16 << 20
"""A line is in memory as a whole, so it has a bound ..."""
PIECE_BYTES = 1 << 20
"""... but running text goes on behind a line of any length, in pieces of at most so many bytes."""


@dataclass
class Progress:
    """How much has been read, for a progress bar: ``n_read`` of ``n_total`` (0 when unknown) bytes on disk or rows."""

    n_total: int = 0
    n_read: int = 0
    unit: str = "B"
    n_lines: int = 0
    n_blank_lines: int = 0


def find_files(sources: Sequence[str]) -> list[Path | None]:
    """Expand files, folders (all files below, hidden ones excepted), globs and ``-`` (``None``), in order.

    :raises InputError: a source, or what a link in it stands for, does not exist, a folder cannot be listed, or a
        folder or pattern holds no file.
    """
    found: list[Path | None] = []
    for source in sources:
        try:
            found.extend([None] if source == "-" else _find(source))
        except OSError as error:
            raise InputError(f"{error.filename or source}: cannot be read: {error.strerror}") from None
    if not found:
        raise InputError("no text was given: name files, folders, patterns or - for standard input")
    return found


def _find(source: str) -> list[Path]:
    path = Path(source)
    if path.is_dir():
        inside = _files_below(path)
        if not inside:
            raise InputError(f"{source}: the folder holds no files")
        return inside
    if path.exists():
        return [path]
    if path.is_symlink():
        raise InputError(f"{source}: is a link to {path.readlink()}, which does not exist")
    names = glob.glob(source, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute patterns)
    matches = [
        file for name in sorted(names) for file in (_files_below(Path(name)) if Path(name).is_dir() else _find(name))
    ]
    if not matches:
        raise InputError(f"{source}: no such file, folder or pattern")
    return list(dict.fromkeys(matches))  # ** matches a folder and what is in it


def _files_below(folder: Path) -> list[Path]:
    """List the files of a folder and of the folders in it, linked ones too, but no folder twice."""
    found: list[Path] = []
    seen: set[Path] = set()

    def refuse(error: OSError) -> None:
        raise error

    for at, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        is_new = (real := Path(at).resolve()) not in seen
        seen.add(real)
        folders[:] = [name for name in folders if is_new and not name.startswith(".")]
        paths = [Path(at, name) for name in names if is_new and not name.startswith(".")]
        for path in paths:
            if path.is_symlink() and not path.exists():
                raise InputError(f"{path}: is a link to {path.readlink()}, which does not exist")
        found.extend(path for path in paths if path.is_file())
    return sorted(found)


def read_lines(
    path: Path | None,
    progress: Progress | None = None,
    *,
    encoding: str = "utf-8",
    drops_marks: bool = False,
    cuts_long_lines: bool = False,
    remarks: Remarks | None = None,
) -> Iterator[str]:
    """Yield the lines of a text without their line ends; a byte order mark of UTF-8 at its start is dropped.

    :param path: a file, compressed if its name ends in ``.gz``; ``None`` is standard input.
    :param encoding: one that contains ASCII, as ``latin-1`` does.
    :param drops_marks: drop byte order marks at the start of other lines too, as in texts that were put together.
    :param cuts_long_lines: yield a line of more than :data:`PIECE_BYTES` in pieces, cut at white space.
    :param remarks: takes what was read otherwise than it stands; without it, that is told at the end.
    :raises InputError: the file cannot be read, is binary or in another encoding, or has a line of more than
        :data:`MAX_LINE_BYTES`; the message names the line.
    """
    name = "standard input" if path is None else str(path)
    progress = progress or Progress()
    lines = _Lines(name, encoding, drops_marks, cuts_long_lines, remarks or Remarks(name), progress)
    try:
        with _open(path) as raw:
            file = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if name.endswith(".gz") else raw
            where: Callable[[], int] = raw.tell if raw.seekable() else int
            at = 0
            for count, line in enumerate(lines.read(file), start=1):
                if count % 256 == 0:
                    here = where()
                    progress.n_read += here - at
                    at = here
                yield line
            progress.n_read += where() - at
    except UnicodeDecodeError as error:
        bad = error.object[error.start]
        raise InputError(
            f"{name}, line {lines.number}: not {encoding.upper()} (byte 0x{bad:02x} at column {error.start + 1})"
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{name}: broken gzip file after line {lines.number}: {error}") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror or error}") from None
    if remarks is None:
        lines.remarks.tell()


def _open(path: Path | None) -> AbstractContextManager[IO[bytes]]:
    return nullcontext(sys.stdin.buffer) if path is None else path.open("rb")


@dataclass
class _Lines:
    """The lines of one file; ``number`` is that of the last."""

    name: str
    encoding: str
    drops_marks: bool
    cuts_long_lines: bool
    remarks: Remarks
    progress: Progress
    number: int = 0

    def read(self, file: IO[bytes]) -> Iterator[str]:
        """Yield the lines, or the pieces of long ones."""
        limit = PIECE_BYTES if self.cuts_long_lines else MAX_LINE_BYTES
        kept, is_start = b"", True
        while chunk := kept + file.readline(limit - len(kept)):
            is_whole = chunk.endswith(b"\n") or len(chunk) < limit
            if is_start:
                self.number += 1
                self.progress.n_lines += 1
                if self.number == 1 or chunk.startswith(codecs.BOM_UTF8):
                    chunk = self._checked_start(chunk)
            kept = b""
            if not is_whole:
                chunk, kept = self._cut(chunk, is_start=is_start)
            text = self._decoded(chunk)
            is_blank = not text or text.isspace()
            if is_start and is_whole:
                self.progress.n_blank_lines += is_blank
                yield text
            elif not is_blank:  # a blank piece would be taken for the end of a document
                yield text
            is_start = is_whole

    def _checked_start(self, line: bytes) -> bytes:
        """Return the start of the first line, or of one with a byte order mark, without the mark.

        :raises InputError: it is the start of a file that is no text, or whose lines end otherwise.
        """
        if self.number == 1:
            kind = not_text(line[:16])
            if kind is not None:
                raise InputError(f"{self.name}, line 1: this is not text in UTF-8 but {kind}")
            if not line.endswith(b"\n") and b"\r" in line.rstrip(b"\r"):
                raise InputError(f"{self.name}, line 1: the lines end in \\r alone; expected \\n or \\r\\n")
            line = line.removeprefix(codecs.BOM_UTF8)
        while self.drops_marks and line.startswith(codecs.BOM_UTF8):
            self.remarks.note("byte order marks inside the text, left out", self.number)
            line = line.removeprefix(codecs.BOM_UTF8)
        return line

    def _cut(self, line: bytes, *, is_start: bool) -> tuple[bytes, bytes]:
        """Cut what is long behind its last word, or in it where there is but one.

        :raises InputError: the line must not be cut.
        """
        if not self.cuts_long_lines:
            raise InputError(f"{self.name}, line {self.number}: is longer than {MAX_LINE_BYTES:,} bytes")
        if is_start:
            self.remarks.note(f"lines of more than {PIECE_BYTES:,} bytes, read in pieces", self.number)
        at = max(line.rfind(b" "), line.rfind(b"\t"))
        if at <= 0:
            self.remarks.note(f"words of more than {PIECE_BYTES:,} bytes, cut", self.number)
            at = _character_start(line)
        return line[:at], line[at:]

    def _decoded(self, line: bytes) -> str:
        """Return a line without its end.

        :raises InputError: it holds a NUL byte.
        :raises UnicodeDecodeError: it is of another encoding.
        """
        if b"\0" in line:
            raise InputError(f"{self.name}, line {self.number}: holds a NUL byte; this is a binary file or UTF-16")
        text = line.decode(self.encoding).rstrip("\r\n")
        if "\r" in text:
            self.remarks.note("carriage returns inside lines, which end none", self.number, times=text.count("\r"))
        return text


def _character_start(line: bytes) -> int:
    """Return where the last character of UTF-8 starts, which may not be whole, or the end if it is ASCII."""
    at = len(line)
    while at > len(line) - 3 and line[at - 1] & 0b1100_0000 == 0b1000_0000:
        at -= 1
    return at - (line[at - 1] >= 0b1100_0000)


def read_documents(sources: Sequence[str], progress: Progress | None = None) -> Iterator[list[str]]:
    """Find the files, then yield their documents.

    :param sources: what :func:`find_files` takes.
    :raises InputError: a source is missing (at once), empty, binary or undecodable (when its turn comes).
    """
    return read_found(find_files(sources), progress)


def read_found(files: Sequence[Path | None], progress: Progress | None = None) -> Iterator[list[str]]:
    """Yield the documents of what :func:`find_files` found.

    :raises InputError: a file is empty, binary or undecodable (when its turn comes).
    """
    if progress is not None and None not in files:
        progress.n_total = sum(file.stat().st_size for file in files if file is not None)
    return _documents_of(files, progress)


def _documents_of(files: Sequence[Path | None], progress: Progress | None) -> Iterator[list[str]]:
    for file in files:
        has_text = False
        for document in group_lines(read_lines(file, progress, drops_marks=True, cuts_long_lines=True)):
            has_text = True
            yield document
        if not has_text:
            raise InputError(f"{file or 'standard input'}: the file is empty (no line with text)")


def group_lines(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield documents, each a list of lines that are not blank: blocks between blank lines, cut when they are long."""
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
