"""Loading of models of earlier systems: detect the format, then read its parts."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Protocol

from elmolite.errors import InputError
from elmolite.formats import allennlp, manylangs
from elmolite.formats.source import EarlierModel, Source


class EarlierFormat(Protocol):
    """Module that reads a format."""

    def matches(self, source: Source) -> bool:
        """Return whether files are in this format, by their names."""

    def load(self, source: Source) -> EarlierModel:
        """Read a model: its modules are in evaluation mode, in float32, on the CPU."""


FORMATS: dict[str, EarlierFormat] = {
    "ELMoForManyLangs": manylangs,
    "AllenNLP": allennlp,  # last: takes any file that the user names
}
"""Formats by name; the first that matches is taken."""


def is_earlier_model(path: Path) -> bool:
    """Return whether a path is a model of an earlier system: any file, or a folder in one of the formats."""
    if not path.is_dir() or (path / "model.safetensors").exists():
        return path.is_file()
    return _format_of(Source.of_folder(path)) is not None


def refuse_earlier_model(path: str | Path) -> None:
    """Refuse an earlier model where a model folder is needed, and tell how to convert it."""
    if is_earlier_model(Path(path)):
        raise InputError(f"{path} is an earlier model; convert it first: elmolite convert {path} FOLDER")


def load(path: str | Path, weights: str | Path | None = None) -> EarlierModel:
    """Load a model of bilm-tf, AllenNLP, the NLPL repository or ELMoForManyLangs.

    Its tokenizer splits at white space, since those systems took tokenised text.

    :param path: a folder or zip archive; or a file with options or with weights, next to the other one.
    :param weights: the HDF5 file, if ``path`` is the file with the options.
    """
    path = Path(path)
    if weights is not None:
        sources = [Source.of_files(path, Path(weights))]
    elif path.is_dir():
        sources = [Source.of_folder(path)]
    elif not path.is_file():
        raise InputError(f"{path}: no such file")
    elif zipfile.is_zipfile(path):
        sources = Source.of_archive(path)
    else:
        sources = [Source.of_folder(path.parent, named=(path.name,))]
    found = [(source, form) for source in sources if (form := _format_of(source)) is not None]
    if len(found) != 1:
        raise InputError(f"{path}: expected one folder with a model ({', '.join(FORMATS)}), found {len(found)}")
    source, form = found[0]
    return form.load(source)


def _format_of(source: Source) -> EarlierFormat | None:
    return next((form for form in FORMATS.values() if form.matches(source)), None)
