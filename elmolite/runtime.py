"""What the machine can do, and what it is asked to do differently."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory for the next step instead of giving it back to the system.

    A training step frees and takes tens of megabytes; with glibc's defaults each of their pages is faulted in anew,
    which was measured to take as long again as the backward pass itself. Elsewhere than on glibc nothing changes.

    :returns: whether the library took the setting.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 1 << 30) and mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1))
