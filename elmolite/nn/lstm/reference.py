"""LSTM with projection and clipping: its equations, and the plain reference that says them once more.

What is used is faster and held equal to it by tests: :mod:`elmolite.nn.lstm.autograd`, and without gradients
:mod:`elmolite.nn.lstm.inference`.

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
from typing import NamedTuple

import torch
from torch import Tensor


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
