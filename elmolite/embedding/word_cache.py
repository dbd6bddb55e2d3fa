"""Vectors of words that were encoded before, by their characters, so that a word is encoded once and not in every call.

Shapes: U distinct words, C characters, P projection.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from elmolite.nn.packed_linear import WeightVersions

DEFAULT_BYTES = 64 << 20
"""What the vectors may take: 131,072 words of a model with a projection of 128."""


class WordCache:
    """The vectors of the words that were used last, in a table of a fixed size.

    A vector from it is what the encoder would give, up to the rounding of another batch. When a weight of the encoder
    changes, in place or by another in its place, what was kept is dropped; a change that torch does not count, through
    ``.data``, needs :meth:`clear`. Threads may share one.

    :ivar hits: words that were there when they were asked for.
    :ivar misses: words that had to be encoded.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        """:param max_bytes: of the vectors; their keys, the ids of the words, come on top; 0 for no cache."""
        self.max_bytes = max_bytes
        self.hits = self.misses = 0
        self._places: OrderedDict[bytes, int] = OrderedDict()  # the word that was used last stands last
        self._table = torch.empty(0, 0)
        self._versions = WeightVersions(())
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy without the words: they can be encoded again."""
        return WordCache, (self.max_bytes,)

    def __len__(self) -> int:
        """Return the number of words in it."""
        return len(self._places)

    @property
    def n_bytes(self) -> int:
        """What the table takes."""
        return self._table.nbytes

    @property
    def hit_rate(self) -> float:
        """The share of the words that were there."""
        return self.hits / max(1, self.hits + self.misses)

    def clear(self) -> None:
        """Forget the words, and what was counted."""
        with self._lock:
            self.hits = self.misses = 0
            self._drop()

    def encode(self, unique_words: Tensor, encoder: nn.Module, *, padding: int) -> Tensor:
        """Return the vectors of words, (U, P).

        :param unique_words: distinct words as rows of ids, (U, C), on the CPU.
        :param encoder: gives the vectors of some rows of ``unique_words``, (U, P).
        :param padding: the id that fills rows up; how far they are filled makes no other word.
        """
        keys = _keys(unique_words.numpy(), padding)
        with self._lock, torch.inference_mode(mode=False):
            self._drop_if_changed(encoder)
            missing = {key: i for i, key in enumerate(keys) if key not in self._places}
            new = encoder(unique_words[list(missing.values())]) if missing else None
            self.misses += len(missing)
            self.hits += len(keys) - len(missing)
            for key in keys:
                if key in self._places:
                    self._places.move_to_end(key)
            if new is not None:
                self._make_table(new)
                if len(set(keys)) > len(self._table):
                    return self._beside(keys, list(missing), new)
                self._keep(missing, new)
            return self._table[torch.tensor([self._places[key] for key in keys], device=self._table.device)]

    def _make_table(self, like: Tensor) -> None:
        if not self._table.numel():
            n_rows = self.max_bytes // (like.shape[1] * like.element_size())
            self._table = like.new_empty(n_rows, like.shape[1])

    def _beside(self, keys: list[bytes], missing: list[bytes], new: Tensor) -> Tensor:
        """Return the vectors of more words than there is room for; those that are new are not kept."""
        known = [key for key in set(keys) if key in self._places]
        rows = torch.cat([new, self._table[[self._places[key] for key in known]]])
        place = {key: i for i, key in enumerate([*missing, *known])}
        return rows[[place[key] for key in keys]]

    def _keep(self, keys: Iterable[bytes], vectors: Tensor) -> None:
        """Keep new words, in the place of those that were not used for longest where the table is full."""
        places = []
        try:
            for key in keys:
                place = len(self._places)
                if place == len(self._table):
                    _, place = self._places.popitem(last=False)
                self._places[key] = place
                places.append(place)
            self._table[places] = vectors
        except BaseException:  # keys without their vectors would be another's
            self._drop()
            raise

    def _drop_if_changed(self, encoder: nn.Module) -> None:
        weights = tuple(encoder.parameters())
        if not self._versions.match(weights):
            self._drop()
            self._versions = WeightVersions(weights)

    def _drop(self) -> None:
        self._places.clear()
        self._table = torch.empty(0, 0)


def _keys(unique_words: NDArray[np.integer[Any]], padding: int) -> list[bytes]:
    """Return rows of ids without what fills them up."""
    lengths = unique_words.shape[1] - (unique_words[:, ::-1] != padding).argmax(axis=1)
    return [row[:length].tobytes() for row, length in zip(unique_words, lengths.tolist(), strict=True)]
