import numpy as np
import pytest

from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import Vocabulary
from elmolite.embedding.elmo import ELMo
from elmolite.embedding.pooling import CommonComponent, WordWeights, cosine, pool
from elmolite.errors import InputError

VOCABULARY = Vocabulary(["<S>", "</S>", "<UNK>", "the", "play"], [50, 50, 20, 70, 10])
SENTENCES = [["the", "play", "."], [], ["play"], ["the"] * 9]


@pytest.fixture
def elmo(bilm):
    return ELMo(bilm, SentenceTokenizer.whitespace(), vocabulary=VOCABULARY)


@pytest.mark.parametrize("layers", ["average", "top", 1])
def test_mean_and_max_are_over_the_tokens_alone(elmo, layers):
    words = elmo.embed(SENTENCES, layers=layers)
    for pooling in ("mean", "max"):
        vectors = elmo.embed_sentences(SENTENCES, pooling=pooling, layers=layers)
        assert vectors.shape == (4, elmo.size)
        assert vectors.dtype == np.float32
        for vector, each in zip(vectors, words, strict=True):
            expected = getattr(each, pooling)(axis=0) if len(each) else np.zeros(elmo.size)
            np.testing.assert_allclose(vector, expected, rtol=1e-5, atol=2e-6)


def test_frequent_words_count_less(elmo):
    weights = {"the": 1e-2 / (1e-2 + 0.7), "play": 1e-2 / (1e-2 + 0.1), ".": 1.0}
    words = elmo.embed(SENTENCES, layers="average")
    for vector, each, tokens in zip(
        elmo.embed_sentences(SENTENCES, pooling="weighted", a=1e-2), words, SENTENCES, strict=True
    ):
        expected = sum((weights[token] * v for token, v in zip(tokens, each, strict=True)), np.zeros(elmo.size))
        np.testing.assert_allclose(vector, expected / max(1, len(tokens)), rtol=1e-5, atol=2e-6)


def test_a_model_without_counts_says_so(bilm):
    for vocabulary in (None, Vocabulary(["<S>", "</S>", "<UNK>", "the"], [0] * 4)):
        elmo = ELMo(bilm, SentenceTokenizer.whitespace(), vocabulary=vocabulary)
        with pytest.raises(InputError, match="needs counts of words, and this model comes without"):
            elmo.embed_sentences(SENTENCES, pooling="weighted")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "median"}, "pooling='median': expected one of mean, max, weighted"),
        ({"layers": "all"}, "layers='all'"),
        ({"pooling": "weighted", "a": 0}, "a=0: must be greater than 0"),
    ],
)
def test_wrong_options_are_explained(elmo, options, message):
    with pytest.raises(InputError, match=message):
        elmo.embed_sentences(SENTENCES, **options)


def test_counts_are_saved_and_read(tmp_path, elmo):
    elmo.save_pretrained(tmp_path / "model")
    again = ELMo.from_pretrained(tmp_path / "model")
    assert again.vocabulary.counts == VOCABULARY.counts
    assert ELMo.from_pretrained("mini-en").embed_sentences(["the play"], pooling="weighted").any()


def test_the_common_component_is_the_first_singular_vector():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 6)) + 5 * rng.normal(size=6)
    common = CommonComponent.fit(vectors)
    expected = np.linalg.svd(vectors)[2][0]
    np.testing.assert_allclose(np.abs(common.direction @ expected), 1, atol=1e-6)
    left = common.remove(vectors)
    np.testing.assert_allclose(left @ common.direction, 0, atol=1e-5)
    np.testing.assert_allclose(left, vectors - np.outer(vectors @ expected, expected), atol=1e-5)
    np.testing.assert_allclose(common.remove(vectors[3]), left[3], atol=1e-6)


def test_it_is_taken_out_only_when_given(elmo):
    plain = elmo.embed_sentences(SENTENCES)
    common = CommonComponent.fit(plain)
    np.testing.assert_allclose(elmo.embed_sentences(SENTENCES, common=common), common.remove(plain), atol=1e-6)
    np.testing.assert_array_equal(elmo.embed_sentences(SENTENCES), plain)


def test_a_common_component_of_another_width_is_refused(elmo):
    with pytest.raises(InputError, match=r"vectors of \(24,\) numbers; the common component has \(3,\)"):
        elmo.embed_sentences(SENTENCES, common=CommonComponent([1, 0, 0]))


@pytest.mark.parametrize("vectors", [np.ones((1, 3)), np.zeros((4, 3)), np.ones(3)])
def test_nothing_to_fit(vectors):
    with pytest.raises(InputError, match="two sentences at least"):
        CommonComponent.fit(vectors)


def test_similarity_is_the_cosine(elmo):
    a, b = elmo.embed_sentences(["the play", "play"], pooling="max")
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert elmo.similarity("the play", "play", pooling="max") == pytest.approx(expected, abs=1e-6)
    assert elmo.similarity("the play", "the play") == pytest.approx(1)
    assert elmo.similarity("the play", "") == 0
    assert cosine([1, 0], [0, 2]) == 0
    assert cosine([1, 0], [-3, 0]) == -1


def test_pooling_by_hand():
    vectors = np.array([[1, -2], [3, -4]], np.float32)
    assert pool(vectors, "mean").tolist() == [2, -3]
    assert pool(vectors, "max").tolist() == [3, -2]
    assert pool(vectors, "weighted", np.array([1, 0.5], np.float32)).tolist() == [1.25, -2]
    assert WordWeights(VOCABULARY, 0.1).of(["the", "<UNK>", "new"]).tolist() == pytest.approx([0.125, 1, 1])
