"""LRU cache of word vectors, so that the token encoder computes each word once and not in every call.

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
from elmolite.utils.console import byte_size, n_of

DEFAULT_BYTES = 64 << 20
"""Default size of the vectors: 131,072 words of a model with a projection of 128."""


class WordCache:
    """LRU cache of the vectors of a token encoder, in a table of fixed size; threads may share one.

    A cached vector equals that of the encoder up to the rounding of another batch. When a weight of the encoder
    changes, in place or by replacement, the cache is emptied; a change through ``.data``, which torch does not count,
    needs :meth:`clear`.

    >>> elmo = ELMo.from_pretrained("mini-en")
    >>> elmo.word_cache = WordCache(16 << 20)  # 16 MiB
    >>> for _ in range(2):
    ...     vectors = elmo.embed(["It rains."])
    >>> elmo.word_cache.hit_rate
    0.5

    :ivar hits: words found in the cache.
    :ivar misses: words that had to be encoded.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        """:param max_bytes: of the vectors, not counting the keys; 0 for no cache."""
        self.max_bytes = max_bytes
        self.hits = self.misses = 0
        self._rows: OrderedDict[bytes, int] = OrderedDict()  # word -> row of the table, most recently used last
        self._table = torch.empty(0, 0)
        self._versions = WeightVersions(())
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy without the words."""
        return WordCache, (self.max_bytes,)

    def __len__(self) -> int:
        """Return the number of words."""
        return len(self._rows)

    def __repr__(self) -> str:
        return (
            f"WordCache({n_of(len(self), 'word')}, at most {byte_size(self.max_bytes)}, hit rate {self.hit_rate:.0%})"
        )

    @property
    def hit_rate(self) -> float:
        """Share of the words that were found."""
        return self.hits / max(1, self.hits + self.misses)

    def clear(self) -> None:
        """Remove all words and reset the counters."""
        with self._lock:
            self.hits = self.misses = 0
            self._drop()

    def encode(self, unique_words: Tensor, encoder: nn.Module, *, padding: int) -> Tensor:
        """Return the vectors of words, (U, P).

        :param unique_words: distinct words as rows of ids, (U, C), on the CPU.
        :param encoder: computes the vectors of rows of ``unique_words``.
        :param padding: id that pads rows; it is not part of the key.
        """
        keys = _keys(unique_words.numpy(), padding)
        with self._lock, torch.inference_mode(mode=False):
            weights = tuple(encoder.parameters())
            if not self._versions.match(weights):
                self._drop()
                self._versions = WeightVersions(weights)
            n_distinct = len(set(keys))
            if 0 < len(self._table) < n_distinct:
                vectors: Tensor = encoder(unique_words)
                return vectors
            missing = {key: i for i, key in enumerate(keys) if key not in self._rows}
            self.misses += len(missing)
            self.hits += len(keys) - len(missing)
            for key in keys:
                if key in self._rows:
                    self._rows.move_to_end(key)
            if missing:
                new = encoder(unique_words[list(missing.values())])
                if not self._table.numel():
                    self._table = new.new_empty(self.max_bytes // (new.shape[1] * new.element_size()), new.shape[1])
                if n_distinct > len(self._table):  # in the first call, in which all words are missing
                    row = {key: i for i, key in enumerate(missing)}
                    return torch.stack([new[row[key]] for key in keys])
                self._insert(missing, new)
            return self._table[torch.tensor([self._rows[key] for key in keys], device=self._table.device)]

    def _insert(self, keys: Iterable[bytes], vectors: Tensor) -> None:
        """Insert new words, evicting the least recently used ones if the table is full."""
        rows = []
        try:
            for key in keys:
                row = len(self._rows)
                if row == len(self._table):
                    _, row = self._rows.popitem(last=False)
                self._rows[key] = row
                rows.append(row)
            self._table[rows] = vectors
        except BaseException:  # otherwise the new keys would have the vectors of other words
            self._drop()
            raise

    def _drop(self) -> None:
        self._rows.clear()
        self._table = torch.empty(0, 0)


def _keys(unique_words: NDArray[np.integer[Any]], padding: int) -> list[bytes]:
    """Return rows of ids without their padding."""
    lengths = unique_words.shape[1] - (unique_words[:, ::-1] != padding).argmax(axis=1)
    return [row[:length].tobytes() for row, length in zip(unique_words, lengths.tolist(), strict=True)]
