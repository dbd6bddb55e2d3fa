import random

import pytest
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB2, Entities

from elmolite.errors import InputError
from elmolite.tasks.spans import allowed_transitions, scheme_of, spans

TYPES = ("PER", "creative-work", "_", "-")


def random_sequences(letters, n):
    """Sequences of random tags, most of them invalid."""
    rng = random.Random(0)
    tags = ["O", *letters, *(f"{letter}-{kind}" for letter in letters for kind in TYPES)]
    return [[rng.choice(tags) for _ in range(rng.randint(0, 10))] for _ in range(n)]


@pytest.mark.parametrize("letters", ["BI", "BIES", "I", "IE"])
def test_spans_equal_those_of_seqeval(letters):
    for tags in random_sequences(letters, 2000):
        assert [(label, first, end - 1) for label, first, end in spans(tags)] == get_entities(tags)
        as_bioul = [{"E": "L", "S": "U"}.get(tag[0], tag[0]) + tag[1:] for tag in tags]
        assert spans(as_bioul) == spans(tags)


@pytest.mark.parametrize(
    ("sequences", "scheme"),
    [
        (["O B-PER I-PER B-creative-work"], "BIO"),
        (["O I-PER I-LOC B-LOC"], "IOB1"),
        (["O B-x I-x L-x U-x"], "BIOUL"),
        (["NOUN VERB INTJ O"], None),
        (["-LRB- B-x O"], None),
        (["E-mail S-bahn"], None),
        (["O I-x E-x"], None),
        (["O"], None),
        ([], None),
        (["B-x I-x O", "I-x O", "B-x"], "BIO"),  # one mistake
        (["I-x I-x B-x O", "B-y I-y"], "BIO"),  # a single mistake too
        (["U-x O", "B-x L-x"], "BIOUL"),
    ],
)
def test_scheme_of_tagged_sentences(sequences, scheme):
    assert scheme_of([tags.split() for tags in sequences]) == scheme


@pytest.mark.parametrize(("scheme", "letters", "strict"), [("BIO", "BI", IOB2), ("BIOUL", "BILU", BILOU)])
def test_allowed_sequences_are_those_that_seqeval_reads_strictly(scheme, letters, strict):
    labels = ["O", *(f"{letter}-{kind}" for letter in letters for kind in "xy")]
    allowed = allowed_transitions(labels, scheme)
    rng = random.Random(3)
    n_valid = 0
    for _ in range(2000):
        ids = [rng.randrange(len(labels)) for _ in range(rng.randint(1, 4))]
        tags = [labels[i] for i in ids]
        is_allowed = allowed.start[ids[0]] and allowed.end[ids[-1]] and allowed.between[ids[:-1], ids[1:]].all()
        entities = [(one.tag, one.start, one.end) for one in Entities([tags], strict).entities[0]]
        assert is_allowed == (entities == spans(tags))
        n_valid += bool(is_allowed)
    assert 50 < n_valid < 1950


def test_every_transition_is_allowed_without_a_scheme():
    for scheme in (None, "IOB1"):
        assert all(part.all() for part in allowed_transitions(["I-x", "NOUN"], scheme))
    with pytest.raises(InputError, match="'NOUN' is not a span tag"):
        allowed_transitions(["O", "NOUN"], "BIO")
