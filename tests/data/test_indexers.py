import numpy as np
import pytest

from elmolite.data.indexers import ByteIndexer, UnicodeIndexer, WordIndexer, load_indexer
from elmolite.data.vocab import Vocabulary
from elmolite.errors import InputError


def test_ids_of_a_word_as_allennlp_gives_them():
    # The published layout: begin of word 259, the bytes plus 1, end of word 260, padding 261.
    row = ByteIndexer().rows(["cat"])[0]
    assert row.tolist() == [259, ord("c") + 1, ord("a") + 1, ord("t") + 1, 260, *[261] * 45]


def test_sentence_marks():
    begin, end = ByteIndexer().sentence_marks()
    assert begin[:4].tolist() == [259, 257, 260, 261]
    assert end[:4].tolist() == [259, 258, 260, 261]


def test_bytes_not_characters():
    assert ByteIndexer().rows(["é"])[0, :4].tolist() == [259, 0xC3 + 1, 0xA9 + 1, 260]


def test_long_words_are_cut_at_48_bytes():
    row = ByteIndexer().rows(["x" * 60])[0]
    assert row[-1] == 260
    assert (row[1:-1] == ord("x") + 1).all()
    assert ByteIndexer().is_cut("x" * 49)
    assert not ByteIndexer().is_cut("x" * 48)
    assert ByteIndexer().is_cut("é" * 25)


def test_spelling_a_special_is_not_one():
    assert ByteIndexer().rows(["<S>"])[0, :5].tolist() == [259, *(b + 1 for b in b"<S>"), 260]


def test_empty_words_and_lone_surrogates():
    assert ByteIndexer().rows([""])[0, :3].tolist() == [259, 260, 261]
    np.testing.assert_array_equal(ByteIndexer().rows(["a\ud800b"]), ByteIndexer().rows(["ab"]))
    assert ByteIndexer().rows([]).shape == (0, 50)


def test_trim_drops_common_padding():
    rows = ByteIndexer().rows(["a", "four"])
    assert ByteIndexer().trim(rows).shape == (2, 6)


def test_unicode_characters_follow_the_marks():
    indexer = UnicodeIndexer.from_counts([("αβ", 3), ("β", 2), ("γ", 1)], min_count=2)
    assert indexer.characters == ["β", "α"]
    assert indexer.n_ids == 265
    assert indexer.rows(["βαγ"])[0, :6].tolist() == [259, 263, 264, 262, 260, 261]
    assert np.array_equal(indexer.sentence_marks(), ByteIndexer().sentence_marks())
    assert not indexer.is_cut("β" * 48)
    assert indexer.is_cut("β" * 49)


def test_unicode_characters_come_back_from_their_file(tmp_path):
    indexer = UnicodeIndexer(['"', "\\", "é", "👍", "\u2028", "ก"])
    indexer.save(tmp_path)
    for kind in ("unicode", None):
        assert load_indexer(tmp_path, kind=kind, names=["characters.json"]).characters == indexer.characters


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"characters": 3}', b"\xff"])
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
