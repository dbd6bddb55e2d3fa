import gzip

import numpy as np
import pytest
import torch

from elmolite.errors import InputError
from elmolite.tasks.static_vectors import UNKNOWN, StaticEmbedding, read_static_vectors

TEXT = "the 1 2\nParis 3 4\nparis 5 6\nthe 7 8\nUNK 9 10\ncat 11 12\n"


@pytest.fixture
def path(tmp_path):
    (tmp_path / "v.txt").write_text(TEXT)
    return tmp_path / "v.txt"


def test_unknown_word_is_first_and_duplicates_are_dropped(path):
    words, vectors = read_static_vectors(path)
    assert words == [UNKNOWN, "the", "Paris", "paris", "cat"]
    assert vectors.tolist() == [[9, 10], [1, 2], [3, 4], [5, 6], [11, 12]]
    assert vectors.dtype == np.float32
    path.write_text(TEXT.replace("UNK", "x"))
    assert read_static_vectors(path).vectors[0].tolist() == [0, 0]


def test_only_words_to_look_up_are_read(path):
    some = read_static_vectors(path, only=["PARIS", "dog"])
    assert some.words == [UNKNOWN, "paris"]
    assert some.vectors.tolist() == [[9, 10], [5, 6]]
    assert read_static_vectors(path, only=[]).vectors.tolist() == [[9, 10]]
    assert read_static_vectors(path, only=["PARIS"], n_first=1).words == [UNKNOWN, "the", "paris"]


@pytest.mark.parametrize("is_trained", [False, True])
def test_embedding_lookup_and_gradients(path, is_trained):
    """Words are looked up as they are, then in lower case, then as the unknown word."""
    module = StaticEmbedding.of(read_static_vectors(path), is_trained=is_trained)
    ids = torch.stack([module.ids(["the", "Cat"]), module.ids(["dog", "PARIS"])])
    found = module(ids)
    assert found.tolist() == [[[1, 2], [11, 12]], [[9, 10], [5, 6]]]
    assert found.requires_grad == is_trained
    if is_trained:
        found.sum().backward()
        assert module.weight.grad.sum(dim=1).tolist() == [2, 2, 0, 2, 2]


def rows(path, only=None):
    words, vectors = read_static_vectors(path, only=only)
    return dict(zip(words[1:], vectors[1:].tolist(), strict=True))


@pytest.mark.parametrize("header", ["", "4 3\n"])
@pytest.mark.parametrize("ends", ["\n", " \n", "\r\n"])  # fastText's lines end with a space
@pytest.mark.parametrize("packed", [False, True])
def test_text_format(tmp_path, header, ends, packed):
    lines = "the 1 2.5 -3e-2", "3 4 5 6", ". . . 7 8 9", "\u00a0 10 11 12"  # a number and spaces as words
    path = tmp_path / ("v.txt.gz" if packed else "v.txt")
    content = (header + "".join(line + ends for line in lines)).encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    expected = {"the": [1, 2.5, np.float32(-0.03)], "3": [4, 5, 6], ". . .": [7, 8, 9], "\u00a0": [10, 11, 12]}
    assert rows(path) == expected
    assert rows(path, only={". . .", "3"}) == {word: expected[word] for word in ("3", ". . .")}


def binary(words, *, between=b""):
    content = f"{len(words)} 2\n".encode()
    for number, word in enumerate(words):
        content += word + b" " + np.arange(number, number + 2, dtype="<f4").tobytes() + between
    return content


@pytest.mark.parametrize("between", [b"", b"\n"])  # as gensim and as word2vec write it
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("chunk", [7, 2**20])
def test_binary_format(tmp_path, monkeypatch, between, packed, chunk):
    monkeypatch.setattr("elmolite.tasks.static_vectors._CHUNK_BYTES", chunk)
    path = tmp_path / ("v.bin.gz" if packed else "v.bin")
    content = binary([b"the", "東京".encode(), "東".encode()[:2]], between=between)
    path.write_bytes(gzip.compress(content) if packed else content)
    assert rows(path) == {"the": [0, 1], "東京": [1, 2], "\ufffd": [2, 3]}
    assert rows(path, only={"東京"}) == {"東京": [1, 2]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.txt", "", "line 1: expected a word and its numbers"),
        ("v.txt", "the 1 2\na 1\n", "line 2: expected 2 numbers, got 1"),
        ("v.txt", "the 1 2\na 1 x\n", "line 2: expected 2 numbers, found 'x'"),
        ("v.txt", "the 1 2\ncat 1 nan\n", "line 2: the vector of 'cat' is not finite"),
        ("v.txt", "2 2\nthe 1 2\n", "expected 2 words according to the first line, got 1"),
        ("v.txt", b"the 1 2\n\xff 1 2\n", "line 2: not UTF-8"),
        ("v.txt.gz", gzip.compress(b"the 1 2\n" * 2000, mtime=0)[:-20], "broken gzip file"),
        ("v.bin", b"the 1 2\n", "expected 'count size' as the first line .* got b'the 1 2"),
        ("v.bin", (793712314).to_bytes(4, "little") + b"\n", r"of a fastText model give the \.vec file"),
        ("v.bin", binary([b"a", b"b"])[:-1], "truncated in word 2 of 2"),
        ("v.bin.gz", gzip.compress(binary([b"word"] * 2000), mtime=0)[:-20], "cannot be read: Compressed file ended"),
    ],
)
def test_invalid_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=rf"{name}.*{message}"):
        read_static_vectors(path)


@pytest.mark.parametrize("name", ["v.txt", "v.bin"])
def test_missing_files(tmp_path, name):
    with pytest.raises(InputError, match=rf"{name}: cannot be read: .*No such file"):
        read_static_vectors(tmp_path / name)
