import os
import shutil
import time
from pathlib import Path

import pytest

from elmolite.errors import InputError
from elmolite.tasks import cache_folder
from elmolite.tasks.cache_folder import MANIFEST, CacheFolder, default_folder, in_units
from elmolite.utils import files

MIB = 2**20


@pytest.fixture
def cache(tmp_path):
    return CacheFolder(tmp_path / "cache", limit_bytes=3 * MIB + 4096)


def write(cache, key, content=b"1" * MIB):
    with cache.writing(key, {"note": "for a reader"}) as new:
        (new / "data").write_bytes(content)


def names(cache):
    return sorted(path.name for path in cache.folder.iterdir())


def used_in_order(cache, *keys):
    for number, key in enumerate(keys):
        os.utime(cache.path(key) / MANIFEST, (number, number))


def test_an_entry_is_there_when_it_is_whole(cache):
    assert not cache.has("a")
    with pytest.raises(KeyboardInterrupt), cache.writing("a", {}) as new:
        (new / "data").write_bytes(b"half")
        raise KeyboardInterrupt
    assert not cache.has("a")
    assert names(cache) == []
    write(cache, "a")
    assert cache.has("a")
    assert names(cache) == ["layers-a"]


def test_what_two_processes_write_is_there_once(cache):
    with cache.writing("a", {}) as new:
        (new / "data").write_bytes(b"slow")
        write(cache, "a", b"quick")
    assert cache.has("a")
    assert (cache.path("a") / "data").read_bytes() == b"quick"
    assert names(cache) == ["layers-a"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "data").write_bytes(b"2" * MIB), "data is damaged"),
        (lambda path: (path / "data").write_bytes(b"1"), "data has 1 bytes, expected 1048576"),
        (lambda path: (path / "data").unlink(), "data is missing"),
        (lambda path: (path / MANIFEST).unlink(), "entry.json is missing"),
        (lambda path: (path / MANIFEST).write_bytes(b"{"), "not a readable JSON"),
    ],
)
def test_a_damaged_entry_is_removed_with_a_message(cache, capsys, damage, message):
    write(cache, "a")
    damage(cache.path("a"))
    assert not cache.has("a")
    said = capsys.readouterr().err
    assert message in said
    assert "it is computed again" in said
    assert names(cache) == []


def test_what_was_not_used_for_longest_goes_first(cache):
    for key in "abc":
        write(cache, key)
    used_in_order(cache, "b", "a", "c")
    cache.make_room(MIB, what="d", keep=())
    assert names(cache) == ["layers-a", "layers-c"]
    assert cache.has("a")  # which is a use
    cache.make_room(2 * MIB, what="d", keep=())
    assert names(cache) == ["layers-a"]


def test_what_is_in_use_stays(cache):
    for key in "abc":
        write(cache, key)
    used_in_order(cache, "a", "b", "c")
    cache.make_room(2 * MIB, what="d", keep={cache.path("a")})
    assert names(cache) == ["layers-a"]
    with pytest.raises(InputError, match=r"d: 2\.5 MiB do not fit in .* beside what this run uses"):
        cache.make_room(5 * MIB // 2, what="d", keep={cache.path("a")})
    assert names(cache) == ["layers-a"]


def test_too_much_is_refused_before_anything_is_removed(cache):
    write(cache, "a")
    with pytest.raises(InputError, match=r"d: 4\.0 MiB are more than the 3\.0 MiB that .* \(--cache-limit\)"):
        cache.make_room(4 * MIB, what="d", keep=())
    assert names(cache) == ["layers-a"]


def test_a_full_disk_is_found_before_it_is_full(cache, monkeypatch):
    write(cache, "a")
    usage = type("Usage", (), {"free": MIB // 2})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    cache.limit_bytes = None
    with pytest.raises(InputError, match=r"d: 2\.0 MiB do not fit in .*cache, whose disk has 512\.0 KiB free"):
        cache.make_room(2 * MIB, what="d", keep=())
    cache.make_room(MIB, what="d", keep=())
    assert names(cache) == []


def test_what_killed_processes_left_goes_but_not_what_another_one_is_writing(cache):
    write(cache, "a")
    left_over, at_work = (files.partial_path(cache.path(name)) for name in ("old", "new"))
    long_ago = time.time() - 2 * files.STALE_AFTER
    for folder in (left_over, at_work):
        folder.mkdir()
        (folder / "data").write_bytes(b"half")
        for path in (folder / "data", folder):
            os.utime(path, (long_ago, long_ago))
    with files.locked(at_work):
        cache.remove_left_over()
    assert names(cache) == [at_work.name, "layers-a"]


def test_other_things_in_the_folder_are_let_alone(cache):
    write(cache, "a")
    (cache.folder / "notes").mkdir()
    (cache.folder / "layers-mine").mkdir()
    (cache.folder / "layers-mine" / "thesis.txt").write_bytes(b"2" * MIB)
    cache.make_room(3 * MIB, what="d", keep=())
    assert names(cache) == ["layers-mine", "notes"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "cache").write_bytes(b"a file")
    cache = CacheFolder(tmp_path / "cache", limit_bytes=None)
    cache.make_room(1, what="d", keep=())
    with pytest.raises(InputError, match="cannot be written"):
        write(cache, "a")


def test_the_folder_of_the_platform(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_folder() == Path("/caches/elmolite")
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert default_folder() == Path("/home/me/.cache/elmolite")


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(512, "0.5 KiB"), (599 * MIB, "599 MiB"), (8 * 2**30, "8.0 GiB"), (MIB + MIB // 2, "1.5 MiB")]
)
def test_sizes_for_a_person(n_bytes, text):
    assert in_units(n_bytes) == text


def test_nothing_is_taken_for_whole_that_another_version_wrote(cache, monkeypatch, capsys):
    write(cache, "a")
    monkeypatch.setattr(cache_folder, "FORMAT_VERSION", 3)
    assert not cache.has("a")
    assert "format_version 2" in capsys.readouterr().err
