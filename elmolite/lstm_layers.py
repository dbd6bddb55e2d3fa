"""The LSTM layers of one direction as modules: parameters, their initial values, and how layers stack.

Shapes as in :mod:`elmolite.lstm`: N packed positions, B sequences, L layers, P projection, H cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.lstm import Constants, State, Weights, lstm


class LSTMLayer(nn.Module):
    """One layer of one direction."""

    def __init__(
        self,
        *,
        input_size: int,
        cell_size: int,
        projection_size: int,
        cell_clip: float | None,
        projection_clip: float | None,
        forget_bias: float,
    ) -> None:
        super().__init__()
        self.input_weight = nn.Parameter(torch.empty(4 * cell_size, input_size))
        self.recurrent_weight = nn.Parameter(torch.empty(4 * cell_size, projection_size))
        self.bias = nn.Parameter(torch.empty(4 * cell_size))
        self.projection_weight = nn.Parameter(torch.empty(projection_size, cell_size))
        self.constants = Constants(cell_clip, projection_clip, forget_bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot-uniform weights as in TensorFlow's cell, whose two gate matrices are one; no bias."""
        n_out, n_in = self.input_weight.shape
        gates = torch.empty(n_out, n_in + self.recurrent_weight.shape[1])
        nn.init.xavier_uniform_(gates)
        with torch.no_grad():
            self.input_weight.copy_(gates[:, :n_in])
            self.recurrent_weight.copy_(gates[:, n_in:])
        nn.init.xavier_uniform_(self.projection_weight)
        nn.init.zeros_(self.bias)

    def forward(
        self, x: Tensor, batch_sizes: Sequence[int], state: State, starts: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Run over packed sequences; shapes as in :func:`lstm`."""
        weights = Weights(self.input_weight, self.recurrent_weight, self.bias, self.projection_weight)
        return lstm(x, batch_sizes, state, weights, self.constants, starts)


class LSTMStack(nn.Module):
    """The layers of one direction; from the second on, a layer's output is its input plus what its LSTM gives.

    In training, dropout is applied to the input of each layer before the residual sum, as in bilm-tf.
    """

    def __init__(
        self,
        *,
        n_layers: int,
        projection_size: int,
        cell_size: int,
        cell_clip: float | None,
        projection_clip: float | None,
        forget_bias: float,
        use_residual: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.projection_size = projection_size
        self.cell_size = cell_size
        self.use_residual = use_residual
        self.dropout = dropout
        self.layers = nn.ModuleList(
            LSTMLayer(
                input_size=projection_size,
                cell_size=cell_size,
                projection_size=projection_size,
                cell_clip=cell_clip,
                projection_clip=projection_clip,
                forget_bias=forget_bias,
            )
            for _ in range(n_layers)
        )

    def zero_state(self, n_rows: int, like: Tensor) -> State:
        """Return the state of fresh sequences: (L, B, P) and (L, B, H), with the device and dtype of ``like``."""
        n_layers = len(self.layers)
        return State(
            like.new_zeros(n_layers, n_rows, self.projection_size), like.new_zeros(n_layers, n_rows, self.cell_size)
        )

    def forward(
        self, x: Tensor, batch_sizes: Sequence[int], state: State, starts: Tensor | None = None
    ) -> tuple[list[Tensor], State]:
        """Run over packed sequences.

        :param x: (N, P), packed as :func:`lstm` says; ``starts`` as there.
        :param state: (L, B, P) and (L, B, H).
        :returns: the output of each layer, (N, P), and the state after the last step.
        """
        outputs: list[Tensor] = []
        states: list[State] = []
        for index, layer in enumerate(self.layers):
            x = F.dropout(x, self.dropout, self.training)
            hidden, after = layer(x, batch_sizes, State(state.hidden[index], state.cell[index]), starts)
            x = x + hidden if self.use_residual and index > 0 else hidden
            outputs.append(x)
            states.append(after)
        return outputs, State(*(torch.stack(parts) for parts in zip(*states, strict=True)))
