"""The softmax over the vocabulary, shared by both directions: exact in chunks, or sampled.

Shapes: N positions, P projection, V vocabulary, S sampled negatives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from elmolite.nn.packed_linear import product_dtype, wants_gradients

IGNORE_INDEX = -100
"""Target id that no loss counts: padding at the end of a row, or an unknown label."""
CPU_CHUNK_LOGITS, GPU_CHUNK_LOGITS = 1 << 20, 1 << 25
"""Logits that stand in memory at once: what the cache of a CPU holds, and what fills a GPU ..."""
MIN_CHUNK_ROWS = 64
"""... but never so few rows that reading the weights for each chunk costs more than computing with them."""
EXCLUDED = -1e30
"""A logit that has no share; not -inf, of which a softmax over nothing else would make NaN."""


class Softmax(nn.Module):
    """Output weights of the language model and the losses over them."""

    def __init__(self, *, vocabulary_size: int, projection_size: int) -> None:
        super().__init__()
        self.bounds = (vocabulary_size,)
        self.sparse = False
        """As that of ``nn.Embedding``: whether the sampled loss gives sparse gradients, of the rows of its words."""
        self.weight = nn.Parameter(torch.empty(vocabulary_size, projection_size))
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))
        nn.init.normal_(self.weight, std=projection_size**-0.5)

    @torch.no_grad()
    def predict_frequencies(self, counts: Sequence[int]) -> None:
        """Set the biases so that each word is as probable as it is frequent, which training would first have to learn.

        :param counts: how often each word stands in the training text.
        """
        self.bias.copy_(log_frequencies_of(counts))

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return len(self.weight)

    def description(self) -> dict[str, Any]:
        """Return what kind of softmax it is, for a configuration file."""
        return {"kind": "full"}

    def full_loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the summed negative log-likelihood of the targets over the whole vocabulary.

        :param hidden: (N, P).
        :param targets: ids, (N); IGNORE_INDEX positions count nothing.
        """
        return cross_entropy_sum(hidden, self.weight, self.bias, targets)

    def sampled_loss(self, hidden: Tensor, targets: Tensor, *, n_negatives: int, seed: int) -> Tensor:
        """Return the summed sampled-softmax loss (Jean et al. 2015), an estimate for training; never a perplexity.

        ``n_negatives`` words are drawn with replacement from a log-uniform (Zipfian) distribution over the ids, and
        serve all positions. Each logit is lowered by the logarithm of the probability that its word is drawn at all.

        :param hidden: (N, P).
        :param targets: ids, (N); IGNORE_INDEX positions count nothing.
        :param seed: the negatives are a function of it.
        """
        counted = targets != IGNORE_INDEX
        targets = targets.where(counted, 0)
        negatives = log_uniform_sample(len(self.weight), n_negatives, seed=seed, device=hidden.device)
        repeated = F.pad(negatives[1:] == negatives[:-1], (1, 0))
        weights, biases = self._rows(negatives)
        biases = (biases - self._log_expected(negatives, n_negatives)).masked_fill(repeated, EXCLUDED)
        place = torch.searchsorted(negatives, targets).clamp_(max=n_negatives - 1)
        excluded = place.where(negatives.index_select(0, place) == targets, -1)
        of_negatives: Tensor = _LogSumExp.apply(  # type: ignore[no-untyped-call]
            hidden, weights, biases, excluded, product_dtype(self.weight)
        )
        true_weights, true_biases = self._rows(targets)
        true_logits = (
            (hidden * true_weights).sum(dim=1).float() + true_biases - self._log_expected(targets, n_negatives)
        )
        losses = torch.logaddexp(of_negatives, true_logits) - true_logits
        return losses.where(counted, 0).sum()

    def _rows(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Look up the weights (N, P) and biases (N) of words."""
        weights = F.embedding(ids, self.weight, sparse=self.sparse)
        if self.sparse:
            return weights, self.bias.gather(0, ids, sparse_grad=True)
        return weights, self.bias.index_select(0, ids)  # the dense gradient of x[i] is not reproducible

    def _log_expected(self, ids: Tensor, n_tries: int) -> Tensor:
        """Return the log-probability of words to be among ``n_tries`` draws, 1 - (1 - p) ** n_tries."""
        probability = torch.log1p(1 / (ids + 1.0)) / math.log(len(self.weight) + 1)
        return torch.log(-torch.expm1(n_tries * torch.log1p(-probability)))


def log_frequencies_of(counts: Sequence[int]) -> Tensor:
    """Return the logarithms of relative frequencies (V), each word counted once more than it stands in the text."""
    frequencies = torch.tensor(counts, dtype=torch.float64) + 1
    return (frequencies / frequencies.sum()).log()


def log_uniform_sample(vocabulary_size: int, n_samples: int, *, seed: int, device: torch.device) -> Tensor:
    """Draw ids with P(k) = log((k + 2) / (k + 1)) / log(V + 1), with replacement, and sort them."""
    generator = torch.Generator(device).manual_seed(seed)
    uniform = torch.rand(n_samples, generator=generator, device=device)
    ids = torch.exp(uniform * math.log(vocabulary_size + 1)).long() - 1
    return ids.clamp_(0, vocabulary_size - 1).sort().values


def cross_entropy_sum(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Return the summed negative log-likelihood under a softmax over the rows of ``weight``.

    The logits never stand in memory all at once; under autocast the products run in its dtype.

    :param hidden: (N, P).
    :param weight: (V, P); ``bias`` (V).
    :param targets: rows of ``weight``, (N); IGNORE_INDEX positions count nothing.
    """
    loss: Tensor = _CrossEntropySum.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, targets, product_dtype(weight), wants_gradients(hidden, weight)
    )
    return loss


def _rows_of_a_chunk(vocabulary_size: int, device: torch.device) -> int:
    n_logits = CPU_CHUNK_LOGITS if device.type == "cpu" else GPU_CHUNK_LOGITS
    return max(MIN_CHUNK_ROWS, n_logits // vocabulary_size)


class _CrossEntropySum(torch.autograd.Function):
    """Cross entropy whose logits are made, used for the gradients and dropped chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        dtype: torch.dtype,
        needs_gradient: bool,
    ) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            low_hidden, low_weight = hidden.to(dtype), weight.to(dtype)
            loss = bias.new_zeros(())
            if needs_gradient:
                grad_hidden, grad_weight, grad_bias = map(torch.zeros_like, (hidden, weight, bias))
            n_rows = _rows_of_a_chunk(len(weight), hidden.device)
            for start in range(0, len(hidden), n_rows):
                chunk = slice(start, start + n_rows)
                logits = torch.addmm(bias.to(dtype), low_hidden[chunk], low_weight.T)
                counted = (targets[chunk] != IGNORE_INDEX).unsqueeze(1)
                index = targets[chunk].unsqueeze(1).where(counted, 0)
                if not needs_gradient:
                    log_probs = logits.log_softmax(dim=1, dtype=bias.dtype)
                    loss -= log_probs.gather(1, index).where(counted, 0).sum()
                    continue
                probs = logits.softmax(dim=1, dtype=bias.dtype)
                of_targets = probs.gather(1, index)
                loss -= of_targets.clamp_min(torch.finfo(bias.dtype).tiny).log().where(counted, 0).sum()
                grad = probs.scatter_(1, index, of_targets - 1).to(dtype)
                low_counted = counted.to(dtype)
                grad_hidden[chunk] = (grad @ low_weight).mul_(low_counted)
                grad_weight += grad.T @ (low_hidden[chunk] * low_counted)
                grad_bias += (low_counted.T @ grad).squeeze(0)
            if needs_gradient:
                ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *(grads[0] * saved for saved in ctx.saved_tensors), None, None, None


class _LogSumExp(torch.autograd.Function):
    """The logarithm of the sum of the exponentials of logits, (N), each row without one of them."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, excluded: Tensor, dtype: torch.dtype) -> Tensor:
        """Compute.

        :param weight: (S, P); ``bias`` (S), of which :data:`EXCLUDED` leaves a logit out everywhere.
        :param excluded: (N), which logit each row is without; -1 for none.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            low_hidden, low_weight = hidden.to(dtype), weight.to(dtype)
            logits = low_hidden @ low_weight.T + bias  # (N, S) in the dtype of the bias
            column = excluded.clamp(min=0).unsqueeze(1)
            logits.scatter_(1, column, logits.gather(1, column).masked_fill(excluded.unsqueeze(1) >= 0, EXCLUDED))
            largest = logits.amax(dim=1)
            shares = logits.softmax(dim=1)
            ctx.save_for_backward(low_hidden, low_weight, shares.to(dtype))
            return largest - shares.amax(dim=1).log()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, shares = ctx.saved_tensors
        exact = grads[0].dtype
        with torch.autocast(hidden.device.type, enabled=False):
            grad = shares * grads[0].unsqueeze(1).to(shares.dtype)
            ones = grad.new_ones(1, len(grad))
            parts = (grad @ weight, grad.T @ hidden, (ones @ grad).squeeze(0))
            return *(part.to(exact) for part in parts), None, None
