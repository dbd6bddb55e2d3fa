"""Files of a folder that may come from a stranger: what its names and links lead to must lie in it.

The Hugging Face Hub's cache, where a model is a folder of links, is the one place whose links may lead out: from
``snapshots/REVISION`` to the ``blobs`` beside ``snapshots``.
"""

from __future__ import annotations

from pathlib import Path

from elmolite.errors import InputError

_INSTALLATION = Path(__file__).parents[1]
"""Its models are not a stranger's, and an installer may have made it of links."""


def ensure_inside(path: Path) -> None:
    """Refuse a path, a folder and a name in it, that leads out of the folder; one that leads nowhere may pass.

    :raises InputError: its last part is no name, or it is a link to something outside.
    """
    try:
        folder, found = path.parent.resolve(), path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # too long, a ring of links, a NUL byte
        raise InputError(f"{str(path)!r}: is no path of a file: {error}") from None
    if path.name == ".." or not (found.is_relative_to(folder) or _is_blob(found, folder) or _is_installed(path)):
        raise InputError(f"{path}: leads out of its folder, to {found}: copy that file, or link to the whole folder")


def is_contained_file(path: Path) -> bool:
    """Tell whether a path is a file that may be opened: neither outside its folder, nor a pipe or a device.

    :raises InputError: it leads out of its folder, or no file can have this name.
    """
    ensure_inside(path)
    try:
        return path.is_file()
    except OSError as error:  # a name that is too long
        raise InputError(f"{str(path)!r}: is no path of a file: {error.strerror}") from None


def _is_blob(path: Path, folder: Path) -> bool:
    """Return whether a path is what the Hub's cache links to from a folder of a snapshot."""
    snapshots = next((each for each in (folder, *folder.parents) if each.name == "snapshots"), None)
    return snapshots is not None and path.parent == snapshots.parent / "blobs"


def _is_installed(path: Path) -> bool:
    return _INSTALLATION in path.parents
