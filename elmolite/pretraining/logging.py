"""Training log: the CSV logger, and the callback that averages losses and shows progress."""

from __future__ import annotations

import csv
import io
import math
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from elmolite.pretraining import distributed
from elmolite.pretraining.module import PretrainingModule
from elmolite.utils import files
from elmolite.utils.console import ProgressBar


class CsvLog(Logger):
    """``log.csv``: one line per logged step or validation; a resumed run appends to it."""

    COLUMNS = (
        *("step", "seconds", "loss", "tokens_per_second", "learning_rate", "gradient_norm"),
        *("valid_forward", "valid_backward", "valid_average", "skipped_steps"),
    )

    def __init__(self, path: Path, *, keep: bool) -> None:
        """:param keep: append to the existing lines up to the resumed step."""
        super().__init__()
        self.path = path
        self.keep = keep
        self.is_open = False
        self._started = time.monotonic()
        self._seconds_before = 0.0
        self._validated_at = -1

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """Version of the logger: there is one."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Ignore hyper-parameters: they are in ``pretraining.json``."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Append a line, unless the log has a validation of the step.

        A run that was killed before the checkpoint of a validation validates again when it resumes, and once more if
        no step is left to train.
        """
        if not self.is_open:  # a validation before the training
            self.open_at(step or 0)
        if step is not None and "valid_average" in metrics:
            if step == self._validated_at:
                return
            self._validated_at = step
        seconds = self._seconds_before + time.monotonic() - self._started
        values = {"step": step, "seconds": seconds, **metrics}
        with files.wrap_os_errors(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([_short(values.get(column)) for column in self.COLUMNS])

    @rank_zero_only
    def open_at(self, step: int) -> None:
        """Write the header and the lines of an earlier part of the run up to the resumed step.

        A line that a kill cut short is dropped, and so are columns of version 0.1.
        """
        rows: list[dict[str, str]] = []
        if self.keep and self.path.is_file():
            lines = self.path.read_bytes().decode().splitlines(keepends=True)
            complete = [line for line in lines if line.endswith("\n")]
            rows = [row for row in csv.DictReader(complete) if int(row["step"]) <= step]
        text = io.StringIO()
        writer = csv.DictWriter(text, self.COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        files.write_bytes(self.path, text.getvalue().encode())
        self._seconds_before = float(rows[-1]["seconds"]) if rows else 0.0
        self._validated_at = int(rows[-1]["step"]) if rows and rows[-1]["valid_average"] else -1
        self.is_open = True


def _short(value: float | str | None) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


class TrainingLog(Callback):
    """Averages the loss between two lines of the log, and shows a progress bar, or lines without a terminal."""

    def __init__(self, n_steps: int, *, every: int, show: bool) -> None:
        self.n_steps = n_steps
        self.every = every
        self.show = show
        self._bar = ProgressBar("", unit="steps", show=False)
        self._loss_sum: torch.Tensor | float = 0.0
        self._n_targets: torch.Tensor | int = 0
        self._since = time.monotonic()

    def _totals(self) -> tuple[float, int]:
        """Return the loss and the number of targets since the last line, over all ranks; a collective."""
        totals = distributed.all_gather_object((float(self._loss_sum), int(self._n_targets)))
        return sum(loss_sum for loss_sum, _ in totals), sum(n_targets for _, n_targets in totals)

    def state_dict(self) -> dict[str, Any]:
        """Return the totals since the last line."""
        loss_sum, n_targets = self._totals()
        return {"loss_sum": loss_sum, "n_targets": n_targets}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the totals, on rank zero."""
        if distributed.is_rank_zero():
            self._loss_sum, self._n_targets = state_dict["loss_sum"], state_dict["n_targets"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Open the log at the first step of this part of the run, and the progress bar."""
        with distributed.reraise_on_all_ranks():
            for each in trainer.loggers:
                if isinstance(each, CsvLog) and not each.is_open:
                    each.open_at(trainer.global_step)
        self._since = time.monotonic()
        show = self.show and trainer.is_global_zero
        self._bar = ProgressBar("pretraining", unit="steps", total=self.n_steps, initial=trainer.global_step, show=show)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        """Add a step to the totals, and log them at the interval."""
        assert isinstance(pl_module, PretrainingModule)
        self._loss_sum = self._loss_sum + outputs["loss_sum"]
        self._n_targets += outputs["n_targets"]
        step = trainer.global_step
        if step % self.every and step != self.n_steps:
            return
        pl_module.guard.check(pl_module)
        now = time.monotonic()
        loss_sum, n_targets = self._totals()
        loss = loss_sum / (2 * n_targets) if n_targets else math.nan  # NaN: all steps were skipped
        speed = n_targets / (now - self._since)
        pl_module.log_metrics(
            {
                "loss": loss,
                "tokens_per_second": speed,
                "learning_rate": outputs["learning_rate"],
                "gradient_norm": float(outputs["gradient_norm"]),
                "skipped_steps": pl_module.guard.n_skipped,
            }
        )
        self._loss_sum, self._n_targets, self._since = 0.0, 0, now
        self._bar.update(step - self._bar.n, f"loss {loss:.3f}, {speed:,.0f} tokens/s")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Stop the clock of the training speed."""
        self._paused = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Report the perplexities."""
        self._since += time.monotonic() - self._paused
        assert isinstance(pl_module, PretrainingModule)
        if (result := pl_module.last_perplexity) is not None:
            distributed.log_once(
                f"step {pl_module.step:,}: validation perplexity {result.average:.1f} "
                f"(forward {result.forward:.1f}, backward {result.backward:.1f})"
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Close the progress bar."""
        self._bar.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Close the progress bar."""
        self._bar.close()
