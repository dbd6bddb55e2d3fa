import json

import pytest
from conftest import examples_of

from elmolite.errors import InputError
from elmolite.tasks.examples.columns import RECOGNISED
from elmolite.tasks.examples.files import read_examples
from elmolite.tasks.examples.records import NO_AGREED_LABEL


def of_json(tmp_path, task, *records, **options):
    return examples_of(tmp_path / "a.jsonl", "".join(json.dumps(record) + "\n" for record in records), task, **options)


def test_sentences_are_strings_or_tokens(tmp_path):
    found = of_json(tmp_path, "classify", {"text": " a b ", "label": "x"}, {"text": ["a", "b c"], "label": "y"})
    assert found == [("a b", ("x",)), (("a", "b c"), ("y",))]


def test_sentences_to_tag_are_tokens(tmp_path):
    found = of_json(tmp_path, "tag", {"tokens": ["a", "b c"], "tags": ["X", 1]}, {"tokens": "a b", "tags": "X Y"})
    assert found == [(("a", "b c"), ("X", "1")), (("a", "b"), ("X", "Y"))]


def test_labels_of_json_are_written_as_json_writes_them(tmp_path):
    records = [{"text": "a", "label": label} for label in (1, True, 0.5, "x", ["x", "y", "x"], [])]
    labels = [("1",), ("true",), ("0.5",), ("x",), ("x", "y"), ()]
    assert [found[1] for found in of_json(tmp_path, "classify", *records)] == labels


def test_a_separator_stands_between_several_labels(tmp_path):
    content = "text,label\na,x; y;x\nb,\n"
    found = examples_of(tmp_path / "a.csv", content, "classify", label_separator=";")
    assert found == [("a", ("x", "y")), ("b", ())]


def test_lone_surrogates_are_replaced(tmp_path):
    content = r'{"tokens": ["a\ud800", "\ud83d\ude00"], "tags": ["\udfff", "Y"]}'
    assert examples_of(tmp_path / "a.jsonl", content, "tag") == [(("a\ufffd", "😀"), ("\ufffd", "Y"))]
    content = r'{"text": "a\ud800", "label": "\ud800"}'
    assert examples_of(tmp_path / "a.jsonl", content, "classify") == [("a\ufffd", ("\ufffd",))]


def test_pairs_without_an_agreed_label_are_left_out_and_counted(tmp_path):
    records = [{"sentence1": "a", "sentence2": "b", "gold_label": label} for label in ("-", "neutral", "-")]
    assert of_json(tmp_path, "entail", *records) == [("a", "b", ("neutral",))]
    assert read_examples(tmp_path / "a.jsonl", "entail").report.count(NO_AGREED_LABEL) == 2
    assert [labels for *_, labels in of_json(tmp_path, "entail", *records, needs_labels=False)] == [
        (),
        ("neutral",),
        (),
    ]
    assert (
        read_examples(tmp_path / "a.jsonl", "entail", RECOGNISED, needs_labels=False).report.count(NO_AGREED_LABEL) == 0
    )
    with pytest.raises(InputError, match=r"is empty \(no example\); pairs without an agreed label left out: 1"):
        of_json(tmp_path, "entail", records[0])


def test_a_label_of_another_task_may_be_a_dash(tmp_path):
    assert of_json(tmp_path, "classify", {"text": "a", "label": "-"}) == [("a", ("-",))]


def test_labels_may_be_missing_in_what_is_to_be_predicted(tmp_path):
    records = [{"text": "a", "label": "x"}, {"text": "b"}, {"text": "c", "label": None}, {"text": "d", "label": ""}]
    labels = [labels for _, labels in of_json(tmp_path, "classify", *records, needs_labels=False)]
    assert labels == [("x",), (), (), ()]


@pytest.mark.parametrize(
    ("task", "record", "message"),
    [
        ("classify", {"text": "", "label": 1}, "the sentence in 'text' is empty"),
        ("classify", {"text": [], "label": 1}, "the sentence in 'text' is empty"),
        ("classify", {"text": None, "label": 1}, "the sentence in 'text' is empty"),
        ("classify", {"text": 3, "label": 1}, "'text' holds a number, not a sentence"),
        ("classify", {"text": ["a", 3], "label": 1}, "token 2 in 'text' is a number, not a string"),
        ("classify", {"text": "a"}, "no label in 'label'"),
        ("classify", {"label": "a"}, "no 'text' among 'label'"),
        ("classify", {"text": "a", "label": None}, "no label in 'label'"),
        ("classify", {"text": "a", "label": {}}, "'label' holds an object, not a label"),
        ("classify", {"text": "a", "label": [[1]]}, "'label' holds a list, not a label"),
        ("classify", {"text": "a", "label": [None]}, "'label' holds nothing, not a label"),
        ("classify", {"text": "a", "label": ["x", " "]}, "'label' holds an empty label"),
        ("tag", {"tokens": ["a", "b"], "tags": ["X"]}, "the sentence has 2 tokens and 1 tags"),
        ("tag", {"tokens": ["a"], "tags": ""}, "no label in 'tags'"),
        ("entail", {"premise": "a", "hypothesis": "b", "label": ["x", "y"]}, "'label' holds 2 labels; a pair"),
    ],
)
def test_broken_records_are_named(tmp_path, task, record, message):
    good = {
        "classify": {"text": "a", "label": "b"},
        "tag": {"tokens": ["a"], "tags": ["b"]},
        "entail": {"premise": "a", "hypothesis": "b", "label": "c"},
    }
    with pytest.raises(InputError, match=rf"a\.jsonl, line 2: {message}"):
        of_json(tmp_path, task, good[task], record)
