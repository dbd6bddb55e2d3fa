import pytest
from conftest import SHARED, examples_of, needs_shared

from elmolite.errors import InputError
from elmolite.tasks.examples.files import read_examples

CSV = ',text,label\r\n0,"He said ""no"",\r\nthen left.",1\r\n1,Fine,0\r\n'


def test_csv_with_quoted_commas_and_line_ends(tmp_path):
    path = tmp_path / "a.csv"
    assert examples_of(path, CSV, "classify") == [('He said "no",\nthen left.', ("1",)), ("Fine", ("0",))]
    places = [example.place for example in read_examples(path, "classify").examples]
    assert places == [f"{path}, line 2", f"{path}, line 4"]


def test_csv_that_pandas_wrote(tmp_path):
    pandas = pytest.importorskip("pandas")
    texts = ['a, "b"\nc', "tab\there", "d"]
    pandas.DataFrame({"text": texts, "label": [1, 0, 1]}).to_csv(tmp_path / "a.csv")
    examples, _ = read_examples(tmp_path / "a.csv", "classify")
    assert [example.sentences[0] for example in examples] == texts


def test_quotes_in_tsv_are_text_but_for_those_of_spreadsheets(tmp_path):
    texts = ['"Hi" she said', '"', '""', '"Hi."', '"a ""b" c"', '"a ""b"" c"', '"""Hi"""', 'a ""b"" c']
    content = "Sentence\tLabel\n" + "".join(f"{text}\t1\n" for text in texts)
    read = ['"Hi" she said', '"', '""', '"Hi."', '"a ""b" c"', 'a "b" c', '"Hi"', 'a ""b"" c']
    assert examples_of(tmp_path / "a.tsv", content, "classify") == [(text, ("1",)) for text in read]


def test_tsv_that_pandas_wrote(tmp_path):
    pandas = pytest.importorskip("pandas")
    texts = ['a "b" c', '"', 'b "c"', "d"]
    pandas.DataFrame({"text": texts, "label": 1}).to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    examples, _ = read_examples(tmp_path / "a.tsv", "classify")
    assert [example.sentences[0] for example in examples] == texts


ROWS = "A man sleeps .\tHe rests .\t2\nTwo dogs .\tOne cat\t0\nYes\tNo\t2\n"


def test_columns_without_header_are_recognised_by_content(tmp_path):
    expected = [("A man sleeps .", "He rests .", ("2",)), ("Two dogs .", "One cat", ("0",)), ("Yes", "No", ("2",))]
    assert examples_of(tmp_path / "a.tsv", ROWS, "entail") == expected
    turned = "".join(f"{line.split(chr(9), 2)[2]}\t{line.rsplit(chr(9), 1)[0]}\n" for line in ROWS.splitlines())
    assert examples_of(tmp_path / "a.tsv", turned, "entail") == expected
    assert examples_of(tmp_path / "a.txt", turned, "entail") == expected


def test_columns_without_header_may_be_numbered(tmp_path):
    columns = {"text": "2", "second_text": "1", "label": "3"}
    assert examples_of(tmp_path / "a.tsv", ROWS, "entail", **columns)[0] == ("He rests .", "A man sleeps .", ("2",))
    assert examples_of(tmp_path / "a.tsv", ROWS, "classify", text="1", label="3")[2] == ("Yes", ("2",))
    with_tags = examples_of(tmp_path / "a.csv", "a b,X Y\nc,Z\n", "tag", text="1", label="2")
    assert with_tags == [(("a", "b"), ("X", "Y")), (("c",), ("Z",))]


def test_a_number_that_is_also_a_value_of_the_first_row_makes_no_header(tmp_path):
    content = "a sentence\t2\nanother one\t2\n"
    assert len(examples_of(tmp_path / "a.tsv", content, "classify", text="1", label="2")) == 2


def test_columns_with_a_header_may_be_numbered(tmp_path):
    content = "id\ttext\tother\tlabel\n7\tgood\tx\t1\n"
    assert examples_of(tmp_path / "a.tsv", content, "classify", text="3", label="1") == [("x", ("7",))]
    content = "id\tu\tv\n7\tgood\tx\n"
    assert examples_of(tmp_path / "a.tsv", content, "classify", text="v", label="1") == [("x", ("7",))]
    assert examples_of(tmp_path / "a.tsv", content, "classify", text="3", label="1", header="present") == [
        ("x", ("7",))
    ]


def test_a_header_of_unknown_names_is_no_example(tmp_path):
    content = "utt,aim\nbook a flight,travel\nplay a song,music\nrent a car,travel\n"
    with pytest.raises(InputError, match=r"a.csv, line 1: is it a header\?.* 'utt', 'aim'; name the columns"):
        examples_of(tmp_path / "a.csv", content, "classify")
    assert len(examples_of(tmp_path / "a.csv", content, "classify", text="utt", label="aim")) == 3
    assert len(examples_of(tmp_path / "a.csv", content, "classify", header="absent")) == 4
    with pytest.raises(InputError, match="is it a header"):
        examples_of(tmp_path / "b.csv", "utt\nbook a flight\nplay a song\n", "classify", needs_labels=False)


def test_tables_without_labels_can_be_predicted(tmp_path):
    for content in ("text\ngood\nbad film\n", "good\nbad film\n", "text,label\ngood,\nbad film,\n"):
        found = examples_of(tmp_path / "a.csv", content, "classify", needs_labels=False)
        assert found == [("good", ()), ("bad film", ())]
    assert examples_of(tmp_path / "a", "Yes\tNo\n", "entail", needs_labels=False) == [("Yes", "No", ())]
    assert examples_of(tmp_path / "a.tsv", ROWS, "entail", needs_labels=False)[2] == ("Yes", "No", ("2",))


@pytest.mark.parametrize(
    ("name", "content", "columns", "message"),
    [
        (
            "a.csv",
            'text,label\na,1\n"b,1\nc,1\n',
            {},
            "a.csv, line 3: the row that starts here is broken: unexpected end",
        ),
        ("a.csv", 'text,label\n"a"b,1\n', {}, "a.csv, line 2: the row that starts here is broken"),
        ("a.csv", "text,label\na\rb,1\n", {}, "line 2: the row that starts here is broken: a carriage return outside"),
        ("a.csv", "text,label\na,1\nb\n", {}, "a.csv, line 3: 1 fields where line 1 has 2: 'b'"),
        ("a.tsv", "text\tlabel\na\tb\t1\n", {}, "a.tsv, line 2: 3 fields where line 1 has 2"),
        ("a.tsv", "text\tlabel\na\t \n", {}, "a.tsv, line 2: no label in 'label'"),
        ("a.tsv", "text\tlabel\n \t1\n", {}, "a.tsv, line 2: the sentence in 'text' is empty"),
        ("a.tsv", "text\tlabel\n", {}, "a.tsv: is empty"),
        ("a.tsv", "good\tfilm\n", {}, "a.tsv: it is not clear which column holds what; there are 2 columns"),
        ("a.tsv", "a b\tc d\t1\n", {}, "not clear"),
        ("a.tsv", "a b\t1\n", {"label": "3"}, r"a.tsv: no column '3' \(label\); without a header they are 1 to 2"),
        ("a.tsv", "a b\t1\n", {"label": "0"}, "no column '0'"),
        ("a.tsv", "text\tx\na\t1\n", {"label": "3"}, "no column '3'|no column 3"),
        ("a.tsv", "text\tx\na\t1\n", {"label": "0"}, "no column '0'|no column 0"),
        ("a.csv", "text,label,label\na,1,2\n", {}, "a.csv, line 1: the label may be 'label' or 'label': choose one"),
        ("a.csv", "text,x,x\na,1,2\n", {"label": "x"}, "a.csv, line 1: there are 2 columns 'x'"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text" "b"}\n', {}, "line 2: no JSON: Expecting ':' .* at column 9"),
        ("a.jsonl", '["a"]\n', {}, "a.jsonl, line 1: expected a JSON object, found"),
        ("a.jsonl", '{"text": ' + "[" * 100_000, {}, "a.jsonl, line 1: JSON that cannot be read"),
        ("a.jsonl", '{"text": "a", "label": ' + "1" * 5000 + "}", {}, "a.jsonl, line 1: JSON that cannot be read"),
    ],
)
def test_broken_rows_are_named(tmp_path, name, content, columns, message):
    with pytest.raises(InputError, match=message) as raised:
        examples_of(tmp_path / name, content, "classify", **columns)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


@needs_shared
@pytest.mark.parametrize(
    ("name", "labels"),
    [("snli_small.dev", {"entailment", "neutral", "contradiction"}), ("snli_official_tokenised.dev", {"0", "1", "2"})],
)
def test_published_pairs_are_read(name, labels):
    examples, report = read_examples(SHARED / "entailment" / f"{name}.tsv.gz", "entail")
    assert (len(examples), report.describe()) == ({3: 9842}.get(len(name.split("_")), 1000), "")
    assert {label for example in examples for label in example.labels} == labels
