import numpy as np
import pytest
import torch
from helpers.data import random_sentences
from helpers.small_tasks import HEADS, WORDS

from elmolite.data.tokenization import SentenceTokenizer
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.tasks import layer_cache
from elmolite.tasks.config import InputConfig
from elmolite.tasks.data import ShuffledBatches, TaskData, predict, tokenize
from elmolite.tasks.examples.records import Example
from elmolite.tasks.model import TaskModel
from elmolite.tasks.specs import TaskDescription
from elmolite.tasks.static_vectors import StaticEmbedding

SPACES = SentenceTokenizer.whitespace()
LABELS = {"classify": ("no", "yes"), "tag": ("B-X", "I-X", "O"), "entail": ("no", "yes")}


def examples_of(task, n=20):
    sentences = random_sentences(2 * n)
    found = []
    for i in range(n):
        tokens = tuple(sentences[i])
        if task == "tag":
            found.append(Example((tokens,), tuple("OOX"[(i * j) % 2] for j in range(len(tokens))), f"f, line {i}"))
        else:
            sides = (" ".join(tokens), " ".join(sentences[n + i]))[: 2 if task == "entail" else 1]
            found.append(Example(sides, (LABELS[task][i % 2],), f"f, line {i}"))
    return found


def model_of(model_folder, task, *, static=None, layers="mix"):
    torch.manual_seed(0)
    scheme = "BIO" if task == "tag" else None
    inputs = InputConfig(dropout=0.0, layers=layers)
    description = TaskDescription(task, LABELS[task], inputs, HEADS[task], scheme=scheme)
    elmo = None if layers == "none" else ELMo.from_pretrained(model_folder)
    return TaskModel.build(description, elmo, static).eval()


@pytest.mark.parametrize("task", LABELS)
def test_cached_layers_give_the_same_loss_and_predictions(tmp_path, model_folder, task):
    model, examples = model_of(model_folder, task), examples_of(task)
    computed, from_cache = TaskData(examples, model, SPACES), TaskData(examples, model, SPACES)
    from_cache.cache_layers(tmp_path / "cache", show_progress=False)
    numbers = [7, 3, 11, 0]
    a, b = computed[numbers], from_cache[numbers]
    assert a.sentences[0].layers is b.sentences[0].ids is None
    assert torch.equal(a.targets, b.targets)
    torch.testing.assert_close(model.loss(*b), model.loss(*a), rtol=1e-6, atol=1e-6)
    for ours, theirs in zip(predict(model, from_cache), predict(model, computed), strict=True):
        assert ours.labels == theirs.labels
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, rtol=0, atol=1e-6)


def test_premises_and_hypotheses_share_an_entry_of_the_cache(tmp_path, model_folder, monkeypatch):
    made = []
    compute = layer_cache._compute
    monkeypatch.setattr(layer_cache, "_compute", lambda e, s: made.append(len(s)) or compute(e, s))
    model, examples = model_of(model_folder, "entail"), examples_of("entail")
    data = TaskData(examples, model, SPACES)
    data.cache_layers(tmp_path / "cache", show_progress=False)
    assert made == [len({sentence for example in examples for sentence in example.sentences})]
    for side, batch in enumerate(data.sentences([4])):
        expected = model.elmo.embed([examples[4].sentences[side]])[0]
        np.testing.assert_allclose(batch.layers[:, 0].numpy(), expected, rtol=2e-6, atol=2e-6)


def test_static_ids_are_those_of_the_words(model_folder):
    static = StaticEmbedding(["<unk>", "ban", "bast"], size=2)
    model = model_of(model_folder, "classify", static=static, layers="none")
    data = TaskData([Example(("BAN kin",), (), "a"), Example(("bast",), (), "b")], model, SPACES)
    (batch,) = data.sentences([0, 1])
    assert batch.static_ids.tolist() == [[1, 0], [2, 0]]
    assert batch.ids is batch.layers is None
    assert data.lengths.tolist() == [2, 1]


@pytest.mark.parametrize("task", LABELS)
def test_prediction_needs_no_labels_and_keeps_the_order(model_folder, task):
    model = model_of(model_folder, task)
    examples = [each._replace(labels=()) for each in examples_of(task, n=6)]
    together = predict(model, TaskData(examples, model, SPACES), batch_tokens=40)
    assert len(together) == len(examples)
    for example, prediction in zip(examples, together, strict=True):
        (alone,) = predict(model, TaskData([example], model, SPACES))
        assert prediction.labels == alone.labels
        np.testing.assert_allclose(prediction.probabilities, alone.probabilities, atol=1e-6)


@pytest.mark.parametrize("sentence", [" ", ()])
def test_a_sentence_without_tokens_is_refused(sentence):
    examples = [Example(("a", "b"), (), "f.tsv, line 2"), Example(("a", sentence), (), "f.tsv, line 3")]
    with pytest.raises(InputError, match=r"f\.tsv, line 3: a sentence without tokens"):
        tokenize(examples, SPACES)


def epochs(lengths, n=2, **options):
    batches = ShuffledBatches(lengths, **options)
    return [list(batches) for _ in range(n)]


def test_shuffled_batches_follow_from_seed_and_epoch():
    lengths = [len(word) for words in WORDS.values() for word in words] * 5
    first = epochs(lengths, batch_size=4, seed=1)
    assert first == epochs(lengths, batch_size=4, seed=1)
    assert first[0] != first[1]
    assert first != epochs(lengths, batch_size=4, seed=2)
    for batches in first:
        assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
        assert max(map(len, batches)) == 4
        assert len(batches) == len(ShuffledBatches(lengths, 4, seed=0)) == 19


def test_a_batch_has_examples_of_similar_length_in_no_order_of_lengths():
    lengths = np.random.default_rng(0).integers(1, 100, size=400)
    (batches,) = epochs(lengths, n=1, batch_size=10, seed=0)
    spread = [np.ptp(lengths[batch]) for batch in batches]
    assert np.mean(spread) < 5
    means = [lengths[batch].mean() for batch in batches]
    assert means != sorted(means)
