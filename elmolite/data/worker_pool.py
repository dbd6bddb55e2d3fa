"""Processes that do a part of this package's work; they begin without the caller's script.

Python's own would import that script again, so that each script that prepares a corpus would need its ``if __name__ ==
"__main__"``, and fail strangely without it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Any


class _Worker(SpawnProcess):
    """A process that begins as if nothing but an interpreter had started it."""

    def start(self) -> None:
        """Start it; of ``__main__`` it is told what is there meanwhile, which other threads see too."""
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            super().start()
        finally:
            sys.modules["__main__"] = script


class _Context(SpawnContext):
    """New interpreters, since the caller may have threads, which a fork would not survive."""

    Process = _Worker


def worker_pool(
    n_workers: int | None, *, at_start: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> ProcessPoolExecutor:
    """Return a pool of processes; what they are given to do must be importable by name from a module.

    :param n_workers: ``None`` for one a core.
    :param at_start: called once in each, with the arguments.
    """
    return ProcessPoolExecutor(n_workers, _Context(), at_start, arguments)
