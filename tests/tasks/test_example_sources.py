"""Files, whose format follows from the suffix or the task, datasets, and the parts of a task."""

import gzip

import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from helpers.small_tasks import examples_of, write_lines

from elmolite.errors import InputError
from elmolite.tasks.config import ExampleColumns
from elmolite.tasks.examples.records import NO_AGREED_LABEL
from elmolite.tasks.examples.sources import DatasetExamples, TaskExamples, read_examples

pytestmark = pytest.mark.usefixtures("dataset_cache")
both_ways = pytest.mark.parametrize("streaming", [False, True])


@pytest.mark.parametrize(
    ("task", "name", "content"),
    [
        ("tag", "a.conllu", "# sent_id = 1\n1\tHi\thi\tINTJ\t_\t_\t0\troot\t_\t_\n"),
        ("tag", "a.bio", "Hi INTJ\n"),
        ("tag", "a.tsv", "tokens\ttags\nHi\tINTJ\n"),
        ("tag", "a.json", '\n{"tokens": ["Hi"], "tags": ["INTJ"]}\n'),
        ("classify", "a.csv", "text,label\nHi,INTJ\n"),
        ("classify", "a.txt", "__label__INTJ Hi\n"),
        ("classify", "A.JSONL", '{"text": "Hi", "label": "INTJ"}'),
    ],
)
def test_format_by_suffix_or_task(tmp_path, task, name, content):
    sentence = ("Hi",) if task == "tag" else "Hi"
    assert set(examples_of(tmp_path / name, content, task)) == {(sentence, ("INTJ",))}
    compressed = gzip.compress(("\ufeff" + content.replace("\n", "\r\n")).encode())
    assert set(examples_of(tmp_path / f"{name}.gz", compressed, task)) == {(sentence, ("INTJ",))}


def test_other_encodings(tmp_path):
    content = "x sm\xf8rrebr\xf8d\n".encode("latin-1")
    assert examples_of(tmp_path / "a", content, "classify", encoding="latin-1") == [("smørrebrød", ("x",))]


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path / 'a.csv'}: cannot be read: No such file"):
        read_examples(tmp_path / "a.csv", "tag")


def write_dataset(folder, features=None, **columns):
    folder.mkdir()
    Dataset.from_dict(columns, Features(features) if features else None).to_parquet(folder / "train.parquet")
    return str(folder)


def read(name, task, *, needs_labels=True, streaming=False, split="train", **columns):
    source = DatasetExamples(name, split=split, streaming=streaming)
    found = source.read(task, ExampleColumns(**columns), needs_labels=needs_labels)
    return [(*example.sentences, example.labels) for example in found.examples]


@both_ways
def test_class_ids_become_names(tmp_path, streaming):
    features = {"text": Value("string"), "label": ClassLabel(names=["bad", "good"]), "idx": Value("int32")}
    name = write_dataset(tmp_path / "d", features, text=["a b", "c"], label=[1, 0], idx=[7, 8])
    assert read(name, "classify", streaming=streaming) == [("a b", ("good",)), ("c", ("bad",))]
    (first, _), _ = DatasetExamples(name, streaming=streaming).read("classify")
    assert first.location == f"dataset {name}, split train, row 1"
    assert read(name, "classify", streaming=streaming, label="idx") == [("a b", ("7",)), ("c", ("8",))]


@both_ways
def test_class_ids_of_lists_become_names(tmp_path, streaming):
    features = {"tokens": Sequence(Value("string")), "ner_tags": Sequence(ClassLabel(names=["O", "B"]))}
    name = write_dataset(tmp_path / "d", features, tokens=[["a", "b"]], ner_tags=[[1, 0]])
    assert read(name, "tag", streaming=streaming) == [(("a", "b"), ("B", "O"))]
    features = {"text": Value("string"), "labels": Sequence(ClassLabel(names=["x", "y", "z"]))}
    name = write_dataset(tmp_path / "sets", features, text=["a", "b"], labels=[[0, 2], []])
    assert read(name, "classify", streaming=streaming) == [("a", ("x", "z")), ("b", ())]


@both_ways
def test_pairs_with_class_id_minus_one_are_left_out(tmp_path, streaming):
    features = {"premise": Value("string"), "hypothesis": Value("string"), "label": ClassLabel(names=["e", "n"])}
    columns = {"premise": ["a", "b", "c"], "hypothesis": ["d", "e", "f"], "label": [0, -1, None]}
    name = write_dataset(tmp_path / "d", features, **columns)
    assert read(name, "entail", streaming=streaming) == [("a", "d", ("e",))]
    report = DatasetExamples(name, streaming=streaming).read("entail").report
    assert f"{NO_AGREED_LABEL}: 2" in report.describe()
    assert [labels for *_, labels in read(name, "entail", needs_labels=False)] == [("e",), (), ()]


@both_ways
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("/nowhere", {}, "dataset /nowhere: cannot be read"),
        ("d", {"split": "test"}, "dataset d: cannot be read: .*test"),
        ("d", {"label": "lable"}, r"d, split train: no column 'lable' \(label\) among 'text', 'label'"),
        ("d", {}, "dataset d, split train, row 2: no label in 'label'"),
        ("no_rows", {}, "dataset no_rows, split train: is empty|dataset no_rows: cannot be read"),
        ("d", {"format": "csv"}, "columns.format cannot be used with datasets"),
    ],
)
def test_invalid_datasets_are_refused(tmp_path, monkeypatch, name, options, message, streaming):
    monkeypatch.chdir(tmp_path)
    features = {"text": Value("string"), "label": ClassLabel(names=["x"])}
    write_dataset(tmp_path / "d", features, text=["a", "b"], label=[0, -1])
    write_dataset(tmp_path / "no_rows", features, text=[], label=[])
    with pytest.raises(InputError, match=message) as raised:
        read(name, "classify", streaming=streaming, **options)
    assert "\n" not in str(raised.value)


def test_labels_unseen_in_training_and_pairs_without_a_label_are_logged(tmp_path, caplog):
    caplog.set_level("INFO", logger="elmolite")
    train = write_lines(tmp_path / "a.tsv", "premise\thypothesis\tlabel", "a\tb\tyes", "a\tc\t-", "a\td\tno")
    dev = write_lines(tmp_path / "b.tsv", "premise\thypothesis\tlabel", "a\tb\tyes", "a\tc\tmaybe")
    examples = TaskExamples.read("entail", train=train, dev=dev)
    assert (examples.labels, examples.is_multi_label, examples.test) == (["no", "yes"], False, None)
    assert len(examples.train) == 2
    message = (
        "label 'maybe' is not among the 2 labels of the training examples; 1 dev example with unseen labels, which"
    )
    assert f"{dev}, line 3: {message}" in caplog.text


def test_training_on_running_text_is_warned_of(tmp_path, caplog):
    path = write_lines(tmp_path / "a.txt", *(f"{chr(97 + i)} ban" for i in range(26)))
    TaskExamples.read("classify", train=path)
    assert f"{path}: 24 of 24 labels occur once, such as 'a'" in caplog.text
    path = write_lines(tmp_path / "same.txt", *["the ban"] * 20)
    TaskExamples.read("classify", train=path)
    assert f"{path}: all labels are 'the', so that there is nothing to learn" in caplog.text


def test_examples_without_any_label_teach_nothing(tmp_path):
    path = write_lines(tmp_path / "a.tsv", "text\tlabel", "a b\t", "c\t")
    with pytest.raises(InputError, match=r"a\.tsv: none of the 2 training examples has a label"):
        TaskExamples.read("classify", train=path, dev=path, columns=ExampleColumns(label_separator="|"))


def test_without_dev_examples_every_tenth_is_set_aside(tmp_path):
    path = write_lines(tmp_path / "train.txt", *(f"{'xy'[i % 2]} ban {i}" for i in range(25)))
    examples = TaskExamples.read("classify", train=path)
    assert [example.sentences[0].split()[1] for example in examples.dev] == ["9", "19"]
    assert len(examples.train) == 23
    assert not set(examples.train) & set(examples.dev)
    with pytest.raises(InputError, match="9 examples, too few to set some aside"):
        TaskExamples.read("classify", train=write_lines(tmp_path / "few.txt", *(f"x ban {i}" for i in range(9))))
