import math

import pytest
import torch
from helpers.models import make_bilm, small_config
from torch.nn import functional as F

from elmolite.checkpoint import Checkpoint
from elmolite.data.indexers import ByteIndexer, UnicodeIndexer, WordIndexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import Vocabulary
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.nn.softmax import AdaptiveSoftmax, FullSoftmax
from elmolite.pretraining.setup import warm_start

OLD = ["<S>", "</S>", "<UNK>", "the", "cat", "sat", "down"]
NEW = ["<S>", "</S>", "<UNK>", "cat", "protein", "the", "folds"]


def model_of(words, *, indexer=None, softmax=None, seed=0, **sizes):
    torch.manual_seed(seed)
    vocabulary = Vocabulary(words, [1] * len(words))
    config = small_config(**sizes)
    indexer = indexer or (WordIndexer(vocabulary) if config.input == "words" else ByteIndexer())
    softmax = softmax or FullSoftmax(vocabulary_size=len(words), projection_size=config.projection_size)
    for parameter in softmax.parameters():
        torch.nn.init.normal_(parameter)
    return Checkpoint(make_bilm(config, indexer), SentenceTokenizer.whitespace(), indexer, softmax, vocabulary)


def vectors(checkpoint, sentence):
    return ELMo(checkpoint.bilm, checkpoint.tokenizer, checkpoint.indexer).embed([sentence])[0]


def test_the_encoder_is_the_same_whatever_the_words():
    old, new = model_of(OLD), model_of(NEW, seed=1, dropout=0.4, variational_dropout=True)
    assert (vectors(old, ["cat"]) != vectors(new, ["cat"])).any()
    notes = warm_start(old, new, name="old")
    assert (vectors(old, ["cat", "folds"]) == vectors(new, ["cat", "folds"])).all()
    assert notes == [
        "initialized from old: kept the vectors of 262 of 262 bytes",
        "kept the softmax rows of 5 of 7 words",
    ]


def test_shared_words_keep_their_rows_and_new_ones_share_what_unknown_had():
    old, new = model_of(OLD), model_of(NEW, seed=1)
    warm_start(old, new, name="old")
    for word in ("<S>", "cat", "the"):
        row, old_row = NEW.index(word), OLD.index(word)
        assert torch.equal(new.softmax.weight[row], old.softmax.weight[old_row])
        assert new.softmax.bias[row] == old.softmax.bias[old_row]
    hidden = torch.randn(5, 12)
    logits, old_logits = (F.linear(hidden, model.softmax.weight, model.softmax.bias) for model in (new, old))
    rows = [NEW.index(word) for word in ("<UNK>", "protein", "folds")]
    torch.testing.assert_close(logits[:, rows].logsumexp(dim=1), old_logits[:, 2])
    assert torch.allclose(logits[:, rows[0]], logits[:, rows[1]])


SIZES = {"projection_size": 12, "cutoffs": (5, 11), "sizes": (12, 6)}
OLD_MANY = [*OLD, *"abcdefgh"]


def adaptive_models(new_words):
    return [
        model_of(words, softmax=AdaptiveSoftmax(vocabulary_size=len(words), **SIZES), seed=seed)
        for seed, words in enumerate([OLD_MANY, new_words])
    ]


def probabilities(checkpoint):
    """Of each word at a hidden state of zero, where nothing is approximate."""
    losses = checkpoint.softmax.full_loss
    words = checkpoint.vocabulary.words
    return {word: math.exp(-losses(torch.zeros(1, 12), torch.tensor([i])).item()) for i, word in enumerate(words)}


def test_a_softmax_of_the_same_words_is_the_same():
    for old, new in ([model_of(OLD), model_of(OLD, seed=1)], adaptive_models(OLD_MANY)):
        warm_start(old, new, name="old")
        assert all(torch.equal(a, b) for a, b in zip(old.softmax.parameters(), new.softmax.parameters(), strict=True))


def test_words_keep_their_cluster_or_their_probability():
    """Word d moves up into the head, the down into a cluster, a and b change places within one, x and y are new."""
    new_words = ["<S>", "</S>", "<UNK>", "d", "cat", "the", "sat", "down", "b", "a", "c", "x", "e", "y", "f", "g", "h"]
    old, new = adaptive_models(new_words)
    notes = warm_start(old, new, name="old")
    assert notes[-1] == "kept the softmax rows of 15 of 17 words"
    cluster, old_cluster = new.softmax.clusters[0], old.softmax.clusters[0]
    assert torch.equal(new.softmax.weight[4], old.softmax.weight[4])  # cat
    assert torch.equal(cluster.projection, old_cluster.projection)
    for word in "ab":
        row, old_row = new_words.index(word) - 5, OLD_MANY.index(word) - 5
        assert torch.equal(cluster.weight[row], old_cluster.weight[old_row])
    before, after = map(probabilities, (old, new))
    for word in set(OLD_MANY) - {"<UNK>"}:
        assert after[word] == pytest.approx(before[word], rel=1e-3), word
    assert after["<UNK>"] + after["x"] + after["y"] == pytest.approx(before["<UNK>"], rel=1e-3)


def test_words_and_characters_of_the_input_keep_their_vectors():
    old, new = model_of(OLD, input="words"), model_of(NEW, input="words", seed=1)
    warm_start(old, new, name="old")
    assert torch.equal(new.bilm.token_encoder.table[3], old.bilm.token_encoder.table[4])
    assert torch.equal(new.bilm.token_encoder.table[4], old.bilm.token_encoder.table[2])

    old, new = (model_of(OLD, indexer=UnicodeIndexer(letters), seed=len(letters)) for letters in ("αβ", "βγα"))
    warm_start(old, new, name="old")
    assert torch.equal(new.bilm.token_encoder.table[[263, 265]], old.bilm.token_encoder.table[[264, 263]])
    assert torch.equal(new.bilm.token_encoder.table[264], old.bilm.token_encoder.table[262])
    assert torch.equal(new.bilm.token_encoder.table[:263], old.bilm.token_encoder.table[:263])


def test_a_model_without_softmax_is_a_start_too():
    old, new = model_of(OLD), model_of(NEW, seed=1)
    old.softmax = None
    before = new.softmax.weight.clone()
    assert warm_start(old, new, name="old")[-1] == "initialized the softmax at random: the model has none"
    assert torch.equal(new.softmax.weight, before)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"cell_size": 25}, "old: sizes must be equal: the model has cell_size 24, got model.cell_size 25"),
        ({"cell": "gru"}, "the model has cell lstm"),
        ({"indexer": UnicodeIndexer("ab")}, "old: the model reads bytes, but the corpus has Unicode characters"),
    ],
)
def test_another_model_is_refused(sizes, message):
    with pytest.raises(InputError, match=message):
        warm_start(model_of(OLD), model_of(NEW, **sizes), name="old")
