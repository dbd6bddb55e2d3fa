"""Folders with a manifest: written atomically, replaced safely, verified when they are opened.

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
    """Return the path of a folder's content: the folder, or the old one if its replacement was killed half-way."""
    if folder.exists():
        return folder
    old = _old(folder)
    return old if old.is_dir() else folder


@contextmanager
def writing_folder(folder: Path, *, manifest: str, overwrite: bool, folders: Collection[str] = ()) -> Iterator[Path]:
    """Give an empty temporary folder that replaces ``folder`` when the block ends without an error.

    :param manifest: name of the JSON file in it whose ``files`` names all others.
    :param overwrite: whether an earlier folder of the same kind may be replaced.
    :param folders: names of subfolders that it may have.
    """
    check_replaceable(folder, manifest, overwrite=overwrite, folders=folders)
    given, folder = folder, folder.resolve()
    with _partial_folder(folder, given) as new:
        _mend(folder)
        yield new
        _sync_all(new)
        _swap(new, folder)


def check_replaceable(folder: Path, manifest: str, *, overwrite: bool, folders: Collection[str] = ()) -> None:
    """Refuse a folder that cannot be written, exists without ``overwrite`` or has files that its manifest lacks."""
    check_writable(folder)
    given, folder = folder, resolve_committed(folder)
    if not folder.exists():
        return
    if not overwrite:
        raise InputError(f"{given} exists already: choose another folder, or pass `overwrite=True`")
    with files.wrap_os_errors(folder):
        there = {path.name for path in folder.iterdir()}
    if there:
        known = files.read_json(folder / manifest, kind=Path(manifest).stem).get("files") if manifest in there else None
        others = there - {manifest, *folders, *(known if isinstance(known, dict) else ())}
        if known is None or others:
            raise InputError(f"{folder}: refusing to overwrite: contains files elmolite did not write ({min(others)})")


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be created, before the work whose result it will hold."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        raise files.is_a_file(existing)
    if not os.access(existing, os.W_OK):
        raise InputError(f"{folder}: cannot be written: {existing} is not writable")


@contextmanager
def writing_shared_folder(folder: Path) -> Iterator[Path]:
    """Give an empty temporary folder that becomes ``folder``, unless another process creates it first."""
    with _partial_folder(folder, folder) as new:
        yield new
        _sync_all(new)
        try:
            new.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
        files.sync(folder.parent)


def remove_shared_folder(folder: Path) -> None:
    """Remove a folder at once for all processes; those that have opened its files can still read them."""
    gone = files.partial_path(folder)
    with suppress(OSError):  # another process was quicker
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def open_folder(
    folder: Path,
    manifest: str,
    *,
    kind: str,
    version: int,
    skip: Collection[str] = (),
    unhashed_suffix: str | None = None,
) -> dict[str, Any]:
    """Return the manifest of a folder, after every file that it names was verified by size and checksum.

    :param manifest: name of the JSON file.
    :param kind: kind of the folder, for the message ("corpus", "model").
    :param version: the supported ``format_version``.
    :param skip: names of files that are not verified and may be missing.
    :param unhashed_suffix: suffix of large files of which only the size is verified.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such {kind} folder")
    content = files.read_manifest(folder / manifest, kind=kind, version=version)
    expected = content.get("files")
    if not isinstance(expected, dict) or any(Path(name).name != name for name in expected):
        raise InputError(f"{folder / manifest}: 'files' must name the files of the folder")
    for name, entry in expected.items():
        if name not in skip:
            is_unhashed = unhashed_suffix is not None and name.endswith(unhashed_suffix)
            (files.check_size if is_unhashed else files.check_file)(folder / name, entry)
    return content


def file_entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the manifest entries of all files of a folder."""
    return {path.name: files.file_entry(path) for path in sorted(folder.iterdir())}


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


@contextmanager
def _partial_folder(folder: Path, given: Path) -> Iterator[Path]:
    """Give an empty folder next to ``folder`` that is removed after the block, unless it was renamed.

    :param given: ``folder`` as the user gave it, for errors.
    """
    new = files.partial_path(folder)
    try:
        with files.wrap_os_errors(given):
            folder.parent.mkdir(parents=True, exist_ok=True)
            files.remove_stale(folder.parent)
            new.mkdir()
            with files.locked(new):
                yield new
    except InputError as error:
        error.args = (str(error).replace(str(new), str(given)),)
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _sync_all(folder: Path) -> None:
    for path in folder.iterdir():
        files.sync(path)
    files.sync(folder)


def _swap(new: Path, folder: Path) -> None:
    """Replace ``folder`` by ``new``; the old content is removed after the new one is in place."""
    if folder.exists():
        folder.replace(_old(folder))
    try:
        new.replace(folder)
        files.sync(folder.parent)
    finally:
        _mend(folder)


def _mend(folder: Path) -> None:
    """Finish an interrupted replacement of a folder: keep the new content if it is in place, else the old."""
    old = _old(folder)
    if old.exists():
        if folder.exists():
            remove_shared_folder(old)
        else:
            old.replace(folder)
