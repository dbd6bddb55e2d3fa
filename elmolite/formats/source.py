"""Files and options of an earlier model, read the same way from a folder, a zip archive or single files."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from elmolite.data.indexers import TokenIndexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.errors import InputError
from elmolite.nn.bilm import MAX_SIZE, BiLM

_ARCHIVE_ERRORS = (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)


class EarlierModel(NamedTuple):
    """Parts of a model that was read from an earlier format."""

    bilm: BiLM
    tokenizer: SentenceTokenizer
    indexer: TokenIndexer


class Source:
    """Files of one folder by name.

    ``named`` has the names of the files that the user gave, in his order; it is empty if he gave a folder or archive.
    """

    def __init__(
        self,
        place: str,
        files: dict[str, Path | zipfile.ZipInfo],
        *,
        archive: Path | None = None,
        named: tuple[str, ...] = (),
    ) -> None:
        """:param place: the folder or archive, for messages."""
        self.place = place
        self.named = named
        self._files = files
        self._archive = archive

    @classmethod
    def of_folder(cls, folder: Path, *, named: str | None = None) -> Source:
        """List a folder, in which the user may have named a file."""
        files: dict[str, Path | zipfile.ZipInfo] = {each.name: each for each in folder.iterdir() if each.is_file()}
        return cls(str(folder), files, named=() if named is None else (named,))

    @classmethod
    def of_files(cls, *paths: Path) -> Source:
        """Take files that may lie in different folders."""
        missing = next((path for path in paths if not path.is_file()), None)
        if missing is not None:
            raise InputError(f"{missing}: no such file")
        return cls(str(paths[0].parent), {path.name: path for path in paths}, named=tuple(path.name for path in paths))

    @classmethod
    def of_archive(cls, path: Path) -> list[Source]:
        """List the folders of a zip archive."""
        try:
            with zipfile.ZipFile(path) as archive:
                members = [each for each in archive.infolist() if not each.is_dir()]
        except _ARCHIVE_ERRORS as error:
            raise InputError(f"{path}: not a readable zip archive: {error}") from None
        folders: dict[PurePosixPath, dict[str, Path | zipfile.ZipInfo]] = {}
        for each in members:
            inside = PurePosixPath(each.filename)
            folders.setdefault(inside.parent, {})[inside.name] = each
        return [cls(str(path), files, archive=path) for files in folders.values()]

    @property
    def names(self) -> list[str]:
        """The names of the files, sorted."""
        return sorted(self._files)

    def where(self, name: str) -> str:
        """Return the path of a file, for messages."""
        file = self._files.get(name)
        return str(file) if isinstance(file, Path) else f"{self.place}/{name}"

    def open(self, name: str) -> Path | io.BytesIO:
        """Return the path of a file or, from an archive, its content, for libraries that take either."""
        file = self._files.get(name)
        if file is None:
            raise InputError(f"{self.where(name)} is missing")
        return file if isinstance(file, Path) else io.BytesIO(self.read(name))

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        file = self._files.get(name)
        if file is None:
            raise InputError(f"{self.where(name)} is missing")
        try:
            if isinstance(file, Path):
                return file.read_bytes()
            assert self._archive is not None
            with zipfile.ZipFile(self._archive) as archive:
                return archive.read(file)
        except _ARCHIVE_ERRORS as error:
            raise InputError(f"{self.where(name)}: cannot be read: {error}") from None

    def read_text(self, name: str) -> str:
        """Return the content of a UTF-8 file."""
        try:
            return self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{self.where(name)}: not UTF-8: {error}") from None

    def read_options(self, name: str) -> Options:
        """Return the JSON object of a file."""
        content = self.read(name)
        try:
            options = json.loads(content, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.where(name)}: not a readable JSON file: {error}") from None
        if not isinstance(options, dict):
            raise InputError(f"{self.where(name)}: expected a JSON object, found {type(options).__name__}")
        return Options(options, self.where(name))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


class Options:
    """JSON object whose values are checked by type and range when they are read."""

    def __init__(self, content: dict[str, Any], where: str) -> None:
        """:param where: the file and the keys above, for messages."""
        self.content = content
        self.where = where

    def part(self, key: str) -> Options:
        """Return the object under a key."""
        return Options(self._get(key, dict, "an object"), f"{self.where}, {key!r}")

    def whole(self, key: str, default: int | None = None, *, at_most: int = MAX_SIZE) -> int:
        """Return an integer of at least 0; null counts as missing."""
        value = self.content.get(key)
        value = default if value is None else value
        if type(value) is not int or not 0 <= value <= at_most:
            raise self.wrong(key, f"an integer from 0 to {at_most:,}")
        return value

    def expect(self, key: str, value: Any, *supported: Any) -> None:
        """Refuse a value that is not supported."""
        if value not in supported:
            raise self.wrong(key, " or ".join(map(json.dumps, supported)))

    def clip(self, key: str) -> float | None:
        """Return a clipping bound; ``None`` if it is missing, null or 0."""
        value = self.content.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_SIZE:
            raise self.wrong(key, "a positive number, or null")
        return float(value) or None

    def is_true(self, key: str, *, default: bool) -> bool:
        """Return a truth value."""
        value = self.content.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def activation(self, key: str) -> Any:
        """Return the name of an activation function."""
        self.expect(key, self.content.get(key), "relu", "tanh")
        return self.content[key]

    def filters(self, key: str) -> list[tuple[int, int]]:
        """Return the (width, number) of each convolution."""
        value = self._get(key, list, "a list of [width, number]")
        for each in value:
            is_pair = isinstance(each, list) and len(each) == 2
            if not is_pair or not all(type(number) is int and number > 0 for number in each):
                raise self.wrong(key, "a list of [width, number]")
        return [(width, number) for width, number in value]

    def _get(self, key: str, kind: type[Any], expected: str) -> Any:
        value = self.content.get(key)
        if not isinstance(value, kind):
            raise self.wrong(key, expected)
        return value

    def wrong(self, key: str, expected: str) -> InputError:
        """Return the error for a value that is missing or not as expected."""
        found = f"is {json.dumps(self.content[key])[:60]}" if key in self.content else "is missing"
        return InputError(f"{self.where}: {key!r} {found}; expected {expected}")
