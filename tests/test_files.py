import errno

import pytest

from elmolite import files
from elmolite.errors import InputError


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "a"
    files.write_bytes(path, b"old")
    with pytest.raises(RuntimeError, match="half-way"), files.writing(path) as file:
        file.write(b"new, but")
        raise RuntimeError("half-way")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_is_one_message_and_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=r"a: cannot be written: No space left on device"):
        files.write_bytes(tmp_path / "a", b"new")
    with pytest.raises(InputError, match="No space left"), files.writing_folder(tmp_path / "f", overwrite=False) as f:
        (f / "x").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_only_when_it_is_whole(tmp_path):
    folder = tmp_path / "f"
    with files.writing_folder(folder, overwrite=False) as new:
        (new / "x").write_bytes(b"1")
    with pytest.raises(RuntimeError), files.writing_folder(folder, overwrite=True) as new:
        (new / "y").write_bytes(b"2")
        raise RuntimeError
    assert [p.name for p in folder.iterdir()] == ["x"]
    with files.writing_folder(folder, overwrite=True) as new:
        (new / "y").write_bytes(b"2")
    assert [p.name for p in folder.iterdir()] == ["y"]
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_an_existing_folder_is_not_replaced_unasked(tmp_path):
    with pytest.raises(InputError, match="--overwrite"), files.writing_folder(tmp_path, overwrite=False):
        pass


def test_a_manifest_finds_what_is_missing_cut_or_changed(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    manifest = {"a": files.fingerprint(tmp_path / "a")}
    files.check_manifest(tmp_path, manifest, read_all=True)
    (tmp_path / "a").write_bytes(b"cOntent")
    files.check_manifest(tmp_path, manifest, read_all=False)
    with pytest.raises(InputError, match=r"a is damaged"):
        files.check_manifest(tmp_path, manifest, read_all=True)
    (tmp_path / "a").write_bytes(b"cont")
    with pytest.raises(InputError, match=r"a has 4 bytes where 7"):
        files.check_manifest(tmp_path, manifest, read_all=False)
    (tmp_path / "a").unlink()
    with pytest.raises(InputError, match=r"a is missing"):
        files.check_manifest(tmp_path, manifest, read_all=False)


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_json_that_is_none(tmp_path, content):
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(InputError, match=r"c\.json"):
        files.read_json(tmp_path / "c.json", kind="corpus")
