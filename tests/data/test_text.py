import gzip
import io
import os
from threading import Thread
from types import SimpleNamespace

import pytest

from elmolite.data.text import MAX_DOCUMENT_LINES, Progress, find_files, read_documents
from elmolite.errors import InputError


def documents(*paths):
    return list(read_documents(find_files([str(path) for path in paths])))


def test_documents_are_blocks_between_blank_lines(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n\n  \nthree\n")
    assert documents(path) == [["one", "two"], ["three"]]


def test_runs_of_a_thousand_lines_where_there_are_no_blank_lines(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(f"line {i}" for i in range(2 * MAX_DOCUMENT_LINES + 1)))
    assert [len(document) for document in documents(path)] == [1000, 1000, 1]


def test_a_file_end_is_a_document_end(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    assert documents(tmp_path / "a", tmp_path / "b") == [["a"], ["b"]]


def test_compressed_files_byte_order_marks_and_windows_line_ends(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress("\ufeffeins\r\nzwei\r\n".encode()))
    assert documents(path) == [["eins", "zwei"]]


def test_folders_globs_and_order(tmp_path):
    for name in ("b.txt", "a.txt", ".hidden", "sub/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert documents(tmp_path) == [["a.txt"], ["b.txt"], ["sub/c.txt"]]
    assert documents(tmp_path / "*.txt") == [["a.txt"], ["b.txt"]]


def test_standard_input_stays_open(monkeypatch):
    source = io.BytesIO(b"from a pipe\n")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=source))
    assert documents("-") == [["from a pipe"]]
    assert not source.closed


def test_pipes(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = Thread(target=path.write_text, args=("through a pipe\n",))
    writer.start()
    assert list(read_documents(find_files([str(path)]), Progress())) == [["through a pipe"]]
    writer.join()


def test_progress_counts_the_bytes_on_disk(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("words\n" * 5000)
    progress = Progress()
    list(read_documents(find_files([str(path)]), progress))
    assert progress.n_read == progress.n_total == path.stat().st_size


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n \n", "empty"),
        (b"good\nbad \xff here\n", "line 2: not UTF-8 .byte 0xff at column 5"),
        (b"good\ngood\n\0\1\2", "line 3: contains a NUL byte"),
        ("text".encode("utf-16"), "line 1: expected UTF-8 text, but the file is UTF-16"),
        ("text".encode("utf-16-be"), "line 1: contains a NUL byte"),
    ],
)
def test_bad_files_are_named_with_the_line(tmp_path, content, message):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"bad\.txt.*{message}"):
        documents(path)


def test_broken_compression_is_named(tmp_path):
    path = tmp_path / "bad.gz"
    path.write_bytes(gzip.compress(b"some text\n" * 1000)[:-20])
    with pytest.raises(InputError, match=r"bad\.gz: broken gzip file after line"):
        documents(path)
    path.write_bytes(b"not compressed at all")
    with pytest.raises(InputError, match=r"bad\.gz: broken gzip"):
        documents(path)


@pytest.mark.parametrize("source", ["nowhere.txt", "*.nothing", "empty_folder", "x" * 5000])
def test_missing_sources_are_named(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty_folder").mkdir()
    with pytest.raises(InputError, match=source.replace("*", r"\*")):
        find_files([source])
