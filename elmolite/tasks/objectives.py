"""How the scores of a head are trained and read: one label, several at once, or a tag for each word.

Shapes: B sentences, T tokens, K labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.tasks.crf import LinearChainCRF

IGNORED = -100
"""The target of what has none: padding, and a label that training did not know."""


class Prediction(NamedTuple):
    """What a model says of one example."""

    labels: tuple[str, ...]
    """The label; those that hold, of several; or one a token."""
    probabilities: NDArray[np.float32]
    """(K), or (tokens, K)."""


class Objective(nn.Module, ABC):
    """Between labels and scores, (B, K) of sentences or (B, T, K) of their words."""

    def __init__(self, labels: Sequence[str]) -> None:
        """:param labels: K, in the order of their scores."""
        super().__init__()
        self.labels = tuple(labels)
        self._ids = {label: i for i, label in enumerate(self.labels)}

    @abstractmethod
    def targets(self, labels: Sequence[Sequence[str]]) -> Tensor:
        """Encode the labels of B examples, on the CPU."""

    @abstractmethod
    def loss(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """Return what training makes small: a mean over what has a target.

        :param mask: (B, T), true where there is a word.
        """

    @abstractmethod
    def predict(self, scores: Tensor, mask: Tensor) -> list[Prediction]:
        """Read B predictions."""


class SingleLabel(Objective):
    """One label of each sentence or pair, by softmax."""

    def targets(self, labels: Sequence[Sequence[str]]) -> Tensor:
        """Return (B)."""
        return torch.tensor([self._ids.get(those[0], IGNORED) if those else IGNORED for those in labels])

    def loss(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return the mean cross entropy."""
        return _mean_cross_entropy(scores, targets)

    def predict(self, scores: Tensor, mask: Tensor) -> list[Prediction]:  # noqa: ARG002
        """Read the label with the highest probability."""
        probabilities = scores.float().softmax(dim=1).cpu().numpy()
        return [Prediction((self.labels[each.argmax()],), each) for each in probabilities]


class MultiLabel(Objective):
    """Labels that can hold together or not at all, each by a sigmoid."""

    def targets(self, labels: Sequence[Sequence[str]]) -> Tensor:
        """Return (B, K), 1 for the labels that hold."""
        targets = torch.zeros(len(labels), len(self.labels))
        for row, those in zip(targets, labels, strict=True):
            row[[self._ids[label] for label in those if label in self._ids]] = 1
        return targets

    def loss(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return the mean binary cross entropy."""
        return F.binary_cross_entropy_with_logits(scores, targets.to(scores.dtype))

    def predict(self, scores: Tensor, mask: Tensor) -> list[Prediction]:  # noqa: ARG002
        """Read the labels with a probability of at least a half."""
        probabilities = scores.float().sigmoid().cpu().numpy()
        return [
            Prediction(tuple(label for label, p in zip(self.labels, each, strict=True) if p >= 0.5), each)
            for each in probabilities
        ]


class TokenLabels(Objective):
    """A tag of each word, by softmax, whatever its neighbours have."""

    def targets(self, labels: Sequence[Sequence[str]]) -> Tensor:
        """Return (B, T)."""
        targets = torch.full((len(labels), max(map(len, labels), default=0)), IGNORED)
        for row, tags in zip(targets, labels, strict=True):
            row[: len(tags)] = torch.tensor([self._ids.get(tag, IGNORED) for tag in tags])
        return targets

    def loss(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return the mean cross entropy of the words."""
        return _mean_cross_entropy(scores.flatten(0, 1), targets.flatten())

    def predict(self, scores: Tensor, mask: Tensor) -> list[Prediction]:
        """Read the tag of each word with the highest probability."""
        return self._read(scores.argmax(dim=2), scores.float().softmax(dim=2), mask)

    def _read(self, tags: Tensor, probabilities: Tensor, mask: Tensor) -> list[Prediction]:
        lengths = mask.sum(dim=1).tolist()
        return [
            Prediction(tuple(self.labels[tag] for tag in row[:length]), p[:length])
            for row, p, length in zip(tags.tolist(), probabilities.cpu().numpy(), lengths, strict=True)
        ]


class SequenceLabels(TokenLabels):
    """The tags of a sentence together, by a linear-chain CRF."""

    def __init__(
        self,
        labels: Sequence[str],
        *,
        allowed: Tensor | None = None,
        allowed_start: Tensor | None = None,
        allowed_end: Tensor | None = None,
    ) -> None:
        """:param allowed: transitions that decoding may take, and with which tags it begins and ends; see the CRF."""
        super().__init__(labels)
        self.crf = LinearChainCRF(
            len(self.labels), allowed=allowed, allowed_start=allowed_start, allowed_end=allowed_end
        )

    def loss(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """Return the negative log likelihood of the sentences, by word; those with an unknown tag are left out."""
        is_known = ((targets != IGNORED) | ~mask).all(dim=1) & mask[:, 0]
        log_likelihood = self.crf.log_likelihood(scores.float(), targets.clamp(min=0), mask | ~is_known.unsqueeze(1))
        n_words = (mask & is_known.unsqueeze(1)).sum().clamp(min=1)
        return -(log_likelihood * is_known).sum() / n_words

    def predict(self, scores: Tensor, mask: Tensor) -> list[Prediction]:
        """Read the best sequence of tags, and the probability of each over all sequences."""
        scores = scores.float()
        return self._read(self.crf.decode(scores, mask), self.crf.marginals(scores, mask), mask)


def _mean_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over what has a target, 0 where nothing has."""
    total = F.cross_entropy(scores, targets, ignore_index=IGNORED, reduction="sum")
    return total / (targets != IGNORED).sum().clamp(min=1)
