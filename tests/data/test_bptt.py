import pickle

import numpy as np
import pytest
import torch

from elmolite.data.bptt import BPTTBatches
from elmolite.data.vocab import BEGIN_SENTENCE_ID, END_SENTENCE_ID
from elmolite.errors import InputError
from elmolite.nn.cross_entropy import IGNORE_INDEX

DIRECTIONS = ("forward", "backward")


def words_of(batch, corpus, direction):
    """Return the inputs of a direction, (B, T), as words, found by their characters."""
    by_characters = {
        row.tobytes(): word for row, word in zip(corpus.rows(slice(None), "characters"), corpus.words(), strict=True)
    }
    rows = np.full((len(batch.unique_words), 50), 261, np.int32)
    rows[:, : batch.unique_words.shape[1]] = batch.unique_words
    names = np.array([by_characters.get(row.tobytes(), "(padding)") for row in rows], dtype=object)
    return names[getattr(batch, f"{direction}_inputs").numpy()]


def run(streams, steps):
    """Return inputs, targets and reset masks of both directions, each (B, all positions)."""
    batches = [streams.batch(step) for step in steps]
    starts = [np.zeros_like(b.forward_targets, bool) if b.reset_mask is None else b.reset_mask for b in batches]
    found = {"starts": starts}
    for direction in DIRECTIONS:
        found[f"{direction}_inputs"] = [words_of(b, streams.corpus, direction) for b in batches]
        found[f"{direction}_targets"] = [getattr(b, f"{direction}_targets").numpy() for b in batches]
    return {name: np.concatenate(parts, axis=1) for name, parts in found.items()}


def expected_rows(corpus, split, order, n_rows):
    """Deal whole sentences to rows: the definition, sentence by sentence in plain Python."""
    words, vocabulary = corpus.words(), corpus.vocabulary
    sentences = []
    for document in order:
        for s in range(split.documents[document], split.documents[document + 1]):
            begin, end = split.sentences[s], split.sentences[s + 1]
            sentences.append([words[form] for form in split.tokens[begin + 1 : end]])
    n_positions = sum(len(s) + 1 for s in sentences)
    rows, at = [[] for _ in range(n_rows)], 0
    for sentence in sentences:
        row = max(r for r in range(n_rows) if n_positions * r // n_rows <= at)
        rows[row].append(sentence)
        at += len(sentence) + 1
    result = []
    for row in rows:
        parts = {name: [] for name in ("forward_inputs", "forward_targets", "backward_inputs", "backward_targets")}
        for s in row:
            ids = vocabulary.ids(s)
            parts["forward_inputs"] += ["<S>", *s]
            parts["forward_targets"] += [*ids, END_SENTENCE_ID]
            parts["backward_inputs"] += ["</S>", *s[::-1]]
            parts["backward_targets"] += [*ids[::-1], BEGIN_SENTENCE_ID]
        result.append(parts)
    return result


@pytest.mark.parametrize(("n_rows", "window"), [(1, 5), (4, 7), (32, 20)])
@pytest.mark.parametrize("seed", [None, 3])
def test_an_epoch_is_every_sentence_once_in_contiguous_rows(corpus, n_rows, window, seed):
    streams = BPTTBatches(corpus, corpus.train, n_rows, window, seed)
    steps = range(streams.epoch_steps(0))
    found = run(streams, steps)
    n_targets = sum(streams.batch(step).n_targets for step in steps)
    assert n_targets == corpus.train.n_tokens + corpus.train.n_sentences
    order = range(corpus.train.n_documents)
    if seed is not None:
        order = np.random.default_rng((0, seed, 0)).permutation(order)
    for row, expected in enumerate(expected_rows(corpus, corpus.train, order, n_rows)):
        n = len(expected["forward_inputs"])
        for name, values in expected.items():
            assert found[name][row, :n].tolist() == values
        assert (found["forward_targets"][row, n:] == IGNORE_INDEX).all()
        assert (found["backward_targets"][row, n:] == IGNORE_INDEX).all()


def test_a_batch_depends_on_the_step_alone(corpus):
    one, other = (BPTTBatches(corpus, corpus.train, 4, 9, seed=5, reset_probability=0.5) for _ in range(2))
    far = one.end_of_epoch(2) + 3
    list(map(other.batch, range(7)))
    for a, b in zip(one.batch(far), other.batch(far), strict=True):
        assert np.array_equal(a, b)


def test_epochs_and_seeds_differ_in_order(corpus):
    streams = BPTTBatches(corpus, corpus.train, 1, 10, seed=0)
    other = BPTTBatches(corpus, corpus.train, 1, 10, seed=1)
    first, second, of_seed = streams.batch(0), streams.batch(streams.end_of_epoch(0)), other.batch(0)
    assert not torch.equal(first.forward_targets, second.forward_targets)
    assert not torch.equal(first.forward_targets, of_seed.forward_targets)


def test_some_rows_of_a_batch_are_those_rows(corpus):
    streams = BPTTBatches(corpus, corpus.train, 6, 8, seed=0, reset_probability=0.7)
    whole, part = streams.batch(4), streams.batch(4, rows=slice(2, 5))
    for direction in DIRECTIONS:
        assert words_of(whole, corpus, direction)[2:5].tolist() == words_of(part, corpus, direction).tolist()
        name = f"{direction}_targets"
        assert np.array_equal(getattr(whole, name)[2:5], getattr(part, name))
    assert np.array_equal(whole.reset_mask[2:5], part.reset_mask)


def test_where_the_state_is_reset(corpus):
    carried, each, some = (
        run(BPTTBatches(corpus, corpus.train, 2, 10, 0, probability), range(30)) for probability in (0.0, 1.0, 0.5)
    )
    assert carried["starts"][:, 0].all()  # an epoch begins
    assert not carried["starts"][:, 1:].any()
    at_start = each["forward_inputs"] == "<S>"
    assert np.array_equal(each["starts"], at_start)
    assert not some["starts"][~at_start].any()
    assert 0.3 < some["starts"].sum() / at_start.sum() < 0.7


def test_too_little_text_is_said(corpus):
    with pytest.raises(InputError, match=r"sentences are too few for batch_size 5000"):
        BPTTBatches(corpus, corpus.train, 5000, 20)


def test_the_text_is_not_pickled(corpus):
    """Another process maps it again; the validation text, a part of a split, is copied."""
    streams = BPTTBatches(corpus, corpus.train, 4, 10, seed=0)
    pickled = pickle.dumps(streams)
    assert len(pickled) < corpus.train.tokens.nbytes
    for before, after in zip(streams.batch(3), pickle.loads(pickled).batch(3), strict=True):
        assert before == after if isinstance(before, int | None) else torch.equal(before, after)
    valid = BPTTBatches(corpus, corpus.valid.first_sentences(20), 1, 10)
    assert torch.equal(pickle.loads(pickle.dumps(valid)).batch(0).forward_targets, valid.batch(0).forward_targets)
