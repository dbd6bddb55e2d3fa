"""What a step of the LSTM computes for each cell by itself, between its two products; and the gradients of that.

Two implementations, with one interface: torch's operations, which run everywhere, and on a GPU the kernels of
:mod:`elmolite.nn.lstm.triton`, for there each operation costs a launch.

Each tanh is ``2 sigmoid(2 x) - 1``. The gates come with the candidate doubled, and cells are kept doubled. What is
projected is ``-o tanh(c)``: the weights of the projection have the sign.

Shapes: G directions, N positions of all sequences, H cells; the rows are those of a step.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Buffers(NamedTuple):
    """What the forward loop fills and the backward loop reads."""

    gates: Tensor  # (G, N, 4H): i, (1 + j) / 2, f, o
    doubled_cells: Tensor  # (G, N, H): 2 c
    cell_sigmoids: Tensor  # (G, N, H): (1 + tanh(c)) / 2
    outputs: Tensor  # (G, N, P)

    def at(self, rows: slice) -> Buffers:
        """Return the views of some positions."""
        return Buffers(*(part[:, rows] for part in self))


class CellGradients(Protocol):
    """The gradients of some steps, of which each is asked for by its positions."""

    def step(self, rows: slice, grad_gated: Tensor, grad_cell: Tensor, grad_gates: Tensor, keep: Tensor | None) -> None:
        """Fill the gradient of a step's gates before their activation.

        :param grad_gated: of what was projected, (G, rows, H), in the dtype of the products.
        :param grad_cell: of the cells, (G, rows, H); becomes that of the cells before.
        :param grad_gates: (G, rows, 4H), in the dtype of the products.
        :param keep: (rows, 1), false where the cells before are zero, whatever they were.
        """


class Cells(Protocol):
    """An implementation."""

    def forward(
        self,
        at: Buffers,
        product: Tensor | None,
        doubled_cell: Tensor,
        keep: Tensor | None,
        clip: float | None,
        dtype: torch.dtype,
    ) -> Tensor:
        """Take a step of training: return what is projected, (G, rows, H), in the dtype of the products.

        :param at: of the step; its gates are not activated as yet, the others are filled.
        :param product: what has still to be added to the gates, (G, rows, 4H).
        :param doubled_cell: before the step, (G, rows, H).
        :param keep: (rows, 1), false where the cells before are set to zero.
        """

    def gradients(self, at: Buffers, cells_before: Tensor, clip: float | None) -> CellGradients:
        """Prepare for the gradients of some steps, from the cells (G, rows, H) that each position started with."""

    def infer(self, gates: Tensor, doubled_cell: Tensor, clip: float | None, dtype: torch.dtype) -> Tensor:
        """Take a step without gradients: return what is projected; change the cells in place.

        :param gates: (G, rows, 4H), before their activation; what they hold afterwards is not said.
        """


class TorchCells:
    """The implementation in torch's operations."""

    def forward(
        self,
        at: Buffers,
        product: Tensor | None,
        doubled_cell: Tensor,
        keep: Tensor | None,
        clip: float | None,
        dtype: torch.dtype,
    ) -> Tensor:
        """Take a step of training."""
        if product is not None:
            at.gates.add_(product)
        if keep is not None:
            doubled_cell = doubled_cell * keep
        i, j_sigmoid, f, o = at.gates.sigmoid_().chunk(4, dim=2)
        torch.mul(doubled_cell, f, out=at.doubled_cells)
        at.doubled_cells.addcmul_(i, j_sigmoid, value=4).sub_(i, alpha=2)
        if clip is not None:
            at.doubled_cells.clamp_(-2 * clip, 2 * clip)
        torch.sigmoid(at.doubled_cells, out=at.cell_sigmoids)
        return torch.addcmul(o, o, at.cell_sigmoids, value=-2).to(dtype)

    def gradients(self, at: Buffers, cells_before: Tensor, clip: float | None) -> CellGradients:
        """Compute all of what the steps multiply their gradients with."""
        i, j_sigmoid, _, o = at.gates.chunk(4, dim=2)
        tanh_cells = 2 * at.cell_sigmoids - 1
        gates = torch.addcmul(at.gates, at.gates, at.gates, value=-1)  # of the sigmoid, s - s * s
        of_i, of_j, of_f, of_o = gates.chunk(4, dim=2)
        of_i.mul_(2 * j_sigmoid - 1)
        of_j.mul_(4 * i)  # j is tanh: 1 - j * j = 4 (s - s * s)
        of_f.mul_(cells_before)
        of_o.mul_(tanh_cells)
        inside = None if clip is None else (at.doubled_cells.abs() < 2 * clip).to(gates.dtype)
        return _Slopes(gates, torch.addcmul(o, o * tanh_cells, tanh_cells, value=-1), inside, at.gates)

    def infer(self, gates: Tensor, doubled_cell: Tensor, clip: float | None, dtype: torch.dtype) -> Tensor:
        """Take a step without gradients."""
        i, j_sigmoid, f, o = gates.sigmoid_().chunk(4, dim=2)
        doubled_cell.mul_(f).addcmul_(i, j_sigmoid, value=4).sub_(i, alpha=2)
        if clip is not None:
            doubled_cell.clamp_(-2 * clip, 2 * clip)
        return torch.addcmul(o, o, torch.sigmoid(doubled_cell), value=-2).to(dtype)


class _Slopes(NamedTuple):
    """What gradients are multiplied with: the derivatives of each step by what comes into it."""

    gates: Tensor  # (G, N, 4H): of the cell by what i, j, f are before their activation; of what is projected by o
    cells: Tensor  # (G, N, H): of what is projected by the cell
    inside: Tensor | None  # (G, N, H): 1 where the cell is inside its clip, 0 elsewhere; none where nothing clips
    activated: Tensor  # (G, N, 4H): i, (1 + j) / 2, f, o

    def step(self, rows: slice, grad_gated: Tensor, grad_cell: Tensor, grad_gates: Tensor, keep: Tensor | None) -> None:
        """Take a step back."""
        n_cells = grad_cell.shape[2]
        grad_gated, gates = grad_gated.to(grad_cell.dtype), self.gates[:, rows]
        grad_cell.addcmul_(grad_gated, self.cells[:, rows])
        if self.inside is not None:
            grad_cell.mul_(self.inside[:, rows])
        torch.mul(_in_thirds(gates), grad_cell.unsqueeze(2), out=_in_thirds(grad_gates))
        torch.mul(gates[..., 3 * n_cells :], grad_gated, out=grad_gates[..., 3 * n_cells :])
        grad_cell.mul_(self.activated[:, rows, 2 * n_cells : 3 * n_cells])
        if keep is not None:
            grad_cell.mul_(keep)


def _in_thirds(gates: Tensor) -> Tensor:
    """Return i, j and f of (G, rows, 4H) as (G, rows, 3, H)."""
    return gates.view(*gates.shape[:2], 4, -1)[:, :, :3]


_TORCH = TorchCells()


def cells_on(device: torch.device) -> Cells:
    """Return the implementation for a device: the kernels on a GPU on which they run, and torch everywhere else."""
    if device.type != "cuda":
        return _TORCH
    kernels = _kernels(device)
    return _TORCH if isinstance(kernels, str) else kernels


def describe_cells(device: torch.device) -> str:
    """Return which implementation computes on a device, and why it is not the kernels on a GPU."""
    if device.type != "cuda":
        return "torch"
    kernels = _kernels(device)
    return f"torch, for Triton does not run: {kernels}" if isinstance(kernels, str) else "one Triton kernel"


@cache
def _kernels(device: torch.device) -> Cells | str:
    """Return the kernels, or why they do not run on a device.

    Besides Triton they take a compiler, the headers of Python, a folder to write to and a GPU that is new enough: a
    step is tried.
    """
    try:
        from elmolite.nn.lstm.triton import TritonCells

        kernels = TritonCells()
        kernels.infer(torch.zeros(1, 1, 4, device=device), torch.zeros(1, 1, 1, device=device), None, torch.float32)
    except Exception as error:  # whatever it is, torch's operations do the same
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return kernels
