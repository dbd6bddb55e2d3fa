import gzip
import io
from types import SimpleNamespace

import pytest
from conftest import SHARED, examples_of, needs_shared

from elmolite.errors import InputError
from elmolite.tasks.examples.files import read_examples
from elmolite.tasks.examples.records import ExampleColumns

CONLLU = "# sent_id = 1\n1\tHi\thi\tINTJ\t_\t_\t0\troot\t_\t_\n"


@pytest.mark.parametrize(
    ("task", "name", "content"),
    [
        ("tag", "a.conllu", CONLLU),
        ("tag", "a.txt", CONLLU),
        ("tag", "a.bio", "Hi INTJ\n"),
        ("tag", "a.txt", "Hi INTJ\n\nHi INTJ\n"),
        ("tag", "a.tsv", "Hi\tINTJ\n"),
        ("tag", "a.tsv", "Hi\tINTJ\n\nHi\tINTJ\n"),
        ("tag", "a.tsv", "tokens\ttags\nHi\tINTJ\n"),
        ("tag", "eng.train", "Hi INTJ\n\nHi INTJ\n"),
        ("tag", "a.json", '\n{"tokens": ["Hi"], "tags": ["INTJ"]}\n'),
        ("tag", "a.csv", "text,tags\nHi,INTJ\n"),
        ("classify", "a.csv", "text,label\nHi,INTJ\n"),
        ("classify", "a.txt", "text\tlabel\nHi\tINTJ\n"),
        ("classify", "a.txt", "__label__INTJ Hi\n"),
        ("classify", "a", "INTJ Hi\n"),
        ("classify", "a.train", "INTJ\tHi\n"),
        ("classify", "A.JSONL", '{"text": "Hi", "label": "INTJ"}'),
    ],
)
def test_format_by_suffix_or_task(tmp_path, task, name, content):
    sentence = ("Hi",) if task == "tag" else "Hi"
    assert set(examples_of(tmp_path / name, content, task)) == {(sentence, ("INTJ",))}
    compressed = gzip.compress(("\ufeff" + content.replace("\n", "\r\n")).encode())
    assert set(examples_of(tmp_path / f"{name}.gz", compressed, task)) == {(sentence, ("INTJ",))}


def test_given_format_overrides_the_suffix(tmp_path):
    assert examples_of(tmp_path / "a.conll", '{"text": "Hi", "label": 1}', "classify", format="jsonl") == [
        ("Hi", ("1",))
    ]


def test_lines_of_label_and_text(tmp_path):
    content = "__label__x __label__y a __label__z b\n__label__y c\n"
    assert examples_of(tmp_path / "a", content, "classify") == [("a __label__z b", ("x", "y")), ("c", ("y",))]
    assert examples_of(tmp_path / "a", "x|y  a b\n", "classify", label_separator="|") == [("a b", ("x", "y"))]
    unlabelled = examples_of(tmp_path / "a", "__label__x a\nb\n", "classify", needs_labels=False)
    assert unlabelled == [("a", ("x",)), ("b", ())]


def test_plain_text_for_prediction(tmp_path):
    content = "Good morning .\n\n 1 too\n"
    for task in ("classify", "tag"):
        found = examples_of(tmp_path / "a", content, task, needs_labels=False)
        assert found == [("Good morning .", ()), ("1 too", ())]
    assert read_examples(tmp_path / "a", "tag", needs_labels=False).examples[1].location == f"{tmp_path / 'a'}, line 3"


def test_text_for_prediction_is_columns_if_tabs_or_known_tags_say_so(tmp_path):
    content = "Good morning everyone\nHow are you\n\nSee you soon\n"
    (tmp_path / "a.txt").write_text(content)
    found = read_examples(tmp_path / "a.txt", "tag", needs_labels=False, labels=("B-x", "O")).examples
    assert [each.sentences[0] for each in found] == ["Good morning everyone", "How are you", "See you soon"]
    tagged = {"a.txt": "How B-x\nare O\n\nyou O\n", "b.txt": "How\tA\nare\tB\n\nyou\tC\n", "c.conll": content}
    for name, text in tagged.items():
        (tmp_path / name).write_text(text)
        assert len(read_examples(tmp_path / name, "tag", needs_labels=False, labels=("B-x", "O")).examples) == 2


def test_running_text_is_refused_as_training_data(tmp_path):
    text = "".join(f"{word} more words\n" for word in ("The", "A", "And", *"abcdefghijklmnopqrst"))
    with pytest.raises(InputError, match=r"a.txt: .*, but 23 of 23 first words occur once; pass --columns.format"):
        examples_of(tmp_path / "a.txt", text, "classify")
    assert len(examples_of(tmp_path / "a.txt", text, "classify", format="label-text")) == 23
    with pytest.raises(InputError, match=r"a.txt: expected columns, with blank lines .*; pass --columns.format"):
        examples_of(tmp_path / "a.txt", text, "tag")


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"x Hi\n")))
    assert read_examples("-", "classify").examples[0].location == "standard input, line 1"


def test_other_encodings(tmp_path):
    content = "x sm\xf8rrebr\xf8d\n".encode("latin-1")
    assert examples_of(tmp_path / "a", content, "classify", encoding="latin-1") == [("smørrebrød", ("x",))]
    with pytest.raises(
        InputError, match=r"a, line 1: not UTF-8 .*; if it has another encoding, pass --columns.encoding latin-1"
    ):
        examples_of(tmp_path / "a", content, "classify")


@pytest.mark.parametrize(
    ("task", "name", "columns", "message"),
    [
        ("classify", "a.conllu", {}, "the format conllu is not for classify with labels; expected one of csv, tsv"),
        ("classify", "a", {"format": "text"}, "the format text is not for classify with labels"),
        ("classify", "a", {"header": "present", "format": "label-text"}, "header: present: applies to csv and tsv"),
        ("classify", "a", {"label": "1", "format": "label-text"}, "label: 1: the format label-text has no columns"),
    ],
)
def test_options_that_do_not_apply_to_the_format_are_refused(tmp_path, task, name, columns, message):
    with pytest.raises(InputError, match=message):
        examples_of(tmp_path / name, CONLLU, task, **columns)


def test_missing_files_and_folders(tmp_path):
    for path, message in ((tmp_path / "a.csv", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InputError, match=f"{path}: cannot be read: {message}"):
            read_examples(path, "tag")


@needs_shared
@pytest.mark.parametrize(("name", "encoding", "n_examples", "n_labels"), [
    ("sst5.dev", "utf-8", 1101, 5), ("trec.test", "utf-8", 500, 6), ("trec.train", "latin-1", 5452, 6),
])  # fmt: skip
def test_published_classification_files(name, encoding, n_examples, n_labels):
    columns = ExampleColumns(encoding=encoding)
    examples, _ = read_examples(SHARED / "classification" / f"{name}.txt.gz", "classify", columns)
    assert len(examples) == n_examples
    assert len({label for example in examples for label in example.labels}) == n_labels


@needs_shared
@pytest.mark.parametrize("name", ["wikipedia", "wikitext2", "speeches.tokenised"])
def test_published_text_is_refused_as_training_data(name):
    for task in ("classify", "tag", "entail"):
        with pytest.raises(InputError, match=r"pass --columns|expected [0-9]+ columns as in the lines above"):
            read_examples(SHARED / "lm" / f"{name}.valid.txt.gz", task)
