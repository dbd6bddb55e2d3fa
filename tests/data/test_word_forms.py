import random

import numpy as np
import pytest

from elmolite.data import word_forms
from elmolite.data.word_forms import WordForms, WordText, digests


def add(forms, words):
    encoded = [word.encode() for word in words]
    return forms.numbers(b"".join(word + b"\n" for word in encoded), digests(encoded)).tolist()


def random_words(n, *, seed=0):
    """Words that begin alike, end at every length, and have characters of one to four bytes."""
    rng = random.Random(seed)
    letters = ["a", "b", "\x01", "é", "€", "\ud7ff", "\ue000", "😀"]
    words = {"".join(rng.choices(letters, k=rng.choice([1, 2, 6, 7, 8, 14, 30]))) for _ in range(n)}
    return sorted(words, key=lambda word: rng.random())


@pytest.fixture
def forms(tmp_path):
    forms = WordForms(tmp_path / "words", n_reserved=2)
    yield forms
    forms.close()


def test_words_are_numbered_as_they_appear(forms):
    assert add(forms, ["b", "a"]) == [2, 3]
    assert add(forms, []) == []
    assert add(forms, ["c", "a", "d"]) == [4, 3, 5]
    assert len(forms) == 4
    assert forms.text().lines(np.arange(4)) == b"b\na\nc\nd\n"


def test_numbers_are_those_of_a_dict_however_many_words_come(tmp_path, monkeypatch):
    monkeypatch.setattr(word_forms, "_FIRST_SLOTS", 4)
    monkeypatch.setattr(word_forms, "_AT_ONCE", 100)
    forms, expected, rng = WordForms(tmp_path / "words", n_reserved=2), {}, random.Random(1)
    words = random_words(5000)
    for _ in range(60):
        part = rng.sample(words, rng.randint(0, 200))
        assert add(forms, part) == [expected.setdefault(word, len(expected) + 2) for word in part]
    text = forms.text()
    assert text.lines(np.arange(len(forms))).decode() == "".join(f"{word}\n" for word in expected)
    forms.close()
    assert not (tmp_path / "words").exists()


def test_words_whose_slots_are_the_same_are_told_apart(forms):
    same_slot = np.array([[5, i] for i in range(50)], np.uint64)
    words = b"".join(b"w%d\n" % i for i in range(50))
    numbers = forms.numbers(words, same_slot)
    assert numbers.tolist() == list(range(2, 52))
    assert np.array_equal(forms.numbers(words, same_slot), numbers)


@pytest.mark.parametrize("n_counts", [1, 3, 10_000])
def test_the_order_is_by_count_and_then_by_character(tmp_path, monkeypatch, n_counts):
    monkeypatch.setattr(word_forms, "_AT_ONCE", 100)
    words = random_words(3000)
    (tmp_path / "words").write_bytes("".join(f"{word}\n" for word in words).encode())
    counts = np.random.default_rng(0).integers(0, n_counts, len(words))
    order = WordText(tmp_path / "words").by_frequency(counts)
    assert order.tolist() == sorted(range(len(words)), key=lambda i: (-counts[i], words[i]))


def test_no_words_are_in_order_too(tmp_path):
    (tmp_path / "words").write_bytes(b"")
    assert WordText(tmp_path / "words").by_frequency(np.zeros(0, np.int64)).tolist() == []
