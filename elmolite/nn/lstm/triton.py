"""Triton kernels of :mod:`elmolite.nn.lstm.cells`: one launch for a step forward, one for a step backward.

A program computes ``BLOCK`` cells of one row of one direction, in float64 if the gates are float64 and in float32
otherwise, whatever the dtypes of its inputs and outputs. The kernels call only built-in functions of Triton, so that
its interpreter can run them.

Imported on machines with a GPU only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from elmolite.nn.lstm.cells import Buffers, CellGradients, Step

MAX_BLOCK = 512
"""Maximum number of cells of a program, small enough for many programs even with few rows."""

_jit: Callable[[Callable[..., Any]], Any] = triton.jit


@_jit
def _sigmoid(x: tl.tensor) -> tl.tensor:
    return 1 / (1 + tl.exp(-x))


@_jit
def _load_gates(at: tl.tensor, is_cell: tl.tensor, dtype: tl.constexpr, N_CELLS: tl.constexpr) -> Any:  # noqa: N803
    """Load i, j, f and o."""
    return (
        tl.load(at, is_cell).to(dtype),
        tl.load(at + N_CELLS, is_cell).to(dtype),
        tl.load(at + 2 * N_CELLS, is_cell).to(dtype),
        tl.load(at + 3 * N_CELLS, is_cell).to(dtype),
    )


@_jit
def _forward_kernel(
    gated: tl.tensor,
    gates: tl.tensor,
    product: tl.tensor,
    cell: tl.tensor,
    keep: tl.tensor,
    doubled_cells: tl.tensor,
    cell_sigmoids: tl.tensor,
    gates_g: tl.tensor,
    gates_row: tl.tensor,
    product_g: tl.tensor,
    product_row: tl.tensor,
    cell_g: tl.tensor,
    cell_row: tl.tensor,
    cell_column: tl.tensor,
    cells_g: tl.tensor,
    cells_row: tl.tensor,
    cells_column: tl.tensor,
    CLIP: tl.constexpr,  # noqa: N803
    N_CELLS: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
) -> None:
    """Compute a step; without ``cell_sigmoids`` (inference) nothing is stored for the backward pass."""
    row, g = tl.program_id(0).to(tl.int64), tl.program_id(2).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_cell = column < N_CELLS
    dtype: tl.constexpr = tl.float64 if gates.dtype.element_ty == tl.float64 else tl.float32
    at = gates + g * gates_g + row * gates_row + column
    i, j, f, o = _load_gates(at, is_cell, dtype, N_CELLS)
    if product is not None:
        at_product = product + g * product_g + row * product_row + column
        more_i, more_j, more_f, more_o = _load_gates(at_product, is_cell, dtype, N_CELLS)
        i, j, f, o = i + more_i, j + more_j, f + more_f, o + more_o
    i, j, f, o = _sigmoid(i), _sigmoid(j), _sigmoid(f), _sigmoid(o)
    before = tl.load(cell + g * cell_g + row * cell_row + column * cell_column, is_cell).to(dtype)
    if keep is not None:
        before = tl.where(tl.load(keep + row), before, 0.0)
    doubled = f * before + 4 * i * j - 2 * i
    if CLIP is not None:  # comparisons keep NaN
        clip = tl.full((BLOCK,), CLIP, dtype)  # a plain number is float32 for Triton before 3.9
        doubled = tl.where(doubled > clip, clip, doubled)
        doubled = tl.where(doubled < -clip, -clip, doubled)
    cell_sigmoid = _sigmoid(doubled)
    at_cell = g * cells_g + row * cells_row + column * cells_column
    tl.store(doubled_cells + at_cell, doubled, is_cell)
    if cell_sigmoids is not None:
        tl.store(cell_sigmoids + at_cell, cell_sigmoid, is_cell)
        tl.store(at, i, is_cell)
        tl.store(at + N_CELLS, j, is_cell)
        tl.store(at + 2 * N_CELLS, f, is_cell)
        tl.store(at + 3 * N_CELLS, o, is_cell)
    at_gated = gated + (g * tl.num_programs(0) + row) * N_CELLS + column
    tl.store(at_gated, o - 2 * o * cell_sigmoid, is_cell)


@_jit
def _backward_kernel(
    grad_cell: tl.tensor,
    gates: tl.tensor,
    doubled_cells: tl.tensor,
    cell_sigmoids: tl.tensor,
    cells_before: tl.tensor,
    grad_gated: tl.tensor,
    grad_gates: tl.tensor,
    keep: tl.tensor,
    gates_g: tl.tensor,
    gates_row: tl.tensor,
    cells_g: tl.tensor,
    cells_row: tl.tensor,
    grad_gated_g: tl.tensor,
    grad_gated_row: tl.tensor,
    grad_cell_g: tl.tensor,
    grad_cell_row: tl.tensor,
    grad_cell_column: tl.tensor,
    CLIP: tl.constexpr,  # noqa: N803
    N_CELLS: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
) -> None:
    """Compute the gradients of a step; ``grad_gates`` has the strides of ``gates``."""
    row, g = tl.program_id(0).to(tl.int64), tl.program_id(2).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_cell = column < N_CELLS
    dtype: tl.constexpr = tl.float64 if gates.dtype.element_ty == tl.float64 else tl.float32
    at = g * gates_g + row * gates_row + column
    i, j, f, o = _load_gates(gates + at, is_cell, dtype, N_CELLS)
    at_cell = g * cells_g + row * cells_row + column
    tanh_cell = 2 * tl.load(cell_sigmoids + at_cell, is_cell).to(dtype) - 1
    before = tl.load(cells_before + at_cell, is_cell).to(dtype)
    of_gated = tl.load(grad_gated + g * grad_gated_g + row * grad_gated_row + column, is_cell).to(dtype)
    at_grad = grad_cell + g * grad_cell_g + row * grad_cell_row + column * grad_cell_column
    of_cell = tl.load(at_grad, is_cell).to(dtype) + of_gated * (o - o * tanh_cell * tanh_cell)
    if CLIP is not None:
        is_inside = tl.abs(tl.load(doubled_cells + at_cell, is_cell).to(dtype)) < tl.full((BLOCK,), CLIP, dtype)
        of_cell = tl.where(is_inside, of_cell, 0.0 * of_cell)  # keeps NaN
    tl.store(grad_gates + at, (i - i * i) * (2 * j - 1) * of_cell, is_cell)
    tl.store(grad_gates + at + N_CELLS, (j - j * j) * 4 * i * of_cell, is_cell)  # tanh: 1 - j * j = 4 (s - s * s)
    tl.store(grad_gates + at + 2 * N_CELLS, (f - f * f) * before * of_cell, is_cell)
    tl.store(grad_gates + at + 3 * N_CELLS, (o - o * o) * tanh_cell * of_gated, is_cell)
    of_before = of_cell * f
    if keep is not None:
        of_before = tl.where(tl.load(keep + row), of_before, 0.0)
    tl.store(at_grad, of_before, is_cell)


class TritonCells:
    """Elementwise part of an LSTM step in Triton kernels, see :class:`elmolite.nn.lstm.cells.Cells`."""

    def step(self, at: Step, clip: float | None, dtype: torch.dtype) -> Tensor:
        """Compute a step in one kernel."""
        gates, cell, new_cell, product, keep, cell_sigmoids = at
        gated = torch.empty(cell.shape, dtype=dtype, device=cell.device)
        strides = (
            *gates.stride()[:2],
            *((0, 0) if product is None else product.stride()[:2]),
            *cell.stride(),
            *new_cell.stride(),
        )
        clip = _doubled_clip(clip, new_cell.dtype)
        _launch(_forward_kernel, clip, gated, gates, product, cell, keep, new_cell, cell_sigmoids, *strides)
        return gated

    def gradients(self, at: Buffers, cells_before: Tensor, clip: float | None) -> CellGradients:
        """Keep the inputs of the backward kernel, which computes the derivatives itself."""
        return _Gradients(at, cells_before, clip)


class _Gradients(NamedTuple):
    """Backward pass of some steps."""

    at: Buffers
    cells_before: Tensor  # (G, N, H)
    clip: float | None

    def step(self, rows: slice, grad_gated: Tensor, grad_cell: Tensor, grad_gates: Tensor, keep: Tensor | None) -> None:
        """Compute the gradients of a step, see :meth:`elmolite.nn.lstm.cells.CellGradients.step`."""
        gates, doubled_cells = self.at.gates[:, rows], self.at.doubled_cells[:, rows]
        saved = gates, doubled_cells, self.at.cell_sigmoids[:, rows], self.cells_before[:, rows]
        strides = (
            *gates.stride()[:2],
            *doubled_cells.stride()[:2],
            *grad_gated.stride()[:2],
            *grad_cell.stride(),
        )
        clip = _doubled_clip(self.clip, doubled_cells.dtype)
        _launch(_backward_kernel, clip, grad_cell, *saved, grad_gated, grad_gates, keep, *strides)


def _launch(kernel: Any, clip: float | None, of_cells: Tensor, *arguments: Tensor | int | None) -> None:
    """Run a kernel over the cells of a step, (G, rows, H), on their GPU."""
    n_directions, n_rows, n_cells = of_cells.shape
    block = min(MAX_BLOCK, 1 << (n_cells - 1).bit_length())
    with torch.cuda.device_of(of_cells):  # type: ignore[no-untyped-call]
        kernel[n_rows, -(-n_cells // block), n_directions](
            of_cells,
            *arguments,
            CLIP=clip,
            N_CELLS=n_cells,
            BLOCK=block,
            enable_fp_fusion=True,  # the default; without it Triton warns
        )


@cache
def _doubled_clip(clip: float | None, dtype: torch.dtype) -> float | None:
    """Return the clip of doubled cells, rounded to the dtype in which they are stored and compared."""
    return None if clip is None else torch.tensor(2 * clip, dtype=dtype).item()


def try_on(device: torch.device) -> None:
    """Launch the forward kernel once on a device."""
    cell = torch.zeros(1, 1, 1, device=device)
    TritonCells().step(Step(torch.zeros(1, 1, 4, device=device), cell, cell), None, torch.float32)
