"""Estimate of a run (``--dry-run``): time and memory, from a few measured steps."""

from __future__ import annotations

import math
import statistics
import sys
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import Callback

from elmolite.nn.bilm import BiLMConfig
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.data import PretrainingData
from elmolite.pretraining.evaluation import PerplexityMeter
from elmolite.pretraining.module import PretrainingModule
from elmolite.pretraining.setup import PretrainingRun
from elmolite.pretraining.trainer import make_trainer
from elmolite.utils.torch import best_device, quiet_lightning

WARM_UP_STEPS, MEASURED_STEPS = 10, 30
MEASURED_VALIDATION_BATCHES = 4


@dataclass(frozen=True)
class RunEstimate:
    """Sizes, time and memory of a run; the seconds are estimates."""

    n_tokens: int
    n_epochs: float
    n_steps: int
    n_encoder_parameters: int
    n_softmax_parameters: int
    step_seconds: float
    validation_seconds: float
    n_validations: int
    peak_bytes: int | None
    n_processes: int
    description: str

    @property
    def seconds(self) -> float:
        """Duration of the whole run."""
        return self.n_steps * self.step_seconds + self.n_validations * self.validation_seconds

    def describe(self) -> str:
        """Return the estimate as a table."""
        memory = "not measurable on this system" if self.peak_bytes is None else f"{self.peak_bytes / 2**30:.2f} GiB"
        shared = f" of {self.n_processes}, with its rows of the batch" if self.n_processes > 1 else ""
        return "\n".join(
            [
                self.description,
                f"tokens      {self.n_tokens:,} per epoch, {self.n_epochs:.2f} epochs",
                f"steps       {self.n_steps:,}, and {self.n_validations:,} validations",
                f"parameters  {self.n_encoder_parameters:,}, and {self.n_softmax_parameters:,} of the softmax",
                f"memory      {memory} (peak of one process{shared})",
                f"time        {_hours(self.seconds)}: {1e3 * self.step_seconds:.0f} ms per step (median of "
                f"{MEASURED_STEPS} measured), {self.validation_seconds:.0f} s per validation",
            ]
        )


def estimate(
    config: PretrainingConfig, *, model: BiLMConfig, corpus: str | Path, init_from: str | Path | None = None
) -> RunEstimate:
    """Build a run and measure a few of its steps on one device, without writing to disk.

    The arguments are those of :func:`elmolite.pretraining.trainer.pretrain`.
    """
    n_processes = config.n_devices * config.n_nodes
    whole = PretrainingRun.build(config, model=model, corpus=corpus, init_from=init_from)
    alone = replace(config, batch_size=config.batch_size // n_processes, n_devices=1, n_nodes=1)
    run = replace(whole, config=alone, train=replace(whole.train, batch_size=alone.batch_size))
    step_seconds = _measure_steps(run)
    validation_seconds = _measure_validation(run)
    n_validations = 0
    if whole.valid is not None:  # before the training, at each interval, and at the end
        n_validations = 1 + math.ceil(whole.n_steps / whole.validation_interval)
    return RunEstimate(
        n_tokens=whole.corpus.train.n_tokens,
        n_epochs=whole.n_steps * config.accumulate_steps / whole.train.epoch_steps(0),
        n_steps=whole.n_steps,
        n_encoder_parameters=whole.model.bilm.n_parameters,
        n_softmax_parameters=sum(parameter.numel() for parameter in whole.softmax.parameters()),
        step_seconds=step_seconds,
        validation_seconds=validation_seconds,
        n_validations=n_validations,
        peak_bytes=_peak_bytes(),
        n_processes=n_processes,
        description=whole.describe(),
    )


class StepClock(Callback):
    """Records the time at the end of each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Record the time after the device has finished."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())


def _measure_steps(run: PretrainingRun) -> float:
    """Return the seconds per step, data and optimizer included."""
    n_steps = min(run.n_steps, WARM_UP_STEPS + MEASURED_STEPS)
    short, clock = replace(run, n_steps=n_steps, valid=None), StepClock()
    module = PretrainingModule(run.model.bilm, run.softmax, run.config, n_steps)
    with TemporaryDirectory() as folder, quiet_lightning():
        trainer = make_trainer(short, Path(folder), loggers=[], callbacks=[clock])
        started = time.perf_counter()
        source = PretrainingData(short.train, None, n_steps, accumulate_steps=run.config.accumulate_steps)
        trainer.fit(module, source)
        trainer.save_checkpoint(Path(folder) / "last.ckpt")  # part of the peak memory
        run.model.save_pretrained(Path(folder) / "model")
    times = [started, *clock.times]
    seconds = [after - before for before, after in pairwise(times)]
    return statistics.median(seconds[min(WARM_UP_STEPS, n_steps - 1) :])


def _measure_validation(run: PretrainingRun) -> float:
    """Return the seconds of a validation."""
    if run.valid is None:
        return 0.0
    run.model.to(best_device())  # Lightning moves it to the CPU after fit
    meter = PerplexityMeter(run.model.bilm.eval(), run.softmax)
    n_batches = run.valid.epoch_steps(0)
    n_measured = min(n_batches, MEASURED_VALIDATION_BATCHES)
    meter.update(run.valid.batch(0).to(run.model.bilm.device))
    started = time.perf_counter()
    for step in range(n_measured):
        meter.update(run.valid.batch(step).to(run.model.bilm.device))
    return (time.perf_counter() - started) / n_measured * n_batches


def _peak_bytes() -> int | None:
    """Return the peak memory of the GPU or of this process, or ``None`` if the system does not report it."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _hours(seconds: float) -> str:
    """Format a duration in s, min or h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
