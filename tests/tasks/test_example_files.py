import gzip
import io
from types import SimpleNamespace

import pytest
from conftest import SHARED, examples_of, needs_shared

from elmolite.errors import InputError
from elmolite.tasks.examples.columns import ExampleColumns
from elmolite.tasks.examples.files import read_examples

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
        ("tag", "a.json", '\n{"tokens": ["Hi"], "tags": ["INTJ"]}\n'),
        ("tag", "a.csv", "text,tags\nHi,INTJ\n"),
        ("classify", "a.csv", "text,label\nHi,INTJ\n"),
        ("classify", "a.txt", "text\tlabel\nHi\tINTJ\n"),
        ("classify", "a.txt", "text,label\nHi,INTJ\n"),
        ("classify", "a.txt", "__label__INTJ Hi\n"),
        ("classify", "a", "INTJ Hi\n"),
        ("classify", "a.train", "INTJ\tHi\n"),
        ("classify", "A.JSONL", '{"text": "Hi", "label": "INTJ"}'),
    ],
)
def test_formats_are_recognised_by_name_or_content(tmp_path, task, name, content):
    sentence = ("Hi",) if task == "tag" else "Hi"
    assert set(examples_of(tmp_path / name, content, task)) == {(sentence, ("INTJ",))}
    compressed = gzip.compress(("\ufeff" + content.replace("\n", "\r\n")).encode())
    assert set(examples_of(tmp_path / f"{name}.gz", compressed, task)) == {(sentence, ("INTJ",))}


def test_a_format_that_is_named_is_not_recognised(tmp_path):
    assert examples_of(tmp_path / "a.conll", '{"text": "Hi", "label": 1}', "classify", format="jsonl") == [
        ("Hi", ("1",))
    ]


def test_labels_in_front_of_a_sentence(tmp_path):
    content = "__label__x __label__y a __label__z b\n__label__y c\n"
    assert examples_of(tmp_path / "a", content, "classify") == [("a __label__z b", ("x", "y")), ("c", ("y",))]
    assert examples_of(tmp_path / "a", "x|y  a b\n", "classify", label_separator="|") == [("a b", ("x", "y"))]
    unlabelled = examples_of(tmp_path / "a", "__label__x a\nb\n", "classify", needs_labels=False)
    assert unlabelled == [("a", ("x",)), ("b", ())]


def test_plain_lines_can_be_predicted(tmp_path):
    content = "Good morning .\n\n 1 too\n"
    for task in ("classify", "tag"):
        found = examples_of(tmp_path / "a", content, task, needs_labels=False)
        assert found == [("Good morning .", ()), ("1 too", ())]
    assert read_examples(tmp_path / "a", "tag", needs_labels=False).examples[1].place == f"{tmp_path / 'a'}, line 3"


def test_prose_with_as_many_words_in_every_line_is_no_conll(tmp_path):
    content = "Good morning everyone\nHow are you\n\nSee you soon\n"
    (tmp_path / "a.txt").write_text(content)
    found = read_examples(tmp_path / "a.txt", "tag", needs_labels=False, labels=("B-x", "O")).examples
    assert [each.sentences[0] for each in found] == ["Good morning everyone", "How are you", "See you soon"]
    tagged = {"a.txt": "How B-x\nare O\n\nyou O\n", "b.txt": "How\tA\nare\tB\n\nyou\tC\n", "c.conll": content}
    for name, text in tagged.items():
        (tmp_path / name).write_text(text)
        assert len(read_examples(tmp_path / name, "tag", needs_labels=False, labels=("B-x", "O")).examples) == 2


def test_text_is_not_taken_for_labels(tmp_path):
    text = "".join(f"{word} more words\n" for word in ("The", "A", "And", *"abcdefghijklmnopqrst"))
    with pytest.raises(
        InputError, match=r"a: the format is not recognised .* line 1 .'The more words'.; choose one: csv"
    ):
        examples_of(tmp_path / "a", text, "classify")
    assert len(examples_of(tmp_path / "a", text, "classify", format="label-text")) == 23


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"x Hi\n")))
    assert read_examples("-", "classify").examples[0].place == "standard input, line 1"


def test_other_encodings(tmp_path):
    content = "x sm\xf8rrebr\xf8d\n".encode("latin-1")
    assert examples_of(tmp_path / "a", content, "classify", encoding="latin-1") == [("smørrebrød", ("x",))]
    with pytest.raises(
        InputError, match=r"a, line 1: not UTF-8 .*; if it is of another encoding, say so: encoding latin-1"
    ):
        examples_of(tmp_path / "a", content, "classify")


@pytest.mark.parametrize(
    ("task", "name", "content", "columns", "message"),
    [
        (
            "tag",
            "a.txt",
            "some plain text\nand more\n",
            {},
            "line 1 .'some plain text'.; choose one: conllu, conll, csv",
        ),
        ("entail", "a", "\nplain\n", {}, "not recognised from the name or from line 2 .'plain'.; choose one: csv, tsv"),
        ("classify", "a.conllu", CONLLU, {}, "the format conllu is not for the task classify; such are: csv"),
        ("classify", "a", "text\n", {"format": "text"}, "the format text has no labels; such are: csv"),
        ("classify", "a", "x y\n", {"header": "present"}, "header: present: the format label-text has none"),
        ("classify", "a", "x y\n", {"label": "1"}, "label: 1: the format label-text has no columns"),
        ("classify", "a", "x y\nx\n", {}, "a, line 2: no sentence behind the label: 'x'"),
        ("classify", "a", "__label__x y\ny\n", {}, "a, line 2: no label: 'y'"),
        ("classify", "a", "__label__ y\n", {}, "a, line 1: no label"),
        ("classify", "a", "", {}, "a: the file is empty"),
        ("classify", "a", " \n\n", {}, "a: the file is empty"),
        ("classify", "a", b"x y\nx \xff\n", {}, "a, line 2: not UTF-8 .byte 0xff at column 3"),
        ("classify", "a", "x y\n".encode("utf-16"), {}, "a, line 1: expected UTF-8 text, but the file is UTF-16"),
        ("classify", "a.gz", gzip.compress(b"x y\n" * 9)[:-3], {}, "a.gz: broken gzip file"),
        ("classify", "a.gz", "x y\n", {}, "a.gz: broken gzip file"),
    ],
)
def test_bad_files_are_named(tmp_path, task, name, content, columns, message):
    with pytest.raises(InputError, match=message):
        examples_of(tmp_path / name, content, task, **columns)


def test_missing_files_and_folders_are_named(tmp_path):
    for path, message in ((tmp_path / "a.csv", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InputError, match=f"{path}: cannot be read: {message}"):
            read_examples(path, "tag")


@needs_shared
@pytest.mark.parametrize(("name", "encoding", "n_examples", "n_labels"), [
    ("sst5.dev", "utf-8", 1101, 5), ("trec.test", "utf-8", 500, 6), ("trec.train", "latin-1", 5452, 6),
])  # fmt: skip
def test_published_files_are_read(name, encoding, n_examples, n_labels):
    columns = ExampleColumns(encoding=encoding)
    examples, _ = read_examples(SHARED / "classification" / f"{name}.txt.gz", "classify", columns)
    assert len(examples) == n_examples
    assert len({label for example in examples for label in example.labels}) == n_labels


@needs_shared
@pytest.mark.parametrize("name", ["wikipedia", "wikitext2", "speeches.tokenised"])
def test_running_text_is_not_taken_for_labels(name):
    for task in ("classify", "tag", "entail"):
        with pytest.raises(InputError, match="the format is not recognised"):
            read_examples(SHARED / "lm" / f"{name}.valid.txt.gz", task)
