import pytest

from elmolite.data.vocab import SPECIALS, UNKNOWN_ID, Vocabulary
from elmolite.errors import InputError

COUNTS = [("c", 9), ("a", 5), ("b", 5), ("rare", 1)]


def test_specials_come_first_and_rare_words_are_unknown():
    vocabulary = Vocabulary.from_counts(COUNTS, n_sentences=4, max_size=None, min_count=2)
    assert vocabulary.words == [*SPECIALS, "c", "a", "b"]
    assert vocabulary.counts == [4, 4, 1, 9, 5, 5]
    assert len(Vocabulary.from_counts(COUNTS, n_sentences=1, max_size=4, min_count=1)) == 4


def test_text_that_spells_a_special_is_unknown():
    counts = [("c", 9), ("<S>", 7), ("a", 5)]
    vocabulary = Vocabulary.from_counts(counts, n_sentences=1, max_size=None, min_count=1)
    assert vocabulary.ids(["<S>", "</S>", "<UNK>", "nowhere"]) == [UNKNOWN_ID] * 4
    assert vocabulary.counts[UNKNOWN_ID] == 7


def test_the_counts_of_another_text_keep_the_words():
    vocabulary = Vocabulary([*SPECIALS, "b", "absent"], [0] * 5)
    counted = vocabulary.with_counts([*COUNTS, ("</S>", 2)], n_sentences=3)
    assert counted.words == vocabulary.words
    assert counted.counts == [3, 3, 9 + 5 + 1 + 2, 5, 0]


def test_round_trip(tmp_path):
    vocabulary = Vocabulary.from_counts(COUNTS, n_sentences=4, max_size=None, min_count=1)
    (tmp_path / "vocab.txt").write_bytes(vocabulary.to_bytes())
    loaded = Vocabulary.load(tmp_path / "vocab.txt")
    assert (loaded.words, loaded.counts) == (vocabulary.words, vocabulary.counts)


def test_reads_plain_lists_as_bilm_tf_has_them(tmp_path):
    (tmp_path / "vocab.txt").write_text("</S>\n<S>\n<UNK>\nthe\n,\n")
    assert Vocabulary.load(tmp_path / "vocab.txt").words == [*SPECIALS, "the", ","]
    (tmp_path / "vocab.txt").write_text("the\n,\n")
    assert Vocabulary.load(tmp_path / "vocab.txt").words == [*SPECIALS, "the", ","]


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "empty"), ("a\n\nb\n", "line 2"), ("a\nb\na\n", "line 3.*'a'"), ("a\tmany\n", "line 1.*'many'")],
)
def test_bad_files_are_named(tmp_path, content, message):
    (tmp_path / "vocab.txt").write_text(content)
    with pytest.raises(InputError, match=rf"vocab\.txt.*{message}"):
        Vocabulary.load(tmp_path / "vocab.txt")
