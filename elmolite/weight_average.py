"""An exponential moving average of weights: steadier than the last weights, and what is validated and kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The average of a module's weights over the steps of its training (Polyak and Juditsky 1992; TensorFlow's EMA).

    Over the first steps the decay is ``(1 + step) / (10 + step)``, so that the initial weights are soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        """:param decay: the share of the average that a step keeps, later on."""
        self.decay = decay
        self._weights = list(module.parameters())
        self._average: list[Tensor] = []  # nothing before the first step

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 0."""
        if not self._average:
            self._average = [weight.detach().clone() for weight in self._weights]
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for average, weight in self._pairs():
            average.lerp_(weight, share)

    @torch.no_grad()
    def swap(self) -> None:
        """Put the average into the module and its weights aside, or back; before the first step both are the same."""
        for average, weight in self._pairs():  # copies: cuDNN wants the weights of a layer to stay side by side
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

    def state(self) -> list[Tensor]:
        """Return the average, for the point to resume from."""
        return self._average

    def load_state(self, average: list[Tensor]) -> None:
        """Take back what :meth:`state` gave."""
        self._average = average

    def _pairs(self) -> Iterator[tuple[Tensor, nn.Parameter]]:
        """Pair averages and weights; an average that was loaded follows its weight to the device."""
        for average, weight in zip(self._average, self._weights, strict=bool(self._average)):
            average.data = average.data.to(weight.device)
            yield average, weight
