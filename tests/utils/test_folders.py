import errno
import os
from pathlib import Path

import pytest

from elmolite.errors import InputError
from elmolite.utils import files, folders


def writing(folder, *, overwrite=False):
    return folders.writing_folder(folder, manifest="m.json", overwrite=overwrite)


def fill(folder, name):
    (folder / name).write_bytes(b"1")
    files.write_manifest(folder / "m.json", {"format_version": 1, "files": {name: files.file_entry(folder / name)}})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def open_folder(folder):
    return folders.open_folder(folder, "m.json", kind="thing", version=1)


def test_a_folder_appears_only_when_it_is_complete(tmp_path):
    folder = tmp_path / "f"
    with writing(folder) as new:
        fill(new, "x")
    with pytest.raises(RuntimeError), writing(folder, overwrite=True) as new:
        fill(new, "y")
        raise RuntimeError
    assert names(folder) == ["m.json", "x"]
    assert names(tmp_path) == ["f"]


def test_only_a_folder_of_the_same_kind_is_replaced_and_only_if_asked(tmp_path):
    for name in ("f", "g", "empty"):
        (tmp_path / name).mkdir()
    fill(tmp_path / "f", "x")
    (tmp_path / "f" / "precious").touch()
    (tmp_path / "g" / "notes.txt").touch()
    for name, overwrite, message in (
        ("f", False, "`overwrite=True`"),
        ("f", True, r"elmolite did not write .precious."),
        ("g", True, "elmolite did not write"),
        ("f/x", True, "is a file"),
    ):
        with pytest.raises(InputError, match=message), writing(tmp_path / name, overwrite=overwrite):
            pass
    assert names(tmp_path / "f") == ["m.json", "precious", "x"]
    with writing(tmp_path / "empty", overwrite=True) as new:
        fill(new, "x")
    assert names(tmp_path / "empty") == ["m.json", "x"]


@pytest.mark.parametrize("is_new_in_place", [False, True])
def test_an_interrupted_replacement_is_finished(tmp_path, is_new_in_place):
    folder, old = tmp_path / "f", tmp_path / ".f.old"
    with writing(folder) as new:
        fill(new, "x")
    folder.replace(old)
    if is_new_in_place:
        with writing(tmp_path / "other") as new:
            fill(new, "y")
        (tmp_path / "other").replace(folder)
    assert folders.resolve_committed(folder) == (folder if is_new_in_place else old)
    with pytest.raises(InputError, match="exists already"), writing(folder):
        pass
    with pytest.raises(RuntimeError), writing(folder, overwrite=True):
        raise RuntimeError
    assert names(folder) == ["m.json", "y" if is_new_in_place else "x"]
    with writing(folder, overwrite=True) as new:
        fill(new, "z")
    assert names(tmp_path) == ["f"]


def test_a_failed_replacement_leaves_the_old_folder(tmp_path, monkeypatch):
    folder = tmp_path / "f"
    with writing(folder) as new:
        fill(new, "x")

    def replace(source, target, replace=os.replace):
        if str(target) == str(folder) and str(source).endswith(".partial"):
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", replace)
        with (
            pytest.raises(InputError, match=rf"{folder}: cannot be written: Input/output"),
            writing(folder, overwrite=True) as new,
        ):
            fill(new, "y")
    assert names(folder) == ["m.json", "x"]
    assert names(tmp_path) == ["f"]


def test_two_writers_of_one_folder_do_not_mix(tmp_path):
    folder = tmp_path / "f"
    with writing(folder, overwrite=True) as slow:
        fill(slow, "slow")
        with writing(folder, overwrite=True) as quick:
            fill(quick, "quick")
        assert names(folder) == ["m.json", "quick"]
    assert names(folder) == ["m.json", "slow"]
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("file", "file is a file: choose another name for the folder"),
        ("file/new/out", "file is a file: choose another name for the folder"),
        ("locked/out", "locked/out: cannot be written: locked is not writable"),
        ("there", "there exists already: choose another folder, or pass `overwrite=True`"),
    ],
)
def test_an_unwritable_folder_is_found_before_the_work(tmp_path, monkeypatch, out, message):
    """The message has the path as it was given."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for name in ("locked", "there"):
        (tmp_path / name).mkdir()
    with writing(Path("new/folder")) as new:
        fill(new, "x")
    monkeypatch.setattr("os.access", lambda path, mode: path != Path("locked"))
    with pytest.raises(InputError) as error, writing(Path(out)):
        pass
    assert str(error.value) == message


def test_of_two_writers_of_a_shared_folder_the_first_wins(tmp_path):
    folder = tmp_path / "f"
    with pytest.raises(RuntimeError), folders.writing_shared_folder(folder) as new:
        fill(new, "x")
        raise RuntimeError
    assert names(tmp_path) == []
    with folders.writing_shared_folder(folder) as slow:
        fill(slow, "slow")
        with folders.writing_shared_folder(folder) as quick:
            fill(quick, "quick")
    assert names(folder) == ["m.json", "quick"]
    folders.remove_shared_folder(folder)
    folders.remove_shared_folder(folder)
    assert names(tmp_path) == []


def test_missing_truncated_and_damaged_files_are_found(tmp_path):
    with writing(tmp_path / "f") as new:
        fill(new, "a")
    path = tmp_path / "f" / "a"
    assert open_folder(path.parent)["files"].keys() == {"a"}
    path.write_bytes(b"2")
    with pytest.raises(InputError, match=r"a is damaged"):
        open_folder(path.parent)
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"a has 0 bytes, expected 1"):
        open_folder(path.parent)
    path.unlink()
    with pytest.raises(InputError, match=r"a is missing"):
        open_folder(path.parent)


@pytest.mark.parametrize("found", [[], {"../a": {}}])
def test_names_outside_of_the_folder_are_refused(tmp_path, found):
    files.write_manifest(tmp_path / "m.json", {"format_version": 1, "files": found})
    with pytest.raises(InputError, match="'files' must name"):
        open_folder(tmp_path)
    with pytest.raises(InputError, match="no such thing folder"):
        open_folder(tmp_path / "nowhere")
