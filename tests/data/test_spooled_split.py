from contextlib import closing
from itertools import accumulate, pairwise

import numpy as np
import pytest

from elmolite.data import spooled_split
from elmolite.data.spooled_split import SpooledSplit


def ids_of(documents):
    """Return what add() takes of documents of sentences of ids."""
    flat = [[i for sentence in document for i in (0, *sentence)] for document in documents]
    return np.array([i for document in flat for i in document], np.uint32), np.array([len(d) for d in flat], np.int64)


def documents_in(split):
    """Read documents of sentences back from the files."""
    tokens, sentences, documents = (
        [number for chunk in part.chunks() for number in chunk.tolist()]
        for part in (split.tokens, split.sentences, split.documents)
    )
    found = [tokens[begin + 1 : end] for begin, end in pairwise([*sentences, len(tokens)])]
    return [found[begin:end] for begin, end in pairwise([*documents, len(found)])]


@pytest.fixture
def split(tmp_path, monkeypatch):
    monkeypatch.setattr(spooled_split, "_CHUNK", 3)
    split = SpooledSplit(tmp_path, "train")
    yield split
    split.close()
    assert list(tmp_path.iterdir()) == []


def test_documents_come_back(split):
    parts = [[[[5], [6, 7]], [[8]]], [], [[], [[9, 10, 11]]], [[]]]
    for part in parts:
        split.add(*ids_of(part))
    assert documents_in(split) == [[[5], [6, 7]], [[8]], [[9, 10, 11]]]
    assert (split.n_documents, split.n_sentences, split.n_tokens, split.n_positions) == (3, 4, 7, 11)


@pytest.mark.parametrize("n_positions", range(1, 16))
def test_what_is_cut_off_is_whole_sentences_at_the_end(split, tmp_path, n_positions):
    documents = [[[2], [3, 4]], [[5, 6, 7], [8], [9]], [[2, 2]]]
    split.add(*ids_of(documents))
    sentences = [sentence for document in documents for sentence in document]
    lengths = list(accumulate(len(sentence) + 1 for sentence in sentences[::-1]))
    n_cut = min(next(i for i, length in enumerate([*lengths, 99], start=1) if length >= n_positions), 5)
    ids, document_lengths = split.cut_off(n_positions)
    with closing(SpooledSplit(tmp_path, "valid")) as valid:
        valid.add(ids, document_lengths)
        kept, cut = documents_in(split), documents_in(valid)
    assert [sentence for document in kept for sentence in document] == sentences[:-n_cut]
    assert [sentence for document in cut for sentence in document] == sentences[-n_cut:]
    is_border = sentences[-n_cut] in (documents[1][0], documents[2][0])
    assert len(kept) + len(cut) == (3 if is_border else 4)
