"""Files and options of an earlier model, read the same way from a folder, a zip archive or single files."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from elmolite.data.indexers import TokenIndexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.errors import InputError
from elmolite.nn.bilm import BiLM
from elmolite.utils.config import is_of

_ARCHIVE_ERRORS = (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)


class EarlierModel(NamedTuple):
    """Parts of a model that was read from an earlier format."""

    bilm: BiLM
    tokenizer: SentenceTokenizer
    indexer: TokenIndexer


class Source:
    """Files of one folder by name.

    :param place: the folder or archive, for messages.
    :param named: names of the files that the user gave, in his order; empty if he gave a folder or archive.
    """

    def __init__(self, place: Path, files: dict[str, Path | zipfile.Path], *, named: tuple[str, ...] = ()) -> None:
        self.place = place
        self.named = named
        self._files = files

    @classmethod
    def of_folder(cls, folder: Path, *, named: tuple[str, ...] = ()) -> Source:
        """List a folder, in which the user may have named a file."""
        return cls(folder, {each.name: each for each in folder.iterdir() if each.is_file()}, named=named)

    @classmethod
    def of_files(cls, *paths: Path) -> Source:
        """Take files that may lie in different folders."""
        missing = next((path for path in paths if not path.is_file()), None)
        if missing is not None:
            raise InputError(f"{missing}: no such file")
        return cls(paths[0].parent, {path.name: path for path in paths}, named=tuple(path.name for path in paths))

    @classmethod
    def of_archive(cls, path: Path) -> list[Source]:
        """List the folders of a zip archive."""
        folders: dict[PurePosixPath, dict[str, Path | zipfile.Path]] = defaultdict(dict)
        try:
            archive = zipfile.ZipFile(path)
        except _ARCHIVE_ERRORS as error:
            raise InputError(f"{path}: not a readable zip archive: {error}") from None
        for name in archive.namelist():
            if not name.endswith("/"):
                inside = PurePosixPath(name)
                folders[inside.parent][inside.name] = zipfile.Path(archive, name)
        return [cls(path, files) for files in folders.values()]

    @property
    def names(self) -> list[str]:
        """The names of the files, sorted."""
        return sorted(self._files)

    def where(self, name: str) -> str:
        """Return the path of a file, for messages."""
        return str(self._files.get(name, self.place / name))

    def open(self, name: str) -> Path | io.BytesIO:
        """Return the path of a file or, from an archive, its content, for libraries that take either."""
        file = self._files.get(name)
        return file if isinstance(file, Path) else io.BytesIO(self.read(name))

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        if name not in self._files:
            raise InputError(f"{self.where(name)} is missing")
        try:
            return self._files[name].read_bytes()
        except _ARCHIVE_ERRORS as error:
            raise InputError(f"{self.where(name)}: cannot be read: {error}") from None

    def read_options(self, name: str) -> Options:
        """Return the JSON object of a file."""
        content = self.read(name)
        try:
            options = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.where(name)}: not a readable JSON file: {error}") from None
        if not isinstance(options, dict):
            raise InputError(f"{self.where(name)}: expected a JSON object, found {type(options).__name__}")
        return Options(options, self.where(name))


class Options:
    """JSON object whose values are checked by type when they are read.

    :param where: the file and the keys above, for messages.
    """

    def __init__(self, content: dict[str, Any], where: str) -> None:
        self.content = content
        self.where = where

    def part(self, key: str) -> Options:
        """Return the object under a key."""
        return Options(self.get(key, dict), f"{self.where}, {key!r}")

    def get(self, key: str, kind: Any, default: Any = None) -> Any:
        """Return a value of a type.

        :param kind: a type, as :func:`elmolite.utils.config.is_of` takes it.
        :param default: for a value that is missing or null; ``None`` if it is required.
        """
        value = self.content.get(key)
        if value is None and default is not None:
            return default
        if not is_of(value, kind):
            raise self.wrong(key, kind.__name__ if isinstance(kind, type) else str(kind))
        return value

    def expect(self, key: str, *supported: Any) -> None:
        """Refuse a value that is not supported; it may be missing or null."""
        if self.content.get(key) not in (None, *supported):
            raise self.wrong(key, " or ".join(map(json.dumps, supported)))

    def clip(self, key: str) -> float | None:
        """Return a clipping bound; ``None`` if it is missing, null or 0."""
        return float(self.get(key, float, 0.0)) or None

    def wrong(self, key: str, expected: str) -> InputError:
        """Return the error for a value that is missing or not as expected."""
        found = f"is {json.dumps(self.content[key])[:60]}" if key in self.content else "is missing"
        return InputError(f"{self.where}: {key!r} {found}; expected {expected}")
