"""The layers of a frozen language model, computed once and kept on disk, not computed again in every epoch.

An entry of the cache belongs to a set of sentences, a model (its weights and how it reads tokens) and a precision;
whatever changes one of them makes another entry, and nothing else does. It holds one array, memory-mapped: a row of
zeros, then a row for each token of the distinct sentences, longest sentence first. A row is the token vector (P), which
is layer 0 twice over, and the other layers (2 P each).

Shapes: B sentences, T tokens, N tokens of all distinct sentences, L layers, P projection.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from weakref import WeakSet

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from elmolite.embedding.batching import BATCH_TOKENS, batches_by_length
from elmolite.embedding.elmo import ELMo
from elmolite.embedding.elmo_module import Sentence
from elmolite.embedding.model_hash import json_line, model_hash
from elmolite.errors import InputError, nearest
from elmolite.tasks.cache_folder import DEFAULT_LIMIT_BYTES, CacheFolder, default_folder, in_units
from elmolite.utils import files
from elmolite.utils.files import map_array

Precision = Literal["float32", "float16"]

_LAYERS_FILE = "layers.npy"
_FORMAT = "rows of token vector and layers, 1"
"""Goes into the key: what is kept in another way is another entry."""


class LayerCache:
    """The layers of sentences, by the place of a sentence among those that it was made of.

    Goes to the workers of a ``DataLoader`` by fork or by pickle: what travels is the path, not the array.
    """

    def __init__(self, path: Path, sentences: _Distinct, *, n_layers: int) -> None:
        """Open an entry that is there; see :meth:`of`."""
        self.path = path
        self.n_layers = n_layers
        lengths = np.array([len(sentence) for sentence in sentences.tokens], np.int64)
        self._lengths = lengths[sentences.places]
        self._begins = (1 + lengths.cumsum() - lengths)[sentences.places]
        self._n_rows = 1 + int(lengths.sum())

    @classmethod
    def of(
        cls,
        elmo: ELMo,
        sentences: Iterable[Sentence],
        folder: str | Path | None = None,
        *,
        precision: Precision = "float32",
        limit_bytes: int | None = DEFAULT_LIMIT_BYTES,
        show_progress: bool = True,
    ) -> LayerCache:
        """Take the layers of sentences from the cache, and compute them first where they are not there.

        :param elmo: a frozen model.
        :param sentences: as :meth:`ELMo.embed` takes them; in another order, or with some twice, they have the same
            entry.
        :param folder: of the cache; ``None`` for the user's.
        :param precision: on disk. In float32 the layers are, bit for bit, what :meth:`ELMo.embed` gives for the
            distinct sentences, longest first and then in alphabetical order; in other batches it gives the same up to
            its rounding.
        :param limit_bytes: what all entries of the folder may take; those that were not used for longest are
            removed, but none that a ``LayerCache`` of this process uses. ``None`` for no limit but the disk.
        :raises InputError: the model is not frozen, ``sentences`` is something else, or the layers would be over
            the limit, do not fit the disk, cannot be written, or are too large for float16.
        """
        if precision not in get_args(Precision):
            raise InputError(f"precision: unknown {precision!r}{nearest(precision, get_args(Precision))}")
        if any(parameter.requires_grad for parameter in elmo.parameters()):
            raise InputError("the layers of a language model that is being trained cannot be kept; freeze() it")
        distinct = _distinct(elmo.tokenise(sentences))
        cache = CacheFolder(default_folder() if folder is None else Path(folder), limit_bytes=limit_bytes)
        cache.remove_left_over()
        key = _key(elmo, distinct.tokens, precision)
        if not cache.has(key):
            _write(cache, key, elmo, distinct.tokens, np.dtype(precision), show_progress=show_progress)
        opened = cls(cache.path(key), distinct, n_layers=elmo.n_layers)
        _ = opened._rows  # before another process removes it, and for workers that are forked
        _IN_USE.add(opened)
        return opened

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self._lengths)

    def batch(self, sentences: Sequence[int] | NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return the layers of some sentences, as :meth:`ELMo.forward` does, in float32 on the CPU.

        :param sentences: their places among the sentences that this was made of, (B).
        :returns: the layers, (L, B, T, 2 P), zero behind the end of a sentence; and a mask (B, T), true where there is
            a token.
        """
        chosen = np.asarray(sentences, np.int64)
        lengths = self._lengths[chosen]
        at = np.arange(lengths.max(initial=0))
        mask = at < lengths[:, None]
        zeros = 0
        rows = torch.from_numpy(self._rows.take(np.where(mask, self._begins[chosen][:, None] + at, zeros), axis=0))
        width = rows.shape[-1] // (2 * self.n_layers - 1)
        layers = torch.empty(self.n_layers, *mask.shape, 2 * width)
        layers[0].view(*mask.shape, 2, width)[:] = rows[..., None, :width]
        layers[1:] = rows[..., width:].view(*mask.shape, self.n_layers - 1, 2 * width).movedim(-2, 0)
        return layers, torch.from_numpy(mask)

    @cached_property
    def _rows(self) -> NDArray[Any]:
        """The array on disk, (1 + N, (2 L - 1) P)."""
        path = self.path / _LAYERS_FILE
        try:
            rows = map_array(path, kinds="f", n_dims=2)
        except InputError as error:
            raise InputError(f"{path}: the layers are no longer there ({error}); start again") from None
        if len(rows) != self._n_rows or rows.shape[1] % (2 * self.n_layers - 1):
            raise InputError(
                f"{path}: has {rows.shape} numbers, not those of {self._n_rows:,} rows; remove {self.path}"
            )
        return np.asarray(rows)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_rows"}


_IN_USE: WeakSet[LayerCache] = WeakSet()
"""What this process would miss if it made room for more."""


class _Distinct(NamedTuple):
    """Sentences without those that stand there twice."""

    tokens: list[tuple[str, ...]]  # longest first, so that batches of them follow one another on disk
    places: NDArray[np.int64]  # (number of sentences): where each of them is in tokens


def _distinct(sentences: Sequence[Sequence[str]]) -> _Distinct:
    as_tuples = [tuple(sentence) for sentence in sentences]
    tokens = sorted(set(as_tuples), key=lambda sentence: (-len(sentence), sentence))
    place = {sentence: number for number, sentence in enumerate(tokens)}
    return _Distinct(tokens, np.array([place[sentence] for sentence in as_tuples], np.int64))


def _key(elmo: ELMo, sentences: Sequence[Sequence[str]], precision: Precision) -> str:
    """Hash all that the layers depend on."""
    digest = hashlib.sha256(json_line([_FORMAT, precision, model_hash(elmo)]))
    for sentence in sentences:
        digest.update(json_line(sentence))
    return digest.hexdigest()[:32]


def _write(
    cache: CacheFolder,
    key: str,
    elmo: ELMo,
    sentences: Sequence[Sequence[str]],
    dtype: np.dtype[Any],
    *,
    show_progress: bool,
) -> None:
    """Compute an entry, batch by batch."""
    elmo.word_cache.clear()  # whose rounding tells of what was embedded before
    n_tokens = sum(map(len, sentences))
    shape = (1 + n_tokens, (2 * elmo.n_layers - 1) * elmo.size // 2)
    n_bytes = shape[0] * shape[1] * dtype.itemsize
    what = f"layers of {n_tokens:,} words"
    cache.make_room(n_bytes, what=what, keep={opened.path for opened in _IN_USE})
    if show_progress:
        print(f"{what}: {in_units(n_bytes)} in {cache.folder}", file=sys.stderr)
    content = {"sentences": len(sentences), "words": n_tokens, "precision": dtype.name, "model": model_hash(elmo)}
    with (
        cache.writing(key, content) as new,
        files.writing(new / _LAYERS_FILE) as file,
        tqdm(
            desc="layers", total=n_tokens, unit="words", unit_scale=True, disable=None if show_progress else True
        ) as bar,
    ):
        header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(file, header)
        file.write(np.zeros(shape[1], dtype).data)
        for rows in _compute(elmo, sentences):
            file.write(_convert(rows, dtype).data)
            bar.update(len(rows))


def _compute(elmo: ELMo, sentences: Sequence[Sequence[str]]) -> Iterator[NDArray[np.float32]]:
    """Yield the rows of sentences, longest first, in the batches in which :meth:`ELMo.embed` computes them."""
    width = elmo.size // 2
    for batch in batches_by_length([len(sentence) for sentence in sentences], BATCH_TOKENS):
        layers = np.concatenate(elmo.embed([sentences[i] for i in batch]), axis=1)  # (L, tokens, 2 P)
        yield np.concatenate([layers[0, :, :width], *layers[1:]], axis=1)


def _convert(rows: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    if np.abs(rows).max(initial=0) > np.finfo(dtype).max:
        raise InputError("precision='float16': this model's vectors are too large for it; keep them in float32")
    return np.ascontiguousarray(rows.astype(dtype))
