"""What is read of HDF5 files, held against h5py; and what is not read, or damaged."""

import struct

import h5py
import numpy as np
import pytest

from elmolite.formats.hdf5_arrays import stored_arrays
from elmolite.formats.hdf5_structures import Hdf5Error

RNG = np.random.default_rng(0)


def written(path, shape=(37, 21), dtype="<f4", libver=None, userblock=0, **options):
    """An HDF5 file of one array, and that array."""
    numbers = (100 * RNG.normal(size=shape)).astype(dtype)
    with h5py.File(path, "w", libver=libver, userblock_size=userblock) as file:
        file.create_dataset("group/a", data=numbers, **options)
    return numbers


def arrays_of(path):
    return dict(stored_arrays(memoryview(path.read_bytes()), ("",)))


STORED = {
    "in one piece": {},
    "big-endian": {"dtype": ">f4"},
    "half precision": {"dtype": "<f2"},
    "double precision, big-endian": {"dtype": ">f8"},
    "whole numbers": {"dtype": "<i8"},
    "whole numbers without a sign": {"dtype": ">u2"},
    "no dimensions": {"shape": ()},
    "chunks": {"chunks": (5, 4)},
    "chunks as large as the array": {"chunks": (37, 21)},
    "a thousand chunks": {"shape": (400, 100), "chunks": (8, 5)},
    "four dimensions of chunks": {"shape": (3, 4, 5, 6), "chunks": (2, 2, 3, 4)},
    "room to grow": {"maxshape": (None, None)},
    "deflated": {"compression": "gzip"},
    "deflated, shuffled": {"compression": "gzip", "shuffle": True},
    "shuffled": {"shuffle": True, "chunks": (5, 4)},
    "with checksums": {"fletcher32": True},
    "with checksums, deflated, shuffled": {"fletcher32": True, "compression": 9, "shuffle": True, "chunks": (7, 3)},
    "checksums of an odd number of bytes": {"fletcher32": True, "dtype": "i1", "chunks": (5, 3)},
    "behind something else": {"userblock": 1024, "compression": "gzip"},
}


@pytest.mark.parametrize("options", STORED.values(), ids=STORED)
def test_numbers_are_those_of_h5py(tmp_path, options):
    path = tmp_path / "a.h5"
    numbers = written(path, **options)
    (name, array), *others = arrays_of(path).items()
    assert name == "group/a"
    assert others == []
    assert (array.shape, array.dtype) == (numbers.shape, numbers.dtype)
    assert array.read().tobytes() == numbers.tobytes()


@pytest.mark.parametrize("n_names", [1, 9, 300, 3000])
def test_groups_of_any_number_of_names(tmp_path, n_names):
    names = [f"{'a' * (number % 40)}{number}" for number in range(n_names)]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in names:
            file[f"a/{name}"] = np.float32(len(name))
            file[f"a/{name}"].attrs["x"] = 1
    arrays = arrays_of(tmp_path / "a.h5")
    assert sorted(arrays) == sorted(f"a/{name}" for name in names)
    assert all(arrays[f"a/{name}"].read() == len(name) for name in names)


def test_only_names_that_are_wanted_are_looked_at(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["CNN/a"], file["other/a"] = np.zeros((2, 3)), ["text"]
    content = memoryview((tmp_path / "a.h5").read_bytes())
    assert [name for name, _ in stored_arrays(content, ("CNN", "RNN"))] == ["CNN/a"]


def test_two_names_of_one_group_and_of_one_array(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/x"] = np.zeros(3)
        file["a/y"], file["b"], file["a/a"] = file["a/x"], file["a"], file["a"]
    assert list(arrays_of(tmp_path / "a.h5")) == ["a/x", "a/y"]


NOT_READ = {
    "a newer format": ({"libver": "latest"}, "newer or unusual HDF5 format: 'h5repack"),
    "another filter": ({"compression": "lzf", "dtype": "i8"}, r"a filter that cannot be undone \(number 32000\)"),
    "a filter that loses something": ({"scaleoffset": 2}, r"a filter that cannot be undone \(number 6\)"),
    "text": ({"shape": (3,), "dtype": "S4"}, "in a way that cannot be read"),
    "compressed to next to nothing": (
        {"shape": (3,), "maxshape": (None,), "chunks": (1 << 20,), "compression": "gzip"},
        "in a way that cannot be read",
    ),
}


@pytest.mark.parametrize(("options", "message"), NOT_READ.values(), ids=NOT_READ)
def test_what_is_not_read_is_said(tmp_path, options, message):
    written(tmp_path / "a.h5", **options)
    with pytest.raises(Hdf5Error, match=message):
        arrays_of(tmp_path / "a.h5")["group/a"].read()


def test_a_group_of_a_newer_format_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("a", track_order=True)["x"] = np.zeros(3)
    with pytest.raises(Hdf5Error, match="newer HDF5 format: 'h5repack"):
        arrays_of(tmp_path / "a.h5")


def test_chunks_that_were_never_written_are_said(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", (100, 100), np.float32, chunks=(10, 10))[:50] = 1
    with pytest.raises(Hdf5Error, match="not in the file"):
        arrays_of(tmp_path / "a.h5")["a"].read()


@pytest.mark.parametrize("options", [{"fletcher32": True, "chunks": (37, 21)}, {"compression": "gzip"}])
def test_a_damaged_chunk_is_found(tmp_path, options):
    numbers = written(tmp_path / "a.h5", **options)
    whole = (tmp_path / "a.h5").read_bytes()
    at = whole.find(numbers.tobytes()) if "fletcher32" in options else whole.find(b"\x78\x5e")
    assert at > 0
    damaged = bytearray(whole)
    damaged[at + 100] ^= 1
    array = dict(stored_arrays(memoryview(damaged), ("",)))["group/a"]
    with pytest.raises(Hdf5Error, match="damaged"):
        array.read()


def test_no_address_makes_a_ring(tmp_path):
    """Each address in the file leads to each structure once; HDF5's own library never comes back from some of these."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in "abc":
            file[f"{name}/deep/x"] = np.arange(6, dtype=np.float32)
        file.create_dataset("chunks", data=np.arange(40, dtype=np.float32), chunks=(5,), compression="gzip")
    whole = (tmp_path / "a.h5").read_bytes()
    starts = [at for at in range(0, len(whole), 8) if whole[at : at + 4] in (b"TREE", b"HEAP", b"SNOD")]
    words = {at: struct.unpack_from("<Q", whole, at)[0] for at in range(0, len(whole) - 7, 8)}
    targets = sorted({*starts, *(word for word in words.values() if 96 <= word < len(whole) and word % 8 == 0)})
    places = [at for at, word in words.items() if word in targets or any(0 < at - start <= 24 for start in starts)]
    assert len(starts) == 22
    ends = {"read": 0, "refused": 0}
    for place in places:
        for target in targets:
            changed = bytearray(whole)
            struct.pack_into("<Q", changed, place, target)
            try:
                for array in dict(stored_arrays(memoryview(changed), ("",))).values():
                    array.read()
                ends["read"] += 1
            except Hdf5Error:
                ends["refused"] += 1
    assert ends["refused"] > 1000 < ends["read"]


def test_entries_that_are_read_over_and_over_end_it(tmp_path):
    """A tree whose every child is the same node of 60,000 names: 3.6 billion names in four megabytes."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.zeros(3)
    content = bytearray((tmp_path / "a.h5").read_bytes())
    tree, n = content.find(b"TREE"), 60_000
    node = content.find(b"SNOD")
    entry = content[node + 8 : node + 48]
    new_tree, new_node = len(content), len(content) + 24 + 16 * n
    head = b"TREE" + struct.pack("<BBH", 0, 0, n) + b"\xff" * 16
    content += head + struct.pack("<QQ", 0, new_node) * n
    content += b"SNOD" + struct.pack("<BBH", 1, 0, n) + entry * n
    for at in range(len(content[:new_tree]) - 7):
        if content[at : at + 8] == struct.pack("<Q", tree):
            struct.pack_into("<Q", content, at, new_tree)
    with pytest.raises(Hdf5Error, match="lie upon one another"):
        for _ in stored_arrays(memoryview(content), ("b",)):
            pass
