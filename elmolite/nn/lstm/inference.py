"""LSTM inference without gradients: packed sequences through weights that are prepared once.

A step is its gates, the projection, and seven passes over the cells. Each tanh is computed as ``2 sigmoid(2 x) - 1``,
far cheaper than torch's own on a CPU, and its doublings are put where they cost nothing and round nothing: into the
weights of the candidate and into a cell state that is kept doubled.

Shapes as in :mod:`elmolite.nn.lstm.reference`: N packed positions, D input size, P projection, H cells; G directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from elmolite.nn.lstm.cells import cells_on
from elmolite.nn.lstm.reference import Constants, State, Weights
from elmolite.nn.packed_linear import Product, products

JOINT_ROWS = 12
"""From so many rows on input and hidden state are multiplied together; for fewer, reading the weights is what costs,
and one product of many inputs reads theirs once."""
TOGETHER_WEIGHTS = 1 << 19
"""Weights of a projection, times rows, below which all directions run at once on a CPU: then one call for both saves
more than weights in the layout of oneDNN."""
WINDOW_POSITIONS = 256
"""Positions whose inputs are multiplied at once then: memory does not grow with the text."""
MAX_WORD_GATES = 1 << 24
"""Numbers that the input products of the distinct words of a batch may be: 64 MiB."""


def runs_together(n_rows: int, weights: Weights) -> bool:
    """Tell whether all directions run at once, or one after the other; on a GPU the number of calls is what counts."""
    return n_rows * weights.projection.numel() < TOGETHER_WEIGHTS or weights.projection.device.type != "cpu"


class Words(NamedTuple):
    """What packed inputs (G, N, D) are made of, where positions share vectors."""

    vectors: Tensor  # (U, D)
    places: Tensor  # (G, N), index into the vectors


class PreparedLSTM:
    """One layer of G directions, which run beside each other."""

    def __init__(self, weights: Sequence[Weights], constants: Constants, dtype: torch.dtype) -> None:
        """Prepare.

        :param weights: of each direction, all of the same sizes.
        :param dtype: of the products; gates and cells are float32 at least.
        """
        self._weights = [Weights(*(weight.detach() for weight in each)) for each in weights]
        self._constants = constants
        self._dtype = dtype
        self._projection = products([-each.projection for each in self._weights], dtype=dtype, few_rows=True)

    @cached_property
    def _joint_product(self) -> Product:
        weights = [torch.cat([each.input, each.recurrent], dim=1) for each in self._weights]
        return products(*self._of_gates(weights), dtype=self._dtype)

    @cached_property
    def _input_product(self) -> Product:
        return products(*self._of_gates([each.input for each in self._weights]), dtype=self._dtype)

    @cached_property
    def _recurrent_product(self) -> Product:
        weights, _ = self._of_gates([each.recurrent for each in self._weights])
        return products(weights, dtype=self._dtype, few_rows=True)

    @torch.no_grad()
    def _of_gates(self, weights: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return weights of the gates, (4H, K) each, with their biases: the candidate's doubled, forget bias added."""
        factors = weights[0].new_ones(4, 1, 1)
        factors[1] = 2
        forget = weights[0].new_zeros(4, 1)
        forget[2] = self._constants.forget_bias
        biases = [((each.bias.view(4, -1) + forget) * factors.squeeze(1)).flatten() for each in self._weights]
        return [(weight.view(4, -1, weight.shape[1]) * factors).flatten(0, 1) for weight in weights], biases

    def __call__(
        self,
        x: Tensor,
        batch_sizes: Sequence[int],
        state: State,
        starts: Tensor | None = None,
        words: Words | None = None,
    ) -> tuple[Tensor, State]:
        """Run over packed sequences, which have the same lengths in all directions.

        :param x: (G, N, D).
        :param batch_sizes: as :func:`elmolite.nn.lstm.reference.lstm_reference` takes them.
        :param state: (G, B, P) and (G, B, H).
        :param starts: (N), as there.
        :param words: what ``x`` is made of, where that is known: the input product of each is computed once.
        :returns: (G, N, P) and the states after the last step.
        """
        keep = None if starts is None else (~starts).unsqueeze(1)
        hidden = state.hidden.to(self._dtype)
        doubled_cell = state.cell.to(torch.promote_types(state.cell.dtype, torch.float32)) * 2
        gates = self._gates(x, batch_sizes[0], words)
        outputs = [hidden[:, :0]]
        ended: list[State] = []
        for at, n_rows in zip(accumulate(batch_sizes, initial=0), batch_sizes, strict=False):
            if n_rows < hidden.shape[1]:
                ended.append(State(hidden[:, n_rows:], doubled_cell[:, n_rows:]))
                hidden, doubled_cell = hidden[:, :n_rows], doubled_cell[:, :n_rows]
            if keep is not None:
                hidden = hidden * keep[at : at + n_rows]
                doubled_cell.mul_(keep[at : at + n_rows])
            hidden = self._step(gates.of(at, n_rows, hidden).to(doubled_cell.dtype), doubled_cell)
            outputs.append(hidden)
        ended.append(State(hidden, doubled_cell))
        hidden, doubled_cell = (torch.cat(parts[::-1], dim=1) for parts in zip(*ended, strict=True))
        final = State(hidden.to(state.hidden.dtype), (doubled_cell / 2).to(state.cell.dtype))
        return torch.cat(outputs, dim=1).to(state.hidden.dtype), final

    def _gates(self, x: Tensor, n_rows: int, words: Words | None) -> _Gates:
        """Choose how the gates are computed: the faster way for so many rows and words."""
        if words is not None and self._is_worth_it(words):
            return _InputsOfWords(
                words._replace(vectors=words.vectors.to(self._dtype)), self._input_product, self._recurrent_product
            )
        if n_rows < JOINT_ROWS:
            return _InputsBefore(x.to(self._dtype), self._input_product, self._recurrent_product)
        n_hidden = self._weights[0].recurrent.shape[1]
        return _InputsBeside(x.to(self._dtype), self._joint_product, n_hidden=n_hidden)

    def _is_worth_it(self, words: Words) -> bool:
        n_words, n_gates = len(words.vectors), sum(len(each.bias) for each in self._weights)
        return 2 * n_words <= words.places.shape[1] and n_words * n_gates <= MAX_WORD_GATES

    def _step(self, gates: Tensor, doubled_cell: Tensor) -> Tensor:
        """Return the outputs of a step, (G, rows, P), from its gates (G, rows, 4H); change the cells in place."""
        gated = cells_on(gates.device).infer(gates, doubled_cell, self._constants.cell_clip, self._dtype)
        hidden = self._projection(gated)
        if self._constants.projection_clip is not None:
            hidden.clamp_(-self._constants.projection_clip, self._constants.projection_clip)
        return hidden


class _Gates(Protocol):
    def of(self, at: int, n_rows: int, hidden: Tensor) -> Tensor:
        """Return the gates (G, rows, 4H) of a step, before their activation, from its hidden state (G, rows, P)."""


class _InputsOfWords:
    """The product of each distinct word, before the first step, and that of each hidden state."""

    def __init__(self, words: Words, input_product: Product, recurrent_product: Product) -> None:
        n_directions, n_words = len(words.places), len(words.vectors)
        self._gates = input_product(words.vectors.expand(n_directions, -1, -1)).flatten(0, 1)  # (G U, 4H)
        offsets = torch.arange(n_directions, device=words.places.device) * n_words
        self._places = words.places + offsets.unsqueeze(1)
        self._recurrent_product = recurrent_product

    def of(self, at: int, n_rows: int, hidden: Tensor) -> Tensor:
        inputs = F.embedding(self._places[:, at : at + n_rows], self._gates)
        return inputs.add_(self._recurrent_product(hidden))


class _InputsBeside:
    """The product of a step's input and hidden state, side by side."""

    def __init__(self, x: Tensor, product: Product, *, n_hidden: int) -> None:
        self._inputs = torch.cat([x, x.new_empty(*x.shape[:2], n_hidden)], dim=2)  # (G, N, D + P)
        self._hidden = self._inputs[..., x.shape[2] :]
        self._product = product

    def of(self, at: int, n_rows: int, hidden: Tensor) -> Tensor:
        self._hidden[:, at : at + n_rows] = hidden
        return self._product(self._inputs[:, at : at + n_rows])


class _InputsBefore:
    """The product of the inputs of many steps, before the first of them, and that of each hidden state."""

    def __init__(self, x: Tensor, input_product: Product, recurrent_product: Product) -> None:
        self._x = x
        self._input_product = input_product
        self._recurrent_product = recurrent_product
        self._begin = self._end = 0
        self._gates = input_product(x[:, :0])

    def of(self, at: int, n_rows: int, hidden: Tensor) -> Tensor:
        if at + n_rows > self._end:
            self._begin, self._end = at, max(at + n_rows, at + WINDOW_POSITIONS)
            self._gates = self._input_product(self._x[:, self._begin : self._end])
        inputs = self._gates.narrow(1, at - self._begin, n_rows)
        return inputs.add_(self._recurrent_product(hidden))
