"""Training checkpoints: files that a run resumes from, and the callback that saves them and the best model."""

from __future__ import annotations

import logging
import math
import time
import zipfile
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from elmolite.errors import InputError
from elmolite.pretraining import distributed
from elmolite.pretraining.evaluation import Perplexity
from elmolite.pretraining.module import PretrainingModule, check_finite_weights
from elmolite.pretraining.setup import PretrainingRun
from elmolite.utils import files

MODEL_FOLDER = "model"
FOLDER = "checkpoints"
FOLDER_0_1 = "points"
FORMAT_VERSION = 2

SAVE_SECONDS = 600.0
"""Longest time between two checkpoints: the work that a killed run may lose."""
AGREE_STEPS = 20
"""Steps between two moments at which ranks agree on the time and on signals."""


class TrainingCheckpoints:
    """Checkpoint files of a run, ``checkpoints/step-000001200.ckpt``; version 0.1 wrote them to ``points/``."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.loaded: dict[str, Any] | None = None
        """Content of the checkpoint that the run resumes from, until training starts."""

    def path_at(self, step: int) -> Path:
        """Return the path of the checkpoint of a step."""
        return self.run / FOLDER / f"step-{step:09}.ckpt"

    def paths(self) -> list[Path]:
        """Return the existing checkpoints, latest first."""
        found = [path for folder in (FOLDER, FOLDER_0_1) for path in (self.run / folder).glob("step-*.ckpt")]
        return sorted(found, key=step_of, reverse=True)

    def load_latest(self) -> dict[str, Any]:
        """Load the latest intact checkpoint on all ranks, and warn of later ones that are damaged; a collective.

        :raises InputError: no checkpoint is intact.
        """
        path: Path | None = None
        with distributed.reraise_on_all_ranks():
            if distributed.is_rank_zero() or not distributed.is_distributed():
                path, self.loaded = self._load_latest()
        path = distributed.all_gather_object(path)[0]
        with distributed.reraise_on_all_ranks():
            if self.loaded is None:
                assert path is not None
                self.loaded = load_checkpoint(path)
        return self.loaded

    def _load_latest(self) -> tuple[Path, dict[str, Any]]:
        damaged = []
        for path in self.paths():
            try:
                content = load_checkpoint(path)
            except InputError as error:
                damaged.append(str(error))
                continue
            for message in damaged:
                distributed.log_once(f"{message}; resuming from {path.name}", level=logging.WARNING)
            if path.parent.name == FOLDER_0_1:
                distributed.log_once(
                    "the checkpoint is of version 0.1: dropout and negative samples continue with other random numbers",
                    level=logging.WARNING,
                )
            return path, content
        if damaged:
            raise InputError(f"no checkpoint is intact: {'; '.join(damaged)}")
        raise InputError(f"{self.run}: nothing to resume (no {FOLDER}/step-*.ckpt); start without `resume`")

    def prune(self, *, keep_last: int, step: int) -> None:
        """Delete all but the last checkpoints up to a step, and later ones, from before a resumption."""
        kept = [path for path in self.paths() if step_of(path) <= step][:keep_last]
        for path in self.paths():
            if path not in kept:
                with files.wrap_os_errors(path):
                    path.unlink()
        with suppress(OSError):  # other files are in it, or it does not exist
            (self.run / FOLDER_0_1).rmdir()


def step_of(path: Path) -> int:
    """Return the step of a checkpoint file."""
    return int(path.stem.removeprefix("step-"))


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint atomically."""
    with files.writing(path) as file:
        try:
            torch.save({"format_version": FORMAT_VERSION, **content}, file)
        except RuntimeError as error:  # of torch's zip writer, after a write that failed
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return the tensors and plain values of a checkpoint, on the CPU.

    The checksums are those of the zip archive. Earlier versions appended their own, which zipfile and torch ignore.

    :raises InputError: the file is missing, damaged, truncated or not a checkpoint.
    """
    try:
        with path.open("rb") as file:
            if damaged := zipfile.ZipFile(file).testzip():
                raise zipfile.BadZipFile(f"checksum mismatch of {damaged}")
            file.seek(0)
            content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises exceptions of many kinds for files of other formats
        reason = (str(error) or repr(error)).splitlines()[0]
        raise InputError(f"{path} is damaged, truncated or not a training checkpoint: {reason}") from error
    version = content.pop("format_version", None) if isinstance(content, dict) else None
    if version not in (1, FORMAT_VERSION):
        raise InputError(f"{path}: format_version {version!r}; this version of elmolite reads 1 and {FORMAT_VERSION}")
    if version == 1:  # of elmolite 0.1
        content["callbacks"][CheckpointCallback.__name__] = content["callbacks"].pop("ResumePoint")
    return content


class CheckpointCallback(Callback):
    """Saves training checkpoints, and exports the model when its validation perplexity is the best so far.

    A checkpoint is saved before and after each validation, at least every :data:`SAVE_SECONDS` between validations, and
    at SIGTERM or SIGINT, which stop the run. A run that stops before or in a validation validates when it resumes.

    :param keep_last: number of checkpoints to keep.
    """

    def __init__(self, run: PretrainingRun, checkpoints: TrainingCheckpoints, *, keep_last: int) -> None:
        self.run = run
        self.checkpoints = checkpoints
        self.keep_last = keep_last
        self.interval = run.validation_interval  # without validation text, of the exports
        self.validates = run.valid is not None
        self.stop_signal = distributed.StopSignal()
        self.best: float | None = None
        self.n_worse = 0
        self.done_step = -1
        """The last step whose validation and export are done."""
        self._saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {name: getattr(self, name) for name in ("best", "n_worse", "done_step")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state."""
        self.best, self.n_worse = state_dict["best"], state_dict["n_worse"]
        self.done_step = state_dict["done_step"]

    def must_validate(self, step: int, done_step: int) -> bool:
        """Return whether a run that resumes at a step stopped before the end of the validation of that step."""
        return self.validates and step > 0 and step % self.interval == 0 and done_step != step

    def finished_step(self) -> int | None:
        """Return the last step of the loaded run if nothing is left to do, else ``None``."""
        if (loaded := self.checkpoints.loaded) is None:
            return None
        step, state = loaded["global_step"], loaded["callbacks"][self.state_key]
        is_last = step == self.run.n_steps or 0 < self.run.config.patience <= state["n_worse"]
        return step if is_last and state["done_step"] == step else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handlers after Lightning's, and save the result of a validation before training."""
        self.checkpoints.loaded = None
        self.stop_signal.install()
        if self.must_validate(trainer.global_step, self.done_step):
            self.save(trainer, pl_module)
        trainer.should_stop = self._is_out_of_patience

    def on_validation_batch_end(
        self, trainer: Trainer, _module: LightningModule, _outputs: Any, _batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Stop the run after a signal; the checkpoint from before the validation exists."""
        if trainer.world_size == 1 or batch_idx % AGREE_STEPS == 0:
            self._stop_if_signalled()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, unless the validation precedes the training."""
        if trainer.global_step > 0:
            self.save(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save before a validation, at exports without validation, at intervals of time and after signals."""
        if trainer.global_step % self.interval == 0 and not self.validates:
            self.save(trainer, pl_module)
        elif trainer.global_step % self.interval == 0:
            self.save_before_validation(trainer, pl_module)
        elif trainer.world_size == 1 or trainer.global_step % AGREE_STEPS == 0:
            is_due = time.monotonic() - self._saved_at > SAVE_SECONDS
            if any(distributed.all_gather_object(is_due or self.stop_signal.received)):
                self.save_before_validation(trainer, pl_module)

    def save_before_validation(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save a checkpoint without export."""
        assert isinstance(pl_module, PretrainingModule)
        pl_module.guard.check(pl_module)
        check_finite_weights(pl_module, trainer.global_step)
        self._save_checkpoint(trainer)

    def save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export the model if it is the best, then save a checkpoint."""
        assert isinstance(pl_module, PretrainingModule)
        result = pl_module.last_perplexity
        self.done_step = trainer.global_step
        pl_module.guard.check(pl_module)
        check_finite_weights(pl_module, trainer.global_step)
        if result is not None and math.isnan(result.average):
            raise distributed.shared_error(
                f"training diverged: the validation loss is NaN at step {trainer.global_step:,}"
            )
        if pl_module.ema is not None:
            pl_module.ema.update_all_rows()  # as in a validation within the training
        with distributed.reraise_on_all_ranks():
            self.n_worse += 1
            if result is None or self.best is None or result.average < self.best:
                self.n_worse = 0
                self.best = None if result is None else result.average
                if trainer.is_global_zero:
                    self._export(trainer.global_step, result, pl_module)
        self._save_checkpoint(trainer)
        if self._is_out_of_patience:
            trainer.should_stop = True
            distributed.log_once(
                f"no improvement in {self.n_worse} validations: training stops at step {trainer.global_step:,}"
            )

    @property
    def _is_out_of_patience(self) -> bool:
        return 0 < self.run.config.patience <= self.n_worse

    def _save_checkpoint(self, trainer: Trainer) -> None:
        """Save, delete old checkpoints, and stop the run after a signal."""
        with distributed.reraise_on_all_ranks():
            trainer.save_checkpoint(self.checkpoints.path_at(trainer.global_step))
            if trainer.is_global_zero:
                self.checkpoints.prune(keep_last=self.keep_last, step=trainer.global_step)
        self._saved_at = time.monotonic()
        if trainer.global_step < trainer.max_steps:
            self._stop_if_signalled()

    def _stop_if_signalled(self) -> None:
        if any(distributed.all_gather_object(self.stop_signal.received)):
            raise SystemExit

    def _export(self, step: int, result: Perplexity | None, module: PretrainingModule) -> None:
        model = self.run.model
        perplexity = None if result is None else {"forward": result.forward, "backward": result.backward}
        model.training = {**(model.training or {}), "step": step, "held_out_perplexity": perplexity}
        with module.ema.swapped() if module.ema is not None else nullcontext():
            model.save_pretrained(self.checkpoints.run / MODEL_FOLDER, overwrite=True)


class TrainingCheckpointIO(TorchCheckpointIO):
    """Lightning plugin that saves checkpoints with :func:`save_checkpoint` and returns the one already loaded."""

    def __init__(self, checkpoints: TrainingCheckpoints) -> None:
        super().__init__()
        self.checkpoints = checkpoints

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:  # noqa: ARG002
        """Write a checkpoint."""
        try:
            save_checkpoint(Path(path), checkpoint)
        except InputError:
            distributed.barrier()  # the other ranks wait at the end of Trainer.save_checkpoint
            raise

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:  # noqa: ARG002
        """Return the checkpoint that :meth:`TrainingCheckpoints.load_latest` loaded."""
        assert self.checkpoints.loaded is not None
        return self.checkpoints.loaded
