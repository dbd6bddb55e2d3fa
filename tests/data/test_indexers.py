import numpy as np
import pytest

from elmolite.data.indexers import ByteIndexer, UnicodeIndexer, WordIndexer, load_indexer
from elmolite.data.vocab import Vocabulary
from elmolite.errors import InputError


@pytest.mark.parametrize(
    ("word", "expected"),
    [("cat", b"cat"), ("é", b"\xc3\xa9"), ("", b""), ("<S>", b"<S>"), ("a\ud800b", b"ab"), ("x" * 60, b"x" * 48)],
)
def test_bytes_of_a_word_as_allennlp_encodes_them(word, expected):
    row = ByteIndexer().rows([word])[0]
    assert row.tolist() == [259, *(byte + 1 for byte in expected), 260, *[261] * (48 - len(expected))]


def test_bytes():
    begin, end = ByteIndexer().sentence_marks()
    assert begin[:4].tolist() == [259, 257, 260, 261]
    assert end[:4].tolist() == [259, 258, 260, 261]
    assert ByteIndexer().are_cut(["x" * 48, "x" * 49, "é" * 25]).tolist() == [False, True, True]
    assert ByteIndexer().rows([]).shape == (0, 50)
    assert ByteIndexer().trim(ByteIndexer().rows(["a", "four"])).shape == (2, 6)


def test_unicode_characters_follow_the_marks():
    indexer = UnicodeIndexer.from_counts([("αβ", 3), ("β", 2), ("γ", 1)], min_count=2)
    assert indexer.characters == ["β", "α"]
    assert indexer.n_ids == 265
    assert indexer.rows(["βαγ"])[0, :6].tolist() == [259, 263, 264, 262, 260, 261]
    assert np.array_equal(indexer.sentence_marks(), ByteIndexer().sentence_marks())
    assert indexer.are_cut(["β" * 48, "β" * 49]).tolist() == [False, True]


def test_unicode_characters_come_back_from_their_file(tmp_path):
    indexer = UnicodeIndexer(['"', "\\", "é", "👍", "\u2028", "ก"])
    indexer.save(tmp_path)
    for kind in ("unicode", None):
        assert load_indexer(tmp_path, kind=kind, names=["characters.json"]).characters == indexer.characters


@pytest.mark.parametrize("content", [b"{}", b"\xff"])
def test_a_broken_file_of_characters_is_named(tmp_path, content):
    (tmp_path / "characters.json").write_bytes(content)
    with pytest.raises(InputError, match=r"characters\.json"):
        load_indexer(tmp_path, kind="unicode", names=["characters.json"])


def test_words_are_one_id():
    indexer = WordIndexer(Vocabulary(["<S>", "</S>", "<UNK>", "cat"], [1, 1, 1, 1]))
    assert indexer.rows(["cat", "dog", "<S>"]).tolist() == [[3], [2], [2]]
    assert indexer.sentence_marks().tolist() == [[0], [1]]
    assert indexer.trim(indexer.rows(["cat"])).tolist() == [[3]]
    assert indexer.rows([]).shape == (0, 1)
