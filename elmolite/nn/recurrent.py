"""The recurrent layers of one direction as modules: parameters, their initial values, and how layers stack.

Shapes as in :mod:`elmolite.nn.lstm.reference`: N packed positions, B sequences, L layers, P projection, H cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from elmolite.nn.lstm.autograd import lstm
from elmolite.nn.lstm.inference import PreparedLSTM, Words, runs_together
from elmolite.nn.lstm.reference import Constants, State, Weights
from elmolite.nn.packed_linear import Prepared, product_dtype, wants_gradients


class LSTMLayer(nn.Module):
    """One LSTM layer of one direction; :mod:`elmolite.nn.lstm.reference` has its equations."""

    def __init__(
        self,
        *,
        input_size: int,
        cell_size: int,
        projection_size: int,
        cell_clip: float | None,
        projection_clip: float | None,
        forget_bias: float,
        use_projection: bool = True,
        recurrent_dropout: float = 0.0,
    ) -> None:
        """Make the weights.

        :param use_projection: false for an identity, which is no weight; H is P then.
        :param recurrent_dropout: share of the recurrent weights that is zero for a window, in training.
        """
        super().__init__()
        self.recurrent_dropout = recurrent_dropout
        self.input_weight = nn.Parameter(torch.empty(4 * cell_size, input_size))
        self.recurrent_weight = nn.Parameter(torch.empty(4 * cell_size, projection_size))
        self.bias = nn.Parameter(torch.empty(4 * cell_size))
        self.projection_weight: Tensor
        if use_projection:
            self.projection_weight = nn.Parameter(torch.empty(projection_size, cell_size))
        else:
            identity = torch.eye(projection_size, device="cpu")  # also where the weights are only shapes as yet
            self.register_buffer("projection_weight", identity, persistent=False)
        self.constants = Constants(cell_clip, projection_clip, forget_bias)
        self._alone: Prepared[PreparedLSTM] = Prepared()
        self._together: Prepared[PreparedLSTM] = Prepared()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot-uniform weights as in TensorFlow's cell, whose two gate matrices are one; no bias."""
        n_out, n_in = self.input_weight.shape
        gates = torch.empty(n_out, n_in + self.recurrent_weight.shape[1])
        nn.init.xavier_uniform_(gates)
        with torch.no_grad():
            self.input_weight.copy_(gates[:, :n_in])
            self.recurrent_weight.copy_(gates[:, n_in:])
        if isinstance(self.projection_weight, nn.Parameter):
            nn.init.xavier_uniform_(self.projection_weight)
        nn.init.zeros_(self.bias)

    def forward(
        self,
        x: Tensor,
        batch_sizes: Sequence[int],
        state: State,
        starts: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Run over packed sequences; arguments and result as in :func:`elmolite.nn.lstm.reference.lstm_reference`."""
        outputs, after = run_layers([self], x.unsqueeze(0), batch_sizes, _stack([state]), starts)
        return outputs[0], State(after.hidden[0], after.cell[0])

    def trains(self, x: Tensor, state: State) -> bool:
        """Tell whether gradients are wanted, or weights are dropped: not the case that is prepared for."""
        is_dropping = self.training and self.recurrent_dropout > 0
        return is_dropping or wants_gradients(x, *state, *self.parameters())

    def weights(self) -> Weights:
        """Return the parameters; in training with some of the recurrent ones dropped."""
        recurrent = F.dropout(self.recurrent_weight, self.recurrent_dropout, self.training)
        return Weights(self.input_weight, recurrent, self.bias, self.projection_weight)

    def prepared(self, others: Sequence[LSTMLayer] = ()) -> PreparedLSTM:
        """Return the layer made ready for running without gradients, with the other directions beside it."""
        weights = [layer.weights() for layer in (self, *others)]
        dtype = product_dtype(self.input_weight)
        kept = self._together if others else self._alone
        every = [weight for each in weights for weight in each]
        return kept.get(every, dtype, lambda: PreparedLSTM(weights, self.constants, dtype))

    def clear_prepared(self) -> None:
        """Forget what was made ready: the weights are about to change."""
        self._alone.clear()
        self._together.clear()


class RNNLayer(nn.Module):
    """One layer of one direction of torch's GRU or RNN (tanh), with its output projected.

    What it carries is the output before the projection, in the place of the LSTM's cell state.
    """

    def __init__(self, kind: Literal["gru", "rnn"], *, input_size: int, cell_size: int, projection_size: int) -> None:
        super().__init__()
        self.rnn: nn.GRU | nn.RNN = {"gru": nn.GRU, "rnn": nn.RNN}[kind](input_size, cell_size)
        self.projection = nn.Linear(cell_size, projection_size, bias=False)

    def train(self, mode: bool = True) -> RNNLayer:
        """Set training mode; torch's module stays in it, for cuDNN gives no gradients otherwise, and has no dropout."""
        super().train(mode)
        self.rnn.train()
        return self

    def forward(
        self,
        x: Tensor,
        batch_sizes: Sequence[int],
        state: State,
        starts: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Run over packed sequences; arguments as those of :class:`LSTMLayer`.

        torch runs from one reset of a state to the next.
        """
        hidden = state.cell
        outputs: list[Tensor] = []
        offsets = [0, *accumulate(batch_sizes)]
        for first, behind in pairwise(_reset_steps(offsets, starts)):
            begin, end, n_rows = offsets[first], offsets[behind], batch_sizes[first]
            before = hidden[:n_rows]
            if starts is not None:
                before = before * ~starts[begin : begin + n_rows, None]
            packed = PackedSequence(x[begin:end], torch.tensor(batch_sizes[first:behind]))
            output, after = self.rnn(packed, before.unsqueeze(0).contiguous())
            outputs.append(output.data)
            hidden = torch.cat([after.squeeze(0), hidden[n_rows:]])
        return self.projection(torch.cat(outputs)), State(state.hidden, hidden)


def _reset_steps(offsets: Sequence[int], starts: Tensor | None) -> list[int]:
    """Return the first step, each later one in which a row starts from zero, and the number of steps."""
    n_steps = len(offsets) - 1
    if starts is None:
        return [0, n_steps]
    positions = starts.nonzero().squeeze(1)
    bounds = torch.tensor(offsets[1:], device=positions.device)
    steps = torch.searchsorted(bounds, positions, right=True).tolist()
    return [*sorted({0, *steps}), n_steps]


def run_layers(
    layers: Sequence[LSTMLayer | RNNLayer],
    x: Tensor,
    batch_sizes: Sequence[int],
    state: State,
    starts: Tensor | None = None,
    words: Words | None = None,
) -> tuple[Tensor, State]:
    """Run a layer of G directions, all of the same kind and sizes, over packed sequences of the same lengths.

    :param x: (G, N, D).
    :param state: (G, B, P) and (G, B, H).
    :param starts: (N), as in :func:`elmolite.nn.lstm.reference.lstm_reference`.
    :param words: what ``x`` is made of, where that is known.
    :returns: (G, N, P) and the states after the last step.
    """
    lstm_layers = [layer for layer in layers if isinstance(layer, LSTMLayer)]
    if not lstm_layers:
        each = (
            layer(x[g], batch_sizes, State(state.hidden[g], state.cell[g]), starts) for g, layer in enumerate(layers)
        )
        outputs, states = zip(*each, strict=True)
        return torch.stack(outputs), _stack(states)
    if any(layer.trains(x, state) for layer in lstm_layers):
        for layer in lstm_layers:
            layer.clear_prepared()
        of_each = zip(*(layer.weights() for layer in lstm_layers), strict=True)
        weights = Weights(*(torch.stack(parts) for parts in of_each))
        return lstm(x, batch_sizes, state, weights, lstm_layers[0].constants, starts)
    if runs_together(batch_sizes[0], lstm_layers[0].weights()):
        return lstm_layers[0].prepared(lstm_layers[1:])(x, batch_sizes, state, starts, words)
    found = []
    for g, layer in enumerate(lstm_layers):
        one = slice(g, g + 1)
        places = None if words is None else words._replace(places=words.places[one])
        before = State(state.hidden[one], state.cell[one])
        found.append(layer.prepared()(x[one], batch_sizes, before, starts, places))
    outputs, states = zip(*found, strict=True)
    return torch.cat(outputs), State(*(torch.cat(parts) for parts in zip(*states, strict=True)))


def _stack(states: Sequence[State], dim: int = 0) -> State:
    return State(*(torch.stack(parts, dim) for parts in zip(*states, strict=True)))


def dropout(x: Tensor, batch_sizes: Sequence[int], probability: float, *, is_variational: bool) -> Tensor:
    """Drop parts of packed vectors (..., N, P), for training.

    :param is_variational: drop the same parts at all positions of a sequence (Gal and Ghahramani 2016).
    """
    if probability == 0 or not is_variational:
        return F.dropout(x, probability)
    mask = F.dropout(x.new_ones(*x.shape[:-2], batch_sizes[0], x.shape[-1]), probability)
    rows = torch.cat([torch.arange(n_rows, device=x.device) for n_rows in batch_sizes])
    return x * mask.index_select(-2, rows)


class RecurrentStack(nn.Module):
    """The layers of one direction; from the second on, a layer's output is its input plus what its cells give.

    In training, dropout is applied to the input of each layer before the residual sum, as in bilm-tf.
    """

    def __init__(
        self,
        layers: Iterable[LSTMLayer | RNNLayer],
        *,
        projection_size: int,
        cell_size: int,
        use_residual: bool,
        dropout: float,
        variational_dropout: bool = False,
    ) -> None:
        """Stack layers, all of the same sizes.

        :param variational_dropout: drop the same parts at all positions of a row.
        """
        super().__init__()
        self.projection_size = projection_size
        self.cell_size = cell_size
        self.use_residual = use_residual
        self.dropout = dropout
        self.variational_dropout = variational_dropout
        self.layers = nn.ModuleList(layers)

    def zero_state(self, n_rows: int, like: Tensor) -> State:
        """Return the state of fresh sequences: (L, B, P) and (L, B, H), with the device and dtype of ``like``."""
        n_layers = len(self.layers)
        return State(
            like.new_zeros(n_layers, n_rows, self.projection_size), like.new_zeros(n_layers, n_rows, self.cell_size)
        )

    def forward(
        self,
        x: Tensor,
        batch_sizes: Sequence[int],
        state: State,
        starts: Tensor | None = None,
    ) -> tuple[list[Tensor], State]:
        """Run over packed sequences.

        :param x: (N, P), packed as :func:`elmolite.nn.lstm.reference.lstm_reference` says; ``starts`` as there.
        :param state: (L, B, P) and (L, B, H).
        :returns: the output of each layer, (N, P), and the state after the last step.
        """
        outputs, after = run_stacks([self], x.unsqueeze(0), batch_sizes, [state], starts)
        return [output[0] for output in outputs], after[0]


def run_stacks(
    stacks: Sequence[RecurrentStack],
    x: Tensor,
    batch_sizes: Sequence[int],
    states: Sequence[State],
    starts: Tensor | None = None,
    words: Words | None = None,
) -> tuple[list[Tensor], list[State]]:
    """Run the stacks of G directions, which have the same sizes, over packed sequences of the same lengths.

    :param x: (G, N, P).
    :param states: of each direction, (L, B, P) and (L, B, H).
    :param starts: (N), as in :func:`elmolite.nn.lstm.reference.lstm_reference`.
    :param words: what ``x`` is made of, where that is known.
    :returns: the outputs of each layer, (G, N, P), and the state of each direction after the last step.
    """
    first = stacks[0]
    outputs: list[Tensor] = []
    after: list[State] = []
    for index in range(len(first.layers)):
        if index > 0 or first.training:
            words = None  # dropout gives each position a vector of its own, and so does a layer
        if first.training:
            x = dropout(x, batch_sizes, first.dropout, is_variational=first.variational_dropout)
        before = _stack([State(state.hidden[index], state.cell[index]) for state in states])
        layers = [cast("LSTMLayer | RNNLayer", stack.layers[index]) for stack in stacks]
        hidden, state = run_layers(layers, x, batch_sizes, before, starts, words)
        x = x + hidden if first.use_residual and index > 0 else hidden
        outputs.append(x)
        after.append(state)
    together = _stack(after, dim=1)  # (G, L, B, P) and (G, L, B, H)
    return outputs, [State(hidden, cell) for hidden, cell in zip(*together, strict=True)]
