"""Helpers for torch and Lightning.

Evaluation mode, modules without weights, default device, memory allocator, quiet trainers.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from elmolite.errors import InputError
from elmolite.utils.config import AUTO, device_name
from elmolite.utils.console import log_level

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_NEVER, _LARGEST = -1, 32 << 20

if hasattr(os, "register_at_fork"):  # not on Windows
    # The threads of OpenMP do not exist in a forked process, which would wait for them forever.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Set evaluation mode for the block, and restore the former mode after it."""
    if not any(each.training for each in module.modules()):  # setting a mode costs as much as a short sentence does
        yield
        return
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


class _WithoutInitialisation(TorchFunctionMode):
    """Skips ``torch.nn.init`` and draws of random numbers.

    Drawing on the device "meta" would import ``torch._dynamo``, which takes seconds.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init" or func in (
            torch.Tensor.normal_,
            torch.Tensor.uniform_,
        ):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def without_weights() -> Iterator[None]:
    """Create the modules of the block on the device "meta", for weights that are loaded or only counted."""
    with torch.device("meta"), _WithoutInitialisation():
        yield


def best_device() -> torch.device:
    """Return the device that :func:`elmolite.utils.config.default_device` chose, by default a CUDA GPU or the CPU."""
    name = device_name()
    if name == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return available_device(name)


def available_device(name: str | torch.device) -> torch.device:
    """Return the device of a name.

    :raises InputError: it is no such name, or torch finds no such device on this machine.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device must be cpu, cuda, cuda:N or mps, got {name!r}") from None
    if device.type in ("cuda", "mps"):
        n_found = torch.cuda.device_count() if device.type == "cuda" else int(torch.backends.mps.is_available())
        if (device.index or 0) >= n_found:
            raise InputError(f"device {device} is not available: torch finds {n_found} of type {device.type}")
    return device


def trainer_devices(device: torch.device, n_devices: int = 1) -> int | list[int]:
    """Return the argument ``devices`` of a Lightning trainer: a number, or the index of the one chosen.

    :raises InputError: one device was chosen for several processes.
    """
    if device.index is None:
        return n_devices
    if n_devices > 1:
        raise InputError(f"device must be {device.type} for {n_devices} devices, got {device}")
    return [device.index]


def keep_freed_memory() -> None:
    """Tune glibc malloc, for the whole process, to keep freed memory (up to 20% of a training step).

    A training step frees and allocates the same hundred megabytes as the one before. By default glibc returns them to
    the system each time, and the system clears every page again.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's announcements, and its warnings about deliberate choices."""
    with log_level(logging.WARNING, "lightning.pytorch", "lightning.fabric"), warnings.catch_warnings():
        for message in (
            ".*does not have many workers.*",
            ".*your dataloader is not resumable.*",  # its sampler begins at the step
            ".*in eval mode at the start of training.*",  # a frozen language model
            ".*GPU available but not used.*",
            ".*isinstance.treespec, LeafSpec.*",
            ".*Total length of `.*` across ranks is zero.*",
        ):
            warnings.filterwarnings("ignore", message=message)
        yield
