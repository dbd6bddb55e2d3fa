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
    with pytest.raises(InputError, match="No space left"), writing(tmp_path / "f") as f:
        (f / "x").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def writing(folder, *, overwrite=False):
    return files.writing_folder(folder, manifest="m.json", overwrite=overwrite)


def fill(folder, name):
    (folder / name).write_bytes(b"1")
    files.write_bytes(folder / "m.json", files.json_bytes({"files": {name: {}}}))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_only_when_it_is_whole(tmp_path):
    folder = tmp_path / "f"
    with writing(folder) as new:
        fill(new, "x")
    with pytest.raises(RuntimeError), writing(folder, overwrite=True) as new:
        fill(new, "y")
        raise RuntimeError
    assert names(folder) == ["m.json", "x"]
    with writing(folder, overwrite=True) as new:
        fill(new, "y")
    assert names(folder) == ["m.json", "y"]
    assert names(tmp_path) == ["f"]


def test_only_a_folder_of_the_same_kind_is_replaced_and_only_if_asked(tmp_path):
    folder = tmp_path / "f"
    with writing(folder) as new:
        fill(new, "x")
    with pytest.raises(InputError, match="--overwrite"), writing(folder):
        pass
    (folder / "precious").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds other things .precious."), writing(folder, overwrite=True):
        pass
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "notes.txt").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds other things"), writing(tmp_path / "g", overwrite=True):
        pass
    with pytest.raises(InputError, match="is a file"), writing(folder / "x", overwrite=True):
        pass
    assert names(folder) == ["m.json", "precious", "x"]


@pytest.mark.parametrize("new_one_stands", [False, True])
def test_a_kill_while_a_folder_is_replaced_is_mended(tmp_path, new_one_stands):
    folder, old = tmp_path / "f", tmp_path / ".f.old"
    with writing(folder) as new:
        fill(new, "x")
    folder.replace(old)
    if new_one_stands:
        with writing(tmp_path / "other") as new:
            fill(new, "y")
        (tmp_path / "other").replace(folder)
    with pytest.raises(RuntimeError), writing(folder, overwrite=True):
        raise RuntimeError
    assert names(folder) == ["m.json", "y" if new_one_stands else "x"]
    with writing(folder, overwrite=True) as new:
        fill(new, "z")
    assert names(tmp_path) == ["f"]


def test_a_shared_folder_is_there_when_it_is_whole_and_the_first_one_stands(tmp_path):
    folder = tmp_path / "f"
    with pytest.raises(RuntimeError), files.writing_shared_folder(folder) as new:
        fill(new, "x")
        raise RuntimeError
    assert names(tmp_path) == []
    with files.writing_shared_folder(folder) as slow:
        fill(slow, "slow")
        with files.writing_shared_folder(folder) as quick:
            fill(quick, "quick")
    assert names(folder) == ["m.json", "quick"]
    assert files.remove_shared_folder(folder)
    assert files.remove_shared_folder(folder)
    assert names(tmp_path) == []


def open_folder(folder):
    return files.open_folder(folder, "m.json", kind="thing", version=1)


def test_what_is_missing_cut_or_changed_is_found(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    manifest = {"format_version": 1, "files": {"a": files.fingerprint(tmp_path / "a")}}
    (tmp_path / "m.json").write_bytes(files.json_bytes(manifest))
    assert open_folder(tmp_path) == manifest
    (tmp_path / "a").write_bytes(b"cOntent")
    with pytest.raises(InputError, match=r"a is damaged"):
        open_folder(tmp_path)
    (tmp_path / "a").write_bytes(b"cont")
    with pytest.raises(InputError, match=r"a has 4 bytes where 7"):
        open_folder(tmp_path)
    (tmp_path / "a").unlink()
    with pytest.raises(InputError, match=r"a is missing"):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format_version": 2, "files": {}}, "format_version 2"),
        ({"format_version": 1, "files": []}, "'files' must name"),
        ({"format_version": 1, "files": {"../a": {}}}, "'files' must name"),
        ({"format_version": 1, "files": {"a": {"bytes": 1}}}, "bytes and sha256 of a"),
    ],
)
def test_manifests_that_cannot_be_read(tmp_path, content, message):
    (tmp_path / "m.json").write_bytes(files.json_bytes(content))
    with pytest.raises(InputError, match=message):
        open_folder(tmp_path)
    with pytest.raises(InputError, match="no such thing folder"):
        open_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_json_that_is_none(tmp_path, content):
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(InputError, match=r"c\.json"):
        files.read_json(tmp_path / "c.json", kind="corpus")
