"""Memory that a process frees and asks for again."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_NEVER, _LARGEST = -1, 32 << 20


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, where it is the allocator, for the rest of the process.

    A training step frees and takes the same hundred megabytes as the one before. Left alone, glibc gives them back to
    the system each time, and the system fills each page with zeros again: up to a fifth of a step.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_TRIM_THRESHOLD, _NEVER)
