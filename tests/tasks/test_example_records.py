import json

import pytest
from helpers.small_tasks import examples_of

from elmolite.errors import InputError
from elmolite.tasks.config import ExampleColumns
from elmolite.tasks.examples.records import NO_AGREED_LABEL, ReadOptions, choose_columns
from elmolite.tasks.examples.sources import read_examples


def choose(names, task, *, needs_labels=True, **columns):
    options = ReadOptions(task, ExampleColumns(**columns), needs_labels)
    found = choose_columns(names, options, location="a.csv, line 1")
    return (*found.sentences, found.label)


@pytest.mark.parametrize(
    ("task", "names", "expected"),
    [
        ("classify", ["id", "Text", "Label"], ("Text", "Label")),
        ("classify", ["words", "label", "tag"], ("words", "label")),
        ("tag", ["text", "tokens", "ner_tags"], ("tokens", "ner_tags")),
        ("entail", ["gold_label", "text1_", "text2", "text1", "label"], ("text1", "text2", "gold_label")),
        ("entail", ["question", "sentence", "label", "idx"], ("question", "sentence", "label")),
    ],
)
def test_columns_with_usual_names_are_found(task, names, expected):
    assert choose(names, task) == expected


def test_label_columns_may_be_missing_or_ambiguous_for_prediction():
    assert choose(["text"], "classify", needs_labels=False) == ("text", None)
    assert choose(["tokens", "upos", "xpos"], "tag", needs_labels=False) == ("tokens", None)
    with pytest.raises(InputError, match="no column 'y'"):
        choose(["text"], "classify", needs_labels=False, label="y")


@pytest.mark.parametrize(
    ("task", "names", "columns", "message"),
    [
        ("classify", ["text", "lable"], {}, "label among 'text', 'lable'; pass `columns.label='NAME'`"),
        ("classify", ["text", "label"], {"label": "labl"}, r"'labl' \(label\) among .*; did you mean 'label'"),
        ("classify", ["x" * 1000] * 1000, {}, "among 'x{35}...', .*, and 988 more; pass"),
        ("classify", ["text", "review", "label"], {}, "the text may be 'text' or 'review'; pass `columns.text='NAME'`"),
        ("tag", ["tokens", "pos_tags", "ner_tags"], {}, "the label may be 'pos_tags' or 'ner_tags'; pass"),
        ("entail", ["premise", "label"], {}, "the second_text among .*; pass `columns.second_text='NAME'`"),
    ],
)
def test_missing_and_ambiguous_columns_are_refused(task, names, columns, message):
    with pytest.raises(InputError, match=f"a.csv, line 1: .*{message}"):
        choose(names, task, **columns)


@pytest.mark.parametrize(
    ("task", "columns", "message"),
    [
        ("tag", {"format": "conlu"}, "format must be .*, got 'conlu'; did you mean 'conllu'"),
        ("tag", {"second_text": "x"}, "columns.second_text cannot be used with tag"),
        ("entail", {"label_separator": ";"}, "columns.label_separator cannot be used with entail"),
        ("classify", {"label_separator": ""}, "columns.label_separator must not be empty"),
        ("classify", {"encoding": "utf-9"}, "columns.encoding must contain ASCII, .*, got .utf-9."),
    ],
)
def test_invalid_options_are_refused(task, columns, message):
    with pytest.raises(InputError, match=message):
        ExampleColumns(**columns).check(task)


def of_json(tmp_path, task, *records, **options):
    return examples_of(tmp_path / "a.jsonl", "".join(json.dumps(record) + "\n" for record in records), task, **options)


def test_sentences_are_strings_or_tokens(tmp_path):
    found = of_json(tmp_path, "classify", {"text": " a b ", "label": "x"}, {"text": ["a", "b c"], "label": "y"})
    assert found == [("a b", ("x",)), (("a", "b c"), ("y",))]
    found = of_json(tmp_path, "tag", {"tokens": ["a", "b c"], "tags": ["X", 1]}, {"tokens": "a b", "tags": "X Y"})
    assert found == [(("a", "b c"), ("X", "1")), (("a", "b"), ("X", "Y"))]


def test_json_labels_are_written_as_in_json_and_may_be_missing_for_prediction(tmp_path):
    records = [{"text": "a", "label": label} for label in (1, True, 0.5, "x", "-", ["x", "y", "x"], [])]
    labels = [("1",), ("true",), ("0.5",), ("x",), ("-",), ("x", "y"), ()]
    assert [labels for _, labels in of_json(tmp_path, "classify", *records)] == labels
    records = [{"text": "b"}, {"text": "c", "label": None}, {"text": "d", "label": ""}]
    assert [labels for _, labels in of_json(tmp_path, "classify", *records, needs_labels=False)] == [()] * 3


def test_several_labels_with_a_separator(tmp_path):
    content = "text,label\na,x; y;x\nb,\n"
    found = examples_of(tmp_path / "a.csv", content, "classify", label_separator=";")
    assert found == [("a", ("x", "y")), ("b", ())]


def test_lone_surrogates_are_replaced(tmp_path):
    content = r'{"tokens": ["a\ud800", "\ud83d\ude00"], "tags": ["\udfff", "Y"]}'
    assert examples_of(tmp_path / "a.jsonl", content, "tag") == [(("a\ufffd", "😀"), ("\ufffd", "Y"))]


def test_pairs_without_an_agreed_label_are_left_out_of_training(tmp_path):
    records = [{"sentence1": "a", "sentence2": "b", "gold_label": label} for label in ("-", "neutral", "-")]
    assert of_json(tmp_path, "entail", *records) == [("a", "b", ("neutral",))]
    assert f"{NO_AGREED_LABEL}: 2" in read_examples(tmp_path / "a.jsonl", "entail").report.describe()
    found = of_json(tmp_path, "entail", *records, needs_labels=False)
    assert [labels for *_, labels in found] == [(), ("neutral",), ()]


VALID = {
    "classify": {"text": "a", "label": "b"},
    "tag": {"tokens": ["a"], "tags": ["b"]},
    "entail": {"premise": "a", "hypothesis": "b", "label": "c"},
}


@pytest.mark.parametrize(
    ("task", "record", "message"),
    [
        ("classify", {"text": "", "label": 1}, "the sentence in 'text' is empty"),
        ("classify", {"text": 3, "label": 1}, "'text' must be a sentence or a list of tokens, got 3"),
        ("classify", {"text": ["a", 3], "label": 1}, "a token in 'text' must be a string, got 3"),
        ("classify", {"text": "a"}, "no label in 'label'"),
        ("classify", {"label": "a"}, "no 'text' among 'label'"),
        ("classify", {"text": "a", "label": {}}, "expected a label in 'label', got {}"),
        ("tag", {"tokens": ["a", "b"], "tags": ["X"]}, "the sentence has 2 tokens and 1 tag"),
        ("tag", {"tokens": ["a"], "tags": ""}, "no label in 'tags'"),
        ("entail", {"premise": "a", "hypothesis": "b", "label": ["x", "y"]}, "expected one label in 'label', got 2"),
    ],
)
def test_invalid_records_are_refused(tmp_path, task, record, message):
    with pytest.raises(InputError, match=rf"a\.jsonl, line 2: {message}"):
        of_json(tmp_path, task, VALID[task], record)
