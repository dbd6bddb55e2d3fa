"""Reader of safetensors files that checks shapes before it reads the tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from elmolite.errors import InputError

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
}

Shape = tuple[int, ...]


class TensorFile:
    """Safetensors file: names and shapes at once, tensors on request."""

    def __init__(self, path: Path) -> None:
        """Read the header."""
        self.path = path
        self.shapes: dict[str, Shape] = {}
        dtypes = set()
        with self.opened() as file:
            for name in file.keys():  # noqa: SIM118 (it is no mapping)
                part = file.get_slice(name)
                if part.get_dtype() not in _DTYPES:
                    known = ", ".join(_DTYPES)
                    raise InputError(f"{path}: tensor {name!r} has dtype {part.get_dtype()}; expected one of {known}")
                self.shapes[name] = tuple(part.get_shape())
                dtypes.add(_DTYPES[part.get_dtype()])
            self.metadata: Mapping[str, str] = file.metadata() or {}
        is_one = len(dtypes) == 1 and all(dtype.is_floating_point for dtype in dtypes)
        self.dtype = dtypes.pop() if is_one else torch.float32
        """Dtype of all tensors; float32 if they have several."""

    def check_shapes(self, expected: Mapping[str, Shape]) -> None:
        """Refuse missing, unexpected and misshapen tensors; the message names the first."""
        for name in sorted(expected.keys() | self.shapes.keys()):
            found, wanted = self.shapes.get(name, "none"), expected.get(name, "none")
            if found != wanted:
                raise InputError(f"{self.path}: tensor {name!r} has shape {found}, expected {wanted} by the config")

    def read(self) -> dict[str, Tensor]:
        """Return all tensors, memory-mapped."""
        with self.opened() as file:
            return {name: file.get_tensor(name) for name in self.shapes}

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Open the file with ``safe_open``; its errors become an ``InputError``."""
        try:
            with safe_open(self.path, framework="pt") as file:
                yield file
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self.path}: not a readable safetensors file: {error}") from None
