"""Exponential moving average of the weights, with lazy updates of large tables.

torch's ``AveragedModel`` would read and write every table in every step, a million rows of which a step changes a few
thousand; :class:`EMA` updates a table's rows only when they change.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from elmolite.pretraining.sparse_rows import RowGradient


class EMA:
    """Average of a module's weights over the training steps (Polyak and Juditsky 1992; TensorFlow's EMA).

    The decay of early steps is ``(1 + step) / (10 + step)``, so that the initial weights soon lose their influence.

    A row of a table is averaged before a step changes it, and when the average is read. It was constant since its last
    update, so that the product of the decays since then gives the exact average.
    """

    def __init__(self, module: nn.Module, decay: float, tables: Iterable[nn.Parameter] = ()) -> None:
        """Start without an average.

        :param decay: the share of the average that a step keeps, after the early steps.
        :param tables: parameters of the module whose rows change only after a call of :meth:`update_rows`.
        """
        self.decay = decay
        self._weights = list(module.parameters())
        index_of = {weight: index for index, weight in enumerate(self._weights)}
        self._tables = [index_of[table] for table in tables]
        self._average: list[Tensor] = []  # empty before the first step
        self._log_kept = torch.zeros((), dtype=torch.float64)  # sum of the logarithms of all decays
        self._log_kept_then: dict[int, Tensor] = {}  # table -> _log_kept at the last update of each row, (V)

    @torch.no_grad()
    def update(self, step: int, is_taken: Tensor) -> None:
        """Average the weights after a step.

        :param step: counted from 0.
        :param is_taken: boolean scalar on the device; false leaves the average as it is.
        """
        device = is_taken.device
        self._log_kept = self._log_kept.to(device, torch.float32 if device.type == "mps" else torch.float64)
        if not self._average:
            self._average = [weight.detach().clone() for weight in self._weights]
            for index in self._tables:
                self._log_kept_then[index] = self._log_kept.new_zeros(len(self._weights[index]))
        decay = min(self.decay, (1 + step) / (10 + step))
        self._log_kept = self._log_kept.add(math.log(decay)).where(is_taken, self._log_kept)
        share = torch.where(is_taken, self._average[0].new_full((), 1 - decay), 0)
        for index in range(len(self._weights)):
            if index not in self._log_kept_then:
                average, weight = self._pair(index)
                average.lerp_(weight, share)

    def update_rows(self, gradients: Iterable[RowGradient]) -> None:
        """Average the rows of the tables that the next optimizer step changes."""
        if self._average:
            for (_, rows, _), index in zip(gradients, self._tables, strict=True):
                self._update_rows(index, rows)

    def update_all_rows(self) -> None:
        """Average all rows of all tables; a second call in a row changes nothing."""
        for index in self._log_kept_then:
            self._update_rows(index, slice(None))

    @torch.no_grad()
    def _update_rows(self, index: int, rows: Tensor | slice) -> None:
        average, weight = self._pair(index)
        then = self._log_kept_then[index] = self._log_kept_then[index].to(weight.device)
        kept = (self._log_kept - then[rows]).exp().to(weight.dtype)
        average[rows] = weight[rows].lerp(average[rows], kept.view(-1, *[1] * (weight.dim() - 1)))
        then[rows] = self._log_kept

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the weights of the module and the average; before the first step both are equal."""
        self.update_all_rows()
        for index in range(len(self._average)):  # copies, because cuDNN needs a layer's weights in one block
            average, weight = self._pair(index)
            previous = weight.clone()
            weight.copy_(average)
            average.copy_(previous)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Use the average as the weights of the module within the block."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a training checkpoint."""
        return {"weights": self._average, "log_kept": float(self._log_kept), "log_kept_then": self._log_kept_then}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a copy of the state of :meth:`state_dict`."""
        state = copy.deepcopy(state)
        self._average = state["weights"]
        self._log_kept = torch.tensor(state["log_kept"], dtype=torch.float64)
        self._log_kept_then = state["log_kept_then"]

    def _pair(self, index: int) -> tuple[Tensor, nn.Parameter]:
        """Return an average and its weight; moves a restored average to the device of the weight."""
        average, weight = self._average[index], self._weights[index]
        average.data = average.data.to(weight.device)
        return average, weight
