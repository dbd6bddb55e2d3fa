import gzip

import numpy as np
import pytest

from elmolite.errors import InputError
from elmolite.tasks.vector_files import read_binary, read_text


def rows(read, path, only=None):
    table = read(path, wanted=lambda _, word: only is None or word in only, show_progress=False)
    return {word: vector.tolist() for _, word, vector in table.rows}


def binary(words, *, size=2, count=None, between=b""):
    content = f"{len(words) if count is None else count} {size}\n".encode()
    for number, word in enumerate(words):
        content += word + b" " + np.arange(number, number + size, dtype="<f4").tobytes() + between
    return content


@pytest.mark.parametrize("header", ["", "4 3\n"])
@pytest.mark.parametrize("ends", ["\n", " \n", "\r\n"])  # fastText's lines end with a space
@pytest.mark.parametrize("packed", [False, True])
def test_text_with_and_without_a_first_line_of_counts(tmp_path, header, ends, packed):
    lines = [
        "the 1 2.5 -3e-2",
        "3 4 5 6",
        ". . . 7 8 9",
        "\u00a0 10 11 12",
    ]  # words: a number, one with spaces, a space
    path = tmp_path / ("v.txt.gz" if packed else "v.txt")
    content = (header + "".join(line + ends for line in lines)).encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    expected = {"the": [1, 2.5, np.float32(-0.03)], "3": [4, 5, 6], ". . .": [7, 8, 9], "\u00a0": [10, 11, 12]}
    assert rows(read_text, path) == expected
    assert rows(read_text, path, only={". . .", "3"}) == {word: expected[word] for word in ("3", ". . .")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty, or its first line is"),
        ("the\n", "line 1: expected a word and its numbers, or 'count size'; found 'the'"),
        ("9 0\n", "line 1: expected a word"),
        ("9 999999999999\n", "line 1: expected a word"),
        ("the 1 2\na 1\n", "line 2: 1 numbers where 2 were expected"),
        ("the 1 2\n\na\n", "line 3: 0 numbers where 2 were expected"),
        ("the 1 2\na 1 2 3\n", "line 2: 3 numbers where 2 were expected"),
        ("the 1 2\na 1 x\n", "line 2: expected 2 numbers, found 'x'"),
        ("2 2\nthe 1 2\n", "1 words where the first line says 2"),
        ("1 2\nthe 1 2\na 1 2\n", "2 words where the first line says 1"),
        (b"the 1 2\n\xff 1 2\n", "line 2: not UTF-8"),
        (b"1 2\n\x00", "line 2: holds a NUL byte"),
    ],
)
def test_text_that_cannot_be_read(tmp_path, content, message):
    path = tmp_path / "v.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=rf"v\.txt.*{message}"):
        rows(read_text, path)


@pytest.mark.parametrize("between", [b"", b"\n"])  # as gensim and as word2vec write it
@pytest.mark.parametrize("packed", [False, True])
def test_binary(tmp_path, between, packed):
    path = tmp_path / ("v.bin.gz" if packed else "v.bin")
    content = binary([b"the", "東京".encode(), "東".encode()[:2]], between=between)
    path.write_bytes(gzip.compress(content) if packed else content)
    assert rows(read_binary, path) == {"the": [0, 1], "東京": [1, 2], "\ufffd": [2, 3]}
    assert rows(read_binary, path, only={"東京"}) == {"東京": [1, 2]}


def test_a_binary_file_of_many_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("elmolite.tasks.vector_files._CHUNK_BYTES", 7)
    (tmp_path / "v.bin").write_bytes(binary([f"word{i}".encode() for i in range(20)], size=3))
    assert rows(read_binary, tmp_path / "v.bin") == {f"word{i}": [i, i + 1, i + 2] for i in range(20)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"the 1 2\n", "begins with a line 'count size', this with b'the 1 2"),
        (b"1 0\n", "begins with a line 'count size'"),
        (b"1 99999999\n", "begins with a line 'count size'"),
        (b"\xff" * 200, "begins with a line 'count size'"),
        ((793712314).to_bytes(4, "little") + b"\n", r"fastText model.*\.vec"),
        (binary([b"a", b"b"], count=3), "ends in word 3 of 3: the file is cut short"),
        (binary([b"a", b"b"])[:-1], "ends in word 2 of 2: the file is cut short"),
        (binary([b"a", b"b"], count=1), "goes on behind word 1"),
        (b"2 1\n" + b"x" * 100_000, "word 1: no end of the word"),
    ],
)
def test_binary_files_that_cannot_be_read(tmp_path, content, message):
    (tmp_path / "v.bin").write_bytes(content)
    with pytest.raises(InputError, match=rf"v\.bin.*{message}"):
        rows(read_binary, tmp_path / "v.bin")


@pytest.mark.parametrize(("read", "name"), [(read_text, "v.txt.gz"), (read_binary, "v.bin.gz")])
def test_broken_and_missing_files(tmp_path, read, name):
    path = tmp_path / name
    with pytest.raises(InputError, match=r"cannot be read: No such file"):
        rows(read, path)
    whole = gzip.compress(binary([b"word"] * 2000) if read is read_binary else b"the 1 2\n" * 2000)
    for content in (whole[:-20], b"not gzip"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}: broken gzip file"):
            rows(read, path)
