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


def test_pool():
    vectors = np.array([[1, -2], [3, -4]], np.float32)
    assert pool(vectors, "mean").tolist() == [2, -3]
    assert pool(vectors, "max").tolist() == [3, -2]
    assert pool(vectors, "weighted", np.array([1, 0.5], np.float32)).tolist() == [1.25, -2]
    assert WordWeights(VOCABULARY, 0.1).of(["the", "<UNK>", "new"]).tolist() == pytest.approx([0.125, 1, 1])


@pytest.mark.parametrize("pooling", ["mean", "max", "weighted"])
@pytest.mark.parametrize("layers", ["average", "top", 1])
def test_sentence_vectors_are_pooled_word_vectors(elmo, pooling, layers):
    vectors = elmo.embed_sentences(SENTENCES, pooling=pooling, layers=layers, a=1e-2)
    assert (vectors.shape, vectors.dtype) == ((4, elmo.size), np.float32)
    weights = {"the": 1e-2 / (1e-2 + 0.7), "play": 1e-2 / (1e-2 + 0.1), ".": 1.0}
    for vector, words, tokens in zip(vectors, elmo.embed(SENTENCES, layers=layers), SENTENCES, strict=True):
        of_tokens = np.array([weights[token] for token in tokens], np.float32) if pooling == "weighted" else None
        np.testing.assert_allclose(vector, pool(words, pooling, of_tokens), rtol=1e-5, atol=2e-6)


def test_encode_is_the_name_of_sentence_transformers(elmo):
    np.testing.assert_array_equal(elmo.encode(SENTENCES), elmo.embed_sentences(SENTENCES))
    np.testing.assert_array_equal(elmo.encode("the play", pooling="max"), elmo.encode(["the play"], pooling="max")[0])


def test_weighted_pooling_needs_counts(bilm):
    for vocabulary in (None, Vocabulary(["<S>", "</S>", "<UNK>", "the"], [0] * 4)):
        elmo = ELMo(bilm, SentenceTokenizer.whitespace(), vocabulary=vocabulary)
        with pytest.raises(InputError, match="needs word counts"):
            elmo.embed_sentences(SENTENCES, pooling="weighted")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "median"}, "pooling must be .*, got 'median'"),
        ({"layers": "all"}, "layers must be"),
        ({"pooling": "weighted", "a": 0}, "a must be positive, got 0"),
        ({"common": CommonComponent([1, 0, 0])}, r"width of the component, 3, got \(4, 24\)"),
    ],
)
def test_invalid_options_are_refused(elmo, options, message):
    with pytest.raises(InputError, match=message):
        elmo.embed_sentences(SENTENCES, **options)


def test_counts_are_saved_and_loaded(tmp_path, elmo):
    elmo.save_pretrained(tmp_path / "model")
    assert ELMo.from_pretrained(tmp_path / "model").vocabulary.counts == VOCABULARY.counts


def test_the_common_component_is_the_first_singular_vector(elmo):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 6)) + 5 * rng.normal(size=6)
    common = CommonComponent.fit(vectors)
    expected = np.linalg.svd(vectors)[2][0]
    np.testing.assert_allclose(np.abs(common.direction @ expected), 1, atol=1e-6)
    rest = common.remove(vectors)
    np.testing.assert_allclose(rest, vectors - np.outer(vectors @ expected, expected), atol=1e-5)
    np.testing.assert_allclose(common.remove(vectors[3]), rest[3], atol=1e-6)
    assert repr(common) == "CommonComponent(width 6)"
    for too_few in (np.ones((1, 3)), np.zeros((4, 3)), np.ones(3)):
        with pytest.raises(InputError, match="at least two sentence vectors"):
            CommonComponent.fit(too_few)
    plain = elmo.embed_sentences(SENTENCES)
    common = CommonComponent.fit(plain)
    np.testing.assert_allclose(elmo.embed_sentences(SENTENCES, common=common), common.remove(plain), atol=1e-6)


def test_similarity_is_the_cosine(elmo):
    a, b = elmo.embed_sentences(["the play", "play"], pooling="max")
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert elmo.similarity("the play", "play", pooling="max") == pytest.approx(expected, abs=1e-6)
    assert elmo.similarity("the play", "the play") == pytest.approx(1)
    assert elmo.similarity("the play", "") == 0
    assert cosine([1, 0], [0, 2]) == 0
    assert cosine([1, 0], [-3, 0]) == -1
