"""Atomic file writes, checksummed manifests and memory-mapped arrays.

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

import numpy as np
from numpy.typing import NDArray

from elmolite.errors import InputError

if sys.platform != "win32":
    import fcntl

UNLOCKED_AFTER = 1.0
"""Seconds before a partial file without a lock counts as abandoned: its process may be about to lock it."""

_PARTIAL = f".*.{'[0-9a-f]' * 32}.partial"


def partial_path(path: Path) -> Path:
    """Return a unique temporary name next to ``path``."""
    return path.with_name(f".{path.name}.{uuid4().hex}.partial")


@contextmanager
def locked(partial: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an advisory lock on a partial file or folder, which the system releases when the process ends.

    Gives whether the lock is held: not on file systems without locks nor on Windows, or if another process has it.
    """
    if sys.platform == "win32":
        yield False
        return
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        is_held = True
    except OSError:
        is_held = False
    try:
        yield is_held
    finally:
        os.close(descriptor)


def remove_stale(folder: Path) -> None:
    """Remove the partial files and folders of killed processes, where there are file locks."""
    for partial in folder.glob(_PARTIAL):
        with suppress(OSError), locked(partial, wait=False) as is_held:  # its process may just have removed it
            if is_held and time.time() - partial.stat().st_mtime > UNLOCKED_AFTER:
                shutil.rmtree(partial) if partial.is_dir() else partial.unlink()


@contextmanager
def wrap_os_errors(path: Path) -> Iterator[None]:
    """Turn the ``OSError`` of a write into an ``InputError`` that names the file or folder."""
    try:
        yield
    except FileExistsError as error:  # where a folder is to be made
        raise is_a_file(error.filename) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def is_a_file(path: Path | str) -> InputError:
    """Return the error of a file in the place of a folder to write."""
    return InputError(f"{path} is a file: choose another name for the folder")


def sync(path: Path) -> None:
    """Flush a file or, where the system allows it, a folder to the disk."""
    with suppress(PermissionError):  # Windows does not open folders
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file for an atomic write: it appears under ``path`` only if the block ends without an error.

    An ``InputError`` tells that it cannot be written (no permission, disk full).
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: choose another name for the file")
    new = partial_path(path)
    with wrap_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(path.parent)
        try:
            with new.open("x+b") as file, locked(new):  # HDF5 reads what it writes
                yield file
                file.flush()
                os.fsync(file.fileno())
                file.close()  # Windows renames no open file
                new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        sync(path.parent)


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file atomically."""
    with writing(path) as file:
        file.write(data)


def file_entry(path: Path) -> dict[str, Any]:
    """Return the entry of a file in a manifest: its ``bytes`` and ``sha256``."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def check_file(path: Path, entry: dict[str, Any]) -> None:
    """Verify the size and checksum of a file."""
    check_size(path, entry)
    if file_entry(path)["sha256"] != entry["sha256"]:
        raise InputError(f"{path} is damaged (checksum mismatch): copy or make it again")


def check_size(path: Path, entry: dict[str, Any]) -> None:
    """Verify that a file exists with the size in its manifest entry."""
    try:
        size = path.stat().st_size
    except (OSError, ValueError):  # or a name that no file can have
        raise InputError(f"{path} is missing: the folder is incomplete; copy or make it again") from None
    if size != entry["bytes"]:
        raise InputError(f"{path} has {size} bytes, expected {entry['bytes']}: copy or make it again")


def write_manifest(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object with a ``format_version``; its last field, ``sha256``, is the checksum of all before it."""
    body = json_bytes(content).removesuffix(b"\n}\n")
    write_bytes(path, body + _manifest_footer(body))


def read_manifest(path: Path, *, kind: str, version: int) -> dict[str, Any]:
    """Return the content that :func:`write_manifest` wrote; refuse other versions, truncation and edits by hand.

    :param kind: what the file belongs to, for the message ("corpus", "model").
    :param version: the supported ``format_version``.
    """
    content = read_json(path, kind=kind)
    if content.get("format_version") != version:
        raise InputError(
            f"{path}: format_version {content.get('format_version')!r}; this version of elmolite reads {version}"
        )
    data = path.read_bytes()
    body = data[: -len(_manifest_footer(b""))]
    if data != body + _manifest_footer(body):
        raise InputError(f"{path} is damaged or was changed (checksum mismatch): copy or make it again")
    del content["sha256"]
    return content


def _manifest_footer(body: bytes) -> bytes:
    return f',\n  "sha256": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()


def read_json(path: Path, *, kind: str) -> dict[str, Any]:
    """Read a JSON object.

    :param kind: what the file belongs to, for the message ("corpus", "model").
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path.parent} is not a complete {kind} folder: {path.name} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable JSON file: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def json_bytes(content: dict[str, Any]) -> bytes:
    """Serialise as indented JSON."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")  # file names may have surrogates, which JSON escapes so


def json_line(content: Any) -> bytes:
    """Serialise as one line of ASCII JSON, for hashing."""
    return json.dumps(content).encode() + b"\n"


def map_array(path: Path) -> NDArray[Any]:
    """Memory-map an ``.npy`` file read-only."""
    try:
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except Exception as error:  # numpy raises anything on a damaged header
        raise InputError(f"{path}: not a readable array: {str(error)[:200]!r}") from None
