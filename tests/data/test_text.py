"""Invalid and unusual text and sources: refused with file and line, or read without losing a character.

One table serves every reader: prepare, embed, evaluate and the label files go through the same lines.
"""

import gzip
import io
import os
import re
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest

from elmolite.cli.main import main
from elmolite.data.corpus import Corpus
from elmolite.data.text import (
    MAX_DOCUMENT_LINES,
    MAX_LINE_BYTES,
    PIECE_BYTES,
    Progress,
    find_files,
    read_documents,
    read_lines,
)
from elmolite.errors import InputError
from elmolite.utils.console import n_of

BLOCK = 8192
GZIPPED = gzip.compress(b"good text\n" * 1000)
NUL = "contains a NUL byte"


def not_utf8(line, byte, column):
    return rf"line {line}: not UTF-8 \(byte 0x{byte:02x} at column {column}\)"


def not_text(kind):
    return f"line 1: expected UTF-8 text, but the file is {kind}"


REFUSED = {
    "latin-1": (b"good text\ncaf\xe9 au lait\n", not_utf8(2, 0xE9, 4)),
    "two encodings in one file": ("é\n\n".encode() + "é\n".encode("latin-1"), not_utf8(3, 0xE9, 1)),
    "surrogate": (b"good\na \xed\xa0\x80\n", not_utf8(2, 0xED, 3)),
    "character cut at the end of the file": (b"good\ncaf\xc3", not_utf8(2, 0xC3, 4)),
    "character cut at a line end": (b"caf\xc3\ngood\n", not_utf8(1, 0xC3, 4)),
    "invalid character after a block": (b"x" * BLOCK + b" \xe9t\xe9\n", not_utf8(1, 0xE9, BLOCK + 2)),
    "UTF-16 with mark": ("good\n".encode("utf-16"), not_text("UTF-16; convert it: iconv")),
    "UTF-16 big-endian with mark": (b"\xfe\xff" + "good\n".encode("utf-16-be"), not_text("UTF-16")),
    "UTF-16 without mark": ("good text\n".encode("utf-16-le"), f"line 1: {NUL}"),
    "NUL in a word": (b"good\nte\0xt\n", f"line 2: {NUL}"),
    "NUL block of a crash": (b"good text\n" * 3 + b"\0" * 4096, f"line 4: {NUL}"),
    "CR alone": (b"good text\rmore text\r", r"line 1: lines end in \\r alone; expected \\n or \\r\\n"),
    "line over the maximum": (b"word " * (MAX_LINE_BYTES // 5 + 1), "line 1: longer than the maximum of 16,777,216"),
    "gzip without suffix": (GZIPPED, not_text("compressed with gzip; rename it to end in .gz")),
    "zip": (b"PK\x03\x04\x14\0\0\0", not_text("a zip archive")),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", not_text("a PDF document")),
}
BROKEN_GZIP = {
    "text": b"good text\n",
    "data after the end": gzip.compress(b"good\n") + b"more",
    "truncated": GZIPPED[:-20],
    "wrong checksum": GZIPPED[:-8] + bytes(4) + GZIPPED[-4:],
    "wrong length": GZIPPED[:-4] + bytes(4),
    "flipped bits": GZIPPED[:25] + b"\xff" + GZIPPED[26:],
}
MARKS = r"byte order marks inside the text, left out: 1 \(first in line {}\)"
RETURNS = r"carriage returns inside lines, read as white space: {} \(first in line 2\)"

# (content, number of lines, of them blank, pattern of the report)
READ = {
    "mark at the start": ("\ufeffgood text\n", 1, 0, ""),
    "mark between concatenated texts": ("good text\n\ufeffmore text\n", 2, 0, MARKS.format(2)),
    "C0 controls": ("".join(f"a{chr(c)}b " for c in range(1, 32) if chr(c) not in "\n\r") + "\n", 1, 0, ""),
    "C1 controls": ("".join(f"a{chr(c)}b " for c in range(0x80, 0xA0)) + "\n", 1, 0, ""),
    "form feed between pages": ("page one\n\fpage two\n\f", 3, 1, ""),
    "CRLF": ("good text\r\n\r\nmore text\r\n", 3, 1, ""),
    "CRCRLF": ("good text\r\r\nmore\r\r\n", 2, 0, ""),
    "LF and CR": ("good text\nmore\rtext\rhere\n", 2, 0, RETURNS.format(2)),
    "Unicode line separators": ("good\u0085more\u2028more\u2029more\n", 1, 0, ""),
    "no line end at the end": ("good text\nmore text", 2, 0, ""),
    "blank lines with spaces": ("\n\ngood\n  \t \nmore\n\n", 6, 4, ""),
    "1,001 lines without a blank one": ("good text\n" * 1001, 1001, 0, ""),
    "kinds of spaces": ("a\xa0b\u202fc\u200bd\u2060e\xadf\u3000g\u180eh\n", 1, 0, ""),
    "only zero-width spaces": ("\u200b\u200b\n\u200b\n", 2, 0, ""),
    "combining marks": ("\u0301\nZ" + "\u0336" * 100 + "algo caf\u00e9 cafe\u0301\n", 2, 0, ""),
    "right to left": ("שלום world سلام \u202etxet\u202c می\u200cخواهم\n", 1, 0, ""),
    "emoji": ("👨\u200d👩\u200d👧 👩🏽\u200d🚀 🇩🇪🇫🇷 1\ufe0f\u20e3 ❤\ufe0f\n", 1, 0, ""),
    "scripts without spaces": ("我们在这里。ภาษาไทย क्\u200dष 한 𐍈\n", 1, 0, ""),
    "special tokens": ("<S> good </S> <UNK> <s> <bos> <pad>\n", 1, 0, ""),
    "words above the character limit": (f"{'x' * 49} {'é' * 30} {'a/b?' * 750} {'a.' * 2_000}\n", 1, 0, ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_text_is_refused_with_file_and_line(tmp_path, name):
    content, message = REFUSED[name]
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}, {message}"):
        list(read_lines(path))
    path = tmp_path / "text.txt.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}, {message}"):
        list(read_lines(path))


@pytest.mark.parametrize("name", BROKEN_GZIP)
def test_broken_gzip_is_refused(tmp_path, name):
    path = tmp_path / "text.gz"
    path.write_bytes(BROKEN_GZIP[name])
    with pytest.raises(InputError, match=f"{re.escape(str(path))}: broken gzip file after line"):
        list(read_lines(path))


@pytest.mark.parametrize("content", [b"", b"\n\n\n", b"\r\n\r\n", b"  \n \t", "\xa0\n\u3000".encode(), b"\xef\xbb\xbf"])
def test_blank_text_is_refused_by_commands(tmp_path, capsys, content):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    assert main(["prepare", str(path), "--out", str(tmp_path / "corpus")]) == 2
    assert capsys.readouterr().err == f"elmolite: {path}: the file is empty (no line with text)\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["latin-1", "NUL in a word", "PDF"])
def test_commands_refuse_invalid_text_and_write_nothing(tmp_path, model_folder, capsys, name):
    content, message = REFUSED[name]
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    for command in (
        ("prepare", path, "--out", tmp_path / "corpus"),
        ("embed", model_folder, "--input", path, "--output", tmp_path / "vectors.npz"),
        ("evaluate", model_folder, path),
    ):
        assert main([str(each) for each in command]) == 2
        said = capsys.readouterr().err
        assert re.match(f"elmolite: {re.escape(str(path))}, {message}", said)
        assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


def letters(text):
    """Return the characters that must not be lost: no white space, no byte order mark at the start of a line."""
    lines = (line.lstrip("\ufeff") for line in text.split("\n"))
    return "".join(character for line in lines for character in line if not character.isspace())


def letters_of(corpus):
    splits = (corpus.train, corpus.valid)
    return "".join(letters("".join(s)) for split in splits for s in corpus.sentences(split, split.n_sentences))


@pytest.mark.parametrize("name", READ)
def test_unusual_text_is_read_without_loss(tmp_path, model_folder, capsys, caplog, name):
    content, n_lines, n_blank, report = READ[name]
    path, output = tmp_path / "text.txt", tmp_path / "vectors.npz"
    path.write_bytes(content.encode())
    assert main(["prepare", str(path), "--out", str(tmp_path / "corpus"), "--workers", "1"]) == 0
    said = capsys.readouterr()
    assert f"read {n_of(n_lines, 'line')} ({n_blank:,} blank)" in said.err
    assert re.search(report, said.err + caplog.text)
    assert letters_of(Corpus.open(tmp_path / "corpus")) == letters(content)
    assert main(["embed", str(model_folder), "--input", str(path), "--output", str(output)]) == 0
    with np.load(output) as arrays:
        assert list(arrays) == [str(i) for i in range(n_lines)]
        assert sum(array.shape[1] == 0 for array in arrays.values()) == n_blank
        assert all(np.isfinite(array).all() for array in arrays.values())


@pytest.mark.parametrize("content", ["good text " * (PIECE_BYTES // 10 + 100), "é" * (PIECE_BYTES // 2 + 100)])
def test_long_lines_of_running_text_are_read_in_pieces(tmp_path, capsys, caplog, content):
    path = tmp_path / "text.txt"
    path.write_text(content, encoding="utf-8")
    assert main(["prepare", str(path), "--out", str(tmp_path / "corpus"), "--workers", "1", "--pretokenized"]) == 0
    assert "read in pieces" in capsys.readouterr().err + caplog.text
    assert letters_of(Corpus.open(tmp_path / "corpus")) == letters(content)


@pytest.mark.reliability
@pytest.mark.full
@pytest.mark.parametrize("content", ["x" * 10_000_000, "ban kin " * 50_000], ids=["a word of 10 MB", "100,000 tokens"])
def test_long_sentences_are_embedded_and_evaluated(tmp_path, model_folder, capsys, content):
    path = tmp_path / "text.txt"
    path.write_text(content)
    assert main(["embed", str(model_folder), "--input", str(path), "--output", str(tmp_path / "vectors")]) == 0
    assert f"1 sentence, {n_of(len(content.split()), 'token')}" in capsys.readouterr().out
    assert main(["evaluate", str(model_folder), str(path)]) == 0


SENTENCE = "Every word of this text is in it twice . " * 2 + "\n"


def write(path, content=SENTENCE):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


REFUSED_SOURCES = {
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
    "validation text empty": (["a.txt", "--valid", "empty.txt"], "empty.txt: the file is empty"),
    "validation text missing": (["a.txt", "--valid", "nowhere.txt"], "nowhere.txt: no such file"),
    "validation text in latin-1": (["a.txt", "--valid", "latin.txt"], "latin.txt, line 1: not UTF-8"),
}
READ_SOURCES = {
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


@pytest.fixture
def sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("a.txt", "hidden/.git/a.txt", "hidden/.a.txt", "nested/a.txt", "there/a.txt", "loop/a.txt"):
        write(tmp_path / name)
    for name in ("image/a.txt", "[a]*.txt", "my text\n.txt", os.fsdecode(b"caf\xe9.txt")):
        write(tmp_path / name)
    write(tmp_path / "image" / "b.png", b"\x89PNG\r\n\x1a\n\0")
    write(tmp_path / "nested" / "deep" / "er" / "b.txt.gz", gzip.compress(SENTENCE.encode()))
    write(tmp_path / "empty.txt", " \n")
    write(tmp_path / "latin.txt", b"caf\xe9\n")
    write(tmp_path / "mark.txt", "\ufeff" + SENTENCE)
    write(tmp_path / "no-end.txt", SENTENCE.rstrip())
    link(tmp_path / "dangling" / "link.txt", "gone.txt")
    link(tmp_path / "linked" / "link", tmp_path / "there")
    link(tmp_path / "loop" / "again", tmp_path / "loop")


@pytest.mark.usefixtures("sources")
@pytest.mark.parametrize("name", REFUSED_SOURCES)
def test_invalid_sources_are_refused(tmp_path, capsys, name):
    arguments, message = REFUSED_SOURCES[name]
    before = sorted(tmp_path.iterdir())
    assert main(["prepare", *arguments, "--out", "corpus"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("elmolite: ")
    assert said.count("\n") == 1
    assert message in said
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.usefixtures("sources")
@pytest.mark.parametrize("name", READ_SOURCES)
def test_every_file_is_read_once(capsys, name):
    arguments, n_lines = READ_SOURCES[name]
    assert main(["prepare", *arguments, "--pretokenized", "--out", "corpus"]) == 0
    assert f"read {n_of(n_lines, 'line')} (0 blank)" in capsys.readouterr().err
    corpus = Corpus.open("corpus")
    assert corpus.train.n_tokens + corpus.valid.n_tokens == n_lines * len(SENTENCE.split())


@pytest.mark.usefixtures("sources")
@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may read everything")
@pytest.mark.parametrize("name", ["nested/a.txt", "nested"])
def test_unreadable_sources_are_refused(tmp_path, capsys, name):
    (tmp_path / name).chmod(0)
    assert main(["prepare", "nested", "--out", "corpus"]) == 2
    (tmp_path / name).chmod(0o700)
    assert f"elmolite: {name}: cannot be read: Permission denied" in capsys.readouterr().err


@pytest.mark.usefixtures("sources")
def test_validation_text_that_is_also_training_text_is_reported(capsys, caplog):
    assert main(["prepare", "nested", "--valid", "nested/a.txt", "--out", "corpus"]) == 0
    assert "nested/a.txt" in capsys.readouterr().err + caplog.text


def documents(*paths):
    return list(read_documents(find_files([str(path) for path in paths])))


def test_documents_are_blocks_between_blank_lines_and_runs_of_a_thousand_lines(tmp_path):
    (tmp_path / "a").write_text("one\ntwo\n\n  \nthree\n")
    (tmp_path / "b").write_text("x\n" * (2 * MAX_DOCUMENT_LINES + 1))
    expected = [["one", "two"], ["three"], ["x"] * 1000, ["x"] * 1000, ["x"]]  # a file end is a document end
    assert documents(tmp_path / "a", tmp_path / "b") == expected


def test_files_of_folders_and_patterns_are_in_order(tmp_path):
    for name in ("b.txt", "a.txt", ".hidden", "sub/c.txt"):
        write(tmp_path / name, name)
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
