"""Distributed helpers: process group, rank-zero logging, collectives, error propagation, stop signals.

Lightning starts the processes of a single machine itself, when training begins. Those of several machines are started
by torchrun or SLURM's srun, and :func:`join_process_group` connects them.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, distributed

from elmolite.errors import InputError, ReportedByRankZero
from elmolite.utils.torch import best_device

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

T = TypeVar("T")
logger = logging.getLogger("elmolite")

PROCESS_GROUP_TIMEOUT = timedelta(minutes=10)
"""Time after which a collective fails if a rank does not answer."""


def _launcher() -> ClusterEnvironment | None:
    """Return Lightning's view of torchrun or SLURM's srun, if one of them started this process."""
    if not {"TORCHELASTIC_RUN_ID", "SLURM_NTASKS"} & os.environ.keys():
        return None  # without importing Lightning, which takes a second
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    for kind in (TorchElasticEnvironment, SLURMEnvironment):
        if kind.detect():
            try:
                return kind()
            except RuntimeError as error:
                raise InputError(str(error)) from None
    return None


def check_world_size(*, n_devices: int, n_nodes: int) -> None:
    """Check that torchrun or SLURM started ``n_devices`` processes on each of ``n_nodes`` machines."""
    launcher = _launcher()
    if launcher is not None:
        try:
            launcher.validate_settings(num_devices=n_devices, num_nodes=n_nodes)
        except ValueError as error:
            raise InputError(f"`n_devices={n_devices}` `n_nodes={n_nodes}`: {error}") from None
    elif n_nodes > 1:
        raise InputError(f"`n_nodes={n_nodes}`: start elmolite with torchrun or srun (see recipes/distributed)")


def join_process_group() -> None:
    """Connect the processes that torchrun or SLURM started; without them do nothing."""
    launcher = _launcher()
    if launcher is None or launcher.world_size() == 1 or distributed.is_initialized():
        return
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = launcher.main_address, str(launcher.main_port)
    if (device := best_device()).type == "cuda":
        torch.cuda.set_device(launcher.local_rank())
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        rank=launcher.global_rank(),
        world_size=launcher.world_size(),
        timeout=PROCESS_GROUP_TIMEOUT,
    )
    leave_process_group_at_exit()


def leave_process_group_at_exit() -> None:
    """Destroy the process group at exit; otherwise the process may abort there (pytorch/pytorch#190489)."""
    atexit.unregister(_leave_process_group)
    atexit.register(_leave_process_group)


def _leave_process_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def is_distributed() -> bool:
    """Return whether several ranks are connected."""
    return distributed.is_initialized() and distributed.get_world_size() > 1


def is_rank_zero() -> bool:
    """Return whether this process is the one that logs and writes."""
    if is_distributed():
        return distributed.get_rank() == 0
    from lightning.pytorch.utilities import rank_zero_only

    return getattr(rank_zero_only, "rank", 0) == 0


def log_once(message: str, *, level: int = logging.INFO) -> None:
    """Log a message on rank zero."""
    if is_rank_zero():
        logger.log(level, message)


def all_gather_object(value: T) -> list[T]:
    """Return the picklable values of all ranks, in rank order."""
    if not is_distributed():
        return [value]
    values: list[T] = [value] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def all_gather(part: Tensor) -> list[Tensor]:
    """Return the tensors of all ranks, equal in shape."""
    if not is_distributed():
        return [part]
    parts = [torch.empty_like(part) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, part.contiguous())
    return parts


def all_gather_unique(ids: Tensor) -> Tensor:
    """Return the distinct ids of all ranks, ascending.

    :param ids: the ids of this rank, (N), distinct and ascending; at least one, in numbers that may differ by rank.
    """
    if not is_distributed():
        return ids
    longest = torch.stack(all_gather(torch.tensor(len(ids), device=ids.device))).max()
    padding = ids[-1:].expand(int(longest) - len(ids))
    all_ids: Tensor = torch.cat(all_gather(torch.cat([ids, padding]))).unique()  # type: ignore[no-untyped-call]
    return all_ids


def all_reduce_mean_(part: Tensor) -> None:
    """Replace a tensor by the mean over the ranks, the same bits on each."""
    if is_distributed():
        distributed.all_reduce(part)
        part /= distributed.get_world_size()


def barrier() -> None:
    """Wait for all ranks."""
    if is_distributed():
        distributed.barrier()


@contextmanager
def reraise_on_all_ranks() -> Iterator[None]:
    """Raise an InputError of the block on all ranks, at the end of the block; a collective.

    The block must not contain collectives, unless a rank that raises still takes part in them.
    """
    error: InputError | None = None
    try:
        yield
    except InputError as caught:
        error = caught
    if error is not None and not is_distributed():
        raise error
    message = next(filter(None, all_gather_object(None if error is None else _with_rank(error))), None)
    if message is not None:
        raise shared_error(message) from error


def _with_rank(error: InputError) -> str:
    rank = distributed.get_rank()
    return str(error) if rank == 0 else f"rank {rank} ({socket.gethostname()}): {error}"


def shared_error(message: str) -> InputError:
    """Return an error that all ranks raise and rank zero reports."""
    return InputError(message) if is_rank_zero() else ReportedByRankZero(message)


def is_lost_connection(error: RuntimeError) -> bool:
    """Return whether a collective failed because another rank ended."""
    signs = ("closed by peer", "reset by peer", "Broken pipe", "remote process exited")
    return is_distributed() and any(sign in str(error) for sign in signs)


class StopSignal:
    """Flag set by SIGTERM, which batch systems send when the time is over, and by SIGINT.

    Ranks read it together, between steps. Lightning's own handler calls a collective from within the signal handler,
    which can deadlock.
    """

    def __init__(self) -> None:
        self.received = False

    def install(self) -> None:
        """Replace other signal handlers, including those of Lightning."""
        if threading.current_thread() is threading.main_thread():
            for each in (signal.SIGTERM, signal.SIGINT):
                signal.signal(each, self._on_signal)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle signals within the block, and restore the previous handlers after it."""
        before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
        self.install()
        try:
            yield
        finally:
            if threading.current_thread() is threading.main_thread():
                for each, handler in before.items():
                    signal.signal(each, handler)

    def _on_signal(self, number: int, *_: Any) -> None:
        if self.received and number == signal.SIGINT:  # a second Ctrl-C
            raise KeyboardInterrupt
        self.received = True
