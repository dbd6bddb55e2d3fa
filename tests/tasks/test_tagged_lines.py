import pytest
from conftest import SHARED, examples_of, needs_shared

from elmolite.errors import InputError
from elmolite.tasks.examples.files import read_examples

CONLLU = """# text = Vámonos al mar
1-2	Vámonos	_	_	_	_	_	_	_	_
1	Vamos	ir	VERB	v	Mood=Imp	0	root	_	_
2	nos	nosotros	PRON	p	_	1	obj	_	_
2.1	gone	_	_	_	_	_	_	_	_
3	10 000	mar	NOUN	n	_	1	obl	_	_

# text = Sí
1	Sí	sí	INTJ	i	_	0	root	_	_
"""


def test_conllu_skips_comments_ranges_and_empty_nodes(tmp_path):
    assert examples_of(tmp_path / "a.conllu", CONLLU, "tag") == [
        (("Vamos", "nos", "10 000"), ("VERB", "PRON", "NOUN")),
        (("Sí",), ("INTJ",)),
    ]
    (first, second) = read_examples(tmp_path / "a.conllu", "tag").examples
    assert (first.place, second.place) == (f"{tmp_path}/a.conllu, line 3", f"{tmp_path}/a.conllu, line 9")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"label": "xpos"}, ("v", "p", "n")),
        ({"label": "FEATS"}, ("Mood=Imp", "_", "_")),
        ({"label": "8"}, ("root", "obj", "obl")),
    ],
)
def test_conllu_has_named_columns(tmp_path, columns, expected):
    assert examples_of(tmp_path / "a.conllu", CONLLU, "tag", **columns)[0][1] == expected


def test_conllu_tokens_may_be_the_lemmas(tmp_path):
    assert examples_of(tmp_path / "a.conllu", CONLLU, "tag", text="LEMMA")[1] == (("sí",), ("INTJ",))


UNTAGGED = "1\tSí\t_\t_\t_\t_\t_\t_\t_\t_\n"


def test_conllu_without_tags_can_be_predicted(tmp_path):
    assert examples_of(tmp_path / "a.conllu", UNTAGGED, "tag", needs_labels=False) == [(("Sí",), ())]


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        (UNTAGGED, {}, "line 1: a sentence without tags: all UPOS are '_'"),
        (CONLLU + "2\tx\n", {}, r"line 10: 2 columns where CoNLL-U has 10: '2\\tx'"),
        (CONLLU.replace("\n\n", "\n"), {}, "line 8: expected token 4 of the sentence, found the ID '1'"),
        (CONLLU.replace("\tnos\t", "\t\t"), {}, "line 4: the token is empty"),
        (CONLLU.replace("PRON", ""), {}, "line 4: the tag is empty"),
        (CONLLU, {"label": "UPSO"}, "CoNLL-U has no column 'UPSO'; did you mean 'UPOS'"),
        (CONLLU, {"label": "11"}, "CoNLL-U has no column '11'; valid are: DEPREL"),
        ("# only\n# comments\n\n", {}, "is empty"),
    ],
)
def test_broken_conllu_is_named(tmp_path, content, columns, message):
    with pytest.raises(InputError, match=message):
        examples_of(tmp_path / "a.conllu", content, "tag", **columns)


CONLL = "-DOCSTART- -X- O\n\nEU NNP  I-ORG\nrejects VBZ O\n\t\n\n# SYM O"


def test_columns_have_the_token_first_and_the_tag_last(tmp_path):
    expected = [(("EU", "rejects"), ("I-ORG", "O")), (("#",), ("O",))]
    assert examples_of(tmp_path / "a.conll", CONLL, "tag") == expected
    assert examples_of(tmp_path / "a.conll", CONLL.replace("\n", "\r\n"), "tag") == expected
    numbered = examples_of(tmp_path / "a.conll", CONLL, "tag", text="2", label="1")
    assert numbered == [(("NNP", "VBZ"), ("EU", "rejects")), (("SYM",), ("#",))]


def test_tokens_between_tabs_may_hold_spaces(tmp_path):
    assert examples_of(tmp_path / "a.conll", "10 000\tB\n\u3000\tO\n", "tag") == [(("10 000", "\u3000"), ("B", "O"))]


def test_columns_without_tags_can_be_predicted(tmp_path):
    assert examples_of(tmp_path / "a.conll", "EU\nrejects\n\nNo\n", "tag", needs_labels=False) == [
        (("EU", "rejects"), ()),
        (("No",), ()),
    ]


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("EU O\nrejects\n", {}, "line 2: 1 columns where the lines above have 2: 'rejects'"),
        ("EU\nrejects\n", {}, "line 1: a token without a tag: 'EU'"),
        ("EU\tO\nx\t\n", {}, "line 2: the tag is empty"),
        ("EU\tO\n\tO\n", {}, "line 2: the token is empty"),
        ("EU O\n", {"label": "3"}, "no column '3'; the columns have no names but the numbers 1 to 2"),
        ("EU O\n", {"label": "ner"}, "no column 'ner'; the columns have no names but the numbers 1 to 2"),
        ("-DOCSTART- -X- O\n\n", {}, "is empty"),
    ],
)
def test_broken_columns_are_named(tmp_path, content, columns, message):
    with pytest.raises(InputError, match=message):
        examples_of(tmp_path / "a.conll", content, "tag", **columns)


@needs_shared
@pytest.mark.parametrize(
    ("name", "n_sentences", "n_tokens", "n_tags"),
    [("ud_english_ewt.dev.conllu.gz", 2001, 25147, 17), ("wnut17.dev.conll.gz", 1009, 15733, 13)],
)
def test_published_files_are_read(name, n_sentences, n_tokens, n_tags):
    examples, _ = read_examples(SHARED / "tagging" / name, "tag")
    assert len(examples) == n_sentences
    assert sum(len(example.labels) for example in examples) == n_tokens
    assert len({tag for example in examples for tag in example.labels}) == n_tags
