"""The log of a run and what a person sees of it: a table in a file, and a progress bar or lines."""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from elmolite.errors import InputError
from elmolite.pretraining import distributed
from elmolite.pretraining.module import PretrainingModule
from elmolite.utils import files

PLAIN_LINE_SECONDS = 15.0
"""Between two lines of progress where there is no terminal for a bar."""


class CsvLog(Logger):
    """A table of the run, ``log.csv``: one line per logged step or validation; a resumed run goes on below."""

    COLUMNS = (
        "step",
        "seconds",
        "loss",
        "tokens_per_second",
        "learning_rate",
        "gradient_norm",
        "valid_forward",
        "valid_backward",
        "valid_average",
        "skipped_steps",
        "text_sha256",
    )

    def __init__(self, path: Path, *, keep: bool) -> None:
        """:param keep: go on below the lines that are there, as far as the step that is resumed."""
        super().__init__()
        self.path = path
        self.keep = keep
        self._started = time.monotonic()
        self._seconds_before = 0.0
        self._is_open = False
        self._validated_at = -1

    @property
    def name(self) -> str:
        """Lightning's name for the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """No versions: a run has a folder of its own."""
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the configuration is in ``pretraining.json``."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Add a line, but for a validation that an earlier run logged and did not live to save."""
        if not self._is_open:  # the first validation of a run, or the last, of one that was killed in it
            self.open_at(step or 0)
        if step == self._validated_at and "valid_average" in metrics:
            return
        seconds = self._seconds_before + time.monotonic() - self._started
        values = {"step": step, "seconds": seconds, **metrics}
        try:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow([_short(values.get(column)) for column in self.COLUMNS])
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror}") from None

    @rank_zero_only
    def open_at(self, step: int) -> None:
        """Write the heading, and below it what an earlier run logged up to the step at which this one goes on."""
        rows: list[dict[str, str]] = []
        if self.keep and self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        text = io.StringIO()
        writer = csv.DictWriter(text, self.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        files.write_bytes(self.path, text.getvalue().encode())
        self._seconds_before = float(rows[-1]["seconds"]) if rows else 0.0
        self._validated_at = int(rows[-1]["step"]) if rows and rows[-1]["valid_average"] else -1
        self._is_open = True


def _short(value: float | str | None) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"


class TrainingLog(Callback):
    """Adds up losses, writes them to the loggers, and shows progress: a bar, or lines where there is no terminal."""

    def __init__(self, n_steps: int, *, every: int, show: bool) -> None:
        self.n_steps = n_steps
        self.every = every
        self.show = show
        self._bar: tqdm[Any] | None = None
        self._loss_sum: torch.Tensor | float = 0.0
        self._n_targets = 0
        self._since = self._line_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return what was added up since the last line, over all processes."""
        totals = distributed.gather((float(self._loss_sum), self._n_targets))
        loss_sum, n_targets = (sum(part) for part in zip(*totals, strict=True))
        return {"loss_sum": loss_sum, "n_targets": n_targets}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on adding up, in the first process."""
        if distributed.is_first():
            self._loss_sum, self._n_targets = state_dict["loss_sum"], state_dict["n_targets"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Open the bar, and the log at the step that the run begins or resumes with."""
        with distributed.raising_together():
            for logger in trainer.loggers:
                if isinstance(logger, CsvLog) and trainer.global_step > 0:
                    logger.open_at(trainer.global_step)
        self._first_step = trainer.global_step
        self._since = self._line_at = self._started = time.monotonic()
        if self.show and trainer.is_global_zero and sys.stderr.isatty():
            self._bar = tqdm(total=self.n_steps, initial=trainer.global_step, desc="pretraining", unit="step")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Count a step, and log every so many."""
        assert isinstance(pl_module, PretrainingModule)
        self._loss_sum = self._loss_sum + outputs["loss_sum"]
        self._n_targets += outputs["n_targets"]
        step = trainer.global_step
        if step % self.every and step != self.n_steps:
            return
        now = time.monotonic()
        totals = distributed.gather((float(self._loss_sum), self._n_targets))
        loss_sum, n_targets = (sum(part) for part in zip(*totals, strict=True))
        loss = loss_sum / (2 * n_targets) if n_targets else math.nan  # all steps were skipped
        speed = n_targets / (now - self._since)
        metrics = {
            "loss": loss,
            "tokens_per_second": speed,
            "learning_rate": outputs["learning_rate"],
            "gradient_norm": float(outputs["gradient_norm"]),
            "skipped_steps": pl_module.skipped.n,
        }
        text = {"text_sha256": pl_module.text.sha256()}
        with distributed.raising_together():
            for logger in trainer.loggers:
                logger.log_metrics(metrics | text if isinstance(logger, CsvLog) else metrics, step)
        self._loss_sum, self._n_targets, self._since = 0.0, 0, now
        self._show(trainer, f"loss {loss:.3f}, {speed:,.0f} tokens/s", now)

    def _show(self, trainer: Trainer, text: str, now: float) -> None:
        step = trainer.global_step
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)
        elif self.show and trainer.is_global_zero and (now - self._line_at > PLAIN_LINE_SECONDS):
            left = (now - self._started) / (step - self._first_step) * (self.n_steps - step)
            print(f"step {step:,} of {self.n_steps:,}: {text}, {_clock(left)} left", flush=True)
            self._line_at = now

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Take the time out of the speed of training."""
        self._paused = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the perplexities."""
        pause = time.monotonic() - self._paused
        self._since += pause
        assert isinstance(pl_module, PretrainingModule)
        result = pl_module.last_perplexity
        if self.show and trainer.is_global_zero and result is not None:
            tqdm.write(
                f"step {trainer.global_step:,}: held-out perplexity {result.average:.1f} "
                f"(forward {result.forward:.1f}, backward {result.backward:.1f})",
                file=sys.stdout,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
