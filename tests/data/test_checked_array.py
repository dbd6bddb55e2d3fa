import errno
import os

import numpy as np
import pytest

from elmolite.data import checked_array
from elmolite.data.checked_array import CheckedArray
from elmolite.errors import InputError

BLOCK = 512


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(checked_array, "BLOCK_BYTES", BLOCK)


def saved(path, array):
    np.save(path, array)
    return checked_array.fingerprint(path)


def opened(path, mark, *, n_dims=1):
    return CheckedArray(path, mark, kinds="iu", n_dims=n_dims)


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 16
    with path.open("r+b") as file:  # the file that is mapped, not one in its place
        file.write(content)


@pytest.fixture
def numbers(tmp_path):
    """Ascending numbers over 20 blocks, some of them equal."""
    array = np.sort(np.random.default_rng(0).integers(0, 1000, 1200)) * 2
    return tmp_path / "a.npy", array, saved(tmp_path / "a.npy", array)


INDICES = {
    "a number": 700,
    "the last": -1,
    "a slice": slice(100, 800),
    "every third, backwards": slice(800, 100, -3),
    "an empty slice": slice(5, 5),
    "all": slice(None),
    "numbers": np.array([[3, 900], [-1200, -7]]),
    "a mask": np.arange(1200) % 7 == 3,
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_reads_as_the_array_does(numbers, index):
    path, array, mark = numbers
    read = opened(path, mark)
    np.testing.assert_array_equal(read[index], array[index])
    np.testing.assert_array_equal(np.asarray(read), array)
    np.testing.assert_array_equal(read[index], array[index])  # when there is nothing left to check
    assert (len(read), read.shape, list(read)) == (1200, (1200,), array.tolist())
    assert not np.shares_memory(np.array(read), np.asarray(read))


@pytest.mark.parametrize("row_size", [1, 3, 50])
def test_rows_that_lie_across_two_blocks_are_checked_in_both(tmp_path, row_size):
    array = np.arange(400 * row_size, dtype=np.int16).reshape(400, row_size)
    path = tmp_path / "a.npy"
    mark = saved(path, array)
    begin = 128
    for row in range(400):
        first, last = begin + row * row_size * 2, begin + (row + 1) * row_size * 2 - 1
        if first // BLOCK != last // BLOCK and first // BLOCK > 0:
            break
    else:
        row, first, last = 399, begin + 399 * row_size * 2, begin + 400 * row_size * 2 - 1
    for at in (first, last):
        content = path.read_bytes()
        flip(path, at)
        read = opened(path, mark, n_dims=2)
        np.testing.assert_array_equal(read[0], array[0])
        for index in (row, slice(row, row + 1), np.array([row])):
            with pytest.raises(InputError, match=r"a\.npy is damaged between bytes"):
                read[index]
        path.write_bytes(content)


@pytest.mark.parametrize("index", [700, slice(699, 701), np.array([[700]]), np.arange(1200) == 700])
def test_damage_is_found_when_it_is_touched_and_no_earlier(numbers, index):
    path, array, mark = numbers
    flip(path, 128 + 8 * 700)
    read = opened(path, mark)
    np.testing.assert_array_equal(read[:600], array[:600])
    with pytest.raises(InputError, match=r"a\.npy is damaged between bytes 5,632 and 6,144"):
        read[index]
    with pytest.raises(InputError, match="is damaged"):
        np.asarray(read)
    np.testing.assert_array_equal(read[800:], array[800:])


def test_damage_after_the_opening_is_found(numbers):
    path, _, mark = numbers
    read = opened(path, mark)
    flip(path, 128 + 8 * 700)
    with pytest.raises(InputError, match="is damaged"):
        read[700]


def test_a_file_that_has_been_cut_short_since_is_an_error_and_no_signal(numbers):
    path, _, mark = numbers
    read = opened(path, mark)
    os.truncate(path, 3000)
    with pytest.raises(InputError, match=r"a\.npy is damaged between bytes 5,632 and 6,144"):
        read[700]


def test_a_file_that_another_has_replaced_is_still_read(tmp_path, numbers):
    path, array, mark = numbers
    read = opened(path, mark)
    np.save(tmp_path / "b.npy", array + 1)
    (tmp_path / "b.npy").replace(path)
    np.testing.assert_array_equal(read[:], array)


def test_what_the_disk_cannot_read_is_said(numbers, monkeypatch):
    path, _, mark = numbers
    read = opened(path, mark)

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checked_array, "_read_at", fail)
    with pytest.raises(InputError, match=r"a\.npy: cannot be read from byte 5,632 on: Input/output error"):
        read[700]


@pytest.mark.parametrize("side", ["left", "right"])
def test_searches_as_numpy_does_and_reads_little(numbers, monkeypatch, side):
    path, array, mark = numbers
    checked = []
    check = CheckedArray._check
    monkeypatch.setattr(CheckedArray, "_check", lambda self, blocks: checked.extend(blocks) or check(self, blocks))
    for values in (np.arange(-3, 2010).reshape(3, -1), array[0], array[-1] + 1, 777):
        np.testing.assert_array_equal(
            opened(path, mark).searchsorted(values, side=side), array.searchsorted(values, side=side)
        )
    checked.clear()
    read = opened(path, mark)
    assert read.searchsorted(array[600], side=side) == array.searchsorted(array[600], side=side)
    assert len(checked) <= 3  # of 20


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("at", [599, 600, 900, 1050])
def test_a_search_is_not_led_astray_by_damage(numbers, side, at):
    """The first numbers that a search compares with are those in the middle."""
    path, array, mark = numbers
    content = bytearray(path.read_bytes())
    content[128 + 8 * at : 136 + 8 * at] = np.int64(-(10**6)).tobytes()
    path.write_bytes(content)
    values = np.arange(0, 2000)
    n_found = 0
    for value in values:
        read = opened(path, mark)
        try:
            place = read.searchsorted(value, side=side)
        except InputError:
            n_found += 1
        else:
            assert place == array.searchsorted(value, side=side)
    assert n_found > 0


def test_an_empty_array(tmp_path):
    read = opened(tmp_path / "a.npy", saved(tmp_path / "a.npy", np.zeros(0, np.int64)))
    assert len(read) == len(read[:]) == 0
    assert read.searchsorted(3) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda mark: mark.pop("crc32_of_blocks"), r"a\.npy: its manifest must give crc32_of_blocks"),
        (lambda mark: mark.update(crc32_of_blocks="xyz"), r"a\.npy: its manifest must give crc32_of_blocks"),
        (lambda mark: mark.update(crc32_of_blocks="00" * 4), r"must have 19 checksums for \d+ bytes"),
        (lambda mark: mark.update(bytes=0, crc32_of_blocks=""), r"must have 0 checksums for 0 bytes"),
    ],
)
def test_a_mark_that_is_none_is_refused(numbers, change, message):
    path, _, mark = numbers
    change(mark)
    with pytest.raises(InputError, match=message):
        opened(path, mark)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b"no array at all"),
        lambda path: np.save(path, np.int64(3)),
        lambda path: np.save(path, np.ones((3, 4), np.int64)),
        lambda path: np.save(path, np.ones(3)),
        lambda path: np.save(path, np.array([None])),
        lambda path: np.save(path, np.arange(9)) or path.write_bytes(path.read_bytes() + b"\0"),
    ],
)
def test_what_is_no_array_of_rows_is_refused(tmp_path, write):
    path = tmp_path / "a.npy"
    write(path)
    mark = checked_array.fingerprint(path)
    with pytest.raises(InputError, match=r"a\.npy: (not an array|holds .*; expected 1 dim|73 bytes of numbers)"):
        opened(path, mark)
    path.unlink()
    with pytest.raises(InputError, match=r"a\.npy: cannot be read: No such file"):
        opened(path, mark)


def test_a_system_that_cannot_read_at_a_place_seeks_it(numbers, monkeypatch):
    path, array, mark = numbers
    monkeypatch.delattr("os.pread")
    np.testing.assert_array_equal(opened(path, mark)[:], array)


def test_a_file_that_cannot_be_mapped_is_named(numbers, monkeypatch):
    path, _, mark = numbers

    def fail(*_):
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(np, "memmap", fail)
    with pytest.raises(InputError, match=r"a\.npy: cannot be mapped: .*No such device"):
        opened(path, mark)
