"""The point to resume a run from, and the best model: when they are saved, and that they are written whole."""

from __future__ import annotations

import io
import math
import pickle
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from elmolite import files, several_processes
from elmolite.errors import InputError
from elmolite.perplexity import Perplexity
from elmolite.pretraining_module import PretrainingModule
from elmolite.weight_average import WeightAverage

if TYPE_CHECKING:
    from elmolite.checkpoint import Checkpoint

SAVE_SECONDS = 600.0
"""Work that a killed run may lose, and a little more: ..."""
CLOCK_STEPS = 20
"""... the clock is looked at, and agreed on by all processes, only every so many steps."""


class ResumePoint(Callback):
    """After each validation, saves the point to resume from, and the model if its perplexity is the best so far.

    Between validations it saves the point to resume from at least every :data:`SAVE_SECONDS`, and when SIGTERM comes to
    one of the processes; then it ends the run.

    :param interval: steps from one validation to the next; without held-out text, from one saved model to the next.
    """

    def __init__(
        self, path: Path, model_folder: Path, checkpoint: Checkpoint, interval: int, *, validates: bool
    ) -> None:
        self.path = path
        self.interval = interval
        self.validates = validates
        self._saved_at = time.monotonic()
        self._point: int | None = None
        self._termination = several_processes.Termination()
        self.model_folder = model_folder
        self.checkpoint = checkpoint
        self.best: float | None = None
        self.saved_step = -1

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"best": self.best, "saved_step": self.saved_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from an earlier run."""
        self.best = state_dict["best"]
        self.saved_step = state_dict["saved_step"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Look out for SIGTERM, and note where a resumed run begins."""
        self._termination.watch()
        if trainer.global_step > 0:
            self._point = trainer.global_step

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
        """Save where no validation does."""
        if trainer.global_step % self.interval == 0:  # a validation follows, or is replaced
            if not self.validates:
                self.save(trainer, pl_module)
        elif trainer.world_size == 1 or trainer.global_step % CLOCK_STEPS == 0:
            is_due = time.monotonic() - self._saved_at > SAVE_SECONDS
            if any(several_processes.gather(is_due or self._termination.has_come)):
                _check_weights(pl_module, trainer.global_step)
                self._save_point(trainer)
                self._end_if_asked(trainer)

    def _end_if_asked(self, trainer: Trainer) -> None:
        """End the run where SIGTERM has come to a process; what the run holds was just saved."""
        if any(several_processes.gather(self._termination.has_come)) and trainer.global_step < trainer.max_steps:
            raise SystemExit

    def save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export the model if it is the best, then save the point to resume from."""
        assert isinstance(pl_module, PretrainingModule)
        result = pl_module.last_perplexity
        self.saved_step = trainer.global_step
        _check_weights(pl_module, trainer.global_step)
        if result is not None and math.isnan(result.average):
            raise several_processes.shared_error(
                f"training diverged: the held-out loss is NaN at step {trainer.global_step:,}"
            )
        with several_processes.raising_together():
            if result is None or self.best is None or result.average < self.best:
                self.best = None if result is None else result.average
                if trainer.is_global_zero:
                    self._export(trainer.global_step, result, pl_module.average)
        self._save_point(trainer)
        self._end_if_asked(trainer)

    def describe(self) -> str:
        """Say what an interrupted run can do."""
        return "nothing was saved yet" if self._point is None else f"go on from step {self._point:,} with --resume"

    def _save_point(self, trainer: Trainer) -> None:
        with several_processes.raising_together():
            trainer.save_checkpoint(self.path)
        self._point = trainer.global_step
        self._saved_at = time.monotonic()

    def _export(self, step: int, result: Perplexity | None, average: WeightAverage | None) -> None:
        record = dict(self.checkpoint.training or {})
        perplexity = None if result is None else {"forward": result.forward, "backward": result.backward}
        self.checkpoint.training = {**record, "step": step, "held_out_perplexity": perplexity}
        with average.swapped() if average is not None else nullcontext():
            self.checkpoint.save_pretrained(self.model_folder, overwrite=True)


def _check_weights(module: LightningModule, step: int) -> None:
    """Keep weights that are no numbers from replacing a good point; they are the same in every process.

    :raises InputError: a weight is infinite or NaN.
    """
    if not all(bool(weight.isfinite().all()) for weight in module.parameters()):
        raise several_processes.shared_error(
            f"training diverged: weights are no longer finite at step {step:,}; the last good point stands; try a "
            "lower --learning-rate"
        )


class WholeFileIO(TorchCheckpointIO):
    """Writes Lightning's checkpoints whole or not at all, and reads tensors and plain values only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:  # noqa: ARG002
        """Serialise in memory, then write."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            files.write_bytes(Path(path), buffer.getbuffer())
        except InputError:
            several_processes.enter_barrier()  # they wait at the end of Trainer.save_checkpoint
            raise

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:  # noqa: ARG002
        """Read tensors and plain values.

        :raises InputError: the file is missing, cut short or not such a checkpoint.
        """
        with several_processes.raising_together():
            try:
                checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
                reason = str(error).splitlines()[0]
                raise InputError(f"{path}: not a point to resume from that can be read: {reason}") from None
        return checkpoint
