"""How the scores of a head are trained and read: one label, several at once, or a tag for each word.

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

from elmolite.nn.softmax import IGNORE_INDEX
from elmolite.tasks.crf import LinearChainCRF
from elmolite.tasks.spans import allowed_transitions

if TYPE_CHECKING:
    from elmolite.tasks.specs import TaskDescription


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
    def decode(self, scores: Tensor, mask: Tensor) -> list[tuple[str, ...]]:
        """Read the labels of B examples."""

    @abstractmethod
    def probabilities(self, scores: Tensor, mask: Tensor) -> list[NDArray[np.float32]]:
        """Read how probable each label is: of B examples (K), or (tokens, K)."""

    def predict(self, scores: Tensor, mask: Tensor) -> list[Prediction]:
        """Read B predictions."""
        return list(map(Prediction, self.decode(scores, mask), self.probabilities(scores, mask)))


class SingleLabel(Objective):
    """One label of each sentence or pair, by softmax."""

    def targets(self, labels: Sequence[Sequence[str]]) -> Tensor:
        """Return (B)."""
        return torch.tensor([self._ids.get(those[0], IGNORE_INDEX) if those else IGNORE_INDEX for those in labels])

    def loss(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return the mean cross entropy."""
        return _mean_cross_entropy(scores, targets)

    def decode(self, scores: Tensor, mask: Tensor) -> list[tuple[str, ...]]:  # noqa: ARG002
        """Read the label with the highest probability."""
        return [(self.labels[i],) for i in scores.argmax(dim=1).tolist()]

    def probabilities(self, scores: Tensor, mask: Tensor) -> list[NDArray[np.float32]]:  # noqa: ARG002
        """Return the softmax."""
        return list(scores.float().softmax(dim=1).cpu().numpy())


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

    def decode(self, scores: Tensor, mask: Tensor) -> list[tuple[str, ...]]:  # noqa: ARG002
        """Read the labels with a probability of at least a half."""
        return [
            tuple(label for label, holds in zip(self.labels, row, strict=True) if holds)
            for row in (scores >= 0).tolist()
        ]

    def probabilities(self, scores: Tensor, mask: Tensor) -> list[NDArray[np.float32]]:  # noqa: ARG002
        """Return the sigmoids."""
        return list(scores.float().sigmoid().cpu().numpy())


class TokenLabels(Objective):
    """A tag of each word, by softmax, whatever its neighbours have."""

    def targets(self, labels: Sequence[Sequence[str]]) -> Tensor:
        """Return (B, T)."""
        targets = torch.full((len(labels), max(map(len, labels), default=0)), IGNORE_INDEX)
        for row, tags in zip(targets, labels, strict=True):
            row[: len(tags)] = torch.tensor([self._ids.get(tag, IGNORE_INDEX) for tag in tags])
        return targets

    def loss(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return the mean cross entropy of the words."""
        return _mean_cross_entropy(scores.flatten(0, 1), targets.flatten())

    def decode(self, scores: Tensor, mask: Tensor) -> list[tuple[str, ...]]:
        """Read the tags."""
        rows = zip(self._tags(scores, mask).tolist(), mask.sum(dim=1).tolist(), strict=True)
        return [tuple(self.labels[tag] for tag in tags[:length]) for tags, length in rows]

    def probabilities(self, scores: Tensor, mask: Tensor) -> list[NDArray[np.float32]]:
        """Return the probability of each tag of each word."""
        rows = zip(self._probabilities(scores, mask).cpu().numpy(), mask.sum(dim=1).tolist(), strict=True)
        return [row[:length] for row, length in rows]

    def _tags(self, scores: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return (B, T): of each word the tag with the highest probability."""
        return scores.argmax(dim=2)

    def _probabilities(self, scores: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return (B, T, K)."""
        return scores.float().softmax(dim=2)


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
        is_known = ((targets != IGNORE_INDEX) | ~mask).all(dim=1) & mask[:, 0]
        log_likelihood = self.crf.log_likelihood(scores.float(), targets.clamp(min=0), mask | ~is_known.unsqueeze(1))
        n_words = (mask & is_known.unsqueeze(1)).sum().clamp(min=1)
        return -(log_likelihood * is_known).sum() / n_words

    def _tags(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Return the best sequence of tags, without a forbidden transition."""
        return self.crf.decode(scores.float(), mask)

    def _probabilities(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Return the probability of each tag over all sequences."""
        return self.crf.marginals(scores.float(), mask)


def _mean_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over what has a target, 0 where nothing has."""
    total = F.cross_entropy(scores, targets, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / (targets != IGNORE_INDEX).sum().clamp(min=1)


def sentence_objective(description: TaskDescription) -> Objective:
    """Return the objective for one label, or a set of labels, of each sentence or pair."""
    return (MultiLabel if description.is_multi_label else SingleLabel)(description.labels)


def tag_objective(description: TaskDescription) -> Objective:
    """Return the objective for one label a token: a CRF if the tags mark spans, or as the head's settings say."""
    if not uses_crf(description):
        return TokenLabels(description.labels)
    if description.scheme is None:
        return SequenceLabels(description.labels)
    allowed, start, end = map(torch.from_numpy, allowed_transitions(description.labels, description.scheme))
    return SequenceLabels(description.labels, allowed=allowed, allowed_start=start, allowed_end=end)


def uses_crf(description: TaskDescription) -> bool:
    """Return whether the tags of a sentence are decoded together."""
    crf = getattr(description.head, "crf", "auto")
    return description.spec.has_token_labels and (crf == "always" or (crf == "auto" and description.scheme is not None))
