"""Steps of training in which a number is none are not taken; when that does not pass, the run ends and says why."""

from __future__ import annotations

import sys

import torch
from torch import nn

from elmolite.nn.bilm import BiLMState
from elmolite.nn.lstm.reference import State
from elmolite.pretraining import distributed

MAX_SKIPPED_IN_A_ROW = 10


class SkippedSteps:
    """Counts the steps that were not taken, the same in all processes."""

    def __init__(self) -> None:
        self.n = 0
        self._n_in_a_row = 0

    def state(self) -> dict[str, int]:
        """Return what a resumed run needs."""
        return {"n": self.n, "in_a_row": self._n_in_a_row}

    def load_state(self, state: dict[str, int]) -> None:
        """Take back what :meth:`state` gave."""
        self.n, self._n_in_a_row = state["n"], state["in_a_row"]

    def take(self) -> None:
        """Note that a step was taken."""
        self._n_in_a_row = 0

    def skip(self, module: nn.Module, step: int, *, loss: float, gradient_norm: float) -> None:
        """Note that a step was not taken, and say so.

        :param step: counted from 0: its batch is that of :meth:`elmolite.data.bptt.BPTTBatches.batch`.
        :param loss: of this process.
        :raises InputError: it cannot go on: a weight is no number, or this was one too many in a row.
        """
        self.n += 1
        self._n_in_a_row += 1
        seen = f"loss {loss:.4g}, gradient norm {gradient_norm:.4g}"
        if distributed.is_first():
            print(f"step {step + 1:,} skipped, {self.n:,} so far: {seen}", file=sys.stderr)
        check_weights(module, step)
        if self._n_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise distributed.shared_error(
                f"training diverged: {self._n_in_a_row} steps in a row up to step {step + 1:,} had a number that is "
                f"none ({seen}); the last good point stands; try a lower --learning-rate"
            )


def check_weights(module: nn.Module, step: int) -> None:
    """Keep weights that are no numbers from being trained or saved; they are the same in every process.

    :raises InputError: a weight is infinite or NaN.
    """
    bad = [name for name, weight in module.named_parameters() if not bool(weight.isfinite().all())]
    if bad:
        raise distributed.shared_error(
            f"training diverged: weights are no longer finite at step {step:,} ({bad[0]}); the last good point stands; "
            "try a lower --learning-rate"
        )


def is_finite(state: BiLMState) -> torch.Tensor:
    """Tell whether all numbers of a state are finite: a boolean of no dimension, on its device."""
    return nn.utils.get_total_norm([part for direction in state for part in direction]).isfinite()


def finite_rows(state: BiLMState) -> BiLMState:
    """Return the state with zeros in each layer of a row that has a number that is none, (L, B, size)."""
    return BiLMState(*(State(*(_finite(part) for part in direction)) for direction in state))


def _finite(part: torch.Tensor) -> torch.Tensor:
    return torch.where(part.isfinite().all(dim=2, keepdim=True), part, 0.0)
