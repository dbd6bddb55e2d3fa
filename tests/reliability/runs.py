"""Pretraining runs in processes that can be killed, and the comparison of two runs.

A fork server imports everything once, so that a run takes a second or two.
"""

import contextlib
import csv
import hashlib
import itertools
import multiprocessing
import os
import pkgutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from conftest import training_checkpoint

from elmolite.errors import PREEMPTED_EXIT_CODE, Preempted
from elmolite.nn.bilm import BiLMConfig
from elmolite.pretraining.checkpointing import TrainingCheckpoints
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.module import PretrainingModule
from elmolite.pretraining.trainer import pretrain

SIZES = {"filters": [(1, 8), (2, 8), (3, 16)], "cell_size": 24, "projection_size": 12, "n_highway_layers": 1}
SETTINGS = {
    "batch_size": 4,
    "bptt_length": 10,
    "warmup_steps": 3,
    "learning_rate": 0.01,
    "n_validations": 3,
    "max_steps": 24,
}
TIMEOUT = 120.0
WALL_CLOCK = ("seconds", "tokens_per_second")
"""Columns of the log that differ between equal runs."""
SAVE_EVERY_STEP = {"pretraining.checkpointing.SAVE_SECONDS": -1.0, "pretraining.checkpointing.AGREE_STEPS": 1}

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["elmolite.pretraining.trainer", "torch._dynamo"])

Arm = Callable[[], None]
"""Called in the process of a run before it starts, to inject a fault."""


@dataclass(frozen=True)
class Run:
    """Corpus, settings and patches of a run."""

    corpus: Path
    settings: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    patches: dict[str, Any] = field(default_factory=dict)  # "module.NAME" -> value

    def train(self, out: Path, *, resume: bool = False) -> None:
        """Train in this process."""
        config = PretrainingConfig(**{**SETTINGS, "log_every_steps": 1, **self.settings})
        with contextlib.ExitStack() as stack:
            for name, value in self.patches.items():
                stack.enter_context(mock.patch(f"elmolite.{name}", value))
            pretrain(
                config,
                model=BiLMConfig(**{**SIZES, **self.model}),
                corpus=self.corpus,
                out=out,
                resume=resume,
                show_progress=False,
            )


class Started:
    """Processes of a run."""

    def __init__(self, processes: list[multiprocessing.Process]) -> None:
        self._processes = processes

    def kill(self, rank: int | None = None, number: int = signal.SIGKILL) -> None:
        """Send a signal to one process or all."""
        for process in self._processes if rank is None else [self._processes[rank]]:
            if process.is_alive():
                os.kill(process.pid, number)

    def exit_code_of(self, rank: int, timeout: float = TIMEOUT) -> int:
        """Wait for the end of a process."""
        self._processes[rank].join(timeout)
        code = self._processes[rank].exitcode
        assert code is not None, f"not ended after {timeout:.0f} s"
        return code

    def exit_codes(self, timeout: float = TIMEOUT) -> list[int]:
        """Wait for the end of all processes."""
        until = time.monotonic() + timeout
        for process in self._processes:
            process.join(max(0.0, until - time.monotonic()))
        codes = [process.exitcode for process in self._processes]
        for process in self._processes:
            process.kill()
        assert None not in codes, f"not ended after {timeout:.0f} s: {codes}"
        return codes


def start(run: Run, out: Path, *, resume: bool = False, arms: Sequence[Arm] = ()) -> Started:
    """Train in new processes.

    :param arms: the fault of each rank.
    """
    n_processes = run.settings.get("n_nodes", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(n_processes):
        environment = {} if n_processes == 1 else as_torchrun(rank, n_processes, port)
        arguments = (run, out, resume, arms[rank] if rank < len(arms) else None, environment)
        processes.append(_context.Process(target=_train, args=arguments))
        processes[-1].start()
    return Started(processes)


def wait_for_log(out: Path, n_lines: int = 1) -> None:
    """Wait until the log of a run has a number of lines, header included."""
    until = time.monotonic() + TIMEOUT
    path = out / "log.csv"
    while not path.is_file() or path.read_text().count("\n") < n_lines:
        assert time.monotonic() < until, said_by(out)
        time.sleep(0.01)


def as_torchrun(rank: int, n_processes: int, port: int) -> dict[str, str]:
    """Return the environment that torchrun sets for a rank, with one process per node."""
    common = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    numbers = {"WORLD_SIZE": n_processes, "RANK": rank, "GROUP_RANK": rank, "MASTER_PORT": port}
    return common | {name: str(number) for name, number in numbers.items()}


def _train(run: Run, out: Path, resume: bool, arm: Arm | None, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    with (out.parent / f"{out.name}.said").open("a") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    _record_batches(out)
    if arm is not None:
        arm()
    try:
        run.train(out, resume=resume)
    except Preempted:
        sys.exit(PREEMPTED_EXIT_CODE)


def _record_batches(out: Path) -> None:
    """Append the digest of each step's batches to a file, "rank step digest" per line."""
    step = PretrainingModule.training_step

    def training_step(self: PretrainingModule, batches: Any, index: int) -> Any:
        digest = hashlib.sha256()
        for part in itertools.chain(*batches):
            digest.update(part.numpy().tobytes() if isinstance(part, torch.Tensor) else repr(part).encode())
        with (out.parent / f"{out.name}.batches").open("ab", buffering=0) as file:
            file.write(f"{self.global_rank} {index} {digest.hexdigest()}\n".encode())
        return step(self, batches, index)

    PretrainingModule.training_step = training_step  # type: ignore[method-assign]


def batches_of(out: Path) -> set[str]:
    """Return the digests of a run's batches; a step that was trained again adds none if its batches are the same."""
    return set((out.parent / f"{out.name}.batches").read_text().splitlines())


def finish(run: Run, out: Path) -> None:
    """Resume a run, or start it if it has no checkpoint, to its end."""
    codes = set(start(run, out, resume=bool(TrainingCheckpoints(out).paths())).exit_codes())
    assert codes == {0}, said_by(out)


def said_by(out: Path) -> str:
    """Return the output of the processes of a run."""
    return (out.parent / f"{out.name}.said").read_text()


def kill_in(target: str, n: int) -> None:
    """Kill the process at the n-th call, counted from 0, of a function of elmolite."""
    place, _, name = target.rpartition(".")
    owner = pkgutil.resolve_name(f"elmolite.{place}")
    function, calls = getattr(owner, name), itertools.count()

    def killing(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    setattr(owner, name, killing)


def log_of(out: Path) -> list[dict[str, str]]:
    """Return the lines of the log without times."""
    with (out / "log.csv").open(newline="") as file:
        return [{name: row[name] for name in row if name not in WALL_CLOCK} for row in csv.DictReader(file)]


def differences(whole: Any, parts: Any, where: str = "") -> list[str]:
    """Return the path of every leaf of two checkpoints that is not bit for bit equal."""
    if isinstance(whole, torch.Tensor):
        same = isinstance(parts, torch.Tensor) and whole.dtype == parts.dtype and torch.equal(whole, parts)
        return [] if same else [where]
    if isinstance(whole, dict) and isinstance(parts, dict):
        keys = sorted(whole.keys() | parts.keys(), key=str)
        return [
            each
            for key in keys
            for each in (
                differences(whole[key], parts[key], f"{where}.{key}")
                if key in whole and key in parts
                else [f"{where}.{key}"]
            )
        ]
    if isinstance(whole, list | tuple) and isinstance(parts, list | tuple) and len(whole) == len(parts):
        return [
            each for i, pair in enumerate(zip(whole, parts, strict=True)) for each in differences(*pair, f"{where}.{i}")
        ]
    return [] if whole == parts else [where]


def check_same(whole: Path, parts: Path) -> None:
    """Compare checkpoints, logs, models and the batches of each step bit for bit."""
    differ = differences(training_checkpoint(whole), training_checkpoint(parts))
    assert not differ, differ
    assert batches_of(whole) == batches_of(parts)
    assert log_of(whole) == log_of(parts)
    model, other = ({p.name: p.read_bytes() for p in (out / "model").iterdir()} for out in (whole, parts))
    assert model == other
