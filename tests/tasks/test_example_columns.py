import pytest

from elmolite.errors import InputError
from elmolite.tasks.examples.columns import ExampleColumns, choose_columns


def choose(there, task, *, needs_labels=True, **columns):
    found = choose_columns(there, task, ExampleColumns(**columns), needs_labels=needs_labels, where="a.csv, line 1")
    return (*found.sentences, found.label)


@pytest.mark.parametrize(
    ("task", "there", "expected"),
    [
        ("classify", ["id", "Text", "Label"], ("Text", "Label")),
        ("classify", ["tokens", "sentence", "class"], ("sentence", "class")),
        ("classify", ["words", "label", "tag"], ("words", "label")),
        ("tag", ["text", "tokens", "ner_tags"], ("tokens", "ner_tags")),
        ("tag", ["tokens", "tags", "upos"], ("tokens", "tags")),
        ("entail", ["gold_label", "text1_", "text2", "text1", "label"], ("text1", "text2", "gold_label")),
        ("entail", ["question", "sentence", "label", "idx"], ("question", "sentence", "label")),
    ],
)  # fmt: skip
def test_columns_are_recognised_by_their_names(task, there, expected):
    assert choose(there, task) == expected


def test_a_column_that_is_given_is_not_taken_twice():
    assert choose(["text", "sentence", "label"], "classify", text="label", label="text") == ("label", "text")
    assert choose(["text", "review"], "classify", label="text") == ("review", "text")
    assert choose(["text", "label", "labels"], "classify", label="labels") == ("text", "labels")
    assert choose(["premise", "text2", "label"], "entail", text="text2", second_text="premise")[:2] == (
        "text2",
        "premise",
    )


def test_labels_that_are_not_needed_may_be_missing_or_several():
    assert choose(["text"], "classify", needs_labels=False) == ("text", None)
    assert choose(["tokens", "upos", "xpos"], "tag", needs_labels=False) == ("tokens", None)
    with pytest.raises(InputError, match="no column 'y'"):
        choose(["text"], "classify", needs_labels=False, label="y")


@pytest.mark.parametrize(
    ("task", "there", "columns", "message"),
    [
        ("classify", ["text", "lable"], {}, "no column of a known name for the label among 'text', 'lable'"),
        ("classify", ["label"], {}, "no column of a known name for the text among 'label'"),
        ("classify", ["text", "label"], {"label": "labl"}, r"'labl' \(label\) among .*; did you mean 'label'"),
        ("classify", ["x" * 1000] * 1000, {}, "among 'x{37}...', .*, and 988 more: name it"),
        ("classify", ["text", "review", "label"], {}, "the text may be 'text' or 'review': choose one"),
        ("tag", ["tokens", "pos_tags", "ner_tags"], {}, "the label may be 'pos_tags' or 'ner_tags': choose one"),
        ("entail", ["premise", "label"], {}, "no column of a known name for the second_text"),
    ],
)  # fmt: skip
def test_columns_that_cannot_be_found_are_named(task, there, columns, message):
    with pytest.raises(InputError, match=f"a.csv, line 1: .*{message}"):
        choose(there, task, **columns)


@pytest.mark.parametrize(
    ("task", "columns", "message"),
    [
        ("tag", {"format": "conlu"}, "format: unknown 'conlu'; did you mean 'conllu'"),
        ("tag", {"header": "maybe"}, "header: unknown 'maybe'"),
        ("tag", {"second_text": "x"}, "second_text: the task tag has one sentence"),
        ("entail", {"label_separator": ";"}, "label_separator: the task entail has one label each"),
        ("classify", {"label_separator": ""}, "label_separator: is empty"),
        ("classify", {"encoding": "utf-9"}, "encoding: unknown 'utf-9'"),
        ("classify", {"encoding": "utf-16"}, "encoding: 'utf-16' does not contain ASCII: convert the file"),
        ("classify", {"encoding": "rot13"}, "encoding: unknown 'rot13'"),
        ("classify", {"encoding": "undefined"}, "encoding: 'undefined' does not contain ASCII"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(task, columns, message):
    with pytest.raises(InputError, match=message):
        ExampleColumns(**columns).check(task)
