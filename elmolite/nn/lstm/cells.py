"""Elementwise part of an LSTM step and its gradients: torch operations, or on a GPU the Triton kernels.

A GPU launches each torch operation separately, therefore :mod:`elmolite.nn.lstm.triton` has one kernel for a step.

Each tanh is computed as ``2 sigmoid(2 x) - 1``, which is far cheaper than torch's tanh on a CPU. The factors 2 are in
the weights of the candidate (:func:`double_candidate`) and in cell states that are stored doubled, which is exact. The
output gate's product comes out as ``-o tanh(c)``, so that the projection has the negative weights.

Shapes: G directions, N positions of all sequences, H cells; the rows are those of a step.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from elmolite.nn.kernels import triton_failure
from elmolite.nn.lstm.reference import State, Weights


def double_candidate(weights: Weights, forget_bias: float) -> Weights:
    """Return weights with a doubled candidate gate, the forget bias added to the bias, and a negative projection.

    :param weights: as the reference takes them, with any leading dimensions.
    """
    n_cells = weights.projection.shape[-1]
    factors = weights.bias.new_ones(4, 1)
    factors[1] = 2
    bias = weights.bias.clone()
    bias[..., 2 * n_cells : 3 * n_cells] += forget_bias
    per_row = factors.expand(4, n_cells).reshape(-1)
    low = per_row.unsqueeze(1).to(weights.input.dtype)
    return Weights(weights.input * low, weights.recurrent * low, bias * per_row, -weights.projection)


class Buffers(NamedTuple):
    """Activations that the forward pass stores for the backward pass."""

    gates: Tensor  # (G, N, 4H): i, (1 + j) / 2, f, o
    doubled_cells: Tensor  # (G, N, H): 2 c
    cell_sigmoids: Tensor  # (G, N, H): (1 + tanh(c)) / 2
    outputs: Tensor  # (G, N, P)

    @classmethod
    def empty(cls, x: Tensor, state: State) -> Buffers:
        """Allocate the buffers for inputs (G, N, D) and states (G, B, P) and (G, B, H)."""
        n_cells, projection_size = state.cell.shape[2], state.hidden.shape[2]
        gates, cells, sigmoids = (state.cell.new_empty(*x.shape[:2], n * n_cells) for n in (4, 1, 1))
        return cls(gates, cells, sigmoids, state.hidden.new_empty(*x.shape[:2], projection_size))

    def at(self, rows: slice) -> Buffers:
        """Return the views of some positions."""
        return Buffers(*(part[:, rows] for part in self))


class Step(NamedTuple):
    """Inputs and output buffers of a step."""

    gates: Tensor  # (G, rows, 4H): before their activation; overwritten, in training by the activated gates
    cell: Tensor  # (G, rows, H): doubled cells before the step
    new_cell: Tensor  # (G, rows, H): output, the doubled cells after the step; may be ``cell``
    product: Tensor | None = None  # (G, rows, 4H): to be added to the gates first
    keep: Tensor | None = None  # (rows, 1): false where the cells before the step are reset
    cell_sigmoids: Tensor | None = None  # (G, rows, H): output in training, the sigmoids of the doubled cells


class CellGradients(Protocol):
    """Backward pass of the elementwise part for a group of steps."""

    def step(self, rows: slice, grad_gated: Tensor, grad_cell: Tensor, grad_gates: Tensor, keep: Tensor | None) -> None:
        """Compute the gradient of a step's gates before their activation.

        :param rows: positions of the step in the group.
        :param grad_gated: gradient of the projection's input, (G, rows, H), in the dtype of the products.
        :param grad_cell: gradient of the cells, (G, rows, H); overwritten by that of the cells before the step.
        :param grad_gates: output, (G, rows, 4H), in the dtype of the products.
        :param keep: (rows, 1), false where the cells before the step are reset.
        """


class Cells(Protocol):
    """Implementation of the elementwise part."""

    def step(self, at: Step, clip: float | None, dtype: torch.dtype) -> Tensor:
        """Compute a step and return the projection's input, (G, rows, H), in the dtype of the products.

        :param clip: of the cells, not doubled.
        """

    def gradients(self, at: Buffers, cells_before: Tensor, clip: float | None) -> CellGradients:
        """Prepare the backward pass of some steps, given the cells (G, rows, H) before each position."""


class TorchCells:
    """Elementwise part in torch operations."""

    def step(self, at: Step, clip: float | None, dtype: torch.dtype) -> Tensor:
        """Compute a step, see :meth:`Cells.step`."""
        gates = at.gates.to(at.cell.dtype)
        if at.product is not None:
            gates.add_(at.product)
        cell = at.cell if at.keep is None else at.cell * at.keep
        i, j_sigmoid, f, o = gates.sigmoid_().chunk(4, dim=2)
        torch.mul(cell, f, out=at.new_cell)
        at.new_cell.addcmul_(i, j_sigmoid, value=4).sub_(i, alpha=2)
        if clip is not None:
            at.new_cell.clamp_(-2 * clip, 2 * clip)
        return torch.addcmul(o, o, torch.sigmoid(at.new_cell, out=at.cell_sigmoids), value=-2).to(dtype)

    def gradients(self, at: Buffers, cells_before: Tensor, clip: float | None) -> CellGradients:
        """Compute the derivatives of all positions at once."""
        i, j_sigmoid, _, o = at.gates.chunk(4, dim=2)
        tanh_cells = 2 * at.cell_sigmoids - 1
        gates = torch.addcmul(at.gates, at.gates, at.gates, value=-1)  # of the sigmoid, s - s * s
        of_i, of_j, of_f, of_o = gates.chunk(4, dim=2)
        of_i.mul_(2 * j_sigmoid - 1)
        of_j.mul_(4 * i)  # j is tanh: 1 - j * j = 4 (s - s * s)
        of_f.mul_(cells_before)
        of_o.mul_(tanh_cells)
        inside = None if clip is None else (at.doubled_cells.abs() < 2 * clip).to(gates.dtype)
        return _Derivatives(gates, torch.addcmul(o, o * tanh_cells, tanh_cells, value=-1), inside, at.gates)


class _Derivatives(NamedTuple):
    """Local derivatives of each step."""

    gates: Tensor  # (G, N, 4H): of the cell by i, j, f before their activation; of the projection's input by o
    cells: Tensor  # (G, N, H): of the projection's input by the cell
    inside: Tensor | None  # (G, N, H): 1 where the cell is not clipped, else 0; None without clip
    activated: Tensor  # (G, N, 4H): i, (1 + j) / 2, f, o

    def step(self, rows: slice, grad_gated: Tensor, grad_cell: Tensor, grad_gates: Tensor, keep: Tensor | None) -> None:
        """Compute the gradients of a step, see :meth:`CellGradients.step`."""
        n_cells = grad_cell.shape[2]
        grad_gated, gates = grad_gated.to(grad_cell.dtype), self.gates[:, rows]
        grad_cell.addcmul_(grad_gated, self.cells[:, rows])
        if self.inside is not None:
            grad_cell.mul_(self.inside[:, rows])
        torch.mul(_first_three(gates), grad_cell.unsqueeze(2), out=_first_three(grad_gates))
        torch.mul(gates[..., 3 * n_cells :], grad_gated, out=grad_gates[..., 3 * n_cells :])
        grad_cell.mul_(self.activated[:, rows, 2 * n_cells : 3 * n_cells])
        if keep is not None:
            grad_cell.mul_(keep)


def _first_three(gates: Tensor) -> Tensor:
    """Return i, j and f of (G, rows, 4H) as (G, rows, 3, H)."""
    return gates.view(*gates.shape[:2], 4, -1)[:, :, :3]


_TORCH = TorchCells()


def cells_on(device: torch.device) -> Cells:
    """Return the implementation for a device: Triton on a GPU that can run it, torch everywhere else."""
    if triton_failure(device) is not None:
        return _TORCH
    from elmolite.nn.lstm.triton import TritonCells

    return TritonCells()
