"""An HDF5 file -> its arrays of numbers by name; it is read as data, and no further than a model's weights need."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elmolite.formats.hdf5_structures import PLACE, File, Hdf5Error, Kind, Object, Tree, unpack

MAX_EXPANSION = 10
"""Bytes that may be read for each that is stored, since arrays may be compressed; weights hardly become smaller."""
_MAX_DEPTH = 8
"""Of groups in groups: a model has five."""

_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3
_CONTIGUOUS, _CHUNKED = (3, 1), (3, 2)
"""Version of the message and class of the layout."""
_FLOAT = Struct("<HHBBBBI")
_FLOATS = {2: (0, 16, 10, 5, 0, 10, 15), 4: (0, 32, 23, 8, 0, 23, 127), 8: (0, 64, 52, 11, 0, 52, 1023)}
"""Of IEEE's numbers, by their size in bytes: where exponent and fraction are, and the bias of the exponent."""
_IMPLIED_BIT = 0x20


class _Filter(NamedTuple):
    """What is done to each chunk."""

    kind: int
    values: tuple[int, ...]


class _Chunk(NamedTuple):
    """Where a chunk is; ``skipped`` has a bit for each filter that was left out."""

    address: int
    n_bytes: int
    skipped: int


@dataclass(frozen=True)
class StoredArray:
    """What a file says of an array.

    :param dtype: of whole or IEEE numbers; ``None`` for all else.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None
    _file: File
    _layout: memoryview
    _filters: tuple[_Filter, ...]

    def read(self) -> NDArray[Any]:
        """Return the numbers; those that are in one piece are not copied.

        :raises Hdf5Error: they are no numbers, not all in the file, damaged, or stored in a way that is not read.
        """
        layout = unpack(Struct("<BB"), self._layout)
        if self.dtype is not None and layout == _CONTIGUOUS and not self._filters:
            address, n_bytes = unpack(PLACE, self._layout, 2)
            if n_bytes == math.prod(self.shape) * self.dtype.itemsize:
                return np.frombuffer(self._file.part(address, n_bytes), self.dtype).reshape(self.shape)
        if self.dtype is not None and layout == _CHUNKED and self.shape:
            return self._read_chunks(self.dtype)
        raise Hdf5Error("its numbers are not in the file, or stored in a way that cannot be read")

    def _read_chunks(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Bring the chunks together, all of which must be there."""
        n_dims, address = unpack(Struct("<BQ"), self._layout, 2)
        *sides, itemsize = unpack(Struct(f"<{n_dims}I"), self._layout, 11)
        if len(sides) != len(self.shape) or itemsize != dtype.itemsize or 0 in sides:
            raise Hdf5Error("its chunks have another shape")
        chunks = dict(self._chunks(address, len(sides)))
        n_wanted = math.prod(-(-length // side) for length, side in zip(self.shape, sides, strict=True))
        n_bytes = math.prod(sides) * itemsize
        n_stored = min(sum(chunk.n_bytes for chunk in chunks.values()), self._file.n_bytes)
        if n_wanted != len(chunks) or n_wanted * n_bytes > MAX_EXPANSION * n_stored:
            raise Hdf5Error("its numbers are not in the file, or stored in a way that cannot be read")
        array = np.empty(self.shape, dtype)
        for corner in product(*map(range, [0] * len(sides), self.shape, sides)):
            if corner not in chunks:
                raise Hdf5Error("its chunks are in other places")
            content = self._unfilter(chunks[corner], n_bytes)
            target = array[tuple(slice(at, at + side) for at, side in zip(corner, sides, strict=True))]
            target[...] = np.frombuffer(content, dtype).reshape(sides)[tuple(map(slice, target.shape))]
        return array

    def _chunks(self, tree: int, n_dims: int) -> Iterator[tuple[tuple[int, ...], _Chunk]]:
        """Yield the first place of each chunk, and where it is."""
        key = Struct(f"<II{n_dims}Q8x")
        for content, address in self._file.leaves(tree, Tree.OF_CHUNKS, key.size):
            n_bytes, skipped, *corner = unpack(key, content)
            yield tuple(corner), _Chunk(address, n_bytes, skipped)

    def _unfilter(self, chunk: _Chunk, n_bytes: int) -> memoryview:
        """Undo what was done to a chunk, the last thing first.

        :param n_bytes: that it has when all is undone.
        """
        content = self._file.part(chunk.address, chunk.n_bytes)
        for number, (kind, values) in reversed(list(enumerate(self._filters))):
            if not chunk.skipped >> number & 1:
                content = _undo(kind, values, content, n_bytes)
        if len(content) != n_bytes:
            raise Hdf5Error(f"a chunk of it has {len(content):,} bytes where {n_bytes:,} belong")
        return content


def _undo(kind: int, values: tuple[int, ...], content: memoryview, n_bytes: int) -> memoryview:
    if kind == _DEFLATE:
        try:
            return memoryview(zlib.decompressobj().decompress(content, n_bytes + 4))  # a checksum may be behind it
        except zlib.error as error:
            raise Hdf5Error(f"a chunk of it is damaged: {error}") from None
    if kind == _SHUFFLE and values and values[0] > 0 and len(content) % values[0] == 0:
        return memoryview(np.frombuffer(content, np.uint8).reshape(values[0], -1).T.tobytes())
    if kind == _FLETCHER32:
        return _without_checksum(content)
    raise Hdf5Error(f"it is stored under a filter that cannot be undone (number {kind})")


def _without_checksum(content: memoryview) -> memoryview:
    """Take off Fletcher's checksum, whose two halves are sums modulo 65,535."""
    content, checksum = content[:-4], int.from_bytes(content[-4:], "little")
    words = np.frombuffer(bytes(content) + b"\0" * (len(content) % 2), ">u2").astype(np.uint64)
    weights = np.arange(len(words), 0, -1, dtype=np.uint64) % 65535
    sums = (int((words * weights).sum()), int(words.sum()))
    if any((half - total) % 65535 for half, total in zip(divmod(checksum, 1 << 16), sums, strict=True)):
        raise Hdf5Error("a chunk of it is damaged: its checksum differs")
    return content


def stored_arrays(content: memoryview, prefixes: tuple[str, ...]) -> Iterator[tuple[str, StoredArray]]:
    """Yield the arrays of a file by their names, as ``group/group/name``; links and arrays elsewhere are left out.

    :param prefixes: how the names begin; what is called otherwise is not looked at.
    :raises Hdf5Error: the file is damaged, or of a kind that is not read.
    """
    file = File(content)
    yield from _arrays_of(file, file.root, prefixes, set())


def _arrays_of(
    file: File, group: Object, prefixes: tuple[str, ...], visited: set[int], path: str = "", depth: int = 0
) -> Iterator[tuple[str, StoredArray]]:
    """Yield the arrays of a group.

    :param visited: the groups before, since two names may lead to the same one.
    """
    for name, address in file.links(group):
        key = f"{path}{name}"
        if not key.startswith(prefixes) or address in visited:
            continue
        item = file.object(address)
        if Kind.SYMBOL_TABLE in item or Kind.LINK_INFO in item:
            visited.add(address)
            if depth == _MAX_DEPTH:
                raise Hdf5Error(f"it has groups in groups, more than {_MAX_DEPTH} deep")
            yield from _arrays_of(file, item, prefixes, visited, f"{key}/", depth + 1)
        elif Kind.LAYOUT in item and Kind.EXTERNAL_FILES not in item:
            yield key, _array(file, item)


def _array(file: File, item: Object) -> StoredArray:
    filters = _filters(item.message(Kind.FILTERS)) if Kind.FILTERS in item else ()
    shape, dtype = _shape(item.message(Kind.DATASPACE)), _dtype(item.message(Kind.DATATYPE))
    return StoredArray(shape, dtype, file, item.message(Kind.LAYOUT), filters)


def _shape(message: memoryview) -> tuple[int, ...]:
    """Read a dataspace (section IV.A.2.b)."""
    version, rank = unpack(Struct("<BB"), message)
    if version not in (1, 2):
        raise Hdf5Error("the shape of an array cannot be read")
    return unpack(Struct(f"<{rank}Q"), message, 8 if version == 1 else 4)


def _dtype(message: memoryview) -> np.dtype[Any] | None:
    """Read a type (section IV.A.2.d)."""
    first, low, high, size = unpack(Struct("<BHBI"), message)
    kind, bits = first & 15, low | high << 16
    order = "<>"[bits & 1]
    if kind == 0 and size in (1, 2, 4, 8):
        return np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}")
    is_ieee = kind == 1 and size in _FLOATS and unpack(_FLOAT, message, 8) == _FLOATS[size]
    if is_ieee and bits & ~1 == _IMPLIED_BIT | (8 * size - 1) << 8:
        return np.dtype(f"{order}f{size}")
    return None


def _filters(message: memoryview) -> tuple[_Filter, ...]:
    """Read what is done to chunks, in its order (section IV.A.2.l)."""
    version, n_filters = unpack(Struct("<BB"), message)
    if version != 1:
        raise Hdf5Error("the filters of an array cannot be read")
    found = []
    at = 8
    for _ in range(n_filters):
        kind, name_size, n_values = unpack(Struct("<HH2xH"), message, at)
        found.append(_Filter(kind, unpack(Struct(f"<{n_values}I"), message, at + 8 + name_size)))
        at += 8 + name_size + 4 * (n_values + n_values % 2)
    return tuple(found)
