"""Recurrent layers of one direction, the table of cells, and stacks of layers with residual connections.

Shapes as in :mod:`elmolite.nn.lstm.reference`: N packed positions, B sequences, L layers, P projection, H cells.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import accumulate, pairwise
from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from elmolite.nn.lstm.autograd import lstm
from elmolite.nn.lstm.inference import IndexedInputs, PackedLSTM, is_small, runs_jointly
from elmolite.nn.lstm.reference import Constants, State, Weights
from elmolite.nn.packed_linear import WeightCache, compute_dtype, needs_grad
from elmolite.nn.threads import in_threads, one_thread


class RecurrentLayer(nn.Module, ABC):
    """Interface of a recurrent layer of one direction; :data:`CELLS` lists them.

    The keyword arguments are ``input_size``, ``cell_size``, ``projection_size`` and the :attr:`options`.
    """

    options: ClassVar[tuple[str, ...]] = ()
    """Fields of :class:`elmolite.nn.bilm.BiLMConfig` that the layer takes as keyword arguments besides the sizes."""
    is_capturable: ClassVar[bool] = False
    """Whether training can be captured as a CUDA graph: its shapes and calls do not depend on values."""

    @abstractmethod
    def forward(
        self, x: Tensor, batch_sizes: Sequence[int], state: State, reset_mask: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Run over packed sequences; arguments and result as in :func:`elmolite.nn.lstm.reference.lstm_reference`."""

    def clear_packed(self) -> None:
        """Drop what is derived from the weights, because they are about to change."""

    @classmethod
    def run_directions(
        cls,
        layers: Sequence[Self],
        x: Tensor,
        batch_sizes: Sequence[int],
        state: State,
        reset_mask: Tensor | None = None,
        inputs: IndexedInputs | None = None,  # noqa: ARG003
    ) -> tuple[Tensor, State]:
        """Run the layers of G directions, all of the same sizes, over packed sequences of the same lengths.

        :param x: (G, N, D).
        :param state: (G, B, P) and (G, B, H).
        :param reset_mask: (N), true where the states are set to zero before the step.
        :param inputs: ``x`` as indices into distinct vectors, if known.
        :returns: (G, N, P) and the states after the last step.
        """
        each = (
            layer(x[g], batch_sizes, State(state.hidden[g], state.cell[g]), reset_mask)
            for g, layer in enumerate(layers)
        )
        outputs, states = zip(*each, strict=True)
        return torch.stack(outputs), _stack_states(states)


class LSTMLayer(RecurrentLayer):
    """LSTM layer with projection and clipping; :mod:`elmolite.nn.lstm.reference` has its equations."""

    options = ("cell_clip", "projection_clip", "forget_bias", "use_projection", "recurrent_dropout")
    is_capturable = True

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
        """Initialise the weights.

        :param use_projection: false for a fixed identity, with H = P.
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
            identity = torch.eye(projection_size, device="cpu")  # also under torch.device("meta"): no file contains it
            self.register_buffer("projection_weight", identity, persistent=False)
        self.constants = Constants(cell_clip, projection_clip, forget_bias)
        self._packed: WeightCache[PackedLSTM] = WeightCache()
        self._packed_jointly: WeightCache[PackedLSTM] = WeightCache()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as TensorFlow's cell: Glorot-uniform, with both gate matrices as one; zero bias."""
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
        self, x: Tensor, batch_sizes: Sequence[int], state: State, reset_mask: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Run over packed sequences, see :meth:`RecurrentLayer.forward`."""
        outputs, after = self.run_directions([self], x.unsqueeze(0), batch_sizes, _stack_states([state]), reset_mask)
        return outputs[0], State(after.hidden[0], after.cell[0])

    @classmethod
    def run_directions(
        cls,
        layers: Sequence[Self],
        x: Tensor,
        batch_sizes: Sequence[int],
        state: State,
        reset_mask: Tensor | None = None,
        inputs: IndexedInputs | None = None,
    ) -> tuple[Tensor, State]:
        """Run all directions at once with gradients, or with packed weights; see the base class."""
        if any(layer._is_training(x, state) for layer in layers):
            for layer in layers:
                layer.clear_packed()
            of_each = zip(*(layer._weights() for layer in layers), strict=True)
            weights = Weights(*(torch.stack(parts) for parts in of_each))
            return lstm(x, batch_sizes, state, weights, layers[0].constants, reset_mask)
        if runs_jointly(batch_sizes[0], layers[0].projection_weight):
            joint = layers[0]._packed_lstm(layers[1:])
            with one_thread() if is_small(batch_sizes[0], layers[0].projection_weight) else nullcontext():
                return joint(x, batch_sizes, state, reset_mask, inputs)

        def run(g: int) -> tuple[Tensor, State]:
            one = slice(g, g + 1)
            inputs_of_one = None if inputs is None else inputs._replace(indices=inputs.indices[one])
            before = State(state.hidden[one], state.cell[one])
            return layers[g]._packed_lstm()(x[one], batch_sizes, before, reset_mask, inputs_of_one)

        outputs, states = zip(*in_threads([partial(run, g) for g in range(len(layers))]), strict=True)
        return torch.cat(outputs), State(*(torch.cat(parts) for parts in zip(*states, strict=True)))

    def clear_packed(self) -> None:
        """Drop the packed weights."""
        self._packed.clear()
        self._packed_jointly.clear()

    def _is_training(self, x: Tensor, state: State) -> bool:
        """Tell whether gradients are needed or weights are dropped, so that packed weights cannot be used."""
        is_dropping = self.training and self.recurrent_dropout > 0
        return is_dropping or needs_grad(x, *state, *self.parameters())

    def _weights(self) -> Weights:
        """Return the parameters, in training with dropout of the recurrent ones."""
        recurrent = F.dropout(self.recurrent_weight, self.recurrent_dropout, self.training)
        return Weights(self.input_weight, recurrent, self.bias, self.projection_weight)

    def _packed_lstm(self, others: Sequence[LSTMLayer] = ()) -> PackedLSTM:
        """Return the layer with packed weights, alone or jointly with the other directions."""
        weights = [layer._weights() for layer in (self, *others)]
        dtype = compute_dtype(self.input_weight)
        cache = self._packed_jointly if others else self._packed
        every = [weight for each in weights for weight in each]
        return cache.get(every, dtype, lambda: PackedLSTM(weights, self.constants, dtype))


class RNNLayer(RecurrentLayer):
    """Layer of torch's RNN (tanh) with a projected output; the cell state is the output before the projection."""

    torch_layer: ClassVar[type[nn.RNN | nn.GRU]] = nn.RNN

    def __init__(self, *, input_size: int, cell_size: int, projection_size: int) -> None:
        super().__init__()
        self.rnn = self.torch_layer(input_size, cell_size)
        self.projection = nn.Linear(cell_size, projection_size, bias=False)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; torch's layer stays in training mode, because cuDNN computes no gradients otherwise."""
        super().train(mode)
        self.rnn.train()
        return self

    def forward(
        self, x: Tensor, batch_sizes: Sequence[int], state: State, reset_mask: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Run over packed sequences, from one reset of a state to the next; see :meth:`RecurrentLayer.forward`."""
        hidden = state.cell
        outputs: list[Tensor] = []
        offsets = [0, *accumulate(batch_sizes)]
        for first, last in pairwise(_reset_steps(offsets, reset_mask)):
            begin, end, n_rows = offsets[first], offsets[last], batch_sizes[first]
            before = hidden[:n_rows]
            if reset_mask is not None:
                before = before * ~reset_mask[begin : begin + n_rows, None]
            packed = PackedSequence(x[begin:end], torch.tensor(batch_sizes[first:last]))
            output, after = self.rnn(packed, before.unsqueeze(0).contiguous())
            outputs.append(output.data)
            hidden = torch.cat([after.squeeze(0), hidden[n_rows:]])
        return self.projection(torch.cat(outputs)), State(state.hidden, hidden)


class GRULayer(RNNLayer):
    """Layer of torch's GRU with a projected output; the cell state is the output before the projection."""

    torch_layer = nn.GRU


CELLS: dict[str, type[RecurrentLayer]] = {"lstm": LSTMLayer, "gru": GRULayer, "rnn": RNNLayer}
"""``BiLMConfig.cell`` -> class; a new cell is a subclass of :class:`RecurrentLayer` and an entry here."""


def _reset_steps(offsets: Sequence[int], reset_mask: Tensor | None) -> list[int]:
    """Return step 0, each later step with a reset, and the number of steps."""
    n_steps = len(offsets) - 1
    if reset_mask is None:
        return [0, n_steps]
    positions = reset_mask.nonzero().squeeze(1)
    bounds = torch.tensor(offsets[1:], device=positions.device)
    steps = torch.searchsorted(bounds, positions, right=True).tolist()
    return [*sorted({0, *steps}), n_steps]


def _stack_states(states: Sequence[State], dim: int = 0) -> State:
    return State(*(torch.stack(parts, dim) for parts in zip(*states, strict=True)))


def dropout(x: Tensor, batch_sizes: Sequence[int], probability: float, *, is_variational: bool) -> Tensor:
    """Apply dropout to packed vectors (..., N, P), in training mode.

    :param is_variational: one mask for all positions of a sequence (Gal and Ghahramani 2016).
    """
    if probability == 0 or not is_variational:
        return F.dropout(x, probability)
    mask = F.dropout(x.new_ones(*x.shape[:-2], batch_sizes[0], x.shape[-1]), probability)
    rows = torch.cat([torch.arange(n_rows, device=x.device) for n_rows in batch_sizes])
    return x * mask.index_select(-2, rows)


class RecurrentStack(nn.Module):
    """Stack of recurrent layers of one direction, with a residual connection around each from the second on.

    In training, dropout is applied to the input of each layer before the residual sum, as in bilm-tf.
    """

    def __init__(
        self,
        layers: Iterable[RecurrentLayer],
        *,
        projection_size: int,
        cell_size: int,
        use_residual: bool,
        dropout: float,
        variational_dropout: bool = False,
    ) -> None:
        """Stack layers of the same sizes.

        :param variational_dropout: one dropout mask for all positions of a row.
        """
        super().__init__()
        self.projection_size = projection_size
        self.cell_size = cell_size
        self.use_residual = use_residual
        self.dropout = dropout
        self.variational_dropout = variational_dropout
        self.layers = nn.ModuleList(layers)

    def zero_state(self, n_rows: int, like: Tensor) -> State:
        """Return the initial state, (L, B, P) and (L, B, H), with the device and dtype of ``like``."""
        n_layers = len(self.layers)
        return State(
            like.new_zeros(n_layers, n_rows, self.projection_size), like.new_zeros(n_layers, n_rows, self.cell_size)
        )

    def forward(
        self, x: Tensor, batch_sizes: Sequence[int], state: State, reset_mask: Tensor | None = None
    ) -> tuple[list[Tensor], State]:
        """Run over packed sequences.

        :param x: (N, P), packed as in :func:`elmolite.nn.lstm.reference.lstm_reference`.
        :param state: (L, B, P) and (L, B, H).
        :param reset_mask: (N), true where the state is set to zero before the step.
        :returns: the output of each layer, (N, P), and the state after the last step.
        """
        outputs, after = run_stacks([self], x.unsqueeze(0), batch_sizes, [state], reset_mask)
        return [output[0] for output in outputs], after[0]


def run_stacks(
    stacks: Sequence[RecurrentStack],
    x: Tensor,
    batch_sizes: Sequence[int],
    states: Sequence[State],
    reset_mask: Tensor | None = None,
    inputs: IndexedInputs | None = None,
    n_layers: int | None = None,
) -> tuple[list[Tensor], list[State]]:
    """Run the stacks of G directions, all of the same sizes, over packed sequences of the same lengths.

    :param x: (G, N, P).
    :param states: of each direction, (L, B, P) and (L, B, H).
    :param reset_mask: (N), true where the states are set to zero before the step.
    :param inputs: ``x`` as indices into distinct vectors, if known.
    :param n_layers: number of layers to run, at least 1, from the lowest; all by default.
    :returns: the outputs of each layer, (G, N, P), and the state of each direction after the last step.
    """
    first = stacks[0]
    outputs: list[Tensor] = []
    after: list[State] = []
    for index in range(len(first.layers) if n_layers is None else n_layers):
        if index > 0 or first.training:
            inputs = None  # with dropout, and from the second layer on, the vectors of all positions differ
        if first.training:
            x = dropout(x, batch_sizes, first.dropout, is_variational=first.variational_dropout)
        before = _stack_states([State(state.hidden[index], state.cell[index]) for state in states])
        layers = [cast("RecurrentLayer", stack.layers[index]) for stack in stacks]
        hidden, state = layers[0].run_directions(layers, x, batch_sizes, before, reset_mask, inputs)
        x = x + hidden if first.use_residual and index > 0 else hidden
        outputs.append(x)
        after.append(state)
    joint = _stack_states(after, dim=1)  # (G, L, B, P) and (G, L, B, H)
    return outputs, [State(hidden, cell) for hidden, cell in zip(*joint, strict=True)]
