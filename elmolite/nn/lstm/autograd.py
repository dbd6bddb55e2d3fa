"""LSTM for training: the equations of :mod:`elmolite.nn.lstm.reference` as an autograd function of both directions.

Everything that needs no recurrence is computed for all steps at once: the product of the inputs before the forward
loop, and one product for the gradient of each weight after the backward loop. The elementwise part of a step is in
:mod:`elmolite.nn.lstm.cells`. Clips and resets take a tenth of the time (``recipes/bench/lstm.py``).

Shapes as in :mod:`elmolite.nn.lstm.reference`, with G directions in front: N positions, D input size, P projection,
H cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from elmolite.nn.lstm.cells import Buffers, Cells, Step, cells_on, double_candidate
from elmolite.nn.lstm.inference import runs_jointly
from elmolite.nn.lstm.reference import Constants, State, Weights
from elmolite.nn.packed_linear import compute_dtype
from elmolite.nn.threads import in_threads

JOINT_TRAINING_SIZE = 1 << 20
"""As :data:`elmolite.nn.lstm.inference.JOINT_DIRECTIONS_SIZE`, for training: below it, threads are slower."""
GROUP_POSITIONS = 160
"""Positions whose derivatives are in memory at once, whatever the length of the window."""


def lstm(
    x: Tensor,
    batch_sizes: Sequence[int],
    state: State,
    weights: Weights,
    constants: Constants,
    reset_mask: Tensor | None = None,
) -> tuple[Tensor, State]:
    """Run one layer of G directions over packed sequences of the same lengths.

    Under autocast the products run in its dtype; gates and cell state have the dtype of ``state``.

    :param x: packed inputs, (G, N, D).
    :param batch_sizes: rows of each step, non-increasing, N in total.
    :param state: (G, B, P) and (G, B, H), before the first step.
    :param weights: with G in front.
    :param reset_mask: (N), true where the states are set to zero before the step.
    :returns: packed outputs (G, N, P) and the state of each sequence after its last step.
    """
    outputs, hidden, cell = _LSTM.apply(  # type: ignore[no-untyped-call]
        x, *state, *weights, reset_mask, tuple(batch_sizes), constants, compute_dtype(weights.input)
    )
    return outputs, State(hidden, cell)


class _LSTM(torch.autograd.Function):
    """Loop over time with its own backward loop, so that autograd records no single steps."""

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
        reset_mask: Tensor | None,
        batch_sizes: tuple[int, ...],
        constants: Constants,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor]:
        with _no_autocast(x.device.type):
            weights = Weights(input_weight.to(dtype), recurrent_weight.to(dtype), bias, projection_weight.to(dtype))
            keep = None if reset_mask is None else (~reset_mask).unsqueeze(1)
            loop = _Loop(batch_sizes, constants, keep, cells_on(x.device))
            buffers = Buffers.empty(x, State(hidden, cell))
            parts = _parts(batch_sizes[0], weights)
            x_low = x.to(dtype)
            finals = in_threads(
                [
                    partial(
                        loop.forward,
                        x_low[part],
                        State(hidden[part], cell[part]),
                        Weights(*(each[part] for each in weights)),
                        Buffers(*(each[part] for each in buffers)),
                    )
                    for part in parts
                ]
            )
            final = State(*map(torch.cat, zip(*finals, strict=True)))
        # Saved here and not in the loop object: otherwise an output would be part of a reference cycle.
        ctx.save_for_backward(x, hidden, cell, *weights, *buffers)
        ctx.loop = loop
        return buffers.outputs, final.hidden, final.cell

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, hidden, cell, *saved = ctx.saved_tensors
        weights, buffers = Weights(*saved[:4]), Buffers(*saved[4:])
        with _no_autocast(x.device.type):
            of_parts = in_threads(
                [
                    partial(
                        ctx.loop.backward,
                        x[part],
                        State(hidden[part], cell[part]),
                        Weights(*(each[part] for each in weights)),
                        Buffers(*(each[part] for each in buffers)),
                        grads[0][part],
                        State(grads[1][part], grads[2][part]),
                    )
                    for part in _parts(ctx.loop.batch_sizes[0], weights)
                ]
            )
        return *(torch.cat(each) if len(each) > 1 else each[0] for each in zip(*of_parts, strict=True)), *[None] * 4


def _parts(n_rows: int, weights: Weights) -> list[slice]:
    """Return the directions that are computed together: all, or each in a thread of its own."""
    n_directions = len(weights.projection)
    if runs_jointly(n_rows, weights.projection[0], size=JOINT_TRAINING_SIZE):
        return [slice(0, n_directions)]
    return [slice(g, g + 1) for g in range(n_directions)]


def _no_autocast(device: str) -> AbstractContextManager[Any]:
    return torch.autocast(device, enabled=False)


class _Loop:
    """Loop over the steps of packed sequences, forward and backward.

    :param keep: (N, 1), false where the state is set to zero before the step.
    """

    def __init__(self, batch_sizes: tuple[int, ...], constants: Constants, keep: Tensor | None, cells: Cells) -> None:
        self.batch_sizes = batch_sizes
        self.constants = constants
        self.keep = keep
        self.cells = cells
        self.offsets = [0, *accumulate(batch_sizes)]

    def forward(self, x: Tensor, state: State, weights: Weights, buffers: Buffers) -> State:
        """Run all steps; write the activations into the buffers and return the last state of each sequence."""
        doubled = double_candidate(weights, self.constants.forget_bias)
        out = buffers.gates if buffers.gates.dtype == x.dtype else None
        gates = torch.baddbmm(doubled.bias.unsqueeze(1).to(x.dtype), x, doubled.input.mT, out=out)
        if out is None:
            buffers.gates.copy_(gates)
        hidden, cell = state.hidden.to(x.dtype), 2 * state.cell
        ended: list[State] = []
        for offset, n_rows in zip(self.offsets, self.batch_sizes, strict=False):
            if n_rows < hidden.shape[1]:
                ended.append(State(hidden[:, n_rows:], cell[:, n_rows:]))
                hidden, cell = hidden[:, :n_rows], cell[:, :n_rows]
            rows = slice(offset, offset + n_rows)
            keep = None if self.keep is None else self.keep[rows]
            hidden, cell = self._step(State(hidden, cell), keep, buffers.at(rows), doubled)
        ended.append(State(hidden, cell))
        hidden, cell = (torch.cat(parts[::-1], dim=1) for parts in zip(*ended, strict=True))
        return State(hidden.to(state.hidden.dtype), cell / 2)

    def _step(self, state: State, keep: Tensor | None, at: Buffers, doubled: Weights) -> State:
        """Compute one step into the buffers; on entry their gates hold the product of the inputs."""
        hidden, product = state.hidden, None
        if keep is not None:
            hidden = hidden * keep
        if hidden.dtype == at.gates.dtype:
            at.gates.baddbmm_(hidden, doubled.recurrent.mT)
        else:
            product = hidden @ doubled.recurrent.mT
        step = Step(at.gates, state.cell, at.doubled_cells, product, keep, at.cell_sigmoids)
        gated = self.cells.step(step, self.constants.cell_clip, hidden.dtype)
        hidden = gated @ doubled.projection.mT
        if self.constants.projection_clip is not None:
            hidden.clamp_(-self.constants.projection_clip, self.constants.projection_clip)
        at.outputs.copy_(hidden)
        return State(hidden, at.doubled_cells)

    def backward(
        self, x: Tensor, state: State, weights: Weights, buffers: Buffers, grad_outputs: Tensor, grad_final: State
    ) -> tuple[Tensor, ...]:
        """Return the gradients of the input, the initial state and the weights."""
        dtype, n_cells = weights.recurrent.dtype, state.cell.shape[2]
        before = self._states_before(state, buffers)
        grad_projected = torch.empty_like(buffers.outputs, dtype=dtype)
        grad_gates = torch.empty_like(buffers.gates, dtype=dtype)
        grad_hidden, grad_cell = grad_final.hidden.clone(), grad_final.cell.clone()
        for first, end in self._groups_of_steps():
            group = slice(self.offsets[first], self.offsets[end])
            gradients = self.cells.gradients(buffers.at(group), before.cell[:, group], self.constants.cell_clip)
            for step in reversed(range(first, end)):
                rows = slice(self.offsets[step], self.offsets[step + 1])
                in_group = slice(rows.start - group.start, rows.stop - group.start)
                grad_h, grad_c = (part[:, : self.batch_sizes[step]] for part in (grad_hidden, grad_cell))
                grad_projected[:, rows] = self._unclipped(grad_h.add_(grad_outputs[:, rows]), buffers.outputs[:, rows])
                grad_gated = grad_projected[:, rows] @ weights.projection
                keep = None if self.keep is None else self.keep[rows]
                gradients.step(in_group, grad_gated, grad_c, grad_gates[:, rows], keep)
                grad_h.copy_(grad_gates[:, rows] @ weights.recurrent)
                if keep is not None:
                    grad_h.mul_(keep)
        gated = (2 * buffers.cell_sigmoids - 1).mul_(buffers.gates[..., 3 * n_cells :])  # (G, N, H)
        grads = Weights(
            grad_gates.mT @ x.to(dtype),
            grad_gates.mT @ before.hidden.to(dtype),
            (grad_gates.new_ones(len(x), 1, x.shape[1]) @ grad_gates).squeeze(1),  # sum() would copy to float32
            grad_projected.mT @ gated.to(dtype),
        )
        grads_of_weights = Weights(*(grad.to(buffers.gates.dtype) for grad in grads))
        return (grad_gates @ weights.input).to(x.dtype), grad_hidden, grad_cell, *grads_of_weights

    def _groups_of_steps(self) -> Iterator[tuple[int, int]]:
        """Yield the first step and the end of each group, last group first."""
        end = len(self.batch_sizes)
        while end:
            first = end - 1
            while first and self.offsets[end] - self.offsets[first - 1] <= GROUP_POSITIONS:
                first -= 1
            yield first, end
            end = first

    def _unclipped(self, grad: Tensor, outputs: Tensor) -> Tensor:
        """Return the gradient before the clip of the outputs: zero where they are clipped."""
        clip = self.constants.projection_clip
        if clip is None:
            return grad
        passed: Tensor = torch.ops.aten.hardtanh_backward(grad, outputs, -clip, clip)
        return passed

    def _states_before(self, state: State, buffers: Buffers) -> State:
        """Return hidden and cell state before each position, (G, N, P) and (G, N, H)."""
        hidden, doubled_cells = [state.hidden[:, : self.batch_sizes[0]]], [2 * state.cell[:, : self.batch_sizes[0]]]
        for offset, n_rows in zip(self.offsets, self.batch_sizes[1:], strict=False):
            hidden.append(buffers.outputs[:, offset : offset + n_rows])
            doubled_cells.append(buffers.doubled_cells[:, offset : offset + n_rows])
        before = State(torch.cat(hidden, dim=1), torch.cat(doubled_cells, dim=1) / 2)
        return before if self.keep is None else State(*(part * self.keep for part in before))
