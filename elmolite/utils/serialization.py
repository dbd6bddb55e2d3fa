"""A safetensors file: the shapes of its tensors, held against its size and what is expected; then their numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from elmolite.errors import InputError
from elmolite.utils.contained import is_contained_file

MAX_HEADER_BYTES = 1 << 24
"""Of names and shapes: a hundred thousand tensors."""
_LENGTH_BYTES = 8
_DTYPES = ("F64", "F32", "F16", "BF16", "I64")

Shape = tuple[int, ...]


class TensorFile:
    """The tensors of a file; only those that are asked for are read."""

    def __init__(self, path: Path) -> None:
        """Read the shapes.

        :raises InputError: it is missing, leads out of its folder, or is no safetensors file whose numbers are all
            there; or a tensor is of a kind that is not written here.
        """
        self.path = path
        if not is_contained_file(path):
            raise InputError(f"{path}: not a safetensors file that can be read: there is no such file")
        self._check_length()
        self.shapes: dict[str, Shape] = {}
        with self.opened() as file:
            for name in file.keys():  # noqa: SIM118 (it is no mapping)
                part = file.get_slice(name)
                if part.get_dtype() not in _DTYPES:
                    raise InputError(f"{path}: tensor {name!r} is of {part.get_dtype()}; one of {_DTYPES} is expected")
                self.shapes[name] = tuple(part.get_shape())
            self.metadata: Mapping[str, str] = file.metadata() or {}

    @property
    def n_numbers(self) -> int:
        """How many numbers all tensors have: no more than the file has bytes."""
        return sum(map(math.prod, self.shapes.values()))

    def check_shapes(self, expected: Mapping[str, Shape]) -> None:
        """Hold the shapes against those that are expected, of which none may be missing and no others be there.

        :raises InputError: the message names the first tensor that differs.
        """
        for name in sorted(expected.keys() | self.shapes.keys()):
            found, wanted = self.shapes.get(name, "nothing"), expected.get(name, "nothing")
            if found != wanted:
                raise InputError(f"{self.path}: tensor {name!r} has {found} where the configuration asks for {wanted}")

    def check_holds(self, n_numbers: int) -> None:
        """Refuse a configuration that asks for more numbers than there are, before anything is made by it.

        :raises InputError: it does.
        """
        if self.n_numbers < n_numbers:
            raise InputError(
                f"{self.path}: has {self.n_numbers:,} numbers where the configuration asks for {n_numbers:,} at least"
            )

    def read(self) -> dict[str, Tensor]:
        """Return all tensors, in the memory that the file is mapped to."""
        with self.opened() as file:
            return {name: file.get_tensor(name) for name in self.shapes}

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Open the file as ``safetensors`` does.

        :raises InputError: it or a tensor of it cannot be read.
        """
        try:
            with safe_open(self.path, framework="pt") as file:
                yield file
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self.path}: not a safetensors file that can be read: {error}") from None

    def _check_length(self) -> None:
        try:
            with self.path.open("rb") as file:
                length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror or error}") from None
        if length > min(MAX_HEADER_BYTES, self.path.stat().st_size):
            raise InputError(f"{self.path}: not a safetensors file that can be read: a header of {length:,} bytes")
