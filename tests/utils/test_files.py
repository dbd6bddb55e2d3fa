import errno
import json
import os
import time

import pytest

from elmolite.errors import InputError
from elmolite.utils import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def aged(path, seconds):
    long_ago = time.time() - seconds
    for each in (*(path.iterdir() if path.is_dir() else ()), path):
        os.utime(each, (long_ago, long_ago))
    return path


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "a"
    files.write_bytes(path, b"old")
    with pytest.raises(RuntimeError, match="half-way"), files.writing(path) as file:
        file.write(b"new, but")
        raise RuntimeError("half-way")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_full_disk_is_one_message_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=r"a: cannot be written: No space left on device"):
        files.write_bytes(tmp_path / "a", b"new")
    assert names(tmp_path) == []


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_a_killed_process_left_goes_with_the_next_write_but_not_what_is_being_written(tmp_path, is_folder):
    left, at_work = files.partial_path(tmp_path / "a"), files.partial_path(tmp_path / "b")
    for path in (left, at_work):
        if is_folder:
            path.mkdir()
            (path / "content").write_bytes(b"half")
        else:
            path.write_bytes(b"half")
        aged(path, 2 * files.STALE_AFTER)
    just_made = files.partial_path(tmp_path / "c")
    just_made.touch()
    (tmp_path / ".letter.partial").touch()
    aged(tmp_path / ".letter.partial", 2 * files.STALE_AFTER)
    with files.locked(at_work):
        files.write_bytes(tmp_path / "d", b"")
        assert names(tmp_path) == sorted([at_work.name, just_made.name, ".letter.partial", "d"])
    files.write_bytes(tmp_path / "d", b"")
    assert names(tmp_path) == sorted([just_made.name, ".letter.partial", "d"])


def test_without_locks_only_what_has_long_not_changed_counts_as_left_over(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", full)
    for age in (0.5, 2):
        partial = files.partial_path(tmp_path / str(age))
        partial.touch()
        aged(partial, age * files.STALE_AFTER)
    with files.locked(partial):
        files.remove_stale(tmp_path)
    assert [name.split(".partial")[0].rpartition(".")[0] for name in names(tmp_path)] == [".0.5"]


def test_a_left_over_that_another_process_has_just_removed_is_no_error(tmp_path, monkeypatch):
    def gone(*_):
        raise FileNotFoundError

    files.partial_path(tmp_path / "a").touch()
    monkeypatch.setattr("os.open", gone)
    files.remove_stale(tmp_path)
    assert len(names(tmp_path)) == 1


def test_a_system_that_does_not_open_folders_syncs_files_alone(tmp_path, monkeypatch):
    def only_files(path, flags, open_=os.open):
        if os.path.isdir(path):  # noqa: PTH112
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_(path, flags)

    monkeypatch.setattr("os.open", only_files)
    files.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def read_manifest(path):
    return files.read_manifest(path, kind="thing", version=1)


def test_a_manifest_is_json_and_every_change_is_found(tmp_path):
    path = tmp_path / "m.json"
    content = {"format_version": 1, "name": "é", "nested": {"sha256": "x"}}
    files.write_manifest(path, content)
    assert read_manifest(path) == content
    assert list(json.loads(path.read_text(encoding="utf-8"))) == [*content, "sha256"]
    written = path.read_bytes()
    for at in range(len(written)):
        for bit in range(8):
            path.write_bytes(written[:at] + bytes([written[at] ^ 1 << bit]) + written[at + 1 :])
            with pytest.raises(InputError, match=r"m\.json"):
                read_manifest(path)
        path.write_bytes(written[:at])
        with pytest.raises(InputError, match=r"m\.json"):
            read_manifest(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format_version": 2}, r"m\.json: format_version 2; this version of elmolite reads 1"),
        ({}, r"format_version None"),
        ({"format_version": 1}, r"m\.json is damaged or was changed"),
    ],
)
def test_a_manifest_of_another_version_or_without_its_checksum_is_refused(tmp_path, content, message):
    (tmp_path / "m.json").write_bytes(files.json_bytes(content))
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path / "m.json")


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_json_that_is_none(tmp_path, content):
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(InputError, match=r"c\.json"):
        files.read_json(tmp_path / "c.json", kind="corpus")
