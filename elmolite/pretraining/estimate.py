"""What a run will cost, from its configuration and a few measured steps, before it is started."""

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
from elmolite.pretraining.module import PretrainingModule
from elmolite.pretraining.perplexity import PerplexityMeter
from elmolite.pretraining.setup import Setup, set_up
from elmolite.pretraining.trainer import make_trainer
from elmolite.utils.lightning import quiet_lightning
from elmolite.utils.torch import best_device

WARM_UP_STEPS, MEASURED_STEPS = 10, 30
MEASURED_VALIDATION_BATCHES = 4


@dataclass(frozen=True)
class Plan:
    """What a run will take; seconds are expectations."""

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
        """The whole run."""
        return self.n_steps * self.step_seconds + self.n_validations * self.validation_seconds

    def describe(self) -> str:
        """Return the plan, for a person."""
        memory = "not measured on this system" if self.peak_bytes is None else f"{self.peak_bytes / 2**30:.2f} GiB"
        shared = f" of {self.n_processes} processes, with its share of the rows" if self.n_processes > 1 else ""
        return "\n".join(
            [
                self.description,
                f"tokens      {self.n_tokens:,} a pass, {self.n_epochs:.2f} passes",
                f"steps       {self.n_steps:,}, and {self.n_validations:,} validations",
                f"parameters  {self.n_encoder_parameters:,} and {self.n_softmax_parameters:,} of the softmax",
                f"memory      {memory} at most, in one process{shared}",
                f"time        {_hours(self.seconds)}: {1e3 * self.step_seconds:.0f} ms a step (measured: the median of "
                f"{MEASURED_STEPS}), {self.validation_seconds:.0f} s a validation",
            ]
        )


def plan(
    config: PretrainingConfig, *, model: BiLMConfig, corpus: str | Path, init_from: str | Path | None = None
) -> Plan:
    """Set a run up, take a few steps of it on one device, and tell what the whole will take; nothing is written.

    :param config: as for :func:`elmolite.pretraining.trainer.pretrain`, and so the others.
    :raises InputError: as there.
    """
    n_processes = config.n_devices * config.n_nodes
    whole = set_up(config, model=model, corpus=corpus, init_from=init_from)
    alone = replace(config, n_rows=config.n_rows // n_processes, n_devices=1, n_nodes=1)
    setup = replace(whole, config=alone, train=replace(whole.train, batch_size=alone.n_rows))
    step_seconds = _measure_steps(setup)
    validation_seconds = _measure_validation(setup)
    n_validations = 0
    if whole.valid is not None:  # the first, one an interval, and the last
        n_validations = 1 + math.ceil(whole.n_steps / whole.validation_interval)
    return Plan(
        n_tokens=whole.corpus.train.n_tokens,
        n_epochs=whole.n_steps * config.n_accumulated / whole.train.epoch_steps(0),
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
    """Takes the time at the end of each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Note the time, when the device has done its work."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())


def _measure_steps(setup: Setup) -> float:
    """Return the seconds of a step, data and optimizer included."""
    n_steps = min(setup.n_steps, WARM_UP_STEPS + MEASURED_STEPS)
    short, clock = replace(setup, n_steps=n_steps, valid=None), StepClock()
    module = PretrainingModule(setup.model.bilm, setup.softmax, setup.config, n_steps)
    with TemporaryDirectory() as folder, quiet_lightning():
        trainer = make_trainer(short, Path(folder), loggers=[], callbacks=[clock])
        started = time.perf_counter()
        source = PretrainingData(short.train, None, n_steps, n_accumulated=setup.config.n_accumulated)
        trainer.fit(module, source)
        trainer.save_checkpoint(Path(folder) / "last.ckpt")  # which takes memory too
        setup.model.save_pretrained(Path(folder) / "model")
    times = [started, *clock.times]
    seconds = [after - before for before, after in pairwise(times)]
    return statistics.median(seconds[min(WARM_UP_STEPS, n_steps - 1) :])


def _measure_validation(setup: Setup) -> float:
    """Return the seconds of an evaluation of the held-out text."""
    if setup.valid is None:
        return 0.0
    setup.model.to(best_device())  # Lightning has put it back on the CPU
    meter = PerplexityMeter(setup.model.bilm.eval(), setup.softmax)
    n_batches = setup.valid.epoch_steps(0)
    n_measured = min(n_batches, MEASURED_VALIDATION_BATCHES)
    meter.update(setup.valid.batch(0).to(setup.model.bilm.device))
    started = time.perf_counter()
    for step in range(n_measured):
        meter.update(setup.valid.batch(step).to(setup.model.bilm.device))
    return (time.perf_counter() - started) / n_measured * n_batches


def _peak_bytes() -> int | None:
    """Return the most memory that was in use, of the GPU or of this process; ``None`` where nobody says."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _hours(seconds: float) -> str:
    """Write a duration as a person would."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
