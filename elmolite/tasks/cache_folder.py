"""A folder of entries that can be computed again: under a limit, those that were not used for longest go first.

An entry is a folder, ``layers-`` and its key, that is written whole or not at all. Its manifest ``entry.json`` holds
the size and checksum of every other file and its own, and the time of its last change is that of the entry's last use.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from elmolite.errors import InputError
from elmolite.utils import files, folders

FORMAT_VERSION = 2
MANIFEST = "entry.json"
DEFAULT_LIMIT_BYTES = 8 * 2**30

_PREFIX = "layers-"


def default_folder() -> Path:
    """Return where the user's caches are on this platform."""
    if os.name == "nt":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "elmolite" / "cache"
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (caches if caches.is_absolute() else Path.home() / ".cache") / "elmolite"


class CacheFolder:
    """The entries below a folder, which need not exist yet."""

    def __init__(self, folder: Path, *, limit_bytes: int | None) -> None:
        """:param limit_bytes: what all entries together may take; ``None`` for what the disk has."""
        self.folder = folder
        self.limit_bytes = limit_bytes

    def path(self, key: str) -> Path:
        """Return the folder of an entry, whether it is there or not."""
        return self.folder / f"{_PREFIX}{key}"

    def has(self, key: str) -> bool:
        """Tell whether an entry is there and whole, and note that it is used; a damaged one is removed, with a message.

        All of it is read for the checksum, at the speed of the disk; what uses it then finds it in memory.
        """
        path = self.path(key)
        if not path.is_dir():
            return False
        try:
            folders.open_folder(path, MANIFEST, kind="cache", version=FORMAT_VERSION)
        except (InputError, OSError) as error:
            print(f"{error}; it is computed again", file=sys.stderr)
            folders.remove_shared_folder(path)
            return False
        with suppress(OSError):  # a cache that others made and that may only be read
            os.utime(path / MANIFEST)
        return True

    @contextmanager
    def writing(self, key: str, content: Mapping[str, Any]) -> Iterator[Path]:
        """Give a folder for the files of an entry, which is there for others when the block ends without an error.

        :param content: what the manifest says besides, for a reader.
        :raises InputError: it cannot be written.
        """
        with folders.writing_shared_folder(self.path(key)) as new:
            yield new
            manifest = {
                "format_version": FORMAT_VERSION,
                **content,
                "files": folders.file_entries(new),
            }
            files.write_manifest(new / MANIFEST, manifest)

    def remove_left_over(self) -> None:
        """Remove what killed processes left half-written."""
        files.remove_stale(self.folder)

    def make_room(self, n_bytes: int, *, what: str, keep: Collection[Path]) -> None:
        """Remove the entries that were not used for longest until ``n_bytes`` more keep to the limit and fit the disk.

        :param what: what needs the room, for the message.
        :param keep: folders of entries that stay.
        :raises InputError: there is not enough to remove; nothing is removed then.
        """
        sizes = {path: _size(path) for path in self._by_last_use()}
        missing = self._missing(n_bytes, sum(sizes.values()))
        removable = {path: size for path, size in sizes.items() if path not in keep}
        if missing > sum(removable.values()):
            raise InputError(f"{what}: {in_units(n_bytes)} {self._refusal(sum(sizes.values()), n_bytes)}")
        for path, size in removable.items():
            if missing <= 0:
                break
            if folders.remove_shared_folder(path):
                missing -= size

    def _missing(self, n_bytes: int, used: int) -> int:
        over_limit = 0 if self.limit_bytes is None else used + n_bytes - self.limit_bytes
        return max(over_limit, n_bytes - _free_bytes(self.folder))

    def _refusal(self, used: int, n_bytes: int) -> str:
        if self.limit_bytes is not None and n_bytes > self.limit_bytes:
            return f"are more than the {in_units(self.limit_bytes)} that the cache may take (--cache-limit)"
        if n_bytes > _free_bytes(self.folder) + used:
            return f"do not fit in {self.folder}, whose disk has {in_units(_free_bytes(self.folder))} free"
        return (
            f"do not fit in {self.folder} beside what this run uses already: it holds {in_units(used)}, may take "
            f"{'all' if self.limit_bytes is None else in_units(self.limit_bytes)} (--cache-limit), and its disk has "
            f"{in_units(_free_bytes(self.folder))} free"
        )

    def _by_last_use(self) -> list[Path]:
        """Return the entries, the one that was not used for longest first."""
        found: dict[Path, int] = {}
        for manifest in self.folder.glob(f"{_PREFIX}*/{MANIFEST}"):
            with suppress(FileNotFoundError):  # another process has just removed it
                found[manifest.parent] = manifest.stat().st_mtime_ns
        return sorted(found, key=lambda path: (found[path], path))


def in_units(n_bytes: int) -> str:
    """Return a number of bytes for a person: 599 MiB."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if n_bytes >= size:
            value = n_bytes / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
    return f"{n_bytes / 2**10:.1f} KiB"


def _size(folder: Path) -> int:
    n_bytes = 0
    with suppress(FileNotFoundError):  # another process has just removed it
        for path in folder.iterdir():
            n_bytes += path.stat().st_size
    return n_bytes


def _free_bytes(folder: Path) -> int:
    """Return what the disk has where ``folder`` is, or will be made."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free
