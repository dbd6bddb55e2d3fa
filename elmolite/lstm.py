"""LSTM with projection and clipping: the plain reference, and the path that trains, held equal to it by tests.

Without gradients :mod:`elmolite.lstm_inference` computes the same.

The cell (Sak et al. 2014, with the clips of bilm-tf), for input x, output h and cell state c of the step before::

    i, j, f, o = split(W x + U h + b)
    c = clip(sigmoid(f + forget_bias) * c + sigmoid(i) * tanh(j), cell_clip)
    h = clip(P (sigmoid(o) * tanh(c)), projection_clip)

Sequences are *packed*: sorted by length, longest first, then laid out time-major without padding, so that the rows of
a step are the sequences that still run. Training windows are the case in which every step has all rows.

Shapes: N positions of all sequences together, B sequences, D input size, P projection, H cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from elmolite.prepared_weights import product_dtype


class Weights(NamedTuple):
    """Parameters of one layer; the rows of the gates are i, j (candidate), f, o, as in bilm-tf."""

    input: Tensor  # (4H, D)
    recurrent: Tensor  # (4H, P)
    bias: Tensor  # (4H): the forget bias is not in it
    projection: Tensor  # (P, H)


class State(NamedTuple):
    """What a layer carries from one step to the next, or a stack of layers with one more dimension in front."""

    hidden: Tensor  # (B, P)
    cell: Tensor  # (B, H)


class Constants(NamedTuple):
    """The numbers of a layer that are not learnt; a clip of ``None`` is none."""

    cell_clip: float | None
    projection_clip: float | None
    forget_bias: float


def lstm_reference(
    x: Tensor,
    batch_sizes: Sequence[int],
    state: State,
    weights: Weights,
    constants: Constants,
    starts: Tensor | None = None,
) -> tuple[Tensor, State]:
    """Run one layer over packed sequences, as the equations say and no faster.

    :param x: packed input, (N, D).
    :param batch_sizes: rows of each step, never increasing; they sum to N.
    :param state: before the first step, B = ``batch_sizes[0]`` rows.
    :param starts: (N), true where the state is set to zero before the step.
    :returns: packed outputs (N, P) and the state of each sequence after its last step.
    """
    hidden, cell = state
    outputs: list[Tensor] = []
    at = 0
    for n_rows in batch_sizes:
        h, c = hidden[:n_rows], cell[:n_rows]
        if starts is not None:
            keep = ~starts[at : at + n_rows, None]
            h, c = h * keep, c * keep
        gates = x[at : at + n_rows] @ weights.input.T + h @ weights.recurrent.T + weights.bias
        i, j, f, o = gates.chunk(4, dim=1)
        c = torch.sigmoid(f + constants.forget_bias) * c + torch.sigmoid(i) * torch.tanh(j)
        c = _clip(c, constants.cell_clip)
        h = (torch.sigmoid(o) * torch.tanh(c)) @ weights.projection.T
        h = _clip(h, constants.projection_clip)
        outputs.append(h)
        hidden, cell = torch.cat([h, hidden[n_rows:]]), torch.cat([c, cell[n_rows:]])
        at += n_rows
    return torch.cat(outputs), State(hidden, cell)


def _clip(x: Tensor, limit: float | None) -> Tensor:
    return x if limit is None else x.clamp(-limit, limit)


def lstm(
    x: Tensor,
    batch_sizes: Sequence[int],
    state: State,
    weights: Weights,
    constants: Constants,
    starts: Tensor | None = None,
) -> tuple[Tensor, State]:
    """Compute what :func:`lstm_reference` does, faster.

    The input product of all steps is one matrix product before the loop, the weight gradients are one product each
    after it. Under autocast the products run in its dtype; gates and cell state stay in that of ``state``.
    """
    dtype = product_dtype(weights.input)
    outputs, hidden, cell = _LSTM.apply(  # type: ignore[no-untyped-call]
        x, state.hidden, state.cell, *weights, starts, tuple(batch_sizes), constants, dtype
    )
    return outputs, State(hidden, cell)


class _LSTM(torch.autograd.Function):
    """The loop over time with its own backward loop, so that no step is taped and no gradient is added up in parts."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        hidden: Tensor,
        cell: Tensor,
        input_weight: Tensor,
        recurrent_weight: Tensor,
        bias: Tensor,
        projection_weight: Tensor,
        starts: Tensor | None,
        batch_sizes: tuple[int, ...],
        constants: Constants,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor]:
        with _no_autocast(x.device.type):
            weights = Weights(input_weight.to(dtype), recurrent_weight.to(dtype), bias, projection_weight.to(dtype))
            loop = _Loop(batch_sizes, constants, None if starts is None else ~starts.unsqueeze(1))
            final, buffers = loop.forward(x.to(dtype), State(hidden, cell), weights)
        # Saved this way, and not on the loop, an output does not keep itself alive.
        ctx.save_for_backward(x, hidden, cell, *weights, *buffers)
        ctx.loop = loop
        return buffers.outputs, final.hidden, final.cell

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, hidden, cell, *saved = ctx.saved_tensors
        weights, buffers = Weights(*saved[:4]), _Buffers(*saved[4:])
        with _no_autocast(x.device.type):
            grads_of_weights, grad_x, grad_state = ctx.loop.backward(
                x, State(hidden, cell), weights, buffers, grads[0], State(grads[1], grads[2])
            )
        return grad_x, *grad_state, *grads_of_weights, None, None, None, None


def _no_autocast(device: str) -> AbstractContextManager[Any]:
    return torch.autocast(device, enabled=False)


class _Buffers(NamedTuple):
    """What the forward loop fills and the backward loop reads."""

    gates: Tensor  # (N, 4H): i, j, f, o after their activation
    cells: Tensor  # (N, H)
    tanh_cells: Tensor  # (N, H)
    outputs: Tensor  # (N, P)


class _Loop:
    """The loop over the steps of packed sequences, forward and backward.

    ``keep``, (N, 1), is false where a state is set to zero before the step.
    """

    def __init__(self, batch_sizes: tuple[int, ...], constants: Constants, keep: Tensor | None) -> None:
        self.batch_sizes = batch_sizes
        self.constants = constants
        self.keep = keep
        self.offsets = [0, *accumulate(batch_sizes)]

    def forward(self, x: Tensor, state: State, weights: Weights) -> tuple[State, _Buffers]:
        """Run all steps; return the last state of each sequence, and what the backward loop reads."""
        n, n_cells = self.offsets[-1], weights.projection.shape[1]
        bias = weights.bias.clone()
        bias[2 * n_cells : 3 * n_cells] += self.constants.forget_bias
        gates = torch.addmm(bias.to(x.dtype), x, weights.input.T).to(state.cell.dtype)
        cells = state.cell.new_empty(n, n_cells)
        buffers = _Buffers(
            gates, cells, torch.empty_like(cells), state.hidden.new_empty(n, weights.projection.shape[0])
        )
        hidden, cell = state
        ended: list[State] = []
        for at, n_rows in zip(self.offsets, self.batch_sizes, strict=False):
            if n_rows < len(hidden):
                ended.append(State(hidden[n_rows:], cell[n_rows:]))
                hidden, cell = hidden[:n_rows], cell[:n_rows]
            rows = slice(at, at + n_rows)
            if self.keep is not None:
                hidden, cell = hidden * self.keep[rows], cell * self.keep[rows]
            hidden, cell = self._step(State(hidden, cell), _Buffers(*(part[rows] for part in buffers)), weights)
        ended.append(State(hidden, cell))
        final = State(*(torch.cat([part.to(cell.dtype) for part in parts[::-1]]) for parts in zip(*ended, strict=True)))
        return final, buffers

    def _step(self, state: State, at: _Buffers, weights: Weights) -> State:
        """Take one step: fill its rows ``at`` of the buffers, whose gates hold the product of its input as yet."""
        dtype = weights.recurrent.dtype
        if dtype == at.gates.dtype:
            at.gates.addmm_(state.hidden, weights.recurrent.T)
        else:
            at.gates.add_(state.hidden.to(dtype) @ weights.recurrent.T)
        i, j, f, o = at.gates.chunk(4, dim=1)
        j.mul_(2)
        at.gates.sigmoid_()
        _tanh_of_half_(j)
        torch.mul(state.cell, f, out=at.cells)
        at.cells.addcmul_(i, j)
        if self.constants.cell_clip is not None:
            at.cells.clamp_(-self.constants.cell_clip, self.constants.cell_clip)
        torch.mul(at.cells, 2, out=at.tanh_cells)
        _tanh_of_half_(at.tanh_cells.sigmoid_())
        hidden = (o * at.tanh_cells).to(dtype) @ weights.projection.T
        if self.constants.projection_clip is not None:
            hidden.clamp_(-self.constants.projection_clip, self.constants.projection_clip)
        at.outputs.copy_(hidden)
        return State(hidden, at.cells)

    def backward(
        self, x: Tensor, state: State, weights: Weights, buffers: _Buffers, grad_outputs: Tensor, grad_final: State
    ) -> tuple[Weights, Tensor, State]:
        """Return the gradients of the weights, of the input and of the first state."""
        dtype, n_cells = weights.recurrent.dtype, weights.projection.shape[1]
        before = self._states_before(state, buffers)
        gated = buffers.gates[:, 3 * n_cells :] * buffers.tanh_cells  # what was projected, (N, H)
        grad_projected = torch.empty_like(buffers.outputs)
        grad_gates = torch.empty_like(buffers.gates, dtype=dtype)
        grad_bias = gated.new_zeros(4 * n_cells)
        grad_hidden, grad_cell = grad_final.hidden.clone(), grad_final.cell.clone()
        for step in reversed(range(len(self.batch_sizes))):
            rows = slice(self.offsets[step], self.offsets[step + 1])
            grad_h, grad_c = grad_hidden[: self.batch_sizes[step]], grad_cell[: self.batch_sizes[step]]
            grad_projected[rows] = _clip_backward(
                grad_outputs[rows] + grad_h, buffers.outputs[rows], self.constants.projection_clip
            )
            grad_gated = (grad_projected[rows].to(dtype) @ weights.projection).to(grad_c.dtype)
            grads = self._step_backward(buffers, rows, before.cell[rows], gated[rows], grad_gated, grad_c)
            grad_bias += grads.sum(dim=0)
            grad_gates[rows] = grads
            grad_h.copy_(grad_gates[rows] @ weights.recurrent)
            if self.keep is not None:
                grad_h.mul_(self.keep[rows])
                grad_c.mul_(self.keep[rows])
        exact = gated.dtype
        grads_of_weights = Weights(
            (grad_gates.T @ x.to(dtype)).to(exact),
            (grad_gates.T @ before.hidden.to(dtype)).to(exact),
            grad_bias,
            (grad_projected.to(dtype).T @ gated.to(dtype)).to(exact),
        )
        return grads_of_weights, (grad_gates @ weights.input).to(x.dtype), State(grad_hidden, grad_cell)

    def _step_backward(
        self, buffers: _Buffers, rows: slice, cell_before: Tensor, gated: Tensor, grad_gated: Tensor, grad_cell: Tensor
    ) -> Tensor:
        """Return the gradient of the gates before their activation; turn ``grad_cell`` into that of the cell before."""
        gates, tanh_cell = buffers.gates[rows], buffers.tanh_cells[rows]
        i, j, f, o = gates.chunk(4, dim=1)
        grad_cell.addcmul_(grad_gated, torch.addcmul(o, gated, tanh_cell, value=-1))
        if self.constants.cell_clip is not None:
            grad_cell.copy_(_clip_backward(grad_cell, buffers.cells[rows], self.constants.cell_clip))
        grads = torch.addcmul(gates, gates, gates, value=-1)  # the slope of the sigmoid, s - s * s
        grad_i, grad_j, grad_f, grad_o = grads.chunk(4, dim=1)
        grad_i.mul_(j)
        torch.addcmul(i, i * j, j, value=-1, out=grad_j)
        grad_f.mul_(cell_before)
        grads.view(len(grads), 4, -1)[:, :3].mul_(grad_cell.unsqueeze(1))
        grad_o.mul_(tanh_cell).mul_(grad_gated)
        grad_cell.mul_(f)
        return grads

    def _states_before(self, state: State, buffers: _Buffers) -> State:
        """Return the hidden and cell state that each position started from, (N, P) and (N, H)."""
        parts = [(state.hidden[: self.batch_sizes[0]], state.cell[: self.batch_sizes[0]])]
        for at, n_rows in zip(self.offsets, self.batch_sizes[1:], strict=False):
            parts.append((buffers.outputs[at : at + n_rows], buffers.cells[at : at + n_rows]))
        hidden, cell = (torch.cat(part) for part in zip(*parts, strict=True))
        if self.keep is not None:
            hidden, cell = hidden * self.keep, cell * self.keep
        return State(hidden, cell)


def _clip_backward(grad: Tensor, clipped: Tensor, limit: float | None) -> Tensor:
    """Let a gradient pass where a value is inside its clip."""
    if limit is None:
        return grad
    passed: Tensor = torch.ops.aten.hardtanh_backward(grad, clipped, -limit, limit)
    return passed


def _tanh_of_half_(sigmoid: Tensor) -> None:
    """Turn sigmoid(2 x) into tanh(x) in place; on a CPU torch's sigmoid is far cheaper than its tanh."""
    sigmoid.mul_(2).sub_(1)
