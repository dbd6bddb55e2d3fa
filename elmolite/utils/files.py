"""Writing files whole or not at all, and holding them against their checksums when they are read.

Folders of such files are written in :mod:`elmolite.utils.folders`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from elmolite.errors import InputError
from elmolite.utils.contained import is_contained_file

if sys.platform != "win32":
    import fcntl

LEFT_OVER_AFTER = 3600.0
"""Seconds without a change after which what is half-written is a killed process's, where the system has no locks."""
UNLOCKED_AFTER = 1.0
"""What was changed so shortly ago may be too new to be locked yet."""

MAX_JSON_BYTES = 1 << 24
"""Of a manifest: what is larger is something else, and would need a hundred times its size in memory."""

SEAL_BYTES = 73
"""The checksum at the end of a sealed file."""
MANIFEST_SEAL_BYTES = 83
"""The checksum at the end of a manifest."""

BLOCKS = "crc32_of_blocks"
"""In the mark of a large file: the checksums by which who reads a part of it need not read all."""

_PARTIAL = f".*.{'[0-9a-f]' * 32}.partial"
"""What all that is half-written is called."""


def partial_path(path: Path) -> Path:
    """Return a name beside ``path`` that no other process has, for what is not whole yet."""
    return path.with_name(f".{path.name}.{uuid4().hex}.partial")


@contextmanager
def locked(partial: Path) -> Iterator[None]:
    """Show other processes that this one is writing there: the lock goes with the block, or with the process."""
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_locked(partial: Path) -> bool | None:
    """Tell whether a process is writing there; ``None`` where the system has no locks."""
    if sys.platform == "win32":
        return None
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


def remove_left_over(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder."""
    for partial in folder.glob(_PARTIAL):
        with suppress(OSError):  # its process has just ended and removed it
            inside = partial.iterdir() if partial.is_dir() else ()
            unchanged = time.time() - max(path.stat().st_mtime for path in (partial, *inside))
            is_locked = _is_locked(partial)
            if not is_locked and unchanged > (LEFT_OVER_AFTER if is_locked is None else UNLOCKED_AFTER):
                shutil.rmtree(partial) if partial.is_dir() else partial.unlink()


@contextmanager
def wrap_os_errors(path: Path) -> Iterator[None]:
    """Make of an error of the system an InputError that says which file or folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def sync(path: Path) -> None:
    """Force a file or, where the system allows it, a folder to the disk."""
    with suppress(PermissionError):  # Windows does not open folders
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file that appears under ``path`` only when the block ends without an error.

    :raises InputError: the file cannot be written (no such folder, no permission, disk full); nothing is left behind.
    """
    new = partial_path(path)
    with wrap_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_left_over(path.parent)
        try:
            with new.open("x+b") as file, locked(new):  # HDF5 reads what it writes
                yield file
                file.flush()
                os.fsync(file.fileno())
                file.close()  # Windows renames none that is open
                new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        sync(path.parent)


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a whole file or leave what was there."""
    with writing(path) as file:
        file.write(data)


def write_sealed(path: Path, data: memoryview) -> None:
    """Write a whole file with its checksum at the end, or leave what was there.

    What reads from the beginning, or finds its own end as an archive does, can read it without :func:`read_sealed`.
    """
    with writing(path) as file:
        file.write(data)
        file.write(_seal(data))


def read_sealed(path: Path) -> memoryview:
    """Return what :func:`write_sealed` wrote.

    :raises InputError: the file cannot be read, is cut short or damaged; the message names it.
    """
    try:
        content = memoryview(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    data, seal = content[:-SEAL_BYTES], content[-SEAL_BYTES:]
    if seal != _seal(data):
        raise InputError(f"{path} is damaged or cut short (its checksum differs)")
    return data


def _seal(data: memoryview) -> bytes:
    return f"\nsha256 {hashlib.sha256(data).hexdigest()}\n".encode()


def fingerprint(path: Path) -> dict[str, Any]:
    """Return the size in bytes and the SHA-256 of a file, as they stand in a manifest."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def write_manifest(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object whose last field, ``sha256``, is the checksum of all that stands in front of it.

    :param content: with a ``format_version``.
    """
    body = json_bytes(content).removesuffix(b"\n}\n")
    write_bytes(path, body + _manifest_seal(body))


def read_manifest(path: Path, *, kind: str, version: int) -> dict[str, Any]:
    """Return what :func:`write_manifest` wrote.

    :param kind: what the file belongs to, for the message ("corpus", "model").
    :param version: the ``format_version`` that can be read.
    :raises InputError: it is missing, no JSON object, of another version, cut short, damaged or changed by hand.
    """
    content = read_json(path, kind=kind)
    if content.get("format_version") != version:
        raise InputError(
            f"{path}: format_version {content.get('format_version')!r}; this version of elmolite reads {version}"
        )
    data = path.read_bytes()
    if data[-MANIFEST_SEAL_BYTES:] != _manifest_seal(data[:-MANIFEST_SEAL_BYTES]):
        raise InputError(f"{path} is damaged or was changed (its checksum differs): copy or make it again")
    del content["sha256"]
    return content


def _manifest_seal(body: bytes) -> bytes:
    return f',\n  "sha256": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()


def check_file(path: Path, mark: dict[str, Any]) -> None:
    """Hold a file against its size and checksum; one that has checksums of its blocks only against its size.

    :param mark: what its manifest says of it; it has ``bytes`` and ``sha256``.
    :raises InputError: it is missing, leads out of its folder, is cut short or damaged.
    """
    check_size(path, mark)
    if BLOCKS not in mark and fingerprint(path)["sha256"] != mark["sha256"]:
        raise InputError(f"{path} is damaged (its checksum differs): copy or make it again")


def check_size(path: Path, mark: dict[str, Any]) -> None:
    """Hold a file against its size only.

    :param mark: what its manifest says of it; it has ``bytes``.
    :raises InputError: it is missing, leads out of its folder, or has another size.
    """
    if not is_contained_file(path):
        raise InputError(f"{path} is missing: the folder is not whole; copy or make it again")
    size = path.stat().st_size
    if size != mark["bytes"]:
        raise InputError(f"{path} has {size} bytes where {mark['bytes']} were written: copy or make it again")


def read_json(path: Path, *, kind: str, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read a JSON object.

    :param kind: what the file belongs to, for the message ("corpus", "model").
    :param max_bytes: a larger file is refused before it is read.
    :raises InputError: it is missing, leads out of its folder, is too large, unreadable or no JSON object.
    """
    if not is_contained_file(path):
        raise InputError(f"{path.parent} is not a whole {kind} folder: {path.name} is missing")
    try:
        if (n_bytes := path.stat().st_size) > max_bytes:
            raise InputError(f"{path}: {n_bytes:,} bytes are too many for what it should be")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable JSON file: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def json_bytes(content: dict[str, Any]) -> bytes:
    """Serialise as readable JSON."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
