import numpy as np
import pytest
import torch

from elmolite.errors import InputError
from elmolite.tasks.static_vectors import UNKNOWN, StaticEmbedding, StaticVectors, WordIds

TEXT = "the 1 2\nParis 3 4\nparis 5 6\nthe 7 8\nUNK 9 10\ncat 11 12\n"


@pytest.fixture
def path(tmp_path):
    (tmp_path / "v.txt").write_text(TEXT)
    return tmp_path / "v.txt"


def load(path, only=None):
    return StaticVectors.load(path, only=only, show_progress=False)


def test_the_unknown_word_is_first_and_of_two_the_first_counts(path):
    vectors = load(path)
    assert vectors.words == [UNKNOWN, "the", "Paris", "paris", "cat"]
    assert vectors.vectors.tolist() == [[9, 10], [1, 2], [3, 4], [5, 6], [11, 12]]
    assert vectors.vectors.dtype == np.float32


def test_without_an_unknown_word_its_vector_is_zero(path):
    path.write_text(TEXT.replace("UNK", "x"))
    assert load(path).vectors[0].tolist() == [0, 0]


def test_a_token_then_its_lower_case_form_then_the_unknown_word(path):
    vectors = load(path)
    found = vectors.ids.ids(["Paris", "PARIS", "The", "dog", "UNK"])
    assert [vectors.words[i] for i in found] == ["Paris", "paris", "the", UNKNOWN, UNKNOWN]
    assert vectors.ids.ids([]).shape == (0,)


def test_only_what_is_looked_up_is_kept(path):
    tokens = ["PARIS", "dog"]
    some = load(path, only=tokens)
    assert some.words == [UNKNOWN, "paris"]
    assert some.vectors[some.ids.ids(tokens)].tolist() == [[5, 6], [9, 10]]
    assert load(path, only=[]).vectors.tolist() == [[9, 10]]
    with_first = StaticVectors.load(path, only=["PARIS"], n_first=1, show_progress=False)
    assert with_first.words == [UNKNOWN, "the", "paris"]


def test_binary_by_its_name(tmp_path):
    (tmp_path / "v.bin").write_bytes(b"1 2\nthe " + np.array([1, 2], "<f4").tobytes())
    assert load(tmp_path / "v.bin").vectors.tolist() == [[0, 0], [1, 2]]


@pytest.mark.parametrize("number", ["nan", "inf", "1e39"])
def test_numbers_that_float32_cannot_hold(path, number):
    path.write_text(f"the 1 2\ncat 1 {number}\n")
    with pytest.raises(InputError, match=r"v\.txt, line 2: 'cat' has a number that float32 cannot hold"):
        load(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WordIds(["the"]), "begin with <unk>, not with"),
        (lambda: WordIds([]), "begin with <unk>"),
        (lambda: WordIds([UNKNOWN, "a", "a"]), "'a' twice"),
        (lambda: StaticVectors([UNKNOWN], np.zeros((2, 3), np.float32)), r"\(2, 3\) for 1 words"),
    ],
)
def test_words_that_do_not_belong_together(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("is_trained", [False, True])
def test_the_module_looks_up_and_is_trained_only_if_asked(path, is_trained):
    vectors = load(path)
    module = StaticEmbedding.of(vectors, is_trained=is_trained)
    ids = torch.from_numpy(np.stack([vectors.ids.ids(["the", "Cat"]), vectors.ids.ids(["dog", "paris"])]))
    found = module(ids)
    assert found.tolist() == [[[1, 2], [11, 12]], [[9, 10], [5, 6]]]
    assert found.requires_grad == is_trained
    if is_trained:
        found.sum().backward()
        assert module.weight.grad.sum(dim=1).tolist() == [2, 2, 0, 2, 2]


def test_training_the_module_leaves_the_vectors(path):
    vectors = load(path)
    StaticEmbedding.of(vectors).weight.zero_()
    assert vectors.vectors[1].tolist() == [1, 2]


def test_the_module_is_made_again_from_words_and_state(path):
    module = StaticEmbedding.of(load(path))
    again = StaticEmbedding(module.ids.words, size=module.size)
    again.load_state_dict(module.state_dict())
    ids = torch.from_numpy(again.ids.ids(["PARIS", "dog"]))[None]
    assert torch.equal(again(ids), module(ids))
