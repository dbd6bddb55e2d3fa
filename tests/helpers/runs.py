"""Pretraining runs in processes that can be killed, and the comparison of two runs.

A fork server imports everything once, so that a run takes a second or two.
"""

import contextlib
import hashlib
import itertools
import multiprocessing
import os
import pkgutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from helpers.models import small_config
from helpers.pretraining import make_config, read_log, training_checkpoint

from elmolite.errors import PREEMPTED_EXIT_CODE, Preempted
from elmolite.pretraining.checkpointing import TrainingCheckpoints
from elmolite.pretraining.module import PretrainingModule
from elmolite.pretraining.trainer import pretrain

TIMEOUT = 120.0
WALL_CLOCK = ("seconds", "tokens_per_second")
"""Columns of the log that differ between equal runs."""
SAVE_EVERY_STEP = {"pretraining.checkpointing.SAVE_SECONDS": -1.0, "pretraining.checkpointing.AGREE_STEPS": 1}

FORK_SERVER = multiprocessing.get_context("forkserver")
FORK_SERVER.set_forkserver_preload(["elmolite.pretraining.trainer", "torch._dynamo"])

Arm = Callable[[], None]
"""Called in the process of a run before it starts, to inject a fault."""


def sampled(values: Iterable[Any], *sample: Any) -> list[Any]:
    """Return values of a parameter, of which only the sample is tested without ``--full``."""
    return [value if value in sample else pytest.param(value, marks=pytest.mark.full) for value in values]


@dataclass(frozen=True)
class Run:
    """Corpus, settings and patches of a run of 24 steps."""

    corpus: Path
    settings: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    patches: dict[str, Any] = field(default_factory=dict)  # "module.NAME" -> value

    def train(self, out: Path, *, resume: bool = False) -> None:
        """Train in this process."""
        config = make_config(**{"max_steps": 24, **self.settings})
        with contextlib.ExitStack() as stack:
            for name, value in self.patches.items():
                stack.enter_context(mock.patch(f"elmolite.{name}", value))
            model = small_config(**self.model)
            pretrain(config, model=model, corpus=self.corpus, out=out, resume=resume, show_progress=False)


class Started:
    """Processes of a run."""

    def __init__(self, processes: list[multiprocessing.Process]) -> None:
        self._processes = processes

    def kill(self, rank: int | None = None, number: int = signal.SIGKILL) -> None:
        """Send a signal to one process or all."""
        for process in self._processes if rank is None else [self._processes[rank]]:
            if process.is_alive():
                os.kill(process.pid, number)

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


def start(run: Run, out: Path, *, resume: bool = False, arms: Sequence[Arm | None] = ()) -> Started:
    """Train in new processes, with the environment of torchrun if there are several.

    :param arms: the fault of each rank.
    """
    n_processes = run.settings.get("n_nodes", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    processes = []
    for rank, arm in itertools.zip_longest(range(n_processes), arms):
        numbers = {"WORLD_SIZE": n_processes, "RANK": rank, "GROUP_RANK": rank, "MASTER_PORT": port}
        environment = common | {name: str(number) for name, number in numbers.items()} if n_processes > 1 else {}
        processes.append(FORK_SERVER.Process(target=_train, args=(run, out, resume, arm, environment)))
        processes[-1].start()
    return Started(processes)


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


def has_checkpoint(out: Path) -> bool:
    """Return whether a run can be resumed."""
    return bool(TrainingCheckpoints(out).paths())


def finish(run: Run, out: Path) -> None:
    """Resume a run, or start it if it has no checkpoint, to its end."""
    assert set(start(run, out, resume=has_checkpoint(out)).exit_codes()) == {0}, said_by(out)


def said_by(out: Path) -> str:
    """Return the output of the processes of a run."""
    return (out.parent / f"{out.name}.said").read_text()


def wait_for_log(out: Path, n_lines: int = 1) -> None:
    """Wait until the log of a run has a number of lines, header included."""
    until = time.monotonic() + TIMEOUT
    path = out / "log.csv"
    while not path.is_file() or path.read_text().count("\n") < n_lines:
        assert time.monotonic() < until, said_by(out)
        time.sleep(0.01)


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
    return [{name: row[name] for name in row if name not in WALL_CLOCK} for row in read_log(out)]


def _leaves(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list | tuple):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(part, f"{where}.{key}")
    else:
        yield where, value


def _are_equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and bool(a == b)


def check_same(whole: Path, parts: Path) -> None:
    """Compare checkpoints, logs, models and the batches of each step bit for bit."""
    a, b = (dict(_leaves(training_checkpoint(out))) for out in (whole, parts))
    differ = [
        name
        for name in sorted(a.keys() | b.keys())
        if name not in a or name not in b or not _are_equal(a[name], b[name])
    ]
    assert not differ, differ
    assert batches_of(whole) == batches_of(parts)
    lines = [pair for pair in itertools.zip_longest(log_of(whole), log_of(parts)) if pair[0] != pair[1]]
    assert not lines, lines
    model, other = ({p.name: p.read_bytes() for p in (out / "model").iterdir()} for out in (whole, parts))
    assert model == other
