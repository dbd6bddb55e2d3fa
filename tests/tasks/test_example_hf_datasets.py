import json

import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from elmolite.errors import InputError
from elmolite.tasks.examples.hf_datasets import DatasetExamples
from elmolite.tasks.examples.records import NO_AGREED_LABEL, ExampleColumns

pytestmark = pytest.mark.usefixtures("dataset_cache")
both_ways = pytest.mark.parametrize("streaming", [False, True])


def write(folder, features=None, **columns):
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
    name = write(tmp_path / "d", features, text=["a b", "c"], label=[1, 0], idx=[7, 8])
    assert read(name, "classify", streaming=streaming) == [("a b", ("good",)), ("c", ("bad",))]
    (first, _), _ = DatasetExamples(name, streaming=streaming).read("classify")
    assert first.location == f"dataset {name}, split train, row 1"
    assert read(name, "classify", streaming=streaming, label="idx") == [("a b", ("7",)), ("c", ("8",))]


@both_ways
def test_class_ids_of_lists_become_names(tmp_path, streaming):
    features = {
        "tokens": Sequence(Value("string")),
        "ner_tags": Sequence(ClassLabel(names=["O", "B"])),
        "pos_tags": Sequence(Value("string")),
    }
    name = write(tmp_path / "d", features, tokens=[["a", "b"]], ner_tags=[[1, 0]], pos_tags=[["X", "Y"]])
    assert read(name, "tag", streaming=streaming, label="ner_tags") == [(("a", "b"), ("B", "O"))]
    assert read(name, "tag", streaming=streaming, label="pos_tags") == [(("a", "b"), ("X", "Y"))]
    with pytest.raises(InputError, match=r"the label may be 'ner_tags' or 'pos_tags'; pass --columns.label NAME"):
        read(name, "tag", streaming=streaming)


def test_several_labels_per_row(tmp_path):
    features = {"text": Value("string"), "labels": Sequence(ClassLabel(names=["x", "y", "z"]))}
    name = write(tmp_path / "d", features, text=["a", "b"], labels=[[0, 2], []])
    assert read(name, "classify") == [("a", ("x", "z")), ("b", ())]


@both_ways
def test_pairs_with_class_id_minus_one_are_left_out(tmp_path, streaming):
    features = {"premise": Value("string"), "hypothesis": Value("string"), "label": ClassLabel(names=["e", "n"])}
    name = write(tmp_path / "d", features, premise=["a", "b", "c"], hypothesis=["d", "e", "f"], label=[0, -1, None])
    found = DatasetExamples(name, streaming=streaming).read("entail")
    assert [(*example.sentences, example.labels) for example in found.examples] == [("a", "d", ("e",))]
    assert found.report.count(NO_AGREED_LABEL) == 2
    assert [labels for *_, labels in read(name, "entail", needs_labels=False)] == [("e",), (), ()]


def test_dataset_of_json_lines(tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps({"sentence": "a", "label": "x"}) + "\n")
    assert read(str(tmp_path), "classify") == [("a", ("x",))]


BAD = {
    "no dataset": ("/nowhere", {}, "dataset /nowhere: cannot be read"),
    "no split": ("d", {"split": "test"}, "dataset d: no (whole )?split 'test' among train"),
    "no column": ("d", {"label": "lable"}, r"d, split train: no column 'lable' \(label\) among 'text', 'label'"),
    "no label": ("d", {}, "dataset d, split train, row 2: no label in 'label'"),
    "no sentence": ("blank", {}, "dataset blank, split train, row 2: the sentence in 'text' is empty"),
    "no rows": ("no_rows", {}, "dataset no_rows, split train: is empty|dataset no_rows: cannot be read"),
    "a format": ("d", {"format": "csv"}, "format: applies to files"),
}  # fmt: skip


@both_ways
@pytest.mark.parametrize("case", BAD)
def test_invalid_datasets_are_refused(tmp_path, monkeypatch, case, streaming):
    monkeypatch.chdir(tmp_path)
    features = {"text": Value("string"), "label": ClassLabel(names=["x"])}
    write(tmp_path / "d", features, text=["a", "b"], label=[0, -1])
    write(tmp_path / "blank", features, text=["a", " "], label=[0, 0])
    write(tmp_path / "no_rows", features, text=[], label=[])
    name, options, message = BAD[case]
    with pytest.raises(InputError, match=message) as raised:
        read(name, "classify", streaming=streaming, **options)
    assert "\n" not in str(raised.value)


def test_datasets_prints_nothing(tmp_path, capfd):
    read(write(tmp_path / "d", text=["a"], label=["x"]), "classify")
    assert capfd.readouterr().out == ""
