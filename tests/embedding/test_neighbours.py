import numpy as np
import pytest
from conftest import random_sentences

from elmolite.cli.main import main
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.embedding.elmo import ELMo
from elmolite.embedding.neighbours import NeighbourIndex, Place, marked_place
from elmolite.errors import InputError


@pytest.fixture
def elmo(bilm):
    return ELMo(bilm, SentenceTokenizer.english())


def test_neighbours_are_the_highest_cosines_of_other_sentences(elmo):
    sentences = random_sentences(30)
    query = Place(sentences[7], 0)
    found = list(NeighbourIndex(elmo, sentences, layers=1).nearest(query, 5))
    vectors = elmo.embed(sentences, layers=1)
    own = vectors[7][0] / np.linalg.norm(vectors[7][0])
    cosines = {}
    for sentence, rows in zip(sentences, vectors, strict=True):
        for index, row in enumerate(rows):
            if sentence != sentences[7]:
                cosines.setdefault(Place(sentence, index).in_context(), row @ own / np.linalg.norm(row))
    best = sorted(cosines.values(), reverse=True)[:5]
    assert [similarity for similarity, _ in found] == pytest.approx(best, abs=1e-5)
    assert len({place.in_context() for _, place in found}) == 5
    assert all(place.sentence != sentences[7] for _, place in found)


def test_fewer_neighbours_than_asked_for(elmo):
    index = NeighbourIndex(elmo, [["a", "b"], ["c"]])
    assert [place.sentence for _, place in index.nearest(Place(["a", "b"], 1), 9)] == [["c"]]


def test_an_occurrence_is_found_whatever_its_case(elmo):
    index = NeighbourIndex(elmo, [["The", "cat"], ["the", "dog"], ["THE", "end"]])
    assert index.occurrence("the") == Place(["the", "dog"], 0)
    assert index.occurrence("bird") is None


def test_the_word_in_brackets_is_asked_for(elmo):
    place = marked_place("Don't they [play], outside?", elmo)
    assert place.sentence == ["Do", "n't", "they", "play", ",", "outside", "?"]
    assert place.index == 3
    assert marked_place("[Play] it.", elmo).index == 0


@pytest.mark.parametrize("query", ["play", "[a] [b]", "[]", "a [can't] b", "[two words]"])
def test_queries_without_exactly_one_word_are_refused(elmo, query):
    with pytest.raises(InputError, match=r"is not one of them|one word in"):
        marked_place(query, elmo)


def test_what_cannot_be_compared_is_refused(elmo):
    with pytest.raises(InputError, match="layers='all'"):
        NeighbourIndex(elmo, [["a"]], layers="all")
    with pytest.raises(InputError, match="no text"):
        NeighbourIndex(elmo, [])


def test_the_command(tmp_path, model_folder, capsys):
    (tmp_path / "text.txt").write_text("ban dost kive\nluly ban\nmen rave\n")
    arguments = ["neighbours", str(model_folder), str(tmp_path / "text.txt"), "--query", "dost [ban] luly", "-n", "3"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[1].endswith("dost [ban] luly")
    assert all("[" in line and float(line.split()[0]) <= 1 for line in lines[2:])
