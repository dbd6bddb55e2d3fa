"""Files of an earlier model, in a folder or in a zip archive, read in the same way."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from elmolite.errors import InputError
from elmolite.nn.bilm import MAX_SIZE
from elmolite.utils.files import ensure_inside

MAX_JSON_BYTES = 1 << 20
"""Options are a page long; what is larger is something else."""
MAX_BYTES = 8 << 30
"""Of any file: ten times the largest model that was published."""
MAX_EXPANSION, UNSUSPICIOUS_BYTES = 20, 1 << 20
"""What an archive may make of each of its bytes, of a file larger than that: weights hardly shrink, text fourfold."""
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BROKEN = (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)
HDF5 = (".hdf5", ".h5")
OPTIONS_ENDING = "options.json"
MANY_LANGS_MARK = "char.dic"
"""The file by which a folder of ELMoForManyLangs is known."""


def is_legacy(path: Path) -> bool:
    """Return whether a path is an earlier model: any file, since one of elmolite is a folder, or a folder of one."""
    if not path.is_dir() or (path / "model.safetensors").exists():
        return path.is_file()
    names = [each.name.lower() for each in path.iterdir()]
    return MANY_LANGS_MARK in names or any(name.endswith((*HDF5, OPTIONS_ENDING)) for name in names)


def refuse_legacy(source: str | Path) -> None:
    """Refuse an earlier model where a run records which model folder it started from.

    :raises InputError: it is one; the message says how to make a model folder of it.
    """
    if is_legacy(Path(source)):
        raise InputError(f"{source}: is an earlier model; make a model folder of it: elmolite convert {source} FOLDER")


class Source:
    """Files by name, all in one place."""

    def __init__(
        self, place: str, files: dict[str, Path | zipfile.ZipInfo], *, archive: Path | None = None, named: str = ""
    ) -> None:
        """:param place: what messages call it."""
        self.place = place
        self._files = files
        self._archive = archive
        self._named = named

    @classmethod
    def of(cls, path: Path, *, named: str = "") -> Source:
        """List a folder, or the one folder of a zip archive that holds its files.

        :param named: the file in it that the user has named, which may be a link to anywhere.
        :raises InputError: it cannot be read, or an archive has files in several folders.
        """
        if path.is_dir():
            return cls(str(path), {each.name: each for each in sorted(path.iterdir()) if each.is_file()}, named=named)
        try:
            with zipfile.ZipFile(path) as archive:
                members = [each for each in archive.infolist() if not each.is_dir()]
        except _BROKEN as error:
            raise InputError(f"{path}: not a zip archive that can be read: {error}") from None
        folders: dict[PurePosixPath, dict[str, Path | zipfile.ZipInfo]] = {}
        for each in members:
            inside = PurePosixPath(each.filename)
            files = folders.setdefault(inside.parent, {})
            if inside.name in files:
                raise InputError(f"{path}: the archive has {each.filename} twice")
            files[inside.name] = each
        found = [files for files in folders.values() if any(map(_is_of_a_model, files))]
        if len(found) != 1:
            raise InputError(f"{path}: the archive has {len(found)} folders with a model; unpack it and name one")
        return cls(str(path), found[0], archive=path)

    @property
    def names(self) -> list[str]:
        """The names of the files, sorted."""
        return sorted(self._files)

    def where(self, name: str) -> str:
        """Return what messages call a file."""
        return f"{self.place}/{name}"

    def read(self, name: str, *, max_bytes: int = MAX_BYTES) -> bytes:
        """Return the content of a file.

        :param max_bytes: a larger one is refused, before it is read.
        :raises InputError: it is missing, too large, or cannot be read.
        """
        file = self._files.get(name)
        if file is None:
            raise InputError(f"{self.where(name)} is missing")
        try:
            n_bytes = self._contained(file).stat().st_size if isinstance(file, Path) else file.file_size
            if n_bytes > max_bytes:
                raise InputError(f"{self.where(name)}: {n_bytes:,} bytes are too many for what it should be")
            if isinstance(file, Path):
                return file.read_bytes()
            assert self._archive is not None
            self._check_expansion(name, file, self._archive.stat().st_size)
            with zipfile.ZipFile(self._archive) as archive, archive.open(file) as member:
                return member.read(n_bytes + 1)
        except InputError:
            raise
        except _BROKEN as error:
            raise InputError(f"{self.where(name)}: cannot be read: {error}") from None

    def _contained(self, file: Path) -> Path:
        """Return a file; what the user has named may lie wherever it leads."""
        if file.name != self._named:
            ensure_inside(file)
        return file

    def _check_expansion(self, name: str, member: zipfile.ZipInfo, archive_bytes: int) -> None:
        """Refuse what would need far more memory than the archive has bytes."""
        if member.compress_type not in _COMPRESSIONS:
            raise InputError(f"{self.where(name)}: is compressed in a way that models are not")
        n_packed = min(member.compress_size, archive_bytes)
        if member.file_size > max(UNSUSPICIOUS_BYTES, MAX_EXPANSION * n_packed):
            raise InputError(
                f"{self.where(name)}: {member.file_size:,} bytes are too many for {n_packed:,} of the archive"
            )

    def open(self, name: str) -> Path | io.BytesIO:
        """Return what libraries open: the file itself, or what an archive has of it, in memory.

        :raises InputError: it is missing, leads out of its folder, or cannot be read.
        """
        file = self._files.get(name)
        return self._contained(file) if isinstance(file, Path) else io.BytesIO(self.read(name))

    def read_text(self, name: str) -> str:
        """Return the content of a text file.

        :raises InputError: it is missing, or no UTF-8.
        """
        try:
            return self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{self.where(name)}: no UTF-8: {error}") from None

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the JSON object of a file.

        :raises InputError: it is missing, or something else.
        """
        content = self.read(name, max_bytes=MAX_JSON_BYTES)
        try:
            options = json.loads(content, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.where(name)}: not a readable JSON file: {error}") from None
        if not isinstance(options, dict):
            raise InputError(f"{self.where(name)}: expected a JSON object, found {type(options).__name__}")
        return options


def _is_of_a_model(name: str) -> bool:
    return name == MANY_LANGS_MARK or name.lower().endswith(HDF5)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


class Options:
    """The keys of a JSON object, and of those inside it, each of the kind that it must be."""

    def __init__(self, content: dict[str, Any], where: str) -> None:
        """:param where: the file, and the keys that led here, for messages."""
        self.content = content
        self.where = where

    def part(self, key: str) -> Options:
        """Return the object under a key."""
        return Options(self._get(key, dict, "an object"), f"{self.where}, {key!r}")

    def whole(self, key: str, default: int | None = None, *, at_most: int = MAX_SIZE) -> int:
        """Return a whole number of at least 0; null, where there is a default, is as if it were missing."""
        value = self.content.get(key)
        value = default if value is None else value
        if type(value) is not int or not 0 <= value <= at_most:
            raise self._wrong(key, f"a whole number of at most {at_most:,}")
        return value

    def clip(self, key: str) -> float | None:
        """Return a bound; there is none where it is missing, null or 0."""
        value = self.content.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_SIZE:
            raise self._wrong(key, "a number greater than 0, or null")
        return float(value) or None

    def is_true(self, key: str, *, default: bool) -> bool:
        """Return a truth value."""
        value = self.content.get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def choice(self, key: str, valid: tuple[str, ...]) -> str:
        """Return one of some names."""
        value = self.content.get(key)
        if value not in valid:
            raise self._wrong(key, " or ".join(valid))
        return str(value)

    def filters(self, key: str) -> list[tuple[int, int]]:
        """Return (width, number) of convolutions."""
        value = self._get(key, list, "a list of [width, number]")
        for each in value:
            is_pair = isinstance(each, list) and len(each) == 2
            if not is_pair or not all(type(number) is int and number > 0 for number in each):
                raise self._wrong(key, "a list of [width, number]")
        return [(width, number) for width, number in value]

    def _get(self, key: str, kind: type[Any], expected: str) -> Any:
        value = self.content.get(key)
        if not isinstance(value, kind):
            raise self._wrong(key, expected)
        return value

    def _wrong(self, key: str, expected: str) -> InputError:
        found = f"is {json.dumps(self.content[key])[:60]}" if key in self.content else "is missing"
        return InputError(f"{self.where}: {key!r} {found}; expected {expected}")
