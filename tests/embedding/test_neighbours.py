import numpy as np
import pytest
from helpers.data import random_sentences

from elmolite.data.tokenization import SentenceTokenizer
from elmolite.embedding.elmo import ELMo
from elmolite.embedding.neighbours import NeighbourIndex, Occurrence, parse_query
from elmolite.errors import InputError


@pytest.fixture
def elmo(bilm):
    return ELMo(bilm, SentenceTokenizer.english())


def test_neighbours_have_the_highest_cosines_of_other_sentences(elmo):
    sentences = random_sentences(30)
    query = Occurrence(sentences[7], 0)
    index = NeighbourIndex(elmo, sentences, layers=1)
    found = list(index.nearest(query, 5))
    vectors = elmo.embed(sentences, layers=1)
    own = vectors[7][0] / np.linalg.norm(vectors[7][0])
    cosines = {}
    for sentence, rows in zip(sentences, vectors, strict=True):
        for position, row in enumerate(rows):
            if sentence != sentences[7]:
                cosines.setdefault(Occurrence(sentence, position).in_context(), row @ own / np.linalg.norm(row))
    assert [similarity for similarity, _ in found] == pytest.approx(
        sorted(cosines.values(), reverse=True)[:5], abs=1e-5
    )
    assert len({each.in_context() for _, each in found}) == 5
    lines = index.describe(query, 5).splitlines()
    assert lines[0].strip() == query.in_context().strip()
    assert [float(line.split()[0]) for line in lines[1:]] == pytest.approx([each for each, _ in found], abs=1e-3)


def test_fewer_neighbours_than_requested(elmo):
    index = NeighbourIndex(elmo, [["a", "b"], ["c"]])
    assert [each.sentence for _, each in index.nearest(Occurrence(["a", "b"], 1), 9)] == [["c"]]


def test_parse_query(elmo):
    query = parse_query("Don't they [play], outside?", elmo)
    assert query == Occurrence(["Do", "n't", "they", "play", ",", "outside", "?"], 3)
    assert parse_query("[Play] it.", elmo).index == 0


@pytest.mark.parametrize("query", ["play", "[a] [b]", "[]", "a [can't] b", "[two words]"])
def test_invalid_queries_are_refused(elmo, query):
    with pytest.raises(InputError, match=r"must be one of the model's tokens|expected one word in"):
        parse_query(query, elmo)


def test_invalid_arguments_are_refused(elmo):
    with pytest.raises(InputError, match="layers must be"):
        NeighbourIndex(elmo, [["a"]], layers="all")
    with pytest.raises(InputError, match="empty"):
        NeighbourIndex(elmo, [])
