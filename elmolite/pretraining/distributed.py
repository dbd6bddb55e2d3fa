"""Several processes that train one model: who of them speaks, and how an error of one ends all of them.

Lightning starts the processes of one machine itself, when training begins. Those of several machines are started by
torchrun or by SLURM's srun, and find each other in :func:`join_process_group`.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, distributed

from elmolite.errors import InputError, ReportedByRankZero
from elmolite.utils.lightning import quiet_logging

T = TypeVar("T")


class _Started(NamedTuple):
    """What torchrun or SLURM started."""

    by: str
    n_processes: int
    n_a_node: int


def _started() -> _Started | None:
    """Read the environment in the way in which Lightning does; none where it will start the processes itself."""
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        return _Started("torchrun", int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"]))
    if "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        n_processes = int(environment["SLURM_NTASKS"])
        if n_processes > 1 and "SLURM_NTASKS_PER_NODE" not in environment:
            raise InputError(f"SLURM started {n_processes} tasks: give it --nodes and --ntasks-per-node, not --ntasks")
        return _Started("SLURM", n_processes, int(environment.get("SLURM_NTASKS_PER_NODE", 1)))
    return None


def is_first() -> bool:
    """Tell whether this process is the one that prints, logs and writes; true where there is no other."""
    from lightning.pytorch.utilities import rank_zero_only

    return getattr(rank_zero_only, "rank", 0) == 0


def join_process_group() -> None:
    """Wait for the other processes that torchrun or SLURM started; from here on they can agree."""
    atexit.unregister(_leave_process_group)
    atexit.register(_leave_process_group)
    started = _started()
    if started is None or started.n_processes == 1 or distributed.is_initialized():
        return
    from lightning.pytorch import Trainer

    with quiet_logging(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the Trainer that trains would say it again
        trainer = Trainer(
            devices=started.n_a_node,
            num_nodes=max(1, started.n_processes // started.n_a_node),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.strategy.setup_environment()  # and the Trainer that trains will find this done


def _leave_process_group() -> None:
    """Leave the process group, which otherwise may abort the process at its end (pytorch/pytorch#190489)."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def check_number(*, n_devices: int, n_nodes: int) -> None:
    """Hold the settings against the processes that were started.

    :raises InputError: torchrun or SLURM started more or fewer than ``n_devices`` on each of ``n_nodes``, or nothing
        did where there are several nodes.
    """
    started = _started()
    if started is None and n_nodes > 1:
        raise InputError(f"--n-nodes {n_nodes}: start elmolite with torchrun or srun (see recipes/distributed)")
    if started is not None and (started.n_processes, started.n_a_node) != (n_devices * n_nodes, n_devices):
        raise InputError(
            f"{started.by} started {started.n_processes} process(es), {started.n_a_node} a node, but --n-nodes "
            f"{n_nodes} --n-devices {n_devices} ask for {n_devices * n_nodes}, {n_devices} a node"
        )


def gather(value: T) -> list[T]:
    """Return the values of all processes, in their order."""
    if not _is_one_of_several():
        return [value]
    values: list[T] = [value] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def gather_tensor(part: Tensor) -> list[Tensor]:
    """Return the tensors of all processes, which have one shape."""
    if not _is_one_of_several():
        return [part]
    parts = [torch.empty_like(part) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, part.contiguous())
    return parts


def union(ids: Tensor) -> Tensor:
    """Return the distinct ids of all processes, ascending.

    :param ids: those of this process, (N), distinct and ascending; at least one, but not as many in each process.
    """
    if not _is_one_of_several():
        return ids
    longest = torch.stack(gather_tensor(torch.tensor(len(ids), device=ids.device))).max()
    padding = ids[-1:].expand(int(longest) - len(ids))
    all_ids: Tensor = torch.cat(gather_tensor(torch.cat([ids, padding]))).unique()  # type: ignore[no-untyped-call]
    return all_ids


def average_in_place(part: Tensor) -> None:
    """Overwrite a tensor with the mean of those of all processes, which have one shape; all get the same bits."""
    if _is_one_of_several():
        distributed.all_reduce(part)
        part /= distributed.get_world_size()


def all_true(flag: Tensor) -> bool:
    """Tell whether a boolean of no dimension is true in all processes."""
    if _is_one_of_several():
        flag = flag.int()
        distributed.all_reduce(flag, distributed.ReduceOp.MIN)
    return bool(flag)


def copy_from_first(part: Tensor) -> None:
    """Overwrite a tensor with that of the first process."""
    if _is_one_of_several():
        distributed.broadcast(part, src=0)


@contextmanager
def raising_together() -> Iterator[None]:
    """Run a block in every process; where it raises an InputError in one, all raise it at the end of the block.

    The block must not wait for other processes, or see to it that they do not wait for one that raised.
    """
    error: InputError | None = None
    try:
        yield
    except InputError as caught:
        error = caught
    if error is not None and not _is_one_of_several():
        raise error
    message = next(filter(None, gather(None if error is None else _with_place(error))), None)
    if message is not None:
        raise shared_error(message) from error


def shared_error(message: str) -> InputError:
    """Return an error that every process has come upon and the first one says."""
    return InputError(message) if is_first() else ReportedByRankZero(message)


def enter_barrier() -> None:
    """Go to the barrier at which the others wait, before raising what kept this process from it."""
    if _is_one_of_several():
        distributed.barrier()


class Termination:
    """Notes SIGTERM, which batch systems send when the time is over, or SIGINT until all processes can look together.

    Lightning's own handler waits for the other processes, wherever it interrupts this one: that can wait for ever.
    """

    def __init__(self) -> None:
        self.has_come = False

    def watch(self) -> None:
        """Take the place of other handlers, Lightning's among them."""
        if threading.current_thread() is threading.main_thread():
            for each in (signal.SIGTERM, signal.SIGINT):
                signal.signal(each, self._note)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch during a block, and give the signals back to whom they belonged."""
        is_main = threading.current_thread() is threading.main_thread()
        before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)} if is_main else {}
        self.watch()
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _note(self, number: int, *_: Any) -> None:
        if self.has_come and number == signal.SIGINT:  # somebody is impatient
            raise KeyboardInterrupt
        self.has_come = True


def _with_place(error: InputError) -> str:
    rank = distributed.get_rank()
    return str(error) if rank == 0 else f"process {rank}, on {socket.gethostname()}: {error}"


def _is_one_of_several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
