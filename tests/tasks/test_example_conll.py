import pytest
from conftest import SHARED, examples_of, needs_shared

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


def test_conllu_skips_comments_multiword_tokens_and_empty_nodes(tmp_path):
    assert (
        examples_of(tmp_path / "a.conll", CONLLU, "tag")
        == examples_of(tmp_path / "a.conllu", CONLLU, "tag")
        == [
            (("Vamos", "nos", "10 000"), ("VERB", "PRON", "NOUN")),
            (("Sí",), ("INTJ",)),
        ]
    )
    (first, second) = read_examples(tmp_path / "a.conllu", "tag").examples
    assert (first.location, second.location) == (f"{tmp_path}/a.conllu, line 3", f"{tmp_path}/a.conllu, line 9")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"label": "xpos"}, ("v", "p", "n")),
        ({"label": "FEATS"}, ("Mood=Imp", "_", "_")),
        ({"label": "8"}, ("root", "obj", "obl")),
    ],
)
def test_conllu_tag_columns(tmp_path, columns, expected):
    assert examples_of(tmp_path / "a.conllu", CONLLU, "tag", **columns)[0][1] == expected


def test_conllu_lemmas_as_tokens(tmp_path):
    assert examples_of(tmp_path / "a.conllu", CONLLU, "tag", text="LEMMA")[1] == (("sí",), ("INTJ",))


UNTAGGED = "1\tSí\t_\t_\t_\t_\t_\t_\t_\t_\n"


def test_conllu_without_tags_for_prediction(tmp_path):
    assert examples_of(tmp_path / "a.conllu", UNTAGGED, "tag", needs_labels=False) == [(("Sí",), ())]


CONLL = "-DOCSTART- -X- O\n\nEU NNP  I-ORG\nrejects VBZ O\n\t\n\n# SYM O"


def test_conll_token_is_first_and_tag_last(tmp_path):
    expected = [(("EU", "rejects"), ("I-ORG", "O")), (("#",), ("O",))]
    assert examples_of(tmp_path / "a.conll", CONLL, "tag") == expected
    assert examples_of(tmp_path / "a.conll", CONLL.replace("\n", "\r\n"), "tag") == expected
    numbered = examples_of(tmp_path / "a.conll", CONLL, "tag", text="2", label="1")
    assert numbered == [(("NNP", "VBZ"), ("EU", "rejects")), (("SYM",), ("#",))]


def test_conll_tokens_between_tabs_may_contain_spaces(tmp_path):
    assert examples_of(tmp_path / "a.conll", "10 000\tB\n\u3000\tO\n", "tag") == [(("10 000", "\u3000"), ("B", "O"))]


def test_conll_without_tags_for_prediction(tmp_path):
    assert examples_of(tmp_path / "a.conll", "EU\nrejects\n\nNo\n", "tag", needs_labels=False) == [
        (("EU", "rejects"), ()),
        (("No",), ()),
    ]


@needs_shared
@pytest.mark.parametrize(
    ("name", "n_sentences", "n_tokens", "n_tags"),
    [("ud_english_ewt.dev.conllu.gz", 2001, 25147, 17), ("wnut17.dev.conll.gz", 1009, 15733, 13)],
)
def test_published_tagging_files(name, n_sentences, n_tokens, n_tags):
    examples, _ = read_examples(SHARED / "tagging" / name, "tag")
    assert len(examples) == n_sentences
    assert sum(len(example.labels) for example in examples) == n_tokens
    assert len({tag for example in examples for tag in example.labels}) == n_tags
