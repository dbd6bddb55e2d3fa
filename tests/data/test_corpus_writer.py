import random
from itertools import accumulate, pairwise

import numpy as np
import pytest

from elmolite.data import corpus_writer
from elmolite.data.corpus_writer import SplitSpool, split_tail


def ids_of(documents):
    """Return the arguments of add() for documents of sentences of ids."""
    flat = [[i for sentence in document for i in (0, *sentence)] for document in documents]
    return np.array([i for document in flat for i in document], np.uint32), np.array([len(d) for d in flat], np.int64)


def documents_in(split):
    """Return a split as documents of sentences of ids."""
    found = [split.tokens[begin + 1 : end].tolist() for begin, end in pairwise(split.sentences)]
    return [found[begin:end] for begin, end in pairwise(split.documents)]


@pytest.fixture
def spool(tmp_path):
    return SplitSpool(tmp_path, "train")


def test_documents_round_trip(spool):
    parts = [[[[5], [6, 7]], [[8]]], [], [[], [[9, 10, 11]]], [[]]]
    for part in parts:
        spool.add(*ids_of(part))
    assert spool.n_tokens == 7
    assert documents_in(spool.finish()) == [[[5], [6, 7]], [[8]], [[9, 10, 11]]]


@pytest.mark.parametrize("n_positions", range(1, 16))
def test_split_tail_returns_whole_sentences(spool, n_positions):
    documents = [[[2], [3, 4]], [[5, 6, 7], [8], [9]], [[2, 2]]]
    spool.add(*ids_of(documents))
    sentences = [sentence for document in documents for sentence in document]
    lengths = list(accumulate(len(sentence) + 1 for sentence in sentences[::-1]))
    n_cut = min(next(i for i, length in enumerate([*lengths, 99], start=1) if length >= n_positions), 5)
    kept, cut = map(documents_in, split_tail(spool.finish(), n_positions))
    assert [sentence for document in kept for sentence in document] == sentences[:-n_cut]
    assert [sentence for document in cut for sentence in document] == sentences[-n_cut:]
    starts_document = sentences[-n_cut] in (documents[1][0], documents[2][0])
    assert len(kept) + len(cut) == (3 if starts_document else 4)


@pytest.mark.parametrize("n_counts", [1, 3, 10_000])
def test_words_are_ordered_by_count_then_by_utf8(n_counts):
    rng = random.Random(0)
    letters = ["a", "b", "\x01", "é", "€", "\ud7ff", "\ue000", "😀"]
    words = list({"".join(rng.choices(letters, k=rng.choice([1, 2, 7, 30]))) for _ in range(1000)})
    counts = np.random.default_rng(0).integers(0, n_counts, len(words))
    order = corpus_writer._by_frequency(words, counts)
    assert order.tolist() == sorted(range(len(words)), key=lambda i: (-counts[i], words[i].encode()))
