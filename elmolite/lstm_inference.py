"""The LSTM of :mod:`elmolite.lstm` without gradients: packed sequences through weights that are prepared once.

A step is its gates, the projection, and seven passes over the cells. Each tanh is computed as ``2 sigmoid(2 x) - 1``,
far cheaper than torch's own on a CPU, and its doublings are put where they cost nothing and round nothing: into the
weights of the candidate and into a cell state that is kept doubled.

Shapes as in :mod:`elmolite.lstm`: N packed positions, D input size, P projection, H cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from elmolite.lstm import Constants, State, Weights
from elmolite.prepared_weights import Product, product

JOINT_ROWS = 12
"""From so many rows on input and hidden state are multiplied together; for fewer, reading the weights is what costs,
and one product of many inputs reads theirs once."""
WINDOW_POSITIONS = 256
"""Positions whose inputs are multiplied at once then: memory does not grow with the text."""
MAX_WORD_GATES = 1 << 24
"""Numbers that the input products of the distinct words of a batch may be: 64 MiB."""


class Words(NamedTuple):
    """What packed inputs (N, D) are made of, where positions share vectors."""

    vectors: Tensor  # (U, D)
    places: Tensor  # (N), index into the vectors


class PreparedLSTM:
    """One layer of one direction."""

    def __init__(self, weights: Weights, constants: Constants, dtype: torch.dtype) -> None:
        """Prepare.

        :param dtype: of the products; gates and cells are float32 at least.
        """
        self._weights = Weights(*(weight.detach() for weight in weights))
        self._constants = constants
        self._dtype = dtype
        self._projection = product(-weights.projection, dtype=dtype)

    @cached_property
    def _joint_product(self) -> Product:
        weight = torch.cat([self._weights.input, self._weights.recurrent], dim=1)
        return self._gates_product(weight, has_bias=True)

    @cached_property
    def _input_product(self) -> Product:
        return self._gates_product(self._weights.input, has_bias=True)

    @cached_property
    def _recurrent_product(self) -> Product:
        return self._gates_product(self._weights.recurrent, has_bias=False)

    @torch.no_grad()
    def _gates_product(self, weight: Tensor, *, has_bias: bool) -> Product:
        """Make a product with the weights of the gates (4H, K), the candidate's doubled; made when it is needed."""
        n_cells = self._weights.projection.shape[1]
        factors = weight.new_ones(4 * n_cells)
        factors[n_cells : 2 * n_cells] = 2
        bias = self._weights.bias.clone()
        bias[2 * n_cells : 3 * n_cells] += self._constants.forget_bias
        return product(weight * factors.unsqueeze(1), bias * factors if has_bias else None, dtype=self._dtype)

    def __call__(
        self,
        x: Tensor,
        batch_sizes: Sequence[int],
        state: State,
        starts: Tensor | None = None,
        words: Words | None = None,
    ) -> tuple[Tensor, State]:
        """Run over packed sequences; arguments and result as those of :func:`elmolite.lstm.lstm_reference`.

        :param words: what ``x`` is made of, where that is known: the input product of each is computed once.
        """
        keep = None if starts is None else (~starts).unsqueeze(1)
        hidden = state.hidden.to(self._dtype)
        doubled_cell = state.cell.to(torch.promote_types(state.cell.dtype, torch.float32)) * 2
        gates = self._gates(x, batch_sizes[0], words)
        outputs = hidden.new_empty(len(x), hidden.shape[1])
        ended: list[State] = []
        for at, n_rows in zip(accumulate(batch_sizes, initial=0), batch_sizes, strict=False):
            if n_rows < len(hidden):
                ended.append(State(hidden[n_rows:], doubled_cell[n_rows:]))
                hidden, doubled_cell = hidden[:n_rows], doubled_cell[:n_rows]
            rows = slice(at, at + n_rows)
            if keep is not None:
                hidden = hidden * keep[rows]
                doubled_cell.mul_(keep[rows])
            outputs[rows] = hidden = self._step(gates.of(rows, hidden).to(doubled_cell.dtype), doubled_cell)
        ended.append(State(hidden, doubled_cell))
        hidden, doubled_cell = (torch.cat(parts[::-1]) for parts in zip(*ended, strict=True))
        final = State(hidden.to(state.hidden.dtype), (doubled_cell / 2).to(state.cell.dtype))
        return outputs.to(state.hidden.dtype), final

    def _gates(self, x: Tensor, n_rows: int, words: Words | None) -> _Gates:
        """Choose how the gates are computed: the faster way for so many rows and words."""
        if words is not None and self._is_worth_it(words):
            return _InputsOfWords(
                words._replace(vectors=words.vectors.to(self._dtype)), self._input_product, self._recurrent_product
            )
        if n_rows < JOINT_ROWS:
            return _InputsBefore(x.to(self._dtype), self._input_product, self._recurrent_product)
        return _InputsBeside(x.to(self._dtype), self._joint_product, n_hidden=self._weights.recurrent.shape[1])

    def _is_worth_it(self, words: Words) -> bool:
        n_words = len(words.vectors)
        return 2 * n_words <= len(words.places) and n_words * len(self._weights.bias) <= MAX_WORD_GATES

    def _step(self, gates: Tensor, doubled_cell: Tensor) -> Tensor:
        """Return the outputs of one step, (rows, P), from its gates (rows, 4H); change the cells (rows, H) in place."""
        i, j, f, o = gates.sigmoid_().chunk(4, dim=1)
        doubled_cell.mul_(f).addcmul_(i, j, value=4).sub_(i, alpha=2)
        if self._constants.cell_clip is not None:
            doubled_cell.clamp_(-2 * self._constants.cell_clip, 2 * self._constants.cell_clip)
        gated = torch.addcmul(o, o, torch.sigmoid(doubled_cell), value=-2)  # -o tanh(c): the weights have the sign
        hidden = self._projection(gated.to(self._dtype))
        if self._constants.projection_clip is not None:
            hidden.clamp_(-self._constants.projection_clip, self._constants.projection_clip)
        return hidden


class _Gates(Protocol):
    def of(self, rows: slice, hidden: Tensor) -> Tensor:
        """Return the gates (rows, 4H) of a step, before their activation, from its hidden state (rows, P)."""


class _InputsOfWords:
    """The product of each distinct word, before the first step, and that of each hidden state."""

    def __init__(self, words: Words, input_product: Product, recurrent_product: Product) -> None:
        self._gates = input_product(words.vectors)  # (U, 4H)
        self._places = words.places
        self._recurrent_product = recurrent_product

    def of(self, rows: slice, hidden: Tensor) -> Tensor:
        return self._gates.index_select(0, self._places[rows]).add_(self._recurrent_product(hidden))


class _InputsBeside:
    """The product of a step's input and hidden state, side by side."""

    def __init__(self, x: Tensor, product: Product, *, n_hidden: int) -> None:
        self._inputs = torch.cat([x, x.new_empty(len(x), n_hidden)], dim=1)  # (N, D + P)
        self._hidden = self._inputs[:, x.shape[1] :]
        self._product = product

    def of(self, rows: slice, hidden: Tensor) -> Tensor:
        self._hidden[rows] = hidden
        return self._product(self._inputs[rows])


class _InputsBefore:
    """The product of the inputs of many steps, before the first of them, and that of each hidden state."""

    def __init__(self, x: Tensor, input_product: Product, recurrent_product: Product) -> None:
        self._x = x
        self._input_product = input_product
        self._recurrent_product = recurrent_product
        self._window = slice(0, 0)
        self._gates = input_product(x[:0])

    def of(self, rows: slice, hidden: Tensor) -> Tensor:
        if rows.stop > self._window.stop:
            self._window = slice(rows.start, max(rows.stop, rows.start + WINDOW_POSITIONS))
            self._gates = self._input_product(self._x[self._window])
        first = self._window.start
        return self._gates[rows.start - first : rows.stop - first].add_(self._recurrent_product(hidden))
