"""Threads for computations that do not depend on each other: the two directions, on a CPU.

OpenMP shares out each operation among its threads, which wait for each other at its end. That is hundreds of waits in
the loop of an LSTM, and beside another busy process each may last until the system runs a suspended thread again.
Threads that compute a direction each wait once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from itertools import count
from typing import Any, TypeVar

import torch

T = TypeVar("T")


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="elmolite")


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_pool.cache_clear)  # its threads do not exist in the child


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute each operation of the block in the calling thread alone."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def in_threads(functions: Sequence[Callable[[], T]]) -> list[T]:
    """Call functions at the same time, each with its share of torch's threads, and return their results.

    They have the modes of the caller (gradients, inference, autocast) and its context variables. With one thread they
    are called in order.
    """
    n_threads = torch.get_num_threads()
    n_workers = min(n_threads, len(functions))
    if n_workers < 2:
        return [function() for function in functions]
    results: list[Any] = [None] * len(functions)
    turns = count()
    is_inference, has_gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    dtype, has_autocast = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")

    def work() -> None:
        torch.set_num_threads(n_threads // n_workers)  # of this thread
        with (
            torch.inference_mode(is_inference),
            torch.set_grad_enabled(has_gradients),
            torch.autocast("cpu", dtype, enabled=has_autocast),
        ):
            while (index := next(turns)) < len(functions):
                results[index] = functions[index]()

    others = [_pool().submit(copy_context().run, work) for _ in range(n_workers - 1)]
    try:
        work()
    finally:
        wait(others)
        torch.set_num_threads(n_threads)
    for each in others:
        each.result()  # raises what it raised
    return results
