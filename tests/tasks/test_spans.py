import random
import warnings

import numpy as np
import pytest
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB2, IOBES, Entities

from elmolite.errors import InputError
from elmolite.tasks.spans import allowed_transitions, locate, scheme_of, scheme_of_sequences, spans, to_bio, to_bioul

TYPES = ("PER", "creative-work", "_")
STRICT = {"BI": ("BIO", IOB2), "BIES": ("BIOUL", IOBES), "BILU": ("BIOUL", BILOU)}


def random_sequences(letters, n, *, seed=0, bare=True, types=TYPES):
    """Sequences of every tag in every order, most of them invalid."""
    rng = random.Random(seed)
    tags = ["O"] + [f"{letter}-{kind}" for letter in letters for kind in types] + (list(letters) if bare else [])
    return [[rng.choice(tags) for _ in range(rng.randint(0, 10))] for _ in range(n)]


@pytest.mark.parametrize("letters", ["BI", "BIES", "I", "IE"])
def test_spans_are_those_of_seqeval(letters):
    for tags in random_sequences(letters, 2000, types=(*TYPES, "-")):
        assert [(label, first, end - 1) for label, first, end in spans(tags)] == get_entities(tags)


@pytest.mark.parametrize("letters", STRICT)
def test_strict_spans_are_those_of_seqeval(letters):
    scheme, seqeval_scheme = STRICT[letters]
    for tags in random_sequences(letters, 2000):
        expected = [(one.tag, one.start, one.end) for one in Entities([tags], seqeval_scheme).entities[0]]
        assert spans(tags, strict=scheme) == expected


def test_l_and_u_are_read_as_e_and_s():
    for tags in random_sequences("BILU", 500):
        other = ["".join({"L": "E", "U": "S"}.get(tag[0], tag[0])) + tag[1:] for tag in tags]
        assert spans(tags) == spans(other)
        assert spans(tags, strict="BIOUL") == spans(other, strict="BIOUL")


def test_the_spans_of_many_sequences_are_those_of_each():
    sequences = random_sequences("BIES", 2000)
    table = locate(sequences)
    together = [(table.labels[i], a, b) for i, a, b in zip(table.label_ids, table.first, table.end, strict=True)]
    alone, at = [], 0
    for tags in sequences:
        alone += [(label, first + at, end + at) for label, first, end in spans(tags)]
        at += len(tags)
    assert together == alone
    assert locate([]).first.size == locate([[], []]).first.size == 0


def test_a_tag_of_no_scheme_is_named_with_its_place():
    with pytest.raises(InputError, match=r"sequence 2, token 3: 'NOUN' is no tag of a span; expected B-x, I-x, L-x"):
        locate([["O"], ["O", "B-x", "NOUN"]])
    with pytest.raises(InputError, match=r"sequence 1, token 2: 'S-x' is no tag of a span; expected B-x, I-x or O"):
        spans(["O", "S-x"], strict="BIO")
    with pytest.raises(InputError, match="sequence 1 is the text 'B-x': expected a list of tags"):
        locate(["B-x"])
    with pytest.raises(InputError, match="strict='IOB1'"):
        spans([], strict="IOB1")


@pytest.mark.parametrize(
    ("labels", "scheme"),
    [
        ("O B-PER I-PER B-creative-work", "BIO"),
        ("B-NP I-NP B-VP", "BIO"),
        ("B I O", "BIO"),
        ("O I-PER I-LOC B-LOC", "IOB1"),
        ("O I-PER", "IOB1"),
        ("O B-x I-x L-x U-x", "BIOUL"),
        ("O B-x I-x E-x S-x", "BIOUL"),
        ("O U-x", "BIOUL"),
        ("NOUN VERB INTJ O", None),
        ("-LRB- B-x O", None),
        ("E-mail S-bahn", None),
        ("I-95", None),
        ("O I-x E-x", None),
        ("O", None),
        ("", None),
        ("O-x B-x", None),
        ("b-x o", None),
    ],
)
def test_schemes_are_recognised_by_their_labels(labels, scheme):
    assert scheme_of(labels.split()) == scheme


LABELS = {
    "BIO": ["O", *(f"{letter}-{kind}" for letter in "BI" for kind in "xy")],
    "BIOUL": ["O", *(f"{letter}-{kind}" for letter in "BILU" for kind in "xy")],
}


@pytest.mark.parametrize("scheme", LABELS)
def test_allowed_sequences_are_those_that_conversion_leaves_alone(scheme):
    labels = LABELS[scheme]
    allowed = allowed_transitions(labels, scheme)
    rng = random.Random(3)
    write = to_bio if scheme == "BIO" else to_bioul
    n_valid = 0
    for _ in range(2000):
        ids = [rng.randrange(len(labels)) for _ in range(rng.randint(1, 4))]
        tags = [labels[i] for i in ids]
        is_allowed = allowed.start[ids[0]] and allowed.end[ids[-1]] and allowed.between[ids[:-1], ids[1:]].all()
        assert is_allowed == (write(tags) == tags)
        n_valid += bool(is_allowed)
    assert 50 < n_valid < 1950


@pytest.mark.parametrize(
    ("sequences", "scheme"),
    [
        (["B-x I-x O", "O B-x"], "BIO"),
        (["B-x I-x O", "I-x O", "B-x"], "BIO"),  # one mistake
        (["I-x I-x B-x O", "I-x", "O I-x"], "IOB1"),
        (["I-x I-x B-x O", "B-y I-y"], "BIO"),  # a single mistake too
        (["U-x O", "B-x L-x"], "BIOUL"),
        (["O O"], None),
        (["NOUN I-x"], None),
        ([], None),
    ],
)
def test_the_scheme_of_sequences(sequences, scheme):
    assert scheme_of_sequences([tags.split() for tags in sequences]) == scheme


def test_tags_of_no_scheme_may_follow_each_other():
    for scheme in (None, "IOB1"):
        assert all(part.all() for part in allowed_transitions(["I-x", "NOUN"], scheme))
    with pytest.raises(InputError, match="'NOUN' is no tag"):
        allowed_transitions(["O", "NOUN"], "BIO")


def test_conversions_keep_the_spans():
    for tags in random_sequences("BIES", 500, bare=False):
        for written in (to_bio(tags), to_bioul(tags), to_bioul(tags, letters="ES")):
            assert spans(written) == spans(tags)
        assert spans(to_bioul(tags), strict="BIOUL") == spans(to_bio(tags), strict="BIO") == spans(tags)
        assert to_bio(to_bioul(tags)) == to_bio(tags)
    assert to_bioul(["I-x", "I-x", "B", "O", "B-y"]) == ["B-x", "L-x", "U", "O", "U-y"]
    with pytest.raises(InputError, match="letters='SE'"):
        to_bioul([], letters="SE")


def test_seqeval_itself_reads_what_is_written():
    with warnings.catch_warnings(action="error"):
        tags = to_bioul(["B-x", "I-x", "I-x", "O", "B-y"], letters="ES")
        assert get_entities(tags) == [("x", 0, 2), ("y", 4, 4)]
    assert np.array_equal(tags, ["B-x", "I-x", "E-x", "O", "S-y"])
