"""A file of ``torch.save`` -> its tensors by name, in both formats that torch has had; it is read as data.

The pickle in it is a list of instructions, of which those are followed that a dictionary of tensors needs: nothing is
imported or called by it. What it says of shapes is held against the numbers that are there; ``torch.load`` runs no code
either (``weights_only``), but takes memory for as many numbers as a file claims to have.
"""

from __future__ import annotations

import io
import math
import pickletools
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
}
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MAX_OPCODES = 100_000


class _Mark:
    """Where a tuple or a list begins on the stack."""


class _Global(NamedTuple):
    """The name of something in a module."""

    module: str
    name: str


@dataclass(frozen=True)
class _Storage:
    """Numbers in the file."""

    dtype: torch.dtype
    key: str
    n_numbers: int


class TensorView(NamedTuple):
    """What the pickle says of a tensor."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def is_plain(self) -> bool:
        """Tell whether its numbers lie one after the other, inside the storage."""
        sizes = [size for size in self.shape if size != 1]
        strides = [stride for size, stride in zip(self.shape, self.strides, strict=True) if size != 1]
        plain = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
        return strides == plain and 0 <= self.offset <= self.storage.n_numbers - math.prod(self.shape)


class TorchFile:
    """The tensors of a file, by name; the numbers of one are read when it is asked for."""

    def __init__(self, content: bytes) -> None:
        """Read what it says of its tensors.

        :raises ValueError: it is no file of tensors by name that can be read.
        """
        is_zip = content.startswith(b"PK\3\4")
        self.views, self._numbers = _read_zip(content) if is_zip else _read_plain(content)

    def read(self, name: str) -> Tensor:
        """Return a tensor.

        :raises ValueError: its numbers are not all there.
        """
        view = self.views[name]
        if not view.is_plain():
            raise ValueError(f"tensor {name!r} does not lie in its storage one number after the other")
        numbers = self._numbers(view.storage)
        dtype = view.storage.dtype
        tensor = torch.frombuffer(bytearray(numbers), dtype=dtype) if numbers else torch.empty(0, dtype=dtype)
        return tensor[view.offset : view.offset + math.prod(view.shape)].view(view.shape)


Numbers = Callable[[_Storage], bytes]
"""Gives the bytes of a storage, all of them."""


def _read_zip(content: bytes) -> tuple[dict[str, TensorView], Numbers]:
    """Read the format of torch 1.6 and later: an archive in which nothing is compressed."""
    archive = zipfile.ZipFile(io.BytesIO(content))
    records = {record.filename.partition("/")[2]: record for record in archive.infolist()}
    sizes = [record.file_size for record in records.values()]
    is_plain = all(record.compress_type == zipfile.ZIP_STORED for record in records.values())
    if not is_plain or sum(sizes) > len(content) or len(records) < len(archive.infolist()):
        raise ValueError("an archive as torch does not write it")

    def read(name: str) -> bytes:
        if name not in records:
            raise ValueError(f"the record {name} is missing")
        return archive.read(records[name])

    if "byteorder" in records and read("byteorder") != sys.byteorder.encode():
        raise ValueError("of a machine with another order of bytes")

    def numbers(storage: _Storage) -> bytes:
        found = read(f"data/{storage.key}")
        if len(found) != storage.n_numbers * storage.dtype.itemsize:
            raise ValueError(f"storage {storage.key}: {len(found):,} bytes for {storage.n_numbers:,} numbers")
        return found

    return _named_tensors(_Pickle(io.BytesIO(read("data.pkl"))).load()), numbers


def _read_plain(content: bytes) -> tuple[dict[str, TensorView], Numbers]:
    """Read the format before: four pickles, the names of the storages, then their numbers one after the other."""
    file = io.BytesIO(content)
    magic, protocol, system, found, keys = (_Pickle(file).load() for _ in range(5))
    if magic != _MAGIC or protocol != _PROTOCOL or not isinstance(system, dict):
        raise ValueError("not a file of torch.save")
    if system.get("little_endian") is not (sys.byteorder == "little"):
        raise ValueError("of a machine with another order of bytes")
    views = _named_tensors(found)
    storages = {view.storage.key: view.storage for view in views.values()}
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(storages):
        raise ValueError("its storages are not those of its tensors")
    places: dict[str, int] = {}
    at = file.tell()
    for key in keys:
        n_numbers = int.from_bytes(content[at : at + 8], "little")
        end = at + 8 + n_numbers * storages[key].dtype.itemsize
        if n_numbers != storages[key].n_numbers or end > len(content):
            raise ValueError(f"storage {key}: its {storages[key].n_numbers:,} numbers are not there")
        places[key], at = at + 8, end

    def numbers(storage: _Storage) -> bytes:
        begin = places[storage.key]
        return content[begin : begin + storage.n_numbers * storage.dtype.itemsize]

    return views, numbers


def _named_tensors(found: Any) -> dict[str, TensorView]:
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(view, TensorView) for name, view in found.items()
    ):
        raise ValueError("expected tensors by name")
    return found


class _Pickle:
    """Follows the instructions of one pickle, as far as a dictionary of tensors needs them."""

    def __init__(self, file: io.BytesIO) -> None:
        self._opcodes = self._read(file)
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """Return what it describes.

        :raises ValueError: it is broken, or has an instruction that tensors by name do not need.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what Python has to say of odd escapes in a string
                for name, argument in self._opcodes:
                    if name == "STOP":
                        return self._stack.pop()
                    self._follow(name, argument)
        except (IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"its pickle is broken: {error!r}") from None
        raise ValueError("its pickle is cut short")

    @staticmethod
    def _read(file: io.BytesIO) -> Iterator[tuple[str, Any]]:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if number == _MAX_OPCODES:
                raise ValueError(f"its pickle has more than {_MAX_OPCODES:,} instructions")
            yield opcode.name, argument

    def _follow(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "GLOBAL":
            stack.append(_Global(*argument.split(" ")))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_made(stack.pop(), arguments))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name == "BUILD":  # the attributes of an ordered dictionary, in which torch keeps versions
            stack.pop()
        elif name != "PROTO":
            self._collect(name)

    def _collect(self, name: str) -> None:
        """Put what lies on the stack into a tuple, a list or a dictionary."""
        stack = self._stack
        if name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            n = int(name[-1])
            stack[-n:] = [tuple(stack[-n:])]
        elif name == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif name == "APPEND":
            item = stack.pop()
            _typed(stack[-1], list).append(item)
        elif name == "APPENDS":
            items = self._since_mark()
            _typed(stack[-1], list).extend(items)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _typed(stack[-1], dict)[_typed(key, str)] = value
        elif name == "SETITEMS":
            items = self._since_mark()
            names = [_typed(key, str) for key in items[::2]]
            _typed(stack[-1], dict).update(zip(names, items[1::2], strict=True))
        else:
            raise ValueError(f"its pickle has the instruction {name}, which tensors by name do not need")

    def _since_mark(self) -> list[Any]:
        items: list[Any] = []
        while not isinstance(item := self._stack.pop(), _Mark):
            items.append(item)
        return items[::-1]


_VALUES = {"BINUNICODE", "SHORT_BINSTRING", "BININT", "BININT1", "BININT2", "LONG1"}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "MARK": _Mark,
}


def _typed(value: Any, kind: type[Any]) -> Any:
    if type(value) is not kind:
        raise TypeError(f"a {type(value).__name__} where a {kind.__name__} was expected")
    return value


def _made(what: Any, arguments: Any) -> Any:
    """Return what a call would make, of the two things that are called in a dictionary of tensors."""
    match what, arguments:
        case _Global("collections", "OrderedDict"), ():
            return {}
        case (
            _Global("torch._utils", "_rebuild_tensor_v2"),
            (_Storage() as storage, int(offset), tuple(shape), tuple(strides), *_),
        ) if len(shape) == len(strides) and all(type(each) is int and each >= 0 for each in (*shape, *strides)):
            return TensorView(storage, offset, shape, strides)
    called = f"{what.module}.{what.name}" if isinstance(what, _Global) else type(what).__name__
    raise ValueError(f"its pickle calls {called}, which tensors by name do not need")


def _storage(persistent: Any) -> _Storage:
    match persistent:
        case ("storage", _Global("torch", kind), str(key), str(), int(n_numbers), *views) if (
            kind in _DTYPES and n_numbers >= 0 and views in ([], [None])
        ):
            return _Storage(_DTYPES[kind], key, n_numbers)
    raise ValueError(f"its pickle names a storage that is none of {', '.join(_DTYPES)}")
