"""Sentence vectors: pooling of word vectors, SIF weights and removal of the common component (Arora et al. 2017).

Shapes: S sentences, T tokens, D width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elmolite.data.vocab import SPECIALS, UNKNOWN_ID, Vocabulary
from elmolite.errors import InputError

Pooling = Literal["mean", "max", "weighted"]


class WordWeights:
    """SIF weights ``a / (a + p(word))``: frequent words count less (section 3)."""

    def __init__(self, vocabulary: Vocabulary | None, a: float) -> None:
        """Compute the weights from word counts.

        :param vocabulary: of the language model, with counts; a word outside it has weight 1.
        :param a: the smaller, the less frequent words count; 1e-3 to 1e-4 in the paper.
        :raises InputError: the vocabulary has no counts.
        """
        if not a > 0:
            raise InputError(f"a must be positive, got {a}")
        counts = [] if vocabulary is None else vocabulary.counts
        n_words = sum(counts[UNKNOWN_ID:])
        if vocabulary is None or n_words == 0:
            raise InputError("pooling 'weighted' needs word counts, which this model does not have; use mean or max")
        self._weights = {
            word: a / (a + count / n_words)
            for word, count in zip(vocabulary.words, counts, strict=True)
            if word not in SPECIALS
        }

    def of(self, tokens: Sequence[str]) -> NDArray[np.float32]:
        """Return the weight of each token, (T)."""
        return np.array([self._weights.get(token, 1.0) for token in tokens], np.float32)


def pool(
    vectors: NDArray[np.float32], pooling: Pooling, weights: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Pool the vectors of a sentence (T, D) to one (D); zeros for T = 0.

    :param weights: of the tokens, (T), for ``weighted``; the weighted sum is divided by T, as in the paper.
    """
    if not len(vectors):
        return np.zeros(vectors.shape[1], np.float32)
    if pooling == "max":
        return np.asarray(vectors.max(axis=0), np.float32)
    if weights is not None:
        vectors = vectors * weights[:, None]
    return np.asarray(vectors.mean(axis=0), np.float32)


class CommonComponent:
    """Common component of the sentence vectors of a corpus, to be removed from sentence vectors (algorithm 1).

    >>> vectors = elmo.embed_sentences(["The children play.", "It rains.", "We left early."])
    >>> common = CommonComponent.fit(vectors)
    >>> common.remove(vectors).shape
    (3, 256)
    """

    def __init__(self, direction: ArrayLike) -> None:
        """:param direction: unit vector, (D)."""
        self.direction = np.asarray(direction, np.float32)

    def __repr__(self) -> str:
        return f"CommonComponent(width {len(self.direction)})"

    @classmethod
    def fit(cls, vectors: ArrayLike) -> CommonComponent:
        """Compute the first singular vector of sentence vectors (S, D)."""
        rows = np.asarray(vectors, np.float64)
        if rows.ndim != 2 or len(rows) < 2 or not rows.any():
            raise InputError("a common component needs at least two sentence vectors that are not all zero")
        _, directions = np.linalg.eigh(rows.T @ rows)
        return cls(directions[:, -1])

    def remove(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Return vectors (S, D) or (D) minus their projection on the component."""
        rows = np.asarray(vectors, np.float32)
        if rows.shape[-1:] != self.direction.shape:
            raise InputError(f"vectors must have the width of the component, {len(self.direction)}, got {rows.shape}")
        return rows - (rows @ self.direction)[..., None] * self.direction


def cosine(a: ArrayLike, b: ArrayLike) -> float:
    """Return the cosine similarity of two vectors (D); 0 if one of them is zero."""
    a, b = (np.asarray(each, np.float64) for each in (a, b))
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm else 0.0
