"""Lightning's counters of a run: a function of its steps, so that a point to resume from holds the step alone."""

from __future__ import annotations

import copy
from typing import Any

from lightning.pytorch import Trainer


def loops_at(trainer: Trainer, step: int) -> dict[str, Any]:
    """Return what Lightning keeps of its loops after so many steps, in the middle of the one epoch that a run has.

    Lightning itself would save two different states of the same step, one before and one after a validation.
    """
    state = copy.deepcopy(trainer.fit_loop.state_dict())
    for name in ("batch_progress", "manual_optimization.optim_step_progress"):
        for counts in (state[f"epoch_loop.{name}"]["total"], state[f"epoch_loop.{name}"]["current"]):
            counts.update(dict.fromkeys(counts, step))
    for counts in (state["epoch_progress"]["total"], state["epoch_progress"]["current"]):
        counts.update(ready=1, started=1)
    return {"fit_loop": state}
