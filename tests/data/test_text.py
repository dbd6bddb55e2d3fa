import gzip
import io
import os
from threading import Thread
from types import SimpleNamespace

from elmolite.data.text import MAX_DOCUMENT_LINES, Progress, find_files, read_documents


def documents(*paths):
    return list(read_documents(find_files([str(path) for path in paths])))


def test_documents_are_blocks_between_blank_lines_and_runs_of_a_thousand_lines(tmp_path):
    (tmp_path / "a").write_text("one\ntwo\n\n  \nthree\n")
    (tmp_path / "b").write_text("x\n" * (2 * MAX_DOCUMENT_LINES + 1))
    expected = [["one", "two"], ["three"], ["x"] * 1000, ["x"] * 1000, ["x"]]  # a file end is a document end
    assert documents(tmp_path / "a", tmp_path / "b") == expected


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
