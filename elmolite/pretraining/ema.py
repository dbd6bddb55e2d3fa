"""An exponential moving average of weights: steadier than the last weights, and what is validated and kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from elmolite.pretraining.sparse_rows import TouchedRows


class WeightAverage:
    """The average of a module's weights over the steps of its training (Polyak and Juditsky 1992; TensorFlow's EMA).

    Over the first steps the decay is ``(1 + step) / (10 + step)``, so that the initial weights are soon forgotten.

    A row of a table of which steps touch few is taken in only before a step that changes it, and when the average is
    wanted: it was the same in all steps since the last time, so the product of their decays gives the same average.
    """

    def __init__(self, module: nn.Module, decay: float, tables: Iterable[nn.Parameter] = ()) -> None:
        """Begin with no average.

        :param decay: the share of the average that a step keeps, later on.
        :param tables: weights of the module whose rows change only after :meth:`take_in` was told of them.
        """
        self.decay = decay
        self._weights = list(module.parameters())
        place_of = {weight: place for place, weight in enumerate(self._weights)}
        self._tables = [place_of[table] for table in tables]
        self._average: list[Tensor] = []  # nothing before the first step
        self._log_kept = 0.0  # the sum of the logarithms of all decays
        self._log_kept_then: dict[int, Tensor] = {}  # of each table, what it was when a row was last taken in: (V)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 0."""
        if not self._average:
            self._average = [weight.detach().clone() for weight in self._weights]
            for place in self._tables:
                table = self._weights[place]
                self._log_kept_then[place] = torch.zeros(len(table), dtype=torch.float64, device=table.device)
        decay = min(self.decay, (1 + step) / (10 + step))
        self._log_kept += math.log(decay)
        for place in range(len(self._weights)):
            if place not in self._log_kept_then:
                average, weight = self._pair(place)
                average.lerp_(weight, 1 - decay)

    def take_in(self, touched: Iterable[TouchedRows]) -> None:
        """Take in rows of tables, before a step changes them."""
        if self._average:
            for (_, rows, _), place in zip(touched, self._tables, strict=True):
                self._take_in(place, rows)

    @torch.no_grad()
    def _take_in(self, place: int, rows: Tensor | slice) -> None:
        average, weight = self._pair(place)
        then = self._log_kept_then[place] = self._log_kept_then[place].to(weight.device)
        kept = (self._log_kept - then[rows]).exp().to(weight.dtype)
        average[rows] = weight[rows].lerp(average[rows], kept.view(-1, *[1] * (weight.dim() - 1)))
        then[rows] = self._log_kept

    @torch.no_grad()
    def swap(self) -> None:
        """Put the average into the module and its weights aside, or back; before the first step both are the same."""
        for place in self._log_kept_then:
            self._take_in(place, slice(None))  # which on the way back changes nothing
        for place in range(len(self._average)):  # copies: cuDNN wants the weights of a layer to stay side by side
            average, weight = self._pair(place)
            aside = weight.clone()
            weight.copy_(average)
            average.copy_(aside)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Have the average in the module during a block."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def state(self) -> dict[str, Any]:
        """Return the average as it stands, for the point to resume from."""
        return {"weights": self._average, "log_kept": self._log_kept, "log_kept_then": self._log_kept_then}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self._average = state["weights"]
        self._log_kept, self._log_kept_then = state["log_kept"], state["log_kept_then"]

    def _pair(self, place: int) -> tuple[Tensor, nn.Parameter]:
        """Return an average and its weight; an average that was loaded follows its weight to the device."""
        average, weight = self._average[place], self._weights[place]
        average.data = average.data.to(weight.device)
        return average, weight
