"""Vectors of a text of any length as a folder of parts, which can be broken off and gone on with.

===========================  =================================================================================
``embedding.json``           what the vectors depend on, whether all are there, and of each part how many it has,
                             its size and checksum
``part-00000.safetensors``   ``vectors``, (L, N, 2 P) of all layers or (N, 2 P) of one, of the N tokens of some
                             sentences, and ``offsets``, (S + 1): sentence i has the tokens from i to i + 1
===========================  =================================================================================

A part is written whole or not at all, and does not depend on those before it. It is held against its checksum when it
is first read.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from elmolite.embedding.elmo import ELMo
from elmolite.embedding.embedding_settings import DTYPES, EmbeddingSettings
from elmolite.embedding.model_hash import json_line, model_hash
from elmolite.errors import InputError
from elmolite.utils import files
from elmolite.utils.serialization import TensorFile

FORMAT_VERSION = 2
MANIFEST = "embedding.json"
_OFFSET_BYTES = 8
PART_BYTES = 64 << 20
"""A part is closed when its vectors take so much: what is lost, at most, when a run is broken off."""

Counts = tuple[int, int]
"""Of sentences and of tokens."""
Mark = dict[str, Any]
"""What the manifest says of a part: how many ``sentences`` and ``tokens`` it has, its ``bytes`` and ``sha256``."""


class EmbeddingWriter:
    """Writes a folder, from where an earlier run with the same settings was broken off."""

    def __init__(self, folder: Path, elmo: ELMo, settings: EmbeddingSettings) -> None:
        """Begin, or take up again.

        :raises InputError: the folder holds other things, or vectors of another model or with other settings.
        """
        self.folder = folder
        self.elmo = elmo
        self.settings = settings
        elmo.check_options(settings.layers, settings.batch_tokens)
        self._parts: list[Mark] = []
        self._earlier_parts: list[Mark] = []
        self._last: list[list[str]] = []
        """The sentences of the last part, where that is not full."""
        self._description = {
            "format_version": FORMAT_VERSION,
            **asdict(settings),
            "part_bytes": PART_BYTES,
            "model": model_hash(elmo),
        }
        files.remove_stale(folder)
        if folder.is_dir() and any(folder.iterdir()):
            self._check_earlier()

    def _check_earlier(self) -> None:
        earlier, self._earlier_parts = _read_manifest(self.folder)
        for key, value in self._description.items():
            there = earlier.get(key)
            if there != value:
                raise InputError(f"{self.folder} was begun with {key} {there}, not {value}: choose another folder")

    def skip(self, sentences: Iterator[list[str]]) -> Iterator[Counts]:
        """Pass over the sentences that an earlier run has written, part by part.

        :raises InputError: they are others now, or a part cannot be read.
        """
        for mark in self._earlier_parts:
            path = _part(self.folder, len(self._parts))
            if not path.exists():
                return
            part = _Part(path, mark)
            chunk = list(islice(sentences, len(part.offsets) - 1))
            if _digest(chunk) != part.text:
                raise InputError(f"{path}: is of other sentences than the text now has: choose another folder")
            self._parts.append(mark)
            self._last = [] if self._is_full(chunk) else chunk
            yield _counts(mark)

    def write(self, sentences: Iterator[list[str]]) -> Iterator[Counts]:
        """Write the other sentences, part by part; the counts are of what is new.

        :raises InputError: the disk is full, or a vector is too large for float16.
        """
        more = next(sentences, None)
        if more is None:
            return
        n_again, n_tokens_again = _counts(self._parts.pop()) if self._last else (0, 0)  # the text has grown behind it
        self._write_manifest(is_complete=False)
        for chunk in self._chunks(chain(self._last, [more], sentences)):
            lengths = [len(tokens) for tokens in chunk]
            self.elmo.word_cache.clear()  # by its rounding a part would depend on those before it
            vectors = self.elmo.embed(chunk, layers=self.settings.layers, batch_tokens=self.settings.batch_tokens)
            tensors = {
                "vectors": self.settings.convert(np.concatenate(vectors, axis=-2)),
                "offsets": torch.tensor([0, *accumulate(lengths)]),
            }
            path = _part(self.folder, len(self._parts))
            files.write_bytes(path, save(tensors, metadata={"text": _digest(chunk)}))
            counts = {"sentences": len(chunk), "tokens": sum(lengths)}
            self._parts.append({**counts, **files.file_entry(path)})
            self._write_manifest(is_complete=False)
            yield len(chunk) - n_again, sum(lengths) - n_tokens_again
            n_again = n_tokens_again = 0

    def finish(self) -> None:
        """Write that all is there."""
        self._write_manifest(is_complete=True)

    def _write_manifest(self, *, is_complete: bool) -> None:
        content = {**self._description, "is_complete": is_complete, "parts": self._parts}
        files.write_manifest(self.folder / MANIFEST, content)

    def _n_bytes(self, tokens: Sequence[str]) -> int:
        """Return what the vectors of a sentence take."""
        n_layers = self.elmo.n_layers if self.settings.layers == "all" else 1
        return max(1, len(tokens)) * n_layers * self.elmo.size * DTYPES[self.settings.dtype].itemsize

    def _is_full(self, chunk: list[list[str]]) -> bool:
        return sum(map(self._n_bytes, chunk)) >= PART_BYTES

    def _chunks(self, sentences: Iterable[list[str]]) -> Iterator[list[list[str]]]:
        """Yield the sentences of one part after the other."""
        chunk: list[list[str]] = []
        n_bytes = 0
        for tokens in sentences:
            chunk.append(tokens)
            n_bytes += self._n_bytes(tokens)
            if n_bytes >= PART_BYTES:
                yield chunk
                chunk, n_bytes = [], 0
        if chunk:
            yield chunk


class EmbeddingFolder:
    """The vectors in a folder that ``elmolite embed`` wrote: ``folder[i]`` is those of line i."""

    def __init__(self, folder: str | Path) -> None:
        """Open a folder.

        :raises InputError: there is none, or not all vectors are there yet.
        """
        self.folder = Path(folder)
        content, self._parts = _read_manifest(self.folder)
        if not content.get("is_complete"):
            raise InputError(f"{self.folder}: not all vectors are there; run elmolite embed again, and it will go on")
        for number, part in enumerate(self._parts):
            _check_size(_part(self.folder, number), part)
        self._begins: list[int] = [0, *accumulate(part["sentences"] for part in self._parts)]
        self._checked: set[int] = set()

    def __len__(self) -> int:
        """Return the number of sentences."""
        return self._begins[-1]

    def __getitem__(self, number: int) -> NDArray[np.float32]:
        """Return the vectors of a sentence in float32, (L, tokens, 2 P) or (tokens, 2 P).

        :raises IndexError: there is no such sentence.
        """
        if not -len(self) <= number < len(self):
            raise IndexError(f"sentence {number} of {len(self)}")
        number %= len(self)
        number_of_part = bisect_right(self._begins, number) - 1
        return self._part(number_of_part).of(number - self._begins[number_of_part])

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield the vectors of one sentence after the other, part by part."""
        for number in range(len(self._begins) - 1):
            yield from self._part(number).all()

    def _part(self, number: int) -> _Part:
        part = _Part(_part(self.folder, number), self._parts[number], check=number not in self._checked)
        self._checked.add(number)
        return part


class _Part:
    """One file of a folder, held against its checksum."""

    def __init__(self, path: Path, mark: Mark, *, check: bool = True) -> None:
        """:param check: whether its checksum is still to be looked at."""
        self.path = path
        if check:
            with _advising():
                files.check_file(path, mark)
        self._file = TensorFile(path)
        self.text = self._file.metadata.get("text")
        shape, of_offsets = (self._file.shapes.get(name, ()) for name in ("vectors", "offsets"))
        self.offsets: list[int] = []
        if len(of_offsets) == 1:
            with self._file.opened() as file:
                self.offsets = file.get_tensor("offsets").tolist()
        is_whole = len(shape) in (2, 3) and self.offsets[:1] == [0] and self.offsets[-1] == shape[-2]
        are_places = all(type(each) is int for each in self.offsets)
        if not is_whole or not are_places or self.offsets != sorted(self.offsets) or self._counts() != _counts(mark):
            raise InputError(f"{path}: its offsets do not fit its vectors, or what {MANIFEST} says of it")

    def _counts(self) -> Counts:
        return len(self.offsets) - 1, self.offsets[-1]

    def of(self, row: int) -> NDArray[np.float32]:
        """Read the vectors of one sentence."""
        begin, end = self.offsets[row : row + 2]
        with self._file.opened() as file:
            vectors = file.get_slice("vectors")
            tensor: Tensor = vectors[:, begin:end] if len(vectors.get_shape()) == 3 else vectors[begin:end]
            return tensor.float().numpy()

    def all(self) -> list[NDArray[np.float32]]:
        """Read the vectors of all sentences."""
        with self._file.opened() as file:
            vectors = file.get_tensor("vectors").float().numpy()
        return np.split(vectors, self.offsets[1:-1], axis=-2)


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05}.safetensors"


def _check_size(path: Path, mark: Mark) -> None:
    """Hold a part against its size, and the number of its sentences against that: ``list`` takes memory by it.

    :raises InputError: it has another, or fewer offsets than sentences.
    """
    with _advising():
        files.check_size(path, mark)
    if _OFFSET_BYTES * mark["sentences"] > mark["bytes"]:
        raise InputError(f"{path}: too short for the {mark['sentences']:,} sentences of {MANIFEST}")


@contextmanager
def _advising() -> Iterator[None]:
    """Say what can be done where a part is damaged."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{error}; remove it and those behind it, and embed again") from None


def _counts(mark: Mark) -> Counts:
    return mark["sentences"], mark["tokens"]


def _read_manifest(folder: Path) -> tuple[dict[str, Any], list[Mark]]:
    """Return the manifest of a folder, and what it says of the parts.

    :raises InputError: it is none, or damaged.
    """
    path = folder / MANIFEST
    content = files.read_manifest(path, kind="embedding", version=FORMAT_VERSION)
    parts = content.get("parts")
    kinds = {"sentences": int, "tokens": int, "bytes": int, "sha256": str}
    marks = parts if isinstance(parts, list) else []
    is_right = all(isinstance(mark, dict) and {key: type(mark[key]) for key in mark} == kinds for mark in marks)
    if marks is not parts or not is_right or any(min(_counts(mark)) < 0 for mark in marks):
        raise InputError(f"{path}: 'parts' must give the {', '.join(kinds)} of each part")
    return content, marks


def _digest(sentences: list[list[str]]) -> str:
    digest = hashlib.sha256()
    for tokens in sentences:
        digest.update(json_line(tokens))
    return digest.hexdigest()
