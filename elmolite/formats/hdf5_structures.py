"""The structures of an HDF5 file: its objects, what they say of themselves, the names in a group, and B-trees.

Of a file from a stranger HDF5's own library runs in rings that nobody can interrupt, loads filters, and opens other
files; here all that a file says of places and sizes is held against what is there, and structures that lie upon one
another soon end the reading. What is read is what that library writes unless it is asked for more. Numbers of sections
are those of the HDF5 File Format Specification, version 3.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from typing import Any, NamedTuple

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAX_NAME = 255
_MAX_PASSES = 4
"""So many times the size of the file its structures may take: what has two names comes twice, but nothing for ever."""

ADDRESS = Struct("<Q")
PLACE = Struct("<QQ")
"""An address and a size, or two addresses."""
_SUPERBLOCK = Struct("<8sB4x2B9x")
_SUPERBLOCK_ADDRESSES = Struct("<4Q")
_OBJECT = Struct("<BxH4xI4x")
_MESSAGE = Struct("<HHB3x")
_NODE = Struct("<4sBBH16x")
_SYMBOL_NODE = Struct("<4s2xH")
_SYMBOL = Struct("<QQI20x")
_HEAP = Struct("<4s4xQ8xQ")

_SHARED = 2
"""The flag of a message that stands elsewhere."""
_SOFT_LINK = 2
_HOW_TO = "'h5repack --low=0 --high=0 OLD NEW' writes it so that it is read"


class Kind(IntEnum):
    """What a message of an object is about (section IV.A.2)."""

    DATASPACE = 0x1
    LINK_INFO = 0x2
    DATATYPE = 0x3
    LINK = 0x6
    EXTERNAL_FILES = 0x7
    LAYOUT = 0x8
    FILTERS = 0xB
    CONTINUATION = 0x10
    SYMBOL_TABLE = 0x11


class Tree(IntEnum):
    """Kinds of B-trees."""

    OF_GROUP = 0
    OF_CHUNKS = 1


class Hdf5Error(Exception):
    """The file is damaged, or of a kind that is not read."""


class Object:
    """What an object of the file says of itself."""

    def __init__(self) -> None:
        self._messages: dict[int, tuple[int, memoryview]] = {}

    def add(self, kind: int, flags: int, content: memoryview) -> None:
        """Take a message; of several of one kind the first counts."""
        self._messages.setdefault(kind, (flags, content))

    def __contains__(self, kind: Kind) -> bool:
        return kind in self._messages

    def message(self, kind: Kind) -> memoryview:
        """Return the content of a message.

        :raises Hdf5Error: there is none, or it is kept elsewhere.
        """
        flags, content = self._messages.get(kind, (_SHARED, None))
        if flags & _SHARED or content is None:
            raise Hdf5Error(f"an object has no {kind.name.lower().replace('_', ' ')} that can be read")
        return content


class Link(NamedTuple):
    """A name in a group, and the place of what it names."""

    name: str
    address: int


class File:
    """The bytes of a file from its superblock on."""

    def __init__(self, content: memoryview) -> None:
        """Find the superblock (section II.A), in front of which other things may stand.

        :raises Hdf5Error: there is none, or one of a newer file format.
        """
        begin = 0
        while begin < len(content) and content[begin : begin + len(SIGNATURE)] != SIGNATURE:
            begin = max(512, 2 * begin)
        self._content = content[begin:]
        self.n_bytes = len(self._content)
        self._n_left = _MAX_PASSES * self.n_bytes
        if self.n_bytes == 0:
            raise Hdf5Error("no HDF5 signature is in it")
        _, version, *sizes = self.unpack(_SUPERBLOCK, 0)
        if version > 1 or sizes != [8, 8]:
            raise Hdf5Error(f"it has a newer or unusual HDF5 format: {_HOW_TO}")
        after = _SUPERBLOCK.size + 4 * version
        base = self.unpack(_SUPERBLOCK_ADDRESSES, after)[0]
        if base not in (0, begin):
            raise Hdf5Error(f"it says that it begins at {base:,}, not {begin:,}")
        self.root = self.object(self.unpack(PLACE, after + _SUPERBLOCK_ADDRESSES.size)[1])

    def part(self, address: int, size: int) -> memoryview:
        """Return some bytes.

        :raises Hdf5Error: not all of them are in the file.
        """
        if address + size > self.n_bytes:
            raise Hdf5Error(f"it speaks of {size:,} bytes at {address:,}, and has {self.n_bytes:,}")
        return self._content[address : address + size]

    def _entries(self, address: int, size: int) -> memoryview:
        """Return the entries of a structure, which are counted.

        :raises Hdf5Error: not all of them are in the file, or too many were there before.
        """
        self._n_left -= size
        if self._n_left < 0:
            raise Hdf5Error("its structures lie upon one another")
        return self.part(address, size)

    def unpack(self, structure: Struct, address: int) -> tuple[Any, ...]:
        """Return the values of a structure.

        :raises Hdf5Error: not all of them are in the file.
        """
        return structure.unpack(self.part(address, structure.size))

    def object(self, address: int) -> Object:
        """Read the header of an object and what continues it (section IV.A.1.a)."""
        version, n_messages, size = self.unpack(_OBJECT, address)
        if version != 1:
            raise Hdf5Error(f"what is at {address:,} is damaged, or of a newer HDF5 format: {_HOW_TO}")
        found = Object()
        blocks, visited = [(address + _OBJECT.size, size)], set()
        for start, size in blocks:
            block, at = self._entries(start, size), 0
            while at + _MESSAGE.size <= len(block) and n_messages > 0:
                kind, size, flags = _MESSAGE.unpack_from(block, at)
                content = block[at + _MESSAGE.size : at + _MESSAGE.size + size]
                at += _MESSAGE.size + size
                n_messages -= 1
                found.add(kind, flags, content)
                if kind == Kind.CONTINUATION and (place := unpack(PLACE, content)) not in visited:
                    visited.add(place)
                    blocks.append(place)
        return found

    def leaves(
        self, address: int, kind: Tree, key_size: int, visited: set[int] | None = None, level: int | None = None
    ) -> Iterator[tuple[memoryview, int]]:
        """Yield the keys and children of the lowest nodes of a B-tree (section III.A.1).

        :param visited: the nodes before.
        :param level: that the node must have.
        """
        visited = set() if visited is None else visited
        signature, its_kind, its_level, n_children = self.unpack(_NODE, address)
        if (signature, its_kind) != (b"TREE", kind) or level not in (None, its_level) or address in visited:
            raise Hdf5Error(f"the tree at {address:,} is damaged")
        visited.add(address)
        size = key_size + ADDRESS.size
        children = self._entries(address + _NODE.size, n_children * size)
        for at in range(0, len(children), size):
            key, child = children[at : at + key_size], unpack(ADDRESS, children, at + key_size)[0]
            if its_level == 0:
                yield key, child
            else:
                yield from self.leaves(child, kind, key_size, visited, its_level - 1)

    def links(self, group: Object) -> Iterator[Link]:
        """Yield what is in a group, without soft links (sections III.B to III.D)."""
        if Kind.LINK_INFO in group or Kind.LINK in group:
            raise Hdf5Error(f"it has a newer HDF5 format: {_HOW_TO}")
        tree, heap = unpack(PLACE, group.message(Kind.SYMBOL_TABLE))
        signature, size, address = self.unpack(_HEAP, heap)
        if signature != b"HEAP":
            raise Hdf5Error(f"the heap at {heap:,} is damaged")
        names = self.part(address, size)
        for _, node in self.leaves(tree, Tree.OF_GROUP, ADDRESS.size):
            signature, n_symbols = self.unpack(_SYMBOL_NODE, node)
            if signature != b"SNOD":
                raise Hdf5Error(f"the group at {node:,} is damaged")
            symbols = self._entries(node + _SYMBOL_NODE.size, n_symbols * _SYMBOL.size)
            for at, target, kind in _SYMBOL.iter_unpack(symbols):
                if kind != _SOFT_LINK:
                    yield Link(_name(names[at : at + _MAX_NAME + 1]), target)


def _name(content: memoryview) -> str:
    name, end, _ = bytes(content).partition(b"\0")
    if not end:
        raise Hdf5Error("a name has no end")
    return name.decode("utf-8", "replace")


def unpack(structure: Struct, content: memoryview, at: int = 0) -> tuple[Any, ...]:
    """Return the values of a structure that stands in a message.

    :raises Hdf5Error: the message is shorter.
    """
    part = content[at : at + structure.size]
    if len(part) < structure.size:
        raise Hdf5Error("a part of an object is cut short")
    return structure.unpack(part)
