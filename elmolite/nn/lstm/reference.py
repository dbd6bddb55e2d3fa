"""LSTM with projection and clipping: equations and reference implementation.

Training uses :mod:`elmolite.nn.lstm.autograd` and inference :mod:`elmolite.nn.lstm.inference`, which are faster; tests
compare both with the reference.

The cell (Sak et al. 2014, with the clips of bilm-tf), for input x, output h and cell state c of the step before::

    i, j, f, o = split(W x + U h + b)
    c = clip(sigmoid(f + forget_bias) * c + sigmoid(i) * tanh(j), cell_clip)
    h = clip(P (sigmoid(o) * tanh(c)), projection_clip)

Sequences are *packed* as in ``torch.nn.utils.rnn``: sorted by length, longest first, and time-major without padding, so
that the rows of a step are the sequences that have not ended. In a training window every step has all rows.

Shapes: N positions of all sequences together, B sequences, D input size, P projection, H cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Weights(NamedTuple):
    """Parameters of one layer; the gates are in the order i, j (candidate), f, o, as in bilm-tf."""

    input: Tensor  # (4H, D)
    recurrent: Tensor  # (4H, P)
    bias: Tensor  # (4H), without the forget bias
    projection: Tensor  # (P, H)


class State(NamedTuple):
    """Recurrent state of a layer; a stack of layers has one more dimension in front."""

    hidden: Tensor  # (B, P)
    cell: Tensor  # (B, H)


class Constants(NamedTuple):
    """Hyperparameters of a layer; a clip of ``None`` does not clip."""

    cell_clip: float | None
    projection_clip: float | None
    forget_bias: float


def lstm_reference(
    x: Tensor,
    batch_sizes: Sequence[int],
    state: State,
    weights: Weights,
    constants: Constants,
    reset_mask: Tensor | None = None,
) -> tuple[Tensor, State]:
    """Run one layer over packed sequences, step by step.

    :param x: packed input, (N, D).
    :param batch_sizes: rows of each step, non-increasing, N in total.
    :param state: before the first step, B = ``batch_sizes[0]`` rows.
    :param reset_mask: (N), true where the state is set to zero before the step.
    :returns: packed outputs (N, P) and the state of each sequence after its last step.
    """
    hidden, cell = state
    outputs: list[Tensor] = []
    offset = 0
    for n_rows in batch_sizes:
        h, c = hidden[:n_rows], cell[:n_rows]
        if reset_mask is not None:
            keep = ~reset_mask[offset : offset + n_rows, None]
            h, c = h * keep, c * keep
        gates = x[offset : offset + n_rows] @ weights.input.T + h @ weights.recurrent.T + weights.bias
        i, j, f, o = gates.chunk(4, dim=1)
        c = torch.sigmoid(f + constants.forget_bias) * c + torch.sigmoid(i) * torch.tanh(j)
        c = _clip(c, constants.cell_clip)
        h = (torch.sigmoid(o) * torch.tanh(c)) @ weights.projection.T
        h = _clip(h, constants.projection_clip)
        outputs.append(h)
        hidden, cell = torch.cat([h, hidden[n_rows:]]), torch.cat([c, cell[n_rows:]])
        offset += n_rows
    return torch.cat(outputs), State(hidden, cell)


def _clip(x: Tensor, limit: float | None) -> Tensor:
    return x if limit is None else x.clamp(-limit, limit)
