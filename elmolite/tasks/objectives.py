"""Objectives: loss and decoding of a head's scores, for one label, a set of labels, or a tag for each token.

Shapes: B sentences, T tokens, K labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.nn.cross_entropy import IGNORE_INDEX
from elmolite.tasks.crf import LinearChainCRF
from elmolite.tasks.spans import Scheme, allowed_transitions

if TYPE_CHECKING:
    from elmolite.tasks.specs import TaskDescription


class Prediction(NamedTuple):
    """Predicted labels of one example."""

    labels: tuple[str, ...]
    """The label; the set of labels; or one label a token."""
    probabilities: NDArray[np.float32]
    """(K), or (tokens, K)."""


class Objective(nn.Module, ABC):
    """Loss and decoding of scores, (B, K) of sentences or (B, T, K) of their tokens."""

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
        """Return the mean loss over everything that has a target.

        :param mask: (B, T), true for tokens.
        """

    @abstractmethod
    def decode(self, scores: Tensor, mask: Tensor) -> list[tuple[str, ...]]:
        """Return the predicted labels of B examples."""

    @abstractmethod
    def probabilities(self, scores: Tensor, mask: Tensor) -> list[NDArray[np.float32]]:
        """Return the probabilities of the labels, (K) or (tokens, K) for each of B examples."""

    def predict(self, scores: Tensor, mask: Tensor) -> list[Prediction]:
        """Return B predictions."""
        return list(map(Prediction, self.decode(scores, mask), self.probabilities(scores, mask)))

    def score_shape(self, mask: Tensor) -> tuple[int, ...]:
        """Return the shape of the scores that a head must give for a batch."""
        return (len(mask), len(self.labels))


class SingleLabel(Objective):
    """One label for each sentence or pair, by softmax."""

    def targets(self, labels: Sequence[Sequence[str]]) -> Tensor:
        """Return label ids (B)."""
        return torch.tensor([self._ids.get(each[0], IGNORE_INDEX) if each else IGNORE_INDEX for each in labels])

    def loss(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return the mean cross entropy."""
        return _mean_cross_entropy(scores, targets)

    def decode(self, scores: Tensor, mask: Tensor) -> list[tuple[str, ...]]:  # noqa: ARG002
        """Return the most probable label."""
        return [(self.labels[i],) for i in scores.argmax(dim=1).tolist()]

    def probabilities(self, scores: Tensor, mask: Tensor) -> list[NDArray[np.float32]]:  # noqa: ARG002
        """Return the softmax."""
        return list(scores.float().softmax(dim=1).cpu().numpy())


class MultiLabel(Objective):
    """A set of labels for each sentence, by a sigmoid for each label."""

    def targets(self, labels: Sequence[Sequence[str]]) -> Tensor:
        """Return a binary matrix (B, K)."""
        targets = torch.zeros(len(labels), len(self.labels))
        for row, each in zip(targets, labels, strict=True):
            row[[self._ids[label] for label in each if label in self._ids]] = 1
        return targets

    def loss(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return the mean binary cross entropy."""
        return F.binary_cross_entropy_with_logits(scores, targets.to(scores.dtype))

    def decode(self, scores: Tensor, mask: Tensor) -> list[tuple[str, ...]]:  # noqa: ARG002
        """Return the labels with a probability of at least 0.5."""
        return [
            tuple(label for label, is_predicted in zip(self.labels, row, strict=True) if is_predicted)
            for row in (scores >= 0).tolist()
        ]

    def probabilities(self, scores: Tensor, mask: Tensor) -> list[NDArray[np.float32]]:  # noqa: ARG002
        """Return the sigmoids."""
        return list(scores.float().sigmoid().cpu().numpy())


class TokenLabels(Objective):
    """A tag for each token, independently, by softmax."""

    def targets(self, labels: Sequence[Sequence[str]]) -> Tensor:
        """Return tag ids (B, T)."""
        targets = torch.full((len(labels), max(map(len, labels), default=0)), IGNORE_INDEX)
        for row, tags in zip(targets, labels, strict=True):
            row[: len(tags)] = torch.tensor([self._ids.get(tag, IGNORE_INDEX) for tag in tags])
        return targets

    def loss(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return the mean cross entropy of the tokens."""
        return _mean_cross_entropy(scores.flatten(0, 1), targets.flatten())

    def decode(self, scores: Tensor, mask: Tensor) -> list[tuple[str, ...]]:
        """Return the tags of each sentence."""
        rows = zip(self._tags(scores, mask).tolist(), mask.sum(dim=1).tolist(), strict=True)
        return [tuple(self.labels[tag] for tag in tags[:length]) for tags, length in rows]

    def probabilities(self, scores: Tensor, mask: Tensor) -> list[NDArray[np.float32]]:
        """Return the probability of each tag of each token."""
        rows = zip(self._probabilities(scores, mask).cpu().numpy(), mask.sum(dim=1).tolist(), strict=True)
        return [row[:length] for row, length in rows]

    def score_shape(self, mask: Tensor) -> tuple[int, ...]:
        """Return (B, T, K)."""
        return (*mask.shape, len(self.labels))

    def _tags(self, scores: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return the most probable tags (B, T)."""
        return scores.argmax(dim=2)

    def _probabilities(self, scores: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return (B, T, K)."""
        return scores.float().softmax(dim=2)


class SequenceLabels(TokenLabels):
    """The tags of a sentence together, by a linear-chain CRF."""

    def __init__(self, labels: Sequence[str], scheme: Scheme | None = None) -> None:
        """:param scheme: of spans; decoding uses only the transitions that it allows."""
        super().__init__(labels)
        self.crf = LinearChainCRF(allowed_transitions(labels, scheme))

    def loss(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """Return the negative log-likelihood per token, without sentences that have a tag unseen in training."""
        is_known = ((targets != IGNORE_INDEX) | ~mask).all(dim=1) & mask[:, 0]
        log_likelihood = self.crf.log_likelihood(scores.float(), targets.clamp(min=0), mask | ~is_known.unsqueeze(1))
        n_words = (mask & is_known.unsqueeze(1)).sum().clamp(min=1)
        return -(log_likelihood * is_known).sum() / n_words

    def _tags(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Return the best sequence of tags without a forbidden transition."""
        return self.crf.decode(scores.float(), mask)

    def _probabilities(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Return the marginal probability of each tag."""
        return self.crf.marginals(scores.float(), mask)


def _mean_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over the targets that are not ignored, 0 if all are."""
    total = F.cross_entropy(scores, targets, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / (targets != IGNORE_INDEX).sum().clamp(min=1)


def sentence_objective(description: TaskDescription) -> Objective:
    """Return the objective for one label, or a set of labels, of each sentence or pair."""
    return (MultiLabel if description.is_multi_label else SingleLabel)(description.labels)


def tag_objective(description: TaskDescription) -> Objective:
    """Return the objective for one label a token: a CRF if the tags mark spans, or as the head's settings say."""
    crf = getattr(description.head, "crf", "auto")
    if crf == "always" or (crf == "auto" and description.scheme is not None):
        return SequenceLabels(description.labels, description.scheme)
    return TokenLabels(description.labels)
