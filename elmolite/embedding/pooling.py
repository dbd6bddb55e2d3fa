"""Vectors of words -> one vector a sentence.

Shapes: S sentences, T tokens, D width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elmolite.data.vocab import SPECIALS, UNKNOWN_ID, Vocabulary
from elmolite.errors import InputError

SentencePooling = Literal["mean", "max", "weighted"]
POOLINGS: tuple[SentencePooling, ...] = ("mean", "max", "weighted")


class WordWeights:
    """``a / (a + p(word))``: frequent words count less (Arora et al. 2017, section 3)."""

    def __init__(self, vocabulary: Vocabulary | None, a: float) -> None:
        """Take the probabilities of words.

        :param vocabulary: of the language model, with counts; a word outside it has the weight 1.
        :param a: the smaller, the less frequent words count; 1e-3 to 1e-4 in the paper.
        :raises InputError: there are no counts.
        """
        if not a > 0:
            raise InputError(f"a={a}: must be greater than 0")
        counts = [] if vocabulary is None else vocabulary.counts
        n_words = sum(counts[UNKNOWN_ID:])
        if vocabulary is None or n_words == 0:
            raise InputError("pooling 'weighted' needs counts of words, and this model comes without; see mean and max")
        self._weights = {
            word: a / (a + count / n_words)
            for word, count in zip(vocabulary.words, counts, strict=True)
            if word not in SPECIALS
        }

    def of(self, tokens: Sequence[str]) -> NDArray[np.float32]:
        """Return the weight of each token, (T)."""
        return np.array([self._weights.get(token, 1.0) for token in tokens], np.float32)


def pool(
    vectors: NDArray[np.float32], pooling: SentencePooling, weights: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return one vector (D) for those of a sentence (T, D); zeros where there are none.

    :param weights: of the tokens, (T), for ``weighted``: their sum is divided by T, as in the paper.
    """
    if not len(vectors):
        return np.zeros(vectors.shape[1], np.float32)
    if pooling == "max":
        return np.asarray(vectors.max(axis=0), np.float32)
    if weights is not None:
        vectors = vectors * weights[:, None]
    return np.asarray(vectors.mean(axis=0), np.float32)


class CommonComponent:
    """What the sentences of a corpus have in common, to be taken out of sentence vectors (the same, algorithm 1)."""

    def __init__(self, direction: ArrayLike) -> None:
        """:param direction: (D), of length 1."""
        self.direction = np.asarray(direction, np.float32)

    @classmethod
    def fit(cls, vectors: ArrayLike) -> CommonComponent:
        """Find the direction in which the vectors (S, D) of a corpus are largest: their first singular vector.

        :raises InputError: there are fewer than two vectors, or all are zero.
        """
        rows = np.asarray(vectors, np.float64)
        if rows.ndim != 2 or len(rows) < 2 or not rows.any():
            raise InputError("a common component needs the vectors of two sentences at least, which are not all zero")
        _, directions = np.linalg.eigh(rows.T @ rows)
        return cls(directions[:, -1])

    def remove(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Return vectors (S, D) or (D) without their part in that direction.

        :raises InputError: they have another width.
        """
        rows = np.asarray(vectors, np.float32)
        if rows.shape[-1:] != self.direction.shape:
            raise InputError(f"vectors of {rows.shape[-1:]} numbers; the common component has {self.direction.shape}")
        return rows - (rows @ self.direction)[..., None] * self.direction


def cosine(a: ArrayLike, b: ArrayLike) -> float:
    """Return the cosine of the angle between two vectors (D); 0 where one of them is zero."""
    a, b = (np.asarray(each, np.float64) for each in (a, b))
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm else 0.0
