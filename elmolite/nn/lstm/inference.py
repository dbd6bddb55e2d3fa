"""LSTM for inference: packed sequences, with weights that are packed once (:mod:`elmolite.nn.packed_linear`).

The elementwise part of a step is in :mod:`elmolite.nn.lstm.cells`; the products differ by the number of rows and of
distinct inputs.

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

from elmolite.nn.lstm.cells import Step, cells_on, double_candidate
from elmolite.nn.lstm.reference import Constants, State, Weights
from elmolite.nn.packed_linear import BatchedLinear, LinearOp, grouped_linear_op, vector_dtype

JOINT_ROWS = 12
"""Minimum rows of a step for which input and hidden state are multiplied in one product. With fewer rows, reading the
weights dominates, and one product for the inputs of many steps reads the input weights only once."""
JOINT_DIRECTIONS_SIZE = 1 << 19
"""Rows times weights of a projection below which all directions run at once on a CPU: one call for both saves more than
packed weights do."""
ONE_THREAD_SIZE = 1 << 17
"""Rows times weights of a projection below which one thread is used: a second one brings a sixth when the machine is
idle, and costs more than half of the speed beside a busy process."""
WINDOW_POSITIONS = 256
"""Positions whose inputs are multiplied at once, so that memory does not grow with the text."""
GPU_WINDOW_GATES = 1 << 28
"""As :data:`WINDOW_POSITIONS` on a GPU, in numbers: most batches have a single product for the inputs of a layer."""
MAX_INDEXED_GATES = 1 << 24
"""Maximum size of the input products of the distinct inputs of a batch, in numbers (64 MiB)."""


def runs_jointly(n_rows: int, projection: Tensor, *, size: int | None = None) -> bool:
    """Tell whether all directions run at once; on a GPU always, because the number of calls dominates.

    :param projection: weights of one direction.
    :param size: rows times weights below which they do on a CPU; by default :data:`JOINT_DIRECTIONS_SIZE`.
    """
    return n_rows * projection.numel() < (size or JOINT_DIRECTIONS_SIZE) or projection.device.type != "cpu"


def is_small(n_rows: int, projection: Tensor) -> bool:
    """Tell whether the operations of a step are so small that a second thread brings little, on a CPU.

    :param projection: weights of one direction.
    """
    return n_rows * projection.numel() < ONE_THREAD_SIZE and projection.device.type == "cpu"


class IndexedInputs(NamedTuple):
    """Packed inputs (G, N, D) as indices into distinct vectors."""

    vectors: Tensor  # (U, D)
    indices: Tensor  # (G, N)


class PackedLSTM:
    """LSTM layer of G directions with packed weights, without gradients."""

    def __init__(self, weights: Sequence[Weights], constants: Constants, dtype: torch.dtype) -> None:
        """Pack the weights.

        :param weights: of each direction, all of the same sizes.
        :param dtype: of the products; gates and cells are float32 at least.
        """
        self._weights = [Weights(*(weight.detach() for weight in each)) for each in weights]
        self._constants = constants
        self._n_gates = sum(len(each.bias) for each in weights)  # of all directions
        self._product_dtype = dtype
        self._dtype = vector_dtype(dtype)
        projections = [-each.projection for each in self._weights]
        self._projection = grouped_linear_op(projections, dtype=dtype, few_rows=True, is_sensitive=True)

    @cached_property
    def _joint_op(self) -> LinearOp:
        doubled = self._doubled()
        weights = [torch.cat([each.input, each.recurrent], dim=1) for each in doubled]
        return grouped_linear_op(weights, [each.bias for each in doubled], dtype=self._product_dtype)

    @cached_property
    def _input_op(self) -> LinearOp:
        doubled = self._doubled()
        biases = [each.bias for each in doubled]
        return grouped_linear_op([each.input for each in doubled], biases, dtype=self._product_dtype)

    @cached_property
    def _recurrent_op(self) -> LinearOp:
        weights = [each.recurrent for each in self._doubled()]
        return grouped_linear_op(weights, dtype=self._product_dtype, few_rows=True)

    def _doubled(self) -> list[Weights]:
        with torch.no_grad():
            return [double_candidate(each, self._constants.forget_bias) for each in self._weights]

    def __call__(
        self,
        x: Tensor,
        batch_sizes: Sequence[int],
        state: State,
        reset_mask: Tensor | None = None,
        inputs: IndexedInputs | None = None,
    ) -> tuple[Tensor, State]:
        """Run over packed sequences, which have the same lengths in all directions.

        :param x: (G, N, D).
        :param batch_sizes: rows of each step, non-increasing, N in total.
        :param state: (G, B, P) and (G, B, H), before the first step.
        :param reset_mask: (N), true where the states are set to zero before the step.
        :param inputs: ``x`` as indices, if known: the input product of each distinct vector is computed once.
        :returns: (G, N, P) and the states after the last step.
        """
        keep = None if reset_mask is None else (~reset_mask).unsqueeze(1)
        hidden = state.hidden.to(self._dtype)
        doubled_cell = state.cell.to(torch.promote_types(state.cell.dtype, torch.float32)) * 2
        gates = self._gates(x, batch_sizes[0], inputs)
        outputs = [hidden[:, :0]]
        ended: list[State] = []
        for offset, n_rows in zip(accumulate(batch_sizes, initial=0), batch_sizes, strict=False):
            if n_rows < hidden.shape[1]:
                ended.append(State(hidden[:, n_rows:], doubled_cell[:, n_rows:]))
                hidden, doubled_cell = hidden[:, :n_rows], doubled_cell[:, :n_rows]
            if keep is not None:
                hidden = hidden * keep[offset : offset + n_rows]
                doubled_cell.mul_(keep[offset : offset + n_rows])
            hidden = self._step(gates.of(offset, n_rows, hidden), doubled_cell)
            outputs.append(hidden)
        ended.append(State(hidden, doubled_cell))
        hidden, doubled_cell = (torch.cat(parts[::-1], dim=1) for parts in zip(*ended, strict=True))
        final = State(hidden.to(state.hidden.dtype), (doubled_cell / 2).to(state.cell.dtype))
        return torch.cat(outputs, dim=1).to(state.hidden.dtype), final

    def _gates(self, x: Tensor, n_rows: int, inputs: IndexedInputs | None) -> _Gates:
        """Choose the fastest way to compute the gates."""
        if inputs is not None and self._is_indexing_faster(inputs):
            inputs = inputs._replace(vectors=inputs.vectors.to(self._dtype))
            return _IndexedGates(inputs, self._input_op, self._recurrent_op)
        if n_rows < JOINT_ROWS or x.is_cuda:
            window = GPU_WINDOW_GATES // self._n_gates if x.is_cuda else WINDOW_POSITIONS
            return _WindowedGates(x.to(self._dtype), self._input_op, self._recurrent_op, window)
        n_hidden = self._weights[0].recurrent.shape[1]
        return _JointGates(x.to(self._dtype), self._joint_op, n_hidden=n_hidden)

    def _is_indexing_faster(self, inputs: IndexedInputs) -> bool:
        n_vectors = len(inputs.vectors)
        return 2 * n_vectors <= inputs.indices.shape[1] and n_vectors * self._n_gates <= MAX_INDEXED_GATES

    def _step(self, gates: Tensor, doubled_cell: Tensor) -> Tensor:
        """Return the outputs of a step, (G, rows, P), from its gates (G, rows, 4H); change the cells in place."""
        step = Step(gates, doubled_cell, doubled_cell)
        gated = cells_on(gates.device).step(step, self._constants.cell_clip, self._dtype)
        hidden = self._projection(gated)
        if self._constants.projection_clip is not None:
            hidden.clamp_(-self._constants.projection_clip, self._constants.projection_clip)
        return hidden


class _Gates(Protocol):
    def of(self, offset: int, n_rows: int, hidden: Tensor) -> Tensor:
        """Return the gates (G, rows, 4H) of a step before their activation, given its hidden state (G, rows, P)."""


class _IndexedGates:
    """Gates from the input product of each distinct vector, computed before the first step."""

    def __init__(self, inputs: IndexedInputs, input_op: LinearOp, recurrent_op: LinearOp) -> None:
        n_directions, n_vectors = len(inputs.indices), len(inputs.vectors)
        self._gates = input_op(inputs.vectors.expand(n_directions, -1, -1)).flatten(0, 1)  # (G U, 4H)
        offsets = torch.arange(n_directions, device=inputs.indices.device) * n_vectors
        self._indices = inputs.indices + offsets.unsqueeze(1)
        self._recurrent_op = recurrent_op

    def of(self, offset: int, n_rows: int, hidden: Tensor) -> Tensor:
        inputs = F.embedding(self._indices[:, offset : offset + n_rows], self._gates)
        return _add_product(inputs, hidden, self._recurrent_op)


class _JointGates:
    """Gates from one product of the concatenated input and hidden state of a step."""

    def __init__(self, x: Tensor, joint_op: LinearOp, *, n_hidden: int) -> None:
        self._inputs = torch.cat([x, x.new_empty(*x.shape[:2], n_hidden)], dim=2)  # (G, N, D + P)
        self._hidden = self._inputs[..., x.shape[2] :]
        self._joint_op = joint_op

    def of(self, offset: int, n_rows: int, hidden: Tensor) -> Tensor:
        self._hidden[:, offset : offset + n_rows] = hidden
        return self._joint_op(self._inputs[:, offset : offset + n_rows])


class _WindowedGates:
    """Gates from the product of the inputs of many steps, computed before the first of them."""

    def __init__(self, x: Tensor, input_op: LinearOp, recurrent_op: LinearOp, n_positions: int) -> None:
        self._x = x
        self._n_positions = n_positions
        self._input_op = input_op
        self._recurrent_op = recurrent_op
        self._begin = self._end = 0
        self._gates = input_op(x[:, :0])

    def of(self, offset: int, n_rows: int, hidden: Tensor) -> Tensor:
        if offset + n_rows > self._end:
            self._begin, self._end = offset, offset + max(n_rows, self._n_positions)
            self._gates = self._input_op(self._x[:, self._begin : self._end])
        inputs = self._gates.narrow(1, offset - self._begin, n_rows)
        return _add_product(inputs, hidden, self._recurrent_op)


def _add_product(inputs: Tensor, hidden: Tensor, recurrent_op: LinearOp) -> Tensor:
    """Add the recurrent product to the input product of a step; on a GPU in one call, which on a CPU is slower."""
    if inputs.is_cuda and isinstance(recurrent_op, BatchedLinear):
        return inputs.baddbmm_(hidden, recurrent_op.weights)
    return inputs.add_(recurrent_op(hidden))
