"""Cross entropy and log-sum-exp of a linear layer, without all logits in memory or with as few copies as possible.

The gradient of the cross entropy is computed with the loss, while the logits of a chunk of rows exist. On a GPU one
Triton kernel, :mod:`elmolite.nn.cross_entropy_triton`, replaces the logits by their gradient. Cut Cross-Entropy
(Wijmans et al. 2025) goes further: it never writes the logits, at the cost of computing them twice.

Shapes: N positions, P projection, V rows of the weight.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from elmolite.nn.kernels import triton_failure
from elmolite.nn.packed_linear import compute_dtype, needs_grad

IGNORE_INDEX = -100
"""Target id that no loss counts: padding at the end of a row, or an unknown label."""
CPU_CHUNK_LOGITS, GPU_CHUNK_LOGITS = 1 << 20, 1 << 25
"""Logits in memory at once: the size of a CPU's cache, and enough to fill a GPU."""
FUSED_CHUNK_LOGITS = 4 * GPU_CHUNK_LOGITS
"""With the kernel: in bfloat16 the memory of a chunk without it, whose softmax is float32."""
COLUMNS_MULTIPLE = 16
"""Logits of a row are padded to a multiple of this on a GPU, whose rows are otherwise not aligned."""
MIN_CHUNK_ROWS = 64
"""Minimum rows of a chunk: with fewer, reading the weights for each chunk costs more than the product."""
EXCLUDED = -1e30
"""Logit of an excluded word; not -inf, because a softmax over nothing else would be NaN."""


def cross_entropy_sum(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Return the summed negative log-likelihood under a softmax over the rows of ``weight``.

    Computed in chunks that never hold all logits; under autocast the products run in its dtype.

    :param hidden: (N, P).
    :param weight: (V, P); ``bias`` (V).
    :param targets: rows of ``weight``, (N); positions with :data:`IGNORE_INDEX` are not counted.
    """
    loss: Tensor = _CrossEntropySum.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, targets, compute_dtype(weight), needs_grad(hidden, weight)
    )
    return loss


def logsumexp(hidden: Tensor, weight: Tensor, bias: Tensor, excluded: Tensor) -> Tensor:
    """Return the log-sum-exp of the logits of each position, (N); under autocast the products run in its dtype.

    :param hidden: (N, P).
    :param weight: (V, P); ``bias`` (V), in which :data:`EXCLUDED` excludes a logit from all rows.
    :param excluded: row of ``weight`` to exclude at each position, (N); -1 for none.
    """
    values: Tensor = _LogSumExp.apply(hidden, weight, bias, excluded, compute_dtype(weight))  # type: ignore[no-untyped-call]
    return values


def _rows_of_a_chunk(n_columns: int, device: torch.device) -> int:
    if device.type == "cpu":
        n_logits = CPU_CHUNK_LOGITS
    else:
        n_logits = GPU_CHUNK_LOGITS if triton_failure(device) else FUSED_CHUNK_LOGITS
    return max(MIN_CHUNK_ROWS, n_logits // n_columns)


class _CrossEntropySum(torch.autograd.Function):
    """Cross entropy in chunks; the gradients are computed in the forward pass, while the logits exist."""

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
            counted = targets != IGNORE_INDEX
            column, targets = counted.unsqueeze(1), targets.where(counted, 0)
            low_hidden, low_weight, low_bias = hidden.where(column, 0).to(dtype), weight.to(dtype), bias.to(dtype)
            loss = bias.new_zeros(())
            if triton_failure(hidden.device) is None and (padding := -len(weight) % COLUMNS_MULTIPLE):
                low_weight = F.pad(low_weight, (0, 0, 0, padding))
                low_bias = F.pad(low_bias, (0, padding), value=-math.inf)
            if needs_gradient:
                grad_hidden, grad_weight, grad_bias = (
                    exact.new_zeros(low.shape)
                    for exact, low in ((hidden, low_hidden), (weight, low_weight), (bias, low_bias))
                )
                low_counted, product = column.T.to(dtype), torch.empty_like(low_weight)
            n_rows = _rows_of_a_chunk(len(low_weight), hidden.device)
            for start in range(0, len(hidden), n_rows):
                chunk = slice(start, start + n_rows)
                logits = torch.addmm(low_bias, low_hidden[chunk], low_weight.T)
                losses, grad = _cross_entropy_(logits, targets[chunk], bias.dtype, needs_gradient)
                loss += losses.where(counted[chunk], 0).sum()
                if needs_gradient:
                    grad_hidden[chunk] = grad @ low_weight
                    grad_weight += torch.mm(grad.T, low_hidden[chunk], out=product)
                    grad_bias += (low_counted[:, chunk] @ grad).squeeze(0)
            if needs_gradient:
                ctx.save_for_backward(grad_hidden.mul_(column), grad_weight[: len(weight)], grad_bias[: len(bias)])
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # In place, because the gradient of the weight is large; torch refuses a second backward pass then.
        return *(torch.mul(grads[0], saved, out=saved) for saved in ctx.saved_tensors), None, None, None


def _cross_entropy_(logits: Tensor, targets: Tensor, exact: torch.dtype, needs_gradient: bool) -> tuple[Tensor, Tensor]:
    """Return the loss of each row and the gradient of the logits, which are overwritten."""
    if triton_failure(logits.device) is None:
        from elmolite.nn.cross_entropy_triton import cross_entropy_

        return cross_entropy_(logits, targets, needs_gradient=needs_gradient), logits
    index = targets.unsqueeze(1)
    if not needs_gradient:
        return logits.log_softmax(dim=1, dtype=exact).gather(1, index).squeeze(1).neg(), logits
    probs = logits.softmax(dim=1, dtype=exact)
    of_targets = probs.gather(1, index)
    losses = of_targets.clamp_min(torch.finfo(exact).tiny).log().squeeze(1).neg()
    return losses, probs.scatter_(1, index, of_targets - 1).to(logits.dtype)


class _LogSumExp(torch.autograd.Function):
    """Log-sum-exp that keeps the softmax in the dtype of the products."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, excluded: Tensor, dtype: torch.dtype) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            low_hidden, low_weight = hidden.to(dtype), weight.to(dtype)
            values, shares = _logsumexp_(low_hidden @ low_weight.T, bias, excluded)
            ctx.save_for_backward(low_hidden, low_weight, shares)
            return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, shares = ctx.saved_tensors
        exact = grads[0].dtype
        with torch.autocast(hidden.device.type, enabled=False):
            grad = shares.mul_(grads[0].unsqueeze(1).to(shares.dtype))  # in place, as above
            ones = grad.new_ones(1, len(grad))
            parts = (grad @ weight, grad.T @ hidden, (ones @ grad).squeeze(0))
            return *(part.to(exact) for part in parts), None, None


def _logsumexp_(logits: Tensor, bias: Tensor, excluded: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-sum-exp of each row and the softmax in the dtype of the logits, which are overwritten."""
    if triton_failure(logits.device) is None:
        from elmolite.nn.cross_entropy_triton import logsumexp_

        return logsumexp_(logits, bias, excluded), logits
    low, column = logits.dtype, excluded.clamp(min=0).unsqueeze(1)
    logits = logits.to(bias.dtype).add_(bias)
    logits.scatter_(1, column, logits.gather(1, column).masked_fill(excluded.unsqueeze(1) >= 0, EXCLUDED))
    largest = logits.amax(dim=1)
    shares = logits.softmax(dim=1)
    return largest - shares.amax(dim=1).log(), shares.to(low)
