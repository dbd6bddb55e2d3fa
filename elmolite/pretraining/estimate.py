"""Estimate of a run (``--dry-run``): time and memory, from a few measured steps, and bytes sent between processes."""

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

import numpy as np
import torch
from lightning.pytorch import Callback
from torch import Tensor

from elmolite.nn.config import BiLMConfig
from elmolite.nn.softmax import log_uniform_sample
from elmolite.pretraining.checkpointing import TrainingCheckpoints
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.evaluation import PerplexityMeter
from elmolite.pretraining.module import PretrainingData, PretrainingModule
from elmolite.pretraining.setup import PretrainingRun
from elmolite.pretraining.trainer import make_trainer
from elmolite.utils.torch import best_device, quiet_lightning

WARM_UP_STEPS, MEASURED_STEPS = 10, 30
MEASURED_VALIDATION_BATCHES = 4
NETWORK = 100e9 / 8
"""Bytes per second of the network that the estimate compares with, 100 Gb/s."""


@dataclass(frozen=True)
class RunEstimate:
    """Time and memory of a run."""

    run: PretrainingRun
    step_seconds: float
    validation_seconds: float
    peak_bytes: int | None
    """Peak memory of one process; ``None`` if the system does not report it."""
    sent_bytes: int
    """Bytes that each process sends in a step, see :func:`sent_bytes`; 0 if there is one process."""

    @property
    def n_validations(self) -> int:
        """Validations before the training, at each interval, and at the end."""
        return 0 if self.run.valid is None else 1 + math.ceil(self.run.n_steps / self.run.validation_interval)

    @property
    def seconds(self) -> float:
        """Time of the run, with its validations."""
        return self.run.n_steps * self.step_seconds + self.n_validations * self.validation_seconds

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "n_steps": self.run.n_steps,
            "n_validations": self.n_validations,
            "n_tokens": self.run.corpus.train.n_tokens,
            "n_parameters": self.run.model.bilm.n_parameters,
            "step_seconds": self.step_seconds,
            "validation_seconds": self.validation_seconds,
            "seconds": self.seconds,
            "peak_bytes": self.peak_bytes,
            "sent_bytes": self.sent_bytes,
        }

    def describe(self) -> str:
        """Return the sizes, time and memory as a table."""
        run, config = self.run, self.run.config
        n_epochs = run.n_steps * config.accumulate_steps / run.train.epoch_steps(0)
        n_softmax_parameters = sum(parameter.numel() for parameter in run.softmax.parameters())
        memory = "not measurable on this system" if self.peak_bytes is None else f"{self.peak_bytes / 2**30:.2f} GiB"
        n_processes = config.n_devices * config.n_nodes
        shared = f" of {n_processes}, with its rows of the batch" if n_processes > 1 else ""
        network = f"network     {self.sent_bytes / 1e6:,.1f} MB per step sent by each process: "
        network += f"{1e3 * self.sent_bytes / NETWORK:.1f} ms at 100 Gb/s, not in the time"
        return "\n".join(
            [
                run.describe(),
                f"tokens      {run.corpus.train.n_tokens:,} per epoch, {n_epochs:.2f} epochs",
                f"steps       {run.n_steps:,}, and {self.n_validations:,} validations",
                f"parameters  {run.model.bilm.n_parameters:,}, and {n_softmax_parameters:,} of the softmax",
                f"memory      {memory} (peak of one process{shared})",
                *([network] if n_processes > 1 else []),
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
    whole = PretrainingRun.build(config, model=model, corpus=corpus, init_from=init_from)
    n_processes = config.n_devices * config.n_nodes
    batch_size = config.batch_size // n_processes
    alone = replace(config, batch_size=batch_size, n_devices=1, n_nodes=1)
    run = replace(whole, config=alone, train=replace(whole.train, batch_size=batch_size))
    counts = np.array(whole.corpus.vocabulary.counts, dtype=np.float64)
    module = PretrainingModule(whole.model.bilm, whole.softmax, config, whole.n_steps)
    sent = sent_bytes(
        module, torch.from_numpy(counts / counts.sum()), n_processes=n_processes, batch_size=config.batch_size
    )
    return RunEstimate(whole, _measure_steps(run), _measure_validation(run), _peak_bytes(), sent)


def sent_bytes(module: PretrainingModule, frequencies: Tensor, *, n_processes: int, batch_size: int) -> int:
    """Return the bytes that each process sends in an optimizer step, over a ring of N processes.

    An all-reduce of the gradients, b bytes, sends 2 (N - 1) / N b from each process. Of a table with row-sparse updates
    it has the rows that any process reads, whose ids are gathered before: of its own, c bytes, a process sends
    (N - 1) c. Nothing else is sent, except in steps that log, validate or save a checkpoint.

    :param frequencies: of the words of the vocabulary in the text, (V); they give the expected number of rows.
    :param batch_size: of all processes together.
    """
    tables = set(module.tables)
    reduced = float(sum(weight.nbytes for weight in module.parameters() if weight not in tables))
    gathered = 0.0
    n_words = 2 * module.config.accumulate_steps * batch_size * module.config.bptt_length  # of both directions
    for owner, parts in module.tables_of.items():
        n_negatives = module.config.accumulate_steps * (module.n_negatives or 0) if owner is module.softmax else 0
        n_rows, n_own = (_n_rows(frequencies, n, n_negatives) for n in (n_words, n_words // n_processes))
        reduced += n_rows * sum(part[0].nbytes for part in parts)
        gathered += torch.int64.itemsize * (1 + n_own)
    return round((n_processes - 1) * (2 * reduced / n_processes + gathered))


def _n_rows(frequencies: Tensor, n_words: int, n_negatives: int) -> float:
    """Return the expected number of distinct rows that words of a text and negative samples read."""
    is_read = -torch.expm1(n_words * torch.log1p(-frequencies))
    is_read[log_uniform_sample(len(is_read), n_negatives, seed=0, device=is_read.device)] = 1
    return float(is_read.sum())


class StepClock(Callback):
    """Records the time at the end of each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Record the time after the device has finished."""
        if best_device().type == "cuda":
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())


def _measure_steps(run: PretrainingRun) -> float:
    """Return the seconds per step, data and optimizer included."""
    n_steps, clock = min(run.n_steps, WARM_UP_STEPS + MEASURED_STEPS), StepClock()
    short = replace(run, n_steps=n_steps, valid=None)
    module = PretrainingModule(run.model.bilm, run.softmax, run.config, n_steps)
    with TemporaryDirectory() as folder, quiet_lightning():
        trainer = make_trainer(short, TrainingCheckpoints(Path(folder)), loggers=[], callbacks=[clock])
        started = time.perf_counter()
        trainer.fit(module, PretrainingData(short))
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
    if best_device().type == "cuda":
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
