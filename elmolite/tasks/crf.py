"""Linear-chain conditional random field: log-likelihood, Viterbi decoding and marginals.

A sequence y of a sentence of T tokens scores ``start[y_1] + sum_t emission[t, y_t] + sum_t transition[y_t-1, y_t] +
end[y_T]`` (Lafferty et al. 2001; as the layer above an LSTM, Lample et al. 2016).

Shapes: B sentences, T tokens, K tags.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from elmolite.tasks.spans import Transitions

FORBIDDEN = -1e4
"""Score of a forbidden transition in decoding; finite, to keep gradients and differences finite."""


class LinearChainCRF(nn.Module):
    """Transition scores, and sums and maxima over all sequences of tags.

    Forbidden transitions are excluded in decoding only, as training data may contain them.
    """

    def __init__(self, allowed: Transitions) -> None:
        """:param allowed: transitions between K tags, and tags at the start and the end, that decoding may use."""
        super().__init__()
        n_tags = len(allowed.between)
        self.transitions = nn.Parameter(torch.empty(n_tags, n_tags).uniform_(-0.1, 0.1))
        self.start = nn.Parameter(torch.empty(n_tags).uniform_(-0.1, 0.1))
        self.end = nn.Parameter(torch.empty(n_tags).uniform_(-0.1, 0.1))
        self.forbidden: Tensor
        self.forbidden_start: Tensor
        self.forbidden_end: Tensor
        for name, may in zip(("forbidden", "forbidden_start", "forbidden_end"), allowed, strict=True):
            scores = np.where(may, 0, FORBIDDEN).astype(np.float32)  # not on the device meta, where weights may be
            self.register_buffer(name, torch.from_numpy(scores), persistent=False)

    def log_likelihood(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Return the log probability of each sentence's tags.

        :param emissions: (B, T, K).
        :param tags: (B, T), any id for padding.
        :param mask: (B, T), true for tokens; each sentence starts at the left and has at least one.
        :returns: (B).
        """
        start, transitions, end = self.start, self.transitions, self.end
        lengths = mask.sum(dim=1)
        tags = tags.masked_fill(~mask, 0)
        emitted = emissions.gather(2, tags.unsqueeze(2)).squeeze(2)  # (B, T)
        moved = transitions[tags[:, :-1], tags[:, 1:]]  # (B, T - 1)
        last = tags.gather(1, lengths.unsqueeze(1) - 1).squeeze(1)
        score = start[tags[:, 0]] + (emitted * mask).sum(dim=1) + (moved * mask[:, 1:]).sum(dim=1) + end[last]
        return score - _log_partition(emissions, mask, start, transitions, end)

    def marginals(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Return the probability of each tag of each token over all allowed sequences.

        It is the derivative of the log partition function by the emission.

        :param emissions: (B, T, K).
        :param mask: (B, T).
        :returns: (B, T, K), zero for padding.
        """
        with torch.enable_grad():
            leaf = emissions.detach().requires_grad_()
            partition = _log_partition(leaf, mask, *(part.detach() for part in self._decoding_scores()))
            (gradient,) = torch.autograd.grad(partition.sum(), leaf)
        return gradient

    def decode(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Return the best allowed sequence of tags of each sentence (Viterbi 1967).

        :param emissions: (B, T, K).
        :param mask: (B, T).
        :returns: (B, T), 0 for padding.
        """
        start, transitions, end = self._decoding_scores()
        score = start + emissions[:, 0]
        backpointers = []
        stay = torch.arange(score.shape[1], device=score.device)
        for t in range(1, emissions.shape[1]):
            best, previous = (score.unsqueeze(2) + transitions).max(dim=1)
            is_token = mask[:, t, None]
            score = torch.where(is_token, best + emissions[:, t], score)
            backpointers.append(torch.where(is_token, previous, stay))
        tag = (score + end).argmax(dim=1)
        tags = [tag]
        for previous in reversed(backpointers):
            tag = previous.gather(1, tag.unsqueeze(1)).squeeze(1)
            tags.append(tag)
        return torch.stack(tags[::-1], dim=1) * mask

    def _decoding_scores(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.start + self.forbidden_start, self.transitions + self.forbidden, self.end + self.forbidden_end


def _log_partition(emissions: Tensor, mask: Tensor, start: Tensor, transitions: Tensor, end: Tensor) -> Tensor:
    """Return the log of the sum of exp(score) over all sequences, (B)."""
    score = start + emissions[:, 0]
    for t in range(1, emissions.shape[1]):
        extended = (score.unsqueeze(2) + transitions).logsumexp(dim=1) + emissions[:, t]
        score = torch.where(mask[:, t, None], extended, score)
    return (score + end).logsumexp(dim=1)
