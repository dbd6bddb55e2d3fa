import csv

import pytest
from conftest import SHARED, examples_of, needs_shared

from elmolite.errors import InputError
from elmolite.tasks.examples.files import read_examples

CSV = ',text,label\r\n0,"He said ""no"",\r\nthen left.",1\r\n1,Fine,0\r\n'


def test_csv_with_quoted_commas_and_line_ends(tmp_path):
    path = tmp_path / "a.csv"
    limit = csv.field_size_limit()
    assert examples_of(path, CSV, "classify") == [('He said "no",\nthen left.', ("1",)), ("Fine", ("0",))]
    locations = [example.location for example in read_examples(path, "classify").examples]
    assert locations == [f"{path}, line 2", f"{path}, line 4"]
    assert csv.field_size_limit() == limit


def test_only_fields_quoted_as_by_spreadsheets_are_unquoted_in_tsv(tmp_path):
    texts = ['"Hi" she said', '"', '""', '"Hi."', '"a ""b" c"', '"a ""b"" c"', '"""Hi"""', 'a ""b"" c']
    content = "Sentence\tLabel\n" + "".join(f"{text}\t1\n" for text in texts)
    read = ['"Hi" she said', '"', '""', '"Hi."', '"a ""b" c"', 'a "b" c', '"Hi"', 'a ""b"" c']
    assert examples_of(tmp_path / "a.tsv", content, "classify") == [(text, ("1",)) for text in read]


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t")])
def test_tables_written_by_pandas(tmp_path, name, separator):
    pandas = pytest.importorskip("pandas")
    texts = ['a "b" c', '"', 'b, "c"', "d"]
    pandas.DataFrame({"text": texts, "label": 1}).to_csv(tmp_path / name, sep=separator, index=False)
    examples, _ = read_examples(tmp_path / name, "classify")
    assert [example.sentences[0] for example in examples] == texts


ROWS = "A man sleeps .\tHe rests .\t2\nTwo dogs .\tOne cat\t0\nYes\tNo\t2\n"
PAIRS = [("A man sleeps .", "He rests .", ("2",)), ("Two dogs .", "One cat", ("0",)), ("Yes", "No", ("2",))]


def test_pairs_without_header_are_premise_hypothesis_and_label(tmp_path):
    for name in ("a.tsv", "a.txt"):
        assert examples_of(tmp_path / name, ROWS, "entail") == PAIRS
    assert examples_of(tmp_path / "a.tsv", ROWS, "entail", needs_labels=False) == PAIRS
    assert examples_of(tmp_path / "a", "Yes\tNo\n", "entail", needs_labels=False) == [("Yes", "No", ())]
    with pytest.raises(InputError, match=r"line 1: no usual column name among 'p', 'h', 'y'; pass --columns.text and"):
        examples_of(tmp_path / "a.tsv", f"p\th\ty\n{ROWS}", "entail")
    assert len(examples_of(tmp_path / "a.tsv", f"p\th\ty\n{ROWS}", "entail", text="p", second_text="h", label="y")) == 3


def test_column_numbers_with_and_without_header(tmp_path):
    columns = {"text": "2", "second_text": "1", "label": "3"}
    assert examples_of(tmp_path / "a.tsv", ROWS, "entail", **columns)[0] == ("He rests .", "A man sleeps .", ("2",))
    assert examples_of(tmp_path / "a.tsv", ROWS, "classify", text="1", label="3")[2] == ("Yes", ("2",))
    found = examples_of(tmp_path / "a.csv", "a b,X Y\nc,Z\n", "tag", text="1", label="2")
    assert found == [(("a", "b"), ("X", "Y")), (("c",), ("Z",))]
    content = "id\ttext\tother\tlabel\n7\tgood\tx\t1\n"
    assert examples_of(tmp_path / "a.tsv", content, "classify", text="3", label="1") == [("x", ("7",))]
    content = "id\tu\tv\n7\tgood\tx\n"
    assert examples_of(tmp_path / "a.tsv", content, "classify", text="v", label="1") == [("x", ("7",))]
    found = examples_of(tmp_path / "a.tsv", content, "classify", text="3", label="1", header="present")
    assert found == [("x", ("7",))]


def test_tables_without_labels_for_prediction(tmp_path):
    for content in ("text\ngood\nbad film\n", "text,label\ngood,\nbad film,\n"):
        found = examples_of(tmp_path / "a.csv", content, "classify", needs_labels=False)
        assert found == [("good", ()), ("bad film", ())]
    found = examples_of(tmp_path / "a.csv", "good\nbad film\n", "classify", needs_labels=False, text="1")
    assert found == [("good", ()), ("bad film", ())]


@needs_shared
@pytest.mark.parametrize(
    ("name", "n_examples", "labels"),
    [
        ("snli_small.dev", 1000, {"entailment", "neutral", "contradiction"}),
        ("snli_official_tokenised.dev", 9842, {"0", "1", "2"}),  # without header
    ],
)
def test_published_pairs(name, n_examples, labels):
    examples, report = read_examples(SHARED / "entailment" / f"{name}.tsv.gz", "entail")
    assert (len(examples), report.describe()) == (n_examples, "")
    assert {label for example in examples for label in example.labels} == labels
