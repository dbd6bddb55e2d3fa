"""Triton kernel of :mod:`elmolite.nn.cross_entropy`: the loss of logits and its gradient in one launch.

A program reads a row of logits twice, for the running maximum and sum and for the softmax (Milakov and Gimelshein
2018), and overwrites them by their gradient, as Liger Kernel does (Hsu et al. 2024). It computes in float64 if the
logits are float64 and in float32 otherwise. The kernel calls only built-in functions of Triton, because its
interpreter runs no others; ``tl.sum`` is not built in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

MAX_BLOCK = 2048
"""Maximum number of columns that a program reads at once."""

_jit: Callable[[Callable[..., Any]], Any] = triton.jit


@_jit
def _sum(x: tl.tensor, y: tl.tensor) -> tl.tensor:
    return x + y


@_jit
def _maximum(x: tl.tensor, y: tl.tensor) -> tl.tensor:
    return tl.maximum(x, y)


@_jit
def _load(
    row: tl.tensor, bias: tl.tensor, column: tl.tensor, marked: tl.tensor, n_columns: tl.constexpr, dtype: tl.constexpr
) -> tl.tensor:
    """Load logits of a row; with a bias, add it and exclude the marked column."""
    x = tl.load(row + column, column < n_columns, float("-inf")).to(dtype)
    if bias is not None:
        x = tl.where(column == marked, -1e30, x + tl.load(bias + column, column < n_columns, 0.0).to(dtype))
    return x


@_jit
def _kernel(
    logits: tl.tensor,
    bias: tl.tensor,
    columns: tl.tensor,
    losses: tl.tensor,
    N_COLUMNS: tl.constexpr,  # noqa: N803
    HAS_GRADIENT: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
) -> None:
    """Compute a row; each lane has its own maximum and sum, so that one reduction at the end is enough."""
    dtype: tl.constexpr = tl.float64 if logits.dtype.element_ty == tl.float64 else tl.float32
    number = tl.program_id(0).to(tl.int64)
    row, marked = logits + number * N_COLUMNS, tl.load(columns + number)
    largest = tl.full((BLOCK,), -3e38, dtype)  # finite: -inf - -inf is NaN
    total = tl.full((BLOCK,), 0, dtype)
    of_marked = tl.full((BLOCK,), 0, dtype)
    for start in range(0, N_COLUMNS, BLOCK):
        column = start + tl.arange(0, BLOCK)
        x = _load(row, bias, column, marked, N_COLUMNS, dtype)
        if bias is None:
            of_marked = tl.where(column == marked, x, of_marked)
        ratio = tl.exp(-tl.abs(x - largest))
        total = tl.where(x > largest, total * ratio + 1, total + ratio)  # NaN stays in the sum
        largest = tl.where(x > largest, x, largest)
    of_row = tl.reduce(largest, 0, _maximum)
    total_of_row = tl.reduce(total * tl.exp(largest - of_row), 0, _sum)
    tl.store(losses + number, of_row + tl.log(total_of_row) - tl.reduce(of_marked, 0, _sum))
    if HAS_GRADIENT:
        for start in range(0, N_COLUMNS, BLOCK):
            column = start + tl.arange(0, BLOCK)
            x = tl.exp(_load(row, bias, column, marked, N_COLUMNS, dtype) - of_row) / total_of_row
            if bias is None:
                x = tl.where(column == marked, x - 1, x)
            tl.store(row + column, x, column < N_COLUMNS)


def cross_entropy_(logits: Tensor, targets: Tensor, *, needs_gradient: bool) -> Tensor:
    """Return the cross entropy of each row, (N), in float32 or float64.

    :param logits: (N, V), contiguous; overwritten by the gradient if needed.
    :param targets: columns, (N).
    """
    return _launch(logits, None, targets, needs_gradient)


def logsumexp_(logits: Tensor, bias: Tensor, excluded: Tensor) -> Tensor:
    """Return the log-sum-exp of each row, (N), in float32 or float64.

    :param logits: (N, S), contiguous; overwritten by the softmax.
    :param bias: to be added to the logits, (S).
    :param excluded: column that does not count in a row, (N); -1 for none.
    """
    return _launch(logits, bias, excluded, True)


def _launch(logits: Tensor, bias: Tensor | None, columns: Tensor, has_gradient: bool) -> Tensor:
    n_rows, n_columns = logits.shape
    exact = torch.float64 if logits.dtype == torch.float64 else torch.float32
    losses = torch.empty(n_rows, dtype=exact, device=logits.device)
    block = min(MAX_BLOCK, triton.next_power_of_2(n_columns))
    with torch.cuda.device_of(logits):  # type: ignore[no-untyped-call]
        _kernel[n_rows,](
            logits,
            bias,
            columns,
            losses,
            N_COLUMNS=n_columns,
            HAS_GRADIENT=has_gradient,
            BLOCK=block,
            num_warps=max(1, block // 256),
            enable_fp_fusion=True,  # the default; without it Triton warns
        )
    return losses


def try_on(device: torch.device) -> None:
    """Launch the kernel once on a device."""
    targets = torch.zeros(1, dtype=torch.int64, device=device)
    cross_entropy_(torch.zeros(1, 1, device=device), targets, needs_gradient=True)
