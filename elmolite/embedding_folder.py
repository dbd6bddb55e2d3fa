"""Vectors of a text of any length as a folder of parts, which can be broken off and gone on with.

===========================  =================================================================================
``embedding.json``           what the vectors depend on; when all are there, how many each part has
``part-00000.safetensors``   ``vectors``, (L, N, 2 P) of all layers or (N, 2 P) of one, of the N tokens of some
                             sentences, and ``offsets``, (S + 1): sentence i has the tokens from i to i + 1
===========================  =================================================================================

A part is written whole or not at all, and does not depend on those before it.
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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from elmolite import files
from elmolite.elmo import ELMo
from elmolite.embedding_settings import DTYPES, EmbeddingSettings
from elmolite.errors import InputError
from elmolite.model_hash import json_line, model_hash

FORMAT_VERSION = 1
MANIFEST = "embedding.json"
PART_BYTES = 64 << 20
"""A part is closed when its vectors take so much: what is lost, at most, when a run is broken off."""

Counts = tuple[int, int]
"""Of sentences and of tokens."""


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
        self._parts: list[Counts] = []
        self._last: list[list[str]] = []
        """The sentences of the last part, where that is not full."""
        self._description = {
            "format_version": FORMAT_VERSION,
            **asdict(settings),
            "part_bytes": PART_BYTES,
            "model": model_hash(elmo),
        }
        for name in (MANIFEST, "part-*"):
            for left_over in folder.glob(f".{name}.*.partial"):  # of a run that was killed while it wrote
                left_over.unlink()
        if folder.is_dir() and any(folder.iterdir()):
            self._check_earlier()

    def _check_earlier(self) -> None:
        earlier = files.read_json(self.folder / MANIFEST, kind="embedding")
        for key, value in self._description.items():
            there = earlier.get(key)
            if there != value:
                raise InputError(f"{self.folder} was begun with {key} {there}, not {value}: choose another folder")

    def skip(self, sentences: Iterator[list[str]]) -> Iterator[Counts]:
        """Pass over the sentences that an earlier run has written, part by part.

        :raises InputError: they are others now, or a part cannot be read.
        """
        while (path := _part(self.folder, len(self._parts))).exists():
            part = _Part(path)
            chunk = list(islice(sentences, len(part.offsets) - 1))
            if _digest(chunk) != part.text:
                raise InputError(f"{path}: is of other sentences than the text now has: choose another folder")
            self._parts.append((len(chunk), int(part.offsets[-1])))
            self._last = [] if self._is_full(chunk) else chunk
            yield self._parts[-1]

    def write(self, sentences: Iterator[list[str]]) -> Iterator[Counts]:
        """Write the other sentences, part by part; the counts are of what is new.

        :raises InputError: the disk is full, or a vector is too large for float16.
        """
        more = next(sentences, None)
        if more is None:
            return
        if not self._parts:
            files.write_bytes(self.folder / MANIFEST, files.json_bytes(self._description))
        n_again, n_tokens_again = self._parts.pop() if self._last else (0, 0)  # the text has grown behind it
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
            self._parts.append((len(chunk), sum(lengths)))
            yield len(chunk) - n_again, sum(lengths) - n_tokens_again
            n_again = n_tokens_again = 0

    def finish(self) -> None:
        """Write that all is there."""
        parts = [{"sentences": n_sentences, "tokens": n_tokens} for n_sentences, n_tokens in self._parts]
        files.write_bytes(self.folder / MANIFEST, files.json_bytes(self._description | {"parts": parts}))

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
        content = files.read_json(self.folder / MANIFEST, kind="embedding")
        if content.get("format_version") != FORMAT_VERSION or "parts" not in content:
            raise InputError(f"{self.folder}: not all vectors are there; run elmolite embed again, and it will go on")
        try:
            self._begins: list[int] = [0, *accumulate(int(part["sentences"]) for part in content["parts"])]
        except (TypeError, KeyError, ValueError):
            raise InputError(f"{self.folder / MANIFEST}: 'parts' must say how many sentences each part has") from None

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
        part = _Part(_part(self.folder, number))
        if len(part.offsets) - 1 != self._begins[number + 1] - self._begins[number]:
            raise InputError(f"{part.path}: has {len(part.offsets) - 1} sentences; {MANIFEST} says otherwise")
        return part


class _Part:
    """One file of a folder, its offsets held against its vectors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._opened() as file:
            self.text = (file.metadata() or {}).get("text")
            self.offsets = file.get_tensor("offsets").tolist()
            shape = file.get_slice("vectors").get_shape()
            is_whole = len(shape) in (2, 3) and self.offsets[:1] == [0] and self.offsets[-1] == shape[-2]
            if not is_whole or self.offsets != sorted(self.offsets):
                raise InputError(f"{path}: its offsets do not fit its vectors")

    def of(self, row: int) -> NDArray[np.float32]:
        """Read the vectors of one sentence."""
        begin, end = self.offsets[row : row + 2]
        with self._opened() as file:
            vectors = file.get_slice("vectors")
            tensor: Tensor = vectors[:, begin:end] if len(vectors.get_shape()) == 3 else vectors[begin:end]
            return tensor.float().numpy()

    def all(self) -> list[NDArray[np.float32]]:
        """Read the vectors of all sentences."""
        with self._opened() as file:
            vectors = file.get_tensor("vectors").float().numpy()
        return np.split(vectors, self.offsets[1:-1], axis=-2)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            with safe_open(self.path, framework="pt") as file:
                yield file
        except (OSError, SafetensorError) as error:
            advice = "remove it and those behind it, and run again"
            raise InputError(f"{self.path}: cannot be read: {error}; {advice}") from None


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05}.safetensors"


def _digest(sentences: list[list[str]]) -> str:
    digest = hashlib.sha256()
    for tokens in sentences:
        digest.update(json_line(tokens))
    return digest.hexdigest()
