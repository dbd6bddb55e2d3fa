"""Cores that this process may use, and the settings of OpenMP that torch reads when it is imported."""

from __future__ import annotations

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
SPIN_COUNT = 4000
"""Turns of the loop in which a thread of GCC's OpenMP waits before it sleeps. With fewer, computing alone is slower;
with the default of 300,000, computing beside a busy process is several times slower."""


def n_cores() -> int:
    """Return the number of cores that this process may use, by its CPU affinity and the CPU limit of its container."""
    n_of_affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(n_of_affinity, _quota() or n_of_affinity)


def _quota() -> int | None:
    """Return the number of cores that the control group allows (cgroup v2, else v1), or ``None`` without a limit."""
    try:
        if (path := CGROUP / "cpu.max").is_file():
            quota, period = path.read_text().split()
        else:
            quota, period = ((CGROUP / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        n = math.ceil(int(quota) / int(period))  # ValueError: "max"
    except (OSError, ValueError):
        return None
    return n if n > 0 else None


def set_openmp_defaults(environment: MutableMapping[str, str]) -> None:
    """Let the threads of OpenMP wait without long spinning, and be no more than the cores, unless the user chose.

    Threads that spin wait for others which the system has suspended, and suspend them for longer: on a busy machine
    torch becomes several times slower. A container with a quota shows all cores of its machine, and torch would start a
    thread for each.
    """
    if environment.keys().isdisjoint(("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")):
        environment["OMP_WAIT_POLICY"] = "passive"  # of LLVM and Intel
        environment["GOMP_SPINCOUNT"] = str(SPIN_COUNT)  # of GCC, precedes the policy
    if (n := n_cores()) < (os.cpu_count() or 1):
        environment.setdefault("OMP_NUM_THREADS", str(n))
