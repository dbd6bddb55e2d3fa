"""Writing files and folders whole or not at all; the only place that does."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from elmolite.errors import InputError

LEFT_OVER_AFTER = 3600.0
"""Seconds without a change after which a half-written shared folder is taken for that of a process that was killed."""

SEAL_BYTES = 73
"""The checksum at the end of a sealed file."""


def _sync(path: Path) -> None:
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w+b") as file:  # HDF5 reads what it writes
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


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


@contextmanager
def writing_folder(folder: Path, *, manifest: str, overwrite: bool, folders: Collection[str] = ()) -> Iterator[Path]:
    """Give an empty temporary folder that becomes ``folder`` when the block ends without an error.

    :param manifest: name of the JSON file that the folder will hold, whose ``files`` names all others.
    :param overwrite: whether an earlier folder of the same kind may be replaced.
    :param folders: names that folders in it may have.
    :raises InputError: ``folder`` exists and may not be replaced, or it cannot be written.
    """
    folder = folder.resolve()
    temporary, old = folder.with_name(f".{folder.name}.partial"), folder.with_name(f".{folder.name}.old")
    try:
        _restore(folder, old)
        check_replaceable(folder, manifest, overwrite=overwrite, folders=folders)
        shutil.rmtree(temporary, ignore_errors=True)  # what a killed run left
        temporary.mkdir(parents=True)
        yield temporary
        for path in temporary.iterdir():
            _sync(path)
        _sync(temporary)
        _swap(temporary, folder, old)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(folder: Path, manifest: str, *, overwrite: bool, folders: Collection[str] = ()) -> None:
    """Refuse to replace what was not asked for, or what holds more than its own manifest names.

    :param folders: names that folders in it may have.
    :raises InputError: it may not be replaced.
    """
    if not folder.exists():
        return
    if not overwrite:
        raise InputError(f"{folder} exists already: choose another folder, or say --overwrite")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: choose another name for the folder")
    there = {path.name for path in folder.iterdir()}
    if there:
        known = read_json(folder / manifest, kind=Path(manifest).stem).get("files") if manifest in there else None
        strange = there - {manifest, *folders, *(known if isinstance(known, dict) else ())}
        if known is None or strange:
            raise InputError(f"{folder} holds other things ({min(strange)}): it will not be replaced; choose another")


def check_writable(folder: Path) -> None:
    """Refuse a folder that could not be made, before the work whose result it is to hold.

    :raises InputError: what there is of its path is a file, or may not be written in.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        reason = "may not be written in" if there.is_dir() else "is a file"
        raise InputError(f"{folder}: cannot be written: {there} {reason}")


def _restore(folder: Path, old: Path) -> None:
    """Mend what a process left that was killed while it replaced a folder."""
    if old.exists():
        if folder.exists():
            shutil.rmtree(old)
        else:
            old.replace(folder)


def _swap(new: Path, folder: Path, old: Path) -> None:
    """Put ``new`` in the place of ``folder``; the old content goes only when the new one stands."""
    if folder.exists():
        folder.replace(old)
    try:
        new.replace(folder)
    except OSError:
        _restore(folder, old)
        raise
    shutil.rmtree(old, ignore_errors=True)
    _sync(folder.parent)


@contextmanager
def writing_shared_folder(folder: Path) -> Iterator[Path]:
    """Give an empty temporary folder that becomes ``folder``, which other processes may be making at the same time.

    The first that ends well has made it; what the others wrote is dropped.

    :raises InputError: it cannot be written; nothing is left behind.
    """
    temporary = _partial(folder)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in temporary.iterdir():
            _sync(path)
        _sync(temporary)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
        _sync(folder.parent)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_shared_folder(folder: Path) -> bool:
    """Remove a folder at once for all processes; those that have opened its files keep what they have.

    :returns: whether it is gone; Windows keeps what another process has open.
    """
    gone = _partial(folder)
    with suppress(OSError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
    return not folder.exists()


def remove_left_over(folder: Path, pattern: str) -> None:
    """Remove what killed processes left of the shared folders in ``folder`` whose name matches ``pattern``."""
    for partial in folder.glob(f".{pattern}.*.partial"):
        with suppress(OSError):  # its process has just ended and removed it
            last_change = max(path.stat().st_mtime for path in (partial, *partial.iterdir()))
            if time.time() - last_change > LEFT_OVER_AFTER:
                shutil.rmtree(partial, ignore_errors=True)


def _partial(folder: Path) -> Path:
    """Return a name beside ``folder`` that no other process has."""
    return folder.with_name(f".{folder.name}.{uuid4().hex}.partial")


def fingerprint(path: Path) -> dict[str, Any]:
    """Return the size in bytes and the SHA-256 of a file, as they stand in a manifest."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def open_folder(folder: Path, manifest: str, *, kind: str, version: int) -> dict[str, Any]:
    """Read the manifest of a folder, and hold every file that it names against its size and checksum.

    :param manifest: the name of the JSON file.
    :param kind: what the folder is, for the message ("corpus", "model").
    :param version: the ``format_version`` that can be read.
    :raises InputError: there is no such folder, it is of another version, or a file is missing, cut short or damaged;
        the message names it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such {kind} folder")
    content = read_json(folder / manifest, kind=kind)
    if content.get("format_version") != version:
        raise InputError(
            f"{folder / manifest}: format_version {content.get('format_version')!r}; this version of elmolite reads "
            f"{version}"
        )
    expected = content.get("files")
    if not isinstance(expected, dict) or any(Path(name).name != name for name in expected):
        raise InputError(f"{folder / manifest}: 'files' must name the files of the folder")
    for name, mark in expected.items():
        if not isinstance(mark, dict) or mark.keys() != {"bytes", "sha256"}:
            raise InputError(f"{folder / manifest}: 'files' must give the bytes and sha256 of {name}")
        _check_file(folder / name, mark)
    return content


def _check_file(path: Path, expected: dict[str, Any]) -> None:
    if not path.is_file():
        raise InputError(f"{path} is missing: the folder is not whole; copy or make it again")
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise InputError(f"{path} has {size} bytes where {expected['bytes']} were written: copy or make it again")
    if fingerprint(path) != expected:
        raise InputError(f"{path} is damaged (its checksum differs): copy or make it again")


def read_json(path: Path, *, kind: str) -> dict[str, Any]:
    """Read a JSON object.

    :param kind: what the file belongs to, for the message ("corpus", "model").
    :raises InputError: it is missing, unreadable or no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path.parent} is not a whole {kind} folder: {path.name} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable JSON file: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def json_bytes(content: dict[str, Any]) -> bytes:
    """Serialise as readable JSON."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
