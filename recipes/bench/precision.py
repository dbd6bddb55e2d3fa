"""How far vectors in bf16 or int8 are from those in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from peers import ELMOLITE, System, Worker


def least_cosine(workers: Sequence[Worker], low: System) -> float:
    """Return the least cosine of a vector of a system and one in fp32, of all tokens and layers."""
    with TemporaryDirectory() as folder:
        found = []
        for system in (ELMOLITE, low):
            worker = next(worker for worker in workers if worker.system == system)
            path = Path(folder) / f"{system.name}.npz"
            worker.ask("save", path=str(path))
            with np.load(path) as file:
                found.append([file[name] for name in file.files])
    each = [cosines(a, b).min() for a, b in zip(*found, strict=True)]
    return round(float(min(each)), 6)


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine of each pair of vectors, which are the last axis."""
    a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (a.astype(np.float64), b.astype(np.float64)))
    found: NDArray[np.float64] = (a * b).sum(axis=-1)
    return found
