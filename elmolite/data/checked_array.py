"""Arrays on disk of which each block is held against its checksum when it is first read.

To hash a corpus of 200 million words takes seconds and all of its gigabyte, and tells nothing of what becomes of it
afterwards. So the manifest has a CRC-32 for every :data:`BLOCK_BYTES` of an ``.npy`` file, which finds every change of
up to 32 bits on end; and since a block is read before the memory map is touched, a disk that cannot give it is an error
with a message and not a signal.
"""

from __future__ import annotations

import os
import weakref
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from elmolite.errors import InputError
from elmolite.utils import files
from elmolite.utils.files import map_array

BLOCK_BYTES = 1 << 18
_CRC_BYTES = 4


class CheckedArray:
    """An ``.npy`` file, memory-mapped, whose rows are read as those of an array."""

    def __init__(self, path: Path, mark: dict[str, Any], *, kinds: str, n_dims: int) -> None:
        """Open a file; of its content only the heading is read.

        :param mark: what :func:`fingerprint` returned.
        :param kinds: of numbers that it may have, as :func:`elmolite.utils.files.map_array` takes them.
        :raises InputError: it is no such array, its heading is damaged, or the mark is none.
        """
        self.path = path
        self._checksums = _checksums(path, mark)
        self._is_read = np.zeros(len(self._checksums), bool)
        self._n_left = len(self._checksums)
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
        weakref.finalize(self, self._file.close)
        self._check(np.array([0]))
        mapped = map_array(path, kinds=kinds, n_dims=n_dims)
        self._rows = np.asarray(mapped)
        self._begin = mapped.offset
        self._row_bytes = self._rows.itemsize * int(np.prod(self._rows.shape[1:]))

    @property
    def shape(self) -> tuple[int, ...]:
        """As numpy's."""
        return self._rows.shape

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        """Return rows.

        :param index: an integer, a slice, or an array of integers or booleans.
        :raises InputError: a block that they are in is damaged; the message names the bytes.
        """
        if self._n_left:
            self._read(index)
        return self._rows[index]

    def __iter__(self) -> Iterator[Any]:
        """Yield each row."""
        return iter(np.asarray(self))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Give all of it to numpy."""
        rows = self[:]
        return np.array(rows, dtype) if copy else np.asarray(rows, dtype)

    def searchsorted(self, values: ArrayLike, side: Literal["left", "right"] = "left") -> Any:
        """Return where values belong among rows that are sorted, as numpy does.

        The search goes through blocks that were not read; that it was not led astray is seen by the rows it ended at.
        """
        places = self._rows.searchsorted(values, side=side)
        if self._n_left and len(self):
            below, above = self[np.maximum(places - 1, 0)], self[np.minimum(places, len(self) - 1)]
            if side == "right":
                is_right = ((places == 0) | (below <= values)) & ((places == len(self)) | (values < above))
            else:
                is_right = ((places == 0) | (below < values)) & ((places == len(self)) | (values <= above))
            if not np.all(is_right):
                self._read(slice(None))
        return places

    def _read(self, index: Any) -> None:
        """Check the blocks that rows are in, those that were not checked before."""
        if isinstance(index, slice):
            rows = range(len(self))[index]
            ends = sorted((rows[0], rows[-1])) if rows else ()
            blocks = np.arange(self._block(ends[0]), self._block(ends[1], at_end=True) + 1) if ends else np.arange(0)
        else:
            places = np.asarray(index)
            places = np.flatnonzero(places) if places.dtype == bool else places
            places = np.where(places < 0, places + len(self), places)
            blocks = np.append(self._block(places), self._block(places, at_end=True))
        unread = blocks[~self._is_read[blocks]]
        if len(unread):
            self._check(np.unique(unread))

    def _block(self, row: Any, *, at_end: bool = False) -> Any:
        """Return the block that a row begins in, or ends in."""
        return (self._begin + row * self._row_bytes + (self._row_bytes - 1 if at_end else 0)) // BLOCK_BYTES

    def _check(self, blocks: NDArray[np.int64]) -> None:
        for block in blocks.tolist():
            begin = block * BLOCK_BYTES
            try:
                content = _read_at(self._file, begin)
            except OSError as error:
                raise InputError(f"{self.path}: cannot be read from byte {begin:,} on: {error.strerror}") from None
            if zlib.crc32(content) != self._checksums[block]:
                raise InputError(
                    f"{self.path} is damaged between bytes {begin:,} and {begin + BLOCK_BYTES:,} (the checksum of "
                    "this block differs): copy or make it again"
                )
            self._is_read[block] = True
            self._n_left -= 1


def fingerprint(path: Path) -> dict[str, Any]:
    """Return the mark of a file as it stands in a manifest: its size, its SHA-256 and the CRC-32 of every block."""
    with path.open("rb") as file:
        checksums = (zlib.crc32(block) for block in _blocks(file))
        return {**files.file_entry(path), files.BLOCKS: "".join(f"{each:08x}" for each in checksums)}


def _blocks(file: IO[bytes]) -> Iterable[bytes]:
    return iter(lambda: file.read(BLOCK_BYTES), b"")


def _checksums(path: Path, mark: dict[str, Any]) -> NDArray[np.uint32]:
    try:
        checksums = bytes.fromhex(mark[files.BLOCKS])
        n_blocks = -(-mark["bytes"] // BLOCK_BYTES)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: its manifest must give {files.BLOCKS}, 8 hexadecimal digits a block") from None
    if n_blocks == 0 or len(checksums) != n_blocks * _CRC_BYTES:
        raise InputError(f"{path}: {files.BLOCKS} must have {n_blocks} checksums for {mark['bytes']} bytes")
    return np.frombuffer(checksums, ">u4")


def _read_at(file: IO[bytes], begin: int) -> bytes:
    """Read a block; by its place alone, since a process that was forked shares the place at which its parent reads."""
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), BLOCK_BYTES, begin)
    file.seek(begin)
    return file.read(BLOCK_BYTES)
