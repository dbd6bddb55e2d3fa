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
import json
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import asdict
from itertools import accumulate, islice
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
from elmolite.model_hash import model_hash

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

        :raises InputError: the folder holds other things, whole vectors, or some of another model or other settings.
        """
        self.folder = folder
        self.elmo = elmo
        self.settings = settings
        self._parts: list[Counts] = []
        self._description = {
            "format_version": FORMAT_VERSION,
            "settings": asdict(settings) | {"part_bytes": PART_BYTES},
            "model": model_hash(elmo),
        }
        if folder.is_dir() and any(folder.iterdir()):
            self._check_earlier()
        else:
            files.write_bytes(folder / MANIFEST, files.json_bytes(self._description))

    def _check_earlier(self) -> None:
        earlier = files.read_json(self.folder / MANIFEST, kind="embedding")
        if "parts" in earlier:
            raise InputError(f"{self.folder} holds whole vectors already: choose another folder")
        for key, value in self._description.items():
            if earlier.get(key) != value:
                raise InputError(
                    f"{self.folder} was begun with another {key.replace('_', ' ')}: {earlier.get(key)}, now {value}; "
                    "choose another folder"
                )

    def skip(self, sentences: Iterator[list[str]]) -> Iterator[Counts]:
        """Pass over the sentences that an earlier run has written, part by part.

        :raises InputError: they are others now, or a part cannot be read.
        """
        while (path := _part(self.folder, len(self._parts))).exists():
            with _open(path) as part:
                offsets, text = part.get_tensor("offsets"), (part.metadata() or {}).get("text")
            chunk = list(islice(sentences, len(offsets) - 1))
            if _digest(chunk) != text:
                raise InputError(f"{path}: is of other sentences than the text now has: choose another folder")
            self._parts.append((len(chunk), int(offsets[-1])))
            yield self._parts[-1]

    def write(self, sentences: Iterator[list[str]]) -> Iterator[Counts]:
        """Write the other sentences, part by part.

        :raises InputError: the disk is full, or a vector is too large for float16.
        """
        for chunk in self._chunks(sentences):
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
            yield self._parts[-1]

    def finish(self) -> None:
        """Write that all is there."""
        parts = [{"sentences": n_sentences, "tokens": n_tokens} for n_sentences, n_tokens in self._parts]
        files.write_bytes(self.folder / MANIFEST, files.json_bytes(self._description | {"parts": parts}))

    def _chunks(self, sentences: Iterator[list[str]]) -> Iterator[list[list[str]]]:
        """Yield the sentences of one part after the other."""
        n_layers = self.elmo.n_layers if self.settings.layers == "all" else 1
        token_bytes = n_layers * self.elmo.size * DTYPES[self.settings.dtype].itemsize
        chunk: list[list[str]] = []
        n_bytes = 0
        for tokens in sentences:
            chunk.append(tokens)
            n_bytes += max(1, len(tokens)) * token_bytes
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
        if content.get("format_version") != FORMAT_VERSION or not isinstance(content.get("parts"), list):
            raise InputError(f"{self.folder}: not all vectors are there; run elmolite embed again, and it will go on")
        self._begins: list[int] = [0, *accumulate(part["sentences"] for part in content["parts"])]

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
        part = bisect_right(self._begins, number) - 1
        row = number - self._begins[part]
        with _open(_part(self.folder, part)) as opened:
            begin, end = opened.get_tensor("offsets")[row : row + 2].tolist()
            vectors = opened.get_slice("vectors")
            tensor: Tensor = vectors[:, begin:end] if len(vectors.get_shape()) == 3 else vectors[begin:end]
        return tensor.float().numpy()

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield the vectors of one sentence after the other, part by part."""
        for number in range(len(self._begins) - 1):
            with _open(_part(self.folder, number)) as opened:
                offsets, vectors = opened.get_tensor("offsets"), opened.get_tensor("vectors").float().numpy()
            yield from np.split(vectors, offsets[1:-1].tolist(), axis=-2)


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05}.safetensors"


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read: {error}; remove it and those behind it, and run again") from None


def _digest(sentences: list[list[str]]) -> str:
    digest = hashlib.sha256()
    for tokens in sentences:
        digest.update(json.dumps(tokens).encode() + b"\n")
    return digest.hexdigest()
