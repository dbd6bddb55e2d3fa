import errno
import json
import os
import time

import numpy as np
import pytest

from elmolite.errors import InputError
from elmolite.utils import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_appears_only_when_it_is_complete(tmp_path, monkeypatch):
    path = tmp_path / "a"
    files.write_bytes(path, b"old")
    with pytest.raises(RuntimeError, match="half-way"), files.writing(path) as file:
        file.write(b"new, but")
        raise RuntimeError("half-way")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=r"a: cannot be written: No space left on device"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_partial_files_of_killed_processes_are_removed(tmp_path, is_folder):
    left, locked, just_made = (files.partial_path(tmp_path / name) for name in "abc")
    other = tmp_path / ".letter.partial"
    for path in (left, locked, just_made, other):
        if is_folder:
            path.mkdir()
            (path / "content").touch()
        else:
            path.touch()
        if path != just_made:
            os.utime(path, (time.time() - 2 * files.UNLOCKED_AFTER,) * 2)
    with files.locked(locked):
        files.write_bytes(tmp_path / "d", b"")
        assert names(tmp_path) == sorted([locked.name, just_made.name, other.name, "d"])
    files.write_bytes(tmp_path / "d", b"")
    assert names(tmp_path) == sorted([just_made.name, other.name, "d"])


def read_manifest(path):
    return files.read_manifest(path, kind="thing", version=1)


def test_a_manifest_is_json_and_every_change_is_found(tmp_path):
    path = tmp_path / "m.json"
    content = {"format_version": 1, "name": "é", "file": "\udcff", "nested": {"sha256": "x"}}
    files.write_manifest(path, content)
    assert read_manifest(path) == content
    assert list(json.loads(path.read_text(encoding="utf-8"))) == [*content, "sha256"]
    written = path.read_bytes()
    for at in range(len(written)):
        for changed in (written[:at], written[:at] + bytes([written[at] ^ 4]) + written[at + 1 :]):
            path.write_bytes(changed)
            with pytest.raises(InputError, match=r"m\.json"):
                read_manifest(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"format_version": 2}', r"m\.json: format_version 2; this version of elmolite reads 1"),
        (b"\xff", r"m\.json: not a readable JSON file"),
        (b"[1]", r"m\.json: expected a JSON object, found list"),
    ],
)
def test_invalid_manifests_are_refused(tmp_path, content, message):
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path / "m.json")


def test_damaged_arrays_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(6, dtype=np.int32).reshape(2, 3))
    assert files.map_array(path).tolist() == [[0, 1, 2], [3, 4, 5]]
    content = path.read_bytes()
    for changed in (content[:-1], content[:20], b""):
        path.write_bytes(changed)
        with pytest.raises(InputError, match=r"a\.npy: not a readable array"):
            files.map_array(path)
