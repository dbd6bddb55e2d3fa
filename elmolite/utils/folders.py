"""Folders with a manifest: written whole or not at all, replaced so that a reader finds one, checked when opened.

A folder cannot be replaced in one step: while the new one is renamed, the old one is kept as ``.NAME.old``. After a
kill at that moment :func:`resolve_committed` returns it to readers, and the next writer puts it back.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from elmolite.errors import InputError
from elmolite.utils import files


def resolve_committed(folder: Path) -> Path:
    """Return where the content of a folder is: there, or beside it where a process was killed that replaced it."""
    if folder.exists():
        return folder
    aside = _aside(folder)
    return aside if aside.is_dir() else folder


@contextmanager
def writing_folder(folder: Path, *, manifest: str, overwrite: bool, folders: Collection[str] = ()) -> Iterator[Path]:
    """Give an empty temporary folder that becomes ``folder`` when the block ends without an error.

    :param manifest: name of the JSON file that the folder will hold, whose ``files`` names all others.
    :param overwrite: whether an earlier folder of the same kind may be replaced.
    :param folders: names that folders in it may have.
    :raises InputError: ``folder`` exists and may not be replaced, or it cannot be written; an earlier one stands then.
    """
    folder = folder.resolve()
    check_replaceable(folder, manifest, overwrite=overwrite, folders=folders)
    with _partial_folder(folder) as new:
        _mend(folder)
        yield new
        _sync_all(new)
        _swap(new, folder)


def check_replaceable(folder: Path, manifest: str, *, overwrite: bool, folders: Collection[str] = ()) -> None:
    """Refuse to replace what was not asked for, or what holds more than its own manifest names.

    :param folders: names that folders in it may have.
    :raises InputError: it may not be replaced.
    """
    folder = resolve_committed(folder)
    if not folder.exists():
        return
    if not overwrite:
        raise InputError(f"{folder} exists already: choose another folder, or say --overwrite")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: choose another name for the folder")
    with files.wrap_os_errors(folder):
        there = {path.name for path in folder.iterdir()}
    if there:
        known = files.read_json(folder / manifest, kind=Path(manifest).stem).get("files") if manifest in there else None
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


@contextmanager
def writing_shared_folder(folder: Path) -> Iterator[Path]:
    """Give an empty temporary folder that becomes ``folder``, which other processes may be making at the same time.

    The first that ends well has made it; what the others wrote is dropped.

    :raises InputError: it cannot be written; nothing is left behind.
    """
    with _partial_folder(folder) as new:
        yield new
        _sync_all(new)
        try:
            new.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
        files.sync(folder.parent)


def remove_shared_folder(folder: Path) -> bool:
    """Remove a folder at once for all processes; those that have opened its files keep what they have.

    :returns: whether it is gone; Windows keeps what another process has open.
    """
    gone = files.partial_path(folder)
    with suppress(OSError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
    return not folder.exists()


def open_folder(folder: Path, manifest: str, *, kind: str, version: int) -> dict[str, Any]:
    """Read the manifest of a folder, and hold every file that it names against its size and checksum.

    Of a file that has checksums of its blocks it is left to who reads them (:mod:`elmolite.data.checked_array`).

    :param manifest: the name of the JSON file.
    :param kind: what the folder is, for the message ("corpus", "model").
    :param version: the ``format_version`` that can be read.
    :raises InputError: there is no such folder, it is of another version, or a file is missing, cut short or damaged;
        the message names it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such {kind} folder")
    content = files.read_manifest(folder / manifest, kind=kind, version=version)
    expected = content.get("files")
    if not isinstance(expected, dict) or any(Path(name).name != name for name in expected):
        raise InputError(f"{folder / manifest}: 'files' must name the files of the folder")
    for name, mark in expected.items():
        if not isinstance(mark, dict) or not {"bytes", "sha256"} <= mark.keys() <= {"bytes", "sha256", files.BLOCKS}:
            raise InputError(f"{folder / manifest}: 'files' must give the bytes and sha256 of {name}")
        files.check_file(folder / name, mark)
    return content


def fingerprints(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the marks of all files of a folder, as they stand in its manifest."""
    return {path.name: files.fingerprint(path) for path in sorted(folder.iterdir())}


def _aside(folder: Path) -> Path:
    """Return where the old content of a folder is while the new one takes its place."""
    return folder.with_name(f".{folder.name}.old")


@contextmanager
def _partial_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder beside ``folder`` that is gone when the block ends, unless it was renamed.

    :raises InputError: something cannot be written; the message has the name that the user gave.
    """
    new = files.partial_path(folder)
    try:
        with files.wrap_os_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            files.remove_left_over(folder.parent)
            new.mkdir()
            with files.locked(new):
                yield new
    except InputError as error:
        error.args = (str(error).replace(str(new), str(folder)),)
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _sync_all(folder: Path) -> None:
    for path in folder.iterdir():
        files.sync(path)
    files.sync(folder)


def _swap(new: Path, folder: Path) -> None:
    """Put ``new`` in the place of ``folder``; the old content goes only when the new one stands."""
    if folder.exists():
        folder.replace(_aside(folder))
    try:
        new.replace(folder)
        files.sync(folder.parent)
    finally:
        _mend(folder)


def _mend(folder: Path) -> None:
    """End the replacing of a folder, of this process or of one that was killed: with the new content if it stands."""
    aside = _aside(folder)
    if aside.exists():
        if folder.exists():
            remove_shared_folder(aside)
        else:
            aside.replace(folder)
