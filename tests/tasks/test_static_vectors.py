import gzip

import numpy as np
import pytest
import torch

from elmolite.errors import InputError
from elmolite.tasks.static_vectors import UNKNOWN, StaticEmbedding, StaticVectors, WordIds, read_binary, read_text

TEXT = "the 1 2\nParis 3 4\nparis 5 6\nthe 7 8\nUNK 9 10\ncat 11 12\n"


@pytest.fixture
def path(tmp_path):
    (tmp_path / "v.txt").write_text(TEXT)
    return tmp_path / "v.txt"


def load(path, only=None):
    return StaticVectors.load(path, only=only, show_progress=False)


def test_unknown_word_is_first_and_duplicates_are_dropped(path):
    vectors = load(path)
    assert vectors.words == [UNKNOWN, "the", "Paris", "paris", "cat"]
    assert vectors.vectors.tolist() == [[9, 10], [1, 2], [3, 4], [5, 6], [11, 12]]
    assert vectors.vectors.dtype == np.float32


def test_unknown_word_defaults_to_zeros(path):
    path.write_text(TEXT.replace("UNK", "x"))
    assert load(path).vectors[0].tolist() == [0, 0]


def test_lookup_falls_back_to_lower_case_then_unknown(path):
    vectors = load(path)
    found = vectors.ids.ids(["Paris", "PARIS", "The", "dog", "UNK"])
    assert [vectors.words[i] for i in found] == ["Paris", "paris", "the", UNKNOWN, UNKNOWN]
    assert vectors.ids.ids([]).shape == (0,)


def test_only_words_to_look_up_are_read(path):
    tokens = ["PARIS", "dog"]
    some = load(path, only=tokens)
    assert some.words == [UNKNOWN, "paris"]
    assert some.vectors[some.ids.ids(tokens)].tolist() == [[5, 6], [9, 10]]
    assert load(path, only=[]).vectors.tolist() == [[9, 10]]
    with_first = StaticVectors.load(path, only=["PARIS"], n_first=1, show_progress=False)
    assert with_first.words == [UNKNOWN, "the", "paris"]


def test_binary_format_by_suffix(tmp_path):
    (tmp_path / "v.bin").write_bytes(b"1 2\nthe " + np.array([1, 2], "<f4").tobytes())
    assert load(tmp_path / "v.bin").vectors.tolist() == [[0, 0], [1, 2]]


@pytest.mark.parametrize("number", ["nan", "inf", "1e39"])
def test_numbers_not_finite_in_float32(path, number):
    path.write_text(f"the 1 2\ncat 1 {number}\n")
    with pytest.raises(InputError, match=r"v\.txt, line 2: the vector of 'cat' is not finite"):
        load(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WordIds(["the"]), "must be <unk>, got"),
        (lambda: WordIds([]), "must be <unk>"),
        (lambda: WordIds([UNKNOWN, "a", "a"]), "duplicate .* 'a'"),
        (lambda: StaticVectors([UNKNOWN], np.zeros((2, 3), np.float32)), r"each of 1 words, got shape \(2, 3\)"),
    ],
)
def test_invalid_word_lists(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("is_trained", [False, True])
def test_embedding_lookup_and_gradients(path, is_trained):
    vectors = load(path)
    module = StaticEmbedding.of(vectors, is_trained=is_trained)
    ids = torch.from_numpy(np.stack([vectors.ids.ids(["the", "Cat"]), vectors.ids.ids(["dog", "paris"])]))
    found = module(ids)
    assert found.tolist() == [[[1, 2], [11, 12]], [[9, 10], [5, 6]]]
    assert found.requires_grad == is_trained
    if is_trained:
        found.sum().backward()
        assert module.weight.grad.sum(dim=1).tolist() == [2, 2, 0, 2, 2]


def test_embedding_copies_the_vectors(path):
    vectors = load(path)
    StaticEmbedding.of(vectors).weight.zero_()
    assert vectors.vectors[1].tolist() == [1, 2]


def test_embedding_restored_from_words_and_state(path):
    module = StaticEmbedding.of(load(path))
    again = StaticEmbedding(module.ids.words, size=module.size)
    again.load_state_dict(module.state_dict())
    ids = torch.from_numpy(again.ids.ids(["PARIS", "dog"]))[None]
    assert torch.equal(again(ids), module(ids))


def rows(read, path, only=None):
    table = read(path, keep=lambda _, word: only is None or word in only, show_progress=False)
    return {word: vector.tolist() for _, word, vector in table.rows}


def binary(words, *, size=2, count=None, between=b""):
    content = f"{len(words) if count is None else count} {size}\n".encode()
    for number, word in enumerate(words):
        content += word + b" " + np.arange(number, number + size, dtype="<f4").tobytes() + between
    return content


@pytest.mark.parametrize("header", ["", "4 3\n"])
@pytest.mark.parametrize("ends", ["\n", " \n", "\r\n"])  # fastText's lines end with a space
@pytest.mark.parametrize("packed", [False, True])
def test_text_format(tmp_path, header, ends, packed):
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
        ("", "the file or its first line is empty"),
        ("\n\n", "the file or its first line is empty"),
        ("the\n", "line 1: expected a word and its numbers, or 'count size'; found 'the'"),
        ("9 0\n", "line 1: expected a word"),
        ("9 999999999999\n", "line 1: expected a word"),
        ("the 1 2\na 1\n", "line 2: expected 2 numbers, got 1"),
        ("the 1 2\n\na\n", "line 3: expected 2 numbers, got 0"),
        ("the 1 2\na 1 2 3\n", "line 2: expected 2 numbers, got 3"),
        ("the 1 2\na 1 x\n", "line 2: expected 2 numbers, found 'x'"),
        ("2 2\nthe 1 2\n", "expected 2 words according to the first line, got 1"),
        ("1 2\nthe 1 2\na 1 2\n", "expected 1 words according to the first line, got 2"),
        (b"the 1 2\n\xff 1 2\n", "line 2: not UTF-8"),
        (b"1 2\n\x00", "line 2: contains a NUL byte"),
    ],
)
def test_invalid_text_files(tmp_path, content, message):
    path = tmp_path / "v.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=rf"v\.txt.*{message}"):
        rows(read_text, path)


@pytest.mark.parametrize("between", [b"", b"\n"])  # as gensim and as word2vec write it
@pytest.mark.parametrize("packed", [False, True])
def test_binary_format(tmp_path, between, packed):
    path = tmp_path / ("v.bin.gz" if packed else "v.bin")
    content = binary([b"the", "東京".encode(), "東".encode()[:2]], between=between)
    path.write_bytes(gzip.compress(content) if packed else content)
    assert rows(read_binary, path) == {"the": [0, 1], "東京": [1, 2], "\ufffd": [2, 3]}
    assert rows(read_binary, path, only={"東京"}) == {"東京": [1, 2]}


def test_binary_file_larger_than_a_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr("elmolite.tasks.static_vectors._CHUNK_BYTES", 7)
    (tmp_path / "v.bin").write_bytes(binary([f"word{i}".encode() for i in range(20)], size=3))
    assert rows(read_binary, tmp_path / "v.bin") == {f"word{i}": [i, i + 1, i + 2] for i in range(20)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"the 1 2\n", "expected 'count size' as the first line .* got b'the 1 2"),
        (b"1 0\n", "expected 'count size' as the first line"),
        (b"1 99999999\n", "expected 'count size' as the first line"),
        (b"\xff" * 200, "expected 'count size' as the first line"),
        ((793712314).to_bytes(4, "little") + b"\n", r"fastText model.*\.vec"),
        (binary([b"a", b"b"], count=3), "truncated in word 3 of 3"),
        (binary([b"a", b"b"])[:-1], "truncated in word 2 of 2"),
        (binary([b"a", b"b"], count=1), "has data after word 1"),
        (b"2 1\n" + b"x" * 100_000, "word 1: longer than 64 KiB"),
    ],
)
def test_invalid_binary_files(tmp_path, content, message):
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
