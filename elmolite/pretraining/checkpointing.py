"""The point to resume a run from, and the best model: when they are saved."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from elmolite.errors import InputError
from elmolite.pretraining import distributed, saved_points
from elmolite.pretraining.ema import WeightAverage
from elmolite.pretraining.module import PretrainingModule
from elmolite.pretraining.perplexity import Perplexity
from elmolite.pretraining.saved_points import SavedPoints
from elmolite.pretraining.sound_steps import check_weights

if TYPE_CHECKING:
    from elmolite.checkpoint import Checkpoint

SAVE_SECONDS = 600.0
"""Work that a killed run may lose, and a little more: ..."""
CLOCK_STEPS = 20
"""... several processes look at the clock, and agree, only every so many steps."""


class ResumePoint(Callback):
    """Saves the point to resume from before and after each validation, and the model if it is the best so far.

    Between validations it saves the point at least every :data:`SAVE_SECONDS`, and when SIGTERM or SIGINT comes to one
    of the processes; then it ends the run. A run that ends before a validation, or in it, validates when it resumes.

    :param interval: steps from one validation to the next; without held-out text, from one saved model to the next.
    :param keep_last: so many points stay.
    :param patience: of :class:`~elmolite.pretraining.config.PretrainingConfig`.
    """

    def __init__(
        self,
        points: SavedPoints,
        model_folder: Path,
        checkpoint: Checkpoint,
        interval: int,
        *,
        validates: bool,
        keep_last: int,
        patience: int = 0,
    ) -> None:
        self.points = points
        self.model_folder = model_folder
        self.checkpoint = checkpoint
        self.interval = interval
        self.validates = validates
        self.keep_last = keep_last
        self.patience = patience
        self.termination = distributed.Termination()
        self.best: float | None = None
        self.n_worse = 0
        self.done_step = -1
        """The last step after which all was done that is due there: validation, export."""
        self._saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {
            "best": self.best,
            "n_worse": self.n_worse,
            "done_step": self.done_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from an earlier run."""
        self.best = state_dict["best"]
        self.n_worse = state_dict["n_worse"]
        self.done_step = state_dict["done_step"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Look out for signals in the place of Lightning; make up for a validation that was not had."""
        self.termination.watch()
        step = trainer.global_step
        if self.validates and step > 0 and step % self.interval == 0 and self.done_step != step:
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True
        trainer.should_stop = self._is_out_of_patience

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,
        dataloader_idx: int = 0,  # noqa: ARG002
    ) -> None:
        """End the run where a signal has come: the point from before the validation stands."""
        if trainer.world_size == 1 or batch_idx % CLOCK_STEPS == 0:
            self._end_if_asked()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, unless nothing was trained yet."""
        if trainer.global_step > 0:
            self.save(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Save before a validation, where there is none to save after, and in between."""
        if trainer.global_step % self.interval == 0 and not self.validates:
            self.save(trainer, pl_module)
        elif trainer.global_step % self.interval == 0:
            self.save_before_validation(trainer, pl_module)
        elif trainer.world_size == 1 or trainer.global_step % CLOCK_STEPS == 0:
            is_due = time.monotonic() - self._saved_at > SAVE_SECONDS
            if any(distributed.gather(is_due or self.termination.has_come)):
                check_weights(pl_module, trainer.global_step)
                self._save_point(trainer)

    def save_before_validation(self, trainer: Trainer, module: LightningModule) -> None:
        """Save a point that begins with the validation."""
        check_weights(module, trainer.global_step)
        self._save_point(trainer)

    def save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export the model if it is the best, then save the point to resume from."""
        assert isinstance(pl_module, PretrainingModule)
        result = pl_module.last_perplexity
        self.done_step = trainer.global_step
        check_weights(pl_module, trainer.global_step)
        if result is not None and math.isnan(result.average):
            raise distributed.shared_error(
                f"training diverged: the held-out loss is NaN at step {trainer.global_step:,}"
            )
        with distributed.raising_together():
            self.n_worse += 1
            if result is None or self.best is None or result.average < self.best:
                self.n_worse = 0
                self.best = None if result is None else result.average
                if trainer.is_global_zero:
                    self._export(trainer.global_step, result, pl_module.average)
        self._save_point(trainer)
        if self._is_out_of_patience:
            trainer.should_stop = True
            if trainer.is_global_zero:
                print(f"no better after {self.n_worse} evaluations: the run ends with step {trainer.global_step:,}")

    @property
    def _is_out_of_patience(self) -> bool:
        return 0 < self.patience <= self.n_worse

    def _save_point(self, trainer: Trainer) -> None:
        """Save, keep only the last points, and end the run where a signal has come."""
        with distributed.raising_together():
            trainer.save_checkpoint(self.points.path_at(trainer.global_step))
            if trainer.is_global_zero:
                self.points.remove_all_but(self.keep_last, step=trainer.global_step)
        self._saved_at = time.monotonic()
        if trainer.global_step < trainer.max_steps:
            self._end_if_asked()

    def _end_if_asked(self) -> None:
        """End the run where a signal has come to a process."""
        if any(distributed.gather(self.termination.has_come)):
            raise SystemExit

    def _export(self, step: int, result: Perplexity | None, average: WeightAverage | None) -> None:
        record = dict(self.checkpoint.training or {})
        perplexity = None if result is None else {"forward": result.forward, "backward": result.backward}
        self.checkpoint.training = {**record, "step": step, "held_out_perplexity": perplexity}
        with average.swapped() if average is not None else nullcontext():
            self.checkpoint.save_pretrained(self.model_folder, overwrite=True)


class PointIO(TorchCheckpointIO):
    """Has Lightning write and read its checkpoints as :mod:`elmolite.pretraining.saved_points` does."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:  # noqa: ARG002
        """Write the point."""
        try:
            saved_points.write(Path(path), checkpoint)
        except InputError:
            distributed.enter_barrier()  # they wait at the end of Trainer.save_checkpoint
            raise

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:  # noqa: ARG002
        """Read the point.

        :raises InputError: the file is missing, cut short or not such a point.
        """
        with distributed.raising_together():
            point: dict[str, Any] = saved_points.read(Path(path))
        return point
