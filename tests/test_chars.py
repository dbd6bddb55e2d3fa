import numpy as np

from elmolite import chars


def test_ids_of_a_word_as_allennlp_gives_them():
    # The published layout: begin of word 259, the bytes plus 1, end of word 260, padding 261.
    row = chars.character_ids(["cat"])[0]
    assert row.tolist() == [259, ord("c") + 1, ord("a") + 1, ord("t") + 1, 260, *[261] * 45]


def test_sentence_marks():
    begin, end = chars.sentence_marks()
    assert begin[:4].tolist() == [259, 257, 260, 261]
    assert end[:4].tolist() == [259, 258, 260, 261]


def test_bytes_not_characters():
    assert chars.character_ids(["é"])[0, :4].tolist() == [259, 0xC3 + 1, 0xA9 + 1, 260]


def test_long_words_are_cut_at_48_bytes():
    row = chars.character_ids(["x" * 60])[0]
    assert row[-1] == 260
    assert (row[1:-1] == ord("x") + 1).all()
    assert chars.is_cut("x" * 49)
    assert not chars.is_cut("x" * 48)
    assert chars.is_cut("é" * 25)


def test_spelling_a_special_is_not_one():
    assert chars.character_ids(["<S>"])[0, :5].tolist() == [259, *(b + 1 for b in b"<S>"), 260]


def test_empty_words_and_lone_surrogates():
    assert chars.character_ids([""])[0, :3].tolist() == [259, 260, 261]
    np.testing.assert_array_equal(chars.character_ids(["a\ud800b"]), chars.character_ids(["ab"]))
    assert chars.character_ids([]).shape == (0, 50)


def test_trim_drops_common_padding():
    rows = chars.character_ids(["a", "four"])
    assert chars.trim(rows).shape == (2, 6)
