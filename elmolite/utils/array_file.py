"""An ``.npy`` file -> its array, memory-mapped; its header is held against the size of the file first."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from elmolite.errors import InputError
from elmolite.utils.contained import is_contained_file

_READ_HEADER = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def map_array(path: Path, *, kinds: str, n_dims: int) -> np.memmap[Any, Any]:
    """Map an array, read-only.

    :param kinds: of numbers that it may have, as numpy's ``dtype.kind`` has them: ``iu`` for whole numbers.
    :raises InputError: it is missing, leads out of its folder, or is no such array, with all its numbers and no more.
    """
    if not is_contained_file(path):
        raise InputError(f"{path}: not an array that can be read: there is no such file")
    try:
        with path.open("rb") as file:
            shape, is_fortran, dtype = _READ_HEADER[npy.read_magic(file)](file)
            offset = file.tell()
    except OSError as error:
        raise InputError(f"{path}: not an array that can be read: {error.strerror or error}") from None
    except Exception as error:  # of a damaged header numpy raises anything
        raise InputError(f"{path}: not an array that can be read: {str(error)[:200]!r}") from None
    if dtype.kind not in kinds or not dtype.isnative or len(shape) != n_dims or is_fortran or min(shape) < 0:
        raise InputError(f"{path}: holds {dtype} of shape {shape}; expected {n_dims} dimensions of kind {kinds}")
    n_bytes, n_expected = path.stat().st_size - offset, math.prod(shape) * dtype.itemsize
    if n_bytes != n_expected:
        raise InputError(f"{path}: {n_bytes:,} bytes of numbers, where shape {shape} of {dtype} has {n_expected:,}")
    try:
        return np.memmap(path, dtype, "r", offset, shape)
    except (OSError, ValueError) as error:  # a file system that maps none
        raise InputError(f"{path}: cannot be mapped: {error}") from None
