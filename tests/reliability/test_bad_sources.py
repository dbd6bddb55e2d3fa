"""Missing, linked, repeated and unreadable sources of ``prepare``: named in one message, or each file read once."""

import gzip
import os

import pytest

from elmolite.cli.main import main
from elmolite.data.corpus import Corpus

SENTENCE = "Every word of this text is in it twice . " * 2 + "\n"


def write(path, content=SENTENCE):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


REFUSED = {
    "empty folder": (["empty"], "empty: the folder contains no files"),
    "hidden files": (["hidden"], "hidden: the folder contains no files"),
    "missing": (["nowhere.txt"], "nowhere.txt: no such file, folder or pattern"),
    "pattern without match": (["*.md"], "*.md: no such file, folder or pattern"),
    "dangling link": (["dangling/link.txt"], "dangling/link.txt: cannot be read: No such file"),
    "dangling link in a folder": (["dangling"], "dangling/link.txt: cannot be read: No such file"),
    "folder linked into itself": (["loop"], "again: cannot be read: Too many levels of symbolic links"),
    "second file empty": (["a.txt", "empty.txt"], "empty.txt: the file is empty (no line with text)"),
    "image in a folder": (["image"], "image/b.png, line 1: not UTF-8 (byte 0x89"),
    "standard input twice": (["-", "-"], "standard input (-) can be read only once"),
    "name too long": (["x" * 5000], "cannot be read: File name too long"),
}
READ = {
    "nested folders": (["nested"], 2),
    "linked folder": (["linked"], 1),
    "pattern of a folder": (["nested/*"], 2),
    "recursive pattern": (["nested/**"], 2),
    "byte order mark in the second file": (["a.txt", "mark.txt"], 2),
    "name that is a pattern": (["[a]*.txt"], 1),
    "name with white space": (["my text\n.txt"], 1),
    "name that is not UTF-8": ([os.fsdecode(b"caf\xe9.txt")], 1),
    "no line end between files": (["no-end.txt", "no-end.txt"], 2),
}


@pytest.fixture(autouse=True)
def sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("a.txt", "hidden/.git/a.txt", "hidden/.a.txt", "nested/a.txt", "there/a.txt", "loop/a.txt"):
        write(tmp_path / name)
    for name in ("image/a.txt", "[a]*.txt", "my text\n.txt", os.fsdecode(b"caf\xe9.txt")):
        write(tmp_path / name)
    write(tmp_path / "image" / "b.png", b"\x89PNG\r\n\x1a\n\0")
    write(tmp_path / "nested" / "deep" / "er" / "b.txt.gz", gzip.compress(SENTENCE.encode()))
    write(tmp_path / "empty.txt", "")
    write(tmp_path / "mark.txt", "\ufeff" + SENTENCE)
    write(tmp_path / "no-end.txt", SENTENCE.rstrip())
    link(tmp_path / "dangling" / "link.txt", "gone.txt")
    link(tmp_path / "linked" / "link", tmp_path / "there")
    link(tmp_path / "loop" / "again", tmp_path / "loop")


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_sources_are_refused(tmp_path, capsys, name):
    arguments, message = REFUSED[name]
    assert main(["prepare", *arguments, "--out", "corpus"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("elmolite: ")
    assert said.count("\n") == 1
    assert message in said
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize("name", READ)
def test_every_file_is_read_once(capsys, name):
    arguments, n_lines = READ[name]
    assert main(["prepare", *arguments, "--pretokenized", "--out", "corpus"]) == 0
    assert f"read {n_lines} lines (0 blank)" in capsys.readouterr().err
    corpus = Corpus.open("corpus")
    assert corpus.train.n_tokens + corpus.valid.n_tokens == n_lines * len(SENTENCE.split())


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may read everything")
@pytest.mark.parametrize("name", ["nested/a.txt", "nested"])
def test_unreadable_sources_are_refused(tmp_path, capsys, name):
    (tmp_path / name).chmod(0)
    assert main(["prepare", "nested", "--out", "corpus"]) == 2
    (tmp_path / name).chmod(0o700)
    assert f"elmolite: {name}: cannot be read: Permission denied" in capsys.readouterr().err


VALID = {
    "empty": ("\n \n", "valid.txt: the file is empty"),
    "missing": (None, "valid.txt: no such file"),
    "in latin-1": (b"caf\xe9\n", "valid.txt, line 1: not UTF-8"),
}


@pytest.mark.parametrize("name", VALID)
def test_invalid_validation_text_is_refused(tmp_path, capsys, name):
    content, message = VALID[name]
    if content is not None:
        write(tmp_path / "valid.txt", content)
    assert main(["prepare", "a.txt", "--valid", "valid.txt", "--out", "corpus"]) == 2
    assert message in capsys.readouterr().err


def test_validation_text_that_is_also_training_text_is_reported(capsys, caplog):
    assert main(["prepare", "nested", "--valid", "nested/a.txt", "--out", "corpus"]) == 0
    assert "nested/a.txt" in capsys.readouterr().err + caplog.text
