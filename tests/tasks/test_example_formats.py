"""Formats of label files, of which invalid ones are refused with file and line."""

import re

import pytest
from helpers.data import SHARED, needs_shared
from helpers.small_tasks import examples_of, write_classes

from elmolite.cli.main import main
from elmolite.errors import InputError
from elmolite.tasks.config import ExampleColumns
from elmolite.tasks.examples.sources import read_examples

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
    expected = [(("Vamos", "nos", "10 000"), ("VERB", "PRON", "NOUN")), (("Sí",), ("INTJ",))]
    assert examples_of(tmp_path / "a.conllu", CONLLU, "tag") == expected
    (first, second) = read_examples(tmp_path / "a.conllu", "tag").examples
    assert (first.location, second.location) == (f"{tmp_path}/a.conllu, line 3", f"{tmp_path}/a.conllu, line 9")


def test_conllu_columns(tmp_path):
    for columns, expected in (
        ({"label": "xpos"}, ("v", "p", "n")),
        ({"label": "FEATS"}, ("Mood=Imp", "_", "_")),
        ({"label": "8"}, ("root", "obj", "obl")),
    ):
        assert examples_of(tmp_path / "a.conllu", CONLLU, "tag", **columns)[0][1] == expected
    assert examples_of(tmp_path / "a.conllu", CONLLU, "tag", text="LEMMA")[1] == (("sí",), ("INTJ",))


CONLL = "-DOCSTART- -X- O\n\nEU NNP  I-ORG\nrejects VBZ O\n\t\n\n# SYM O"


def test_conll_token_is_first_and_tag_last(tmp_path):
    expected = [(("EU", "rejects"), ("I-ORG", "O")), (("#",), ("O",))]
    assert examples_of(tmp_path / "a.conll", CONLL, "tag") == expected
    assert examples_of(tmp_path / "a.conll", CONLL.replace("\n", "\r\n"), "tag") == expected
    numbered = examples_of(tmp_path / "a.conll", CONLL, "tag", text="2", label="1")
    assert numbered == [(("NNP", "VBZ"), ("EU", "rejects")), (("SYM",), ("#",))]


def test_conll_tokens_between_tabs_may_contain_spaces(tmp_path):
    assert examples_of(tmp_path / "a.conll", "10 000\tB\n\u3000\tO\n", "tag") == [(("10 000", "\u3000"), ("B", "O"))]


def test_tags_may_be_missing_for_prediction(tmp_path):
    for name, content in (("a.conllu", "1\tSí" + "\t_" * 8 + "\n"), ("a.conll", "Sí\n")):
        assert examples_of(tmp_path / name, content, "tag", needs_labels=False) == [(("Sí",), ())]


def test_csv_with_quoted_commas_and_line_ends(tmp_path):
    path = tmp_path / "a.csv"
    content = ',text,label\r\n0,"He said ""no"",\r\nthen left.",1\r\n1,Fine,0\r\n'
    assert examples_of(path, content, "classify") == [('He said "no",\nthen left.', ("1",)), ("Fine", ("0",))]
    locations = [example.location for example in read_examples(path, "classify").examples]
    assert locations == [f"{path}, line 2", f"{path}, line 4"]


def test_only_fields_quoted_as_by_spreadsheets_are_unquoted_in_tsv(tmp_path):
    texts = ['"Hi" she said', '"', '""', '"Hi."', '"a ""b" c"', '"a ""b"" c"', '"""Hi"""', 'a ""b"" c']
    content = "Sentence\tLabel\n" + "".join(f"{text}\t1\n" for text in texts)
    read = ['"Hi" she said', '"', '""', '"Hi."', '"a ""b" c"', 'a "b" c', '"Hi"', 'a ""b"" c']
    assert examples_of(tmp_path / "a.tsv", content, "classify") == [(text, ("1",)) for text in read]


ROWS = "A man sleeps .\tHe rests .\t2\nTwo dogs .\tOne cat\t0\nYes\tNo\t2\n"
PAIRS = [("A man sleeps .", "He rests .", ("2",)), ("Two dogs .", "One cat", ("0",)), ("Yes", "No", ("2",))]


def test_pairs_without_header_are_premise_hypothesis_and_label(tmp_path):
    for name in ("a.tsv", "a.txt"):
        assert examples_of(tmp_path / name, ROWS, "entail") == PAIRS
    assert examples_of(tmp_path / "a", "Yes\tNo\n", "entail", needs_labels=False) == [("Yes", "No", ())]
    named = {"text": "p", "second_text": "h", "label": "y"}
    assert examples_of(tmp_path / "a.tsv", f"p\th\ty\n{ROWS}", "entail", **named) == PAIRS


def test_column_numbers_with_and_without_header(tmp_path):
    columns = {"text": "2", "second_text": "1", "label": "3"}
    assert examples_of(tmp_path / "a.tsv", ROWS, "entail", **columns)[0] == ("He rests .", "A man sleeps .", ("2",))
    for header, columns in (
        ("id\ttext\tother\tlabel", {"text": "3", "label": "1"}),
        ("id\tu\tv\tw", {"text": "v", "label": "1"}),
        ("id\tu\tv\tw", {"text": "3", "label": "1", "header": "present"}),
    ):
        content = f"{header}\n7\tgood\tx\t1\n"
        assert examples_of(tmp_path / "a.tsv", content, "classify", **columns) == [("x", ("7",))]


def test_tables_without_labels_for_prediction(tmp_path):
    for content in ("text\ngood\nbad film\n", "text,label\ngood,\nbad film,\n"):
        found = examples_of(tmp_path / "a.csv", content, "classify", needs_labels=False)
        assert found == [("good", ()), ("bad film", ())]
    found = examples_of(tmp_path / "a.csv", "good\nbad film\n", "classify", needs_labels=False, text="1")
    assert found == [("good", ()), ("bad film", ())]


def test_lines_of_label_and_text(tmp_path):
    content = "__label__x __label__y a __label__z b\n__label__y c\n"
    assert examples_of(tmp_path / "a", content, "classify") == [("a __label__z b", ("x", "y")), ("c", ("y",))]
    assert examples_of(tmp_path / "a", "x|y  a b\n", "classify", label_separator="|") == [("a b", ("x", "y"))]
    content, options = "__label__x a\nb\n", {"needs_labels": False, "format": "label-text"}
    assert examples_of(tmp_path / "a", content, "classify", **options) == [("a", ("x",)), ("b", ())]


def test_plain_text_for_prediction(tmp_path):
    for task in ("classify", "tag"):
        found = examples_of(tmp_path / "a", "Good morning .\n\n 1 too\n", task, needs_labels=False)
        assert found == [("Good morning .", ()), ("1 too", ())]
    assert read_examples(tmp_path / "a", "tag", needs_labels=False).examples[1].location == f"{tmp_path / 'a'}, line 3"


@needs_shared
@pytest.mark.parametrize(
    ("name", "task", "encoding", "n_examples", "n_labels"),
    [
        ("tagging/ud_english_ewt.dev.conllu.gz", "tag", "utf-8", 2001, 17),
        ("tagging/wnut17.dev.conll.gz", "tag", "utf-8", 1009, 13),
        ("classification/sst5.dev.txt.gz", "classify", "utf-8", 1101, 5),
        ("classification/trec.train.txt.gz", "classify", "latin-1", 5452, 6),
        ("entailment/snli_small.dev.tsv.gz", "entail", "utf-8", 1000, 3),
        ("entailment/snli_official_tokenised.dev.tsv.gz", "entail", "utf-8", 9842, 3),  # without header
    ],
)
def test_published_files(name, task, encoding, n_examples, n_labels):
    examples, report = read_examples(SHARED / name, task, ExampleColumns(encoding=encoding))
    assert (len(examples), report.describe()) == (n_examples, "")
    assert len({label for example in examples for label in example.labels}) == n_labels


def row(number, form, upos="NOUN"):
    """A line of CoNLL-U."""
    return f"{number}\t{form}\t_\t{upos}\t_\t_\t_\t_\t_\t_\n"


TWO = row(1, "ban") + row(2, "kin", "VERB")
BIO = "ban B-x\nkin I-x\nlun O\n"
HEAD = "text,label\n"
TEXT = "text\tlabel\n"
OBJECT = '{"text": "ban kin", "label": "a"}\n'
PAIR = "premise\thypothesis\tlabel\n"

# (task, file name, content, columns, pattern of the message)
REFUSED = [
    ("tag", "a.conllu", TWO + "3\tlun\t_\tNOUN\n", {}, "line 3: expected the 10 columns of CoNLL-U, got 4"),
    ("tag", "a.conllu", TWO + TWO, {}, "line 3: expected the ID 3, got '1'"),
    ("tag", "a.conllu", row(1, "ban") + row(2, ""), {}, "line 2: the token is empty"),
    ("tag", "a.conllu", row(1, "ban", "_"), {}, "line 1: a sentence without tags: every UPOS is '_'"),
    ("tag", "a.conllu", TWO, {"label": "UPSO"}, "CoNLL-U has no column 'UPSO'; did you mean 'UPOS'"),
    ("tag", "a.conllu", (TWO + row(3, "né")).encode("latin-1"), {}, "line 3: not UTF-8 .*`columns.encoding="),
    ("classify", "a.conllu", TWO, {}, "the format conllu is not for classify with labels; expected one of csv, tsv"),
    ("tag", "a.conll", "ban\nkin\n\nlun\n", {}, "line 1: expected a token and its tag, got 'ban'"),
    ("tag", "a.conll", BIO + "ban NN O\n", {}, "line 4: expected 2 columns as in the lines above, got 3"),
    ("tag", "a.conll", BIO, {"label": "5"}, "no column '5'; CoNLL columns are given by number, here 1 to 2"),
    ("tag", "a.tsv", "ban\tB-x\n", {}, "line 1: no usual column name .* or `columns.format='conll'` if each line is"),
    ("classify", "a.csv", HEAD + 'ban,a\n"kin,b\nlun,a\n', {}, "line 3: invalid CSV row"),
    ("classify", "a.csv", HEAD + "ban,a\n" * 15 + "kin\n", {}, "line 17: expected 2 fields as in line 1, got 1"),
    ("classify", "a.csv", HEAD, {}, "a.csv: contains no example"),
    ("classify", "a.jsonl", OBJECT * 2 + '{"text": "ban"\n', {}, "line 3: invalid JSON"),
    ("classify", "a.jsonl", OBJECT + "[" * 100_000 + "\n", {}, "line 2: invalid JSON"),
    ("classify", "a.json", '{\n "text": "ban"\n}\n', {}, "line 1: invalid JSON: .*expected one object per line"),
    ("classify", "a.json", '[{"text": "ban", "label": "a"}]\n', {}, "line 1: expected a JSON object per line"),
    ("classify", "a", "a b", {"label": "1"}, "`columns.label` cannot be used with label-text, which"),
    ("classify", "a.txt", "a ban kin\nb\n", {}, "line 2: no sentence after the label: 'b'"),
    ("classify", "a.txt", "__label__a ban\nkin lun\n", {}, "line 2: no label: 'kin lun'"),
    ("classify", "a", "a b", {"header": "present"}, "`columns.header` is for csv and tsv, not for label-text"),
    ("entail", "a.tsv", PAIR + "ban\tkin\t-\n", {}, "contains no example; pairs without an agreed label left out: 1"),
    ("entail", "a.txt", "plain\n", {}, "line 1: no usual column name among 'plain'; pass `columns.text`"),
]

# (task, file name, content, number of examples, pattern of the report)
READ = [
    ("tag", "a.conllu", f"# a\n\n{TWO}\n\ufeff{TWO}", 2, "byte order marks inside the text"),
    ("tag", "a.conll", "ban\tO\nkin O\n", 1, "^$"),
    ("tag", "a.conll", f"\n\n{BIO}\n\n\n{BIO}\n\n", 2, "^$"),
    ("tag", "a.conll", "#ff O\n@ban B-x\n\n# O\n", 2, "^$"),
    ("classify", "a.csv", "\ufeff" + HEAD + "ban,a\n\n  \nkin,b\n\n", 2, r"blank lines left out: 3 \(.* line 3\)"),
    ("classify", "a.tsv", TEXT + "ban\ta\n\t\n", 1, "blank lines left out: 1"),
    ("classify", "a.jsonl", '{"text": "ban\u2028kin", "label": "a", "score": NaN}\n', 1, "^$"),
    ("classify", "a.txt", "left\tban kin\n\n  right lun\n \n", 2, r"blank lines left out: 2 \(first in line 2\)"),
    ("entail", "a.tsv", PAIR + "ban\tkin\t-\nban\tban\tsame\n", 1, "pairs without an agreed label left out: 1"),
]


def write(folder, name, content):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


@pytest.mark.parametrize(("task", "name", "content", "columns", "message"), REFUSED)
def test_invalid_files_are_refused_with_file_and_line(tmp_path, task, name, content, columns, message):
    path = write(tmp_path, name, content)
    with pytest.raises(InputError, match=message) as raised:
        read_examples(path, task, ExampleColumns(**columns))
    said = str(raised.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    assert len(said) < 500


@pytest.mark.parametrize(("task", "name", "content", "n_examples", "report"), READ)
def test_unusual_files_are_read_and_reported(tmp_path, task, name, content, n_examples, report):
    examples, found = read_examples(write(tmp_path, name, content), task)
    assert len(examples) == n_examples
    assert re.search(report, found.describe())


def test_commands_refuse_invalid_files_before_training(tmp_path, model_folder, capsys):
    invalid, valid = write(tmp_path, "bad.txt", "a\n"), write_classes(tmp_path / "good.txt")
    for parts in (("--train", invalid, "--dev", valid), ("--train", valid, "--dev", invalid)):
        arguments = ["finetune", "classify", "--encoder", model_folder, "--out", tmp_path / "run", *parts]
        assert main([str(each) for each in arguments]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"elmolite: {invalid}")
        assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
