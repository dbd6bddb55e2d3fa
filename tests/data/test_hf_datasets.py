import json
import logging
import os
import re
import subprocess
import sys

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet
import pytest
from helpers.data import random_sentences, write_sentences

from elmolite import DatasetText
from elmolite.cli.main import main
from elmolite.data.prepare import prepare
from elmolite.data.text import Progress
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.errors import InputError

pytestmark = pytest.mark.usefixtures("dataset_cache")
both_ways = pytest.mark.parametrize("streaming", [False, True])


def write_parquet(folder, *, split="train", **columns):
    folder.mkdir(exist_ok=True)
    pa.parquet.write_table(pa.table(columns), folder / f"{split}-00000-of-00001.parquet", row_group_size=50)
    return folder


def spoil(folder, *, row_group, column):
    """Overwrite a part of a parquet file."""
    path = folder / "train-00000-of-00001.parquet"
    part = pa.parquet.read_metadata(path).row_group(row_group).column(column)
    content = bytearray(path.read_bytes())
    start = part.dictionary_page_offset
    content[start : start + part.total_compressed_size] = b"\xff" * part.total_compressed_size
    path.write_bytes(content)


def documents(folder, *, pretokenized=False, **fields):
    return list(DatasetText(str(folder), **fields).read_documents(Progress(), pretokenized=pretokenized))


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@both_ways
def test_rows_of_several_lines_are_documents_and_rows_of_one_are_lines(tmp_path, streaming):
    rows = ["one", "two\n", "", "three", None, "\n", "four", "a\r\nb\n\nc\n", " five", "   ", "six"]
    folder = write_parquet(tmp_path / "d", text=rows)
    expected = [["one", "two"], ["three"], ["four"], ["a", "b"], ["c"], [" five"], ["six"]]
    assert documents(folder, streaming=streaming) == expected


@pytest.mark.slow
def test_a_dataset_gives_the_corpus_that_its_text_as_a_file_gives(tmp_path, monkeypatch):
    monkeypatch.setattr("elmolite.data.prepare._TASK_CHARACTERS", 4000)
    text = write_sentences(tmp_path / "text.txt", random_sentences(600))
    rows = text.read_text(encoding="utf-8").split("\n")[:-1]
    options = {"tokenizer": SentenceTokenizer.whitespace(), "show_progress": False}
    expected = content(prepare(str(text), tmp_path / "of the file", n_workers=1, **options).folder)
    parquet = write_parquet(tmp_path / "parquet", id=list(range(len(rows))), text=rows)
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "train.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    for folder, streaming, n_workers in ((parquet, True, 2), (parquet, False, 1), (tmp_path / "json", True, 1)):
        source = DatasetText(str(folder), streaming=streaming)
        corpus = prepare(source, tmp_path / "corpus", n_workers=n_workers, overwrite=True, **options)
        assert content(corpus.folder) == expected


@both_ways
def test_lists_of_tokens_are_sentences_where_text_is_tokenised_already(tmp_path, streaming):
    folder = write_parquet(tmp_path / "d", tokens=[["a", "b"], ["New\nYork", "."], None, [], ["c"]])
    expected = [["a b", "New York ."], ["c"]]
    assert documents(folder, column="tokens", pretokenized=True, streaming=streaming) == expected


@both_ways
def test_validation_text_is_another_split_or_files(tmp_path, streaming, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_parquet(tmp_path / "d", words=["in the training text"] * 3)
    write_parquet(tmp_path / "d", split="validation", words=["validation text"] * 2)
    (tmp_path / "v.txt").write_text("from a file\n")
    command = ["prepare", "--dataset", "d", "--dataset-column", "words", "--out", "c", "--pretokenized", "--overwrite"]
    command += ["--streaming"] * streaming
    for option, n_tokens in ((["--valid-split", "validation"], 4), (["--valid", "v.txt"], 3)):
        assert main([*command, *option]) == 0
        summary = json.loads((tmp_path / "c" / "corpus.json").read_text())
        assert (summary["train"]["tokens"], summary["valid"]["tokens"]) == (12, n_tokens)


def test_configs_splits_and_parts_of_splits(tmp_path):
    folder = tmp_path / "d"
    for name in ("first", "second"):
        (folder / name).mkdir(parents=True)
        (folder / name / "train.txt").write_text(f"{name}\nline\n")
        (folder / name / "test.txt").write_text("test\n")
    configs = [f"- config_name: {name}\n  data_dir: {name}" for name in ("first", "second")]
    (folder / "README.md").write_text("---\nconfigs:\n" + "\n".join(configs) + "\n---\n")
    for streaming in (False, True):
        assert documents(folder, config="second", streaming=streaming) == [["second", "line"]]
        assert documents(folder, config="first", split="train+test", streaming=streaming) == [["first", "line", "test"]]
        with pytest.raises(InputError, match=r"d: cannot be read: .*\['first', 'second'\]"):
            documents(folder, config="frist", streaming=streaming)
    assert documents(folder, config="first", split="train[:1]") == [["first"]]
    with pytest.raises(InputError, match=r"d: cannot be read: Bad split: train\[:1\]"):
        documents(folder, config="first", split="train[:1]", streaming=True)


@both_ways
def test_progress_counts_rows(tmp_path, streaming):
    folder, progress = write_parquet(tmp_path / "d", text=["a row", ""] * 250), Progress()
    documents = DatasetText(str(folder), streaming=streaming).read_documents(progress)
    next(documents)
    assert progress.n_read < 100  # no further than is needed
    assert sum(1 for _ in documents) == 249
    assert progress == Progress(0 if streaming else 500, 500, "rows", n_lines=500, n_blank_lines=250)


def test_a_stream_of_parquet_reads_its_column_alone_and_keeps_nothing(tmp_path, dataset_cache):
    folder = write_parquet(tmp_path / "d", text=["a row"], other=["unreadable" * 100])
    spoil(folder, row_group=0, column=1)
    assert documents(folder, streaming=True) == [["a row"]]
    assert not list(dataset_cache.rglob("*.arrow"))
    with pytest.raises(InputError, match="d: cannot be read"):
        documents(folder, column="other", streaming=True)


@both_ways
def test_datasets_prints_nothing_and_keeps_its_settings(tmp_path, caplog, capfd, streaming):
    level = logging.getLogger("datasets").level
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "train.parquet").write_bytes(b"PAR1 nothing PAR1")
    assert documents(write_parquet(tmp_path / "d", text=["a row"]), streaming=streaming) == [["a row"]]
    with pytest.raises(InputError, match="bad: cannot be read: "):
        documents(tmp_path / "bad", streaming=streaming)
    assert logging.getLogger("datasets").level == level
    assert not caplog.records
    assert not datasets.are_progress_bars_disabled()
    assert not huggingface_hub.utils.are_progress_bars_disabled()
    assert capfd.readouterr() == ("", "")


@both_ways
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "no/where"}, "dataset no/where: no such folder, and the .* hub cannot be reached: "),
        ({"name": "d/train-00000-of-00001.parquet"}, "parquet: is a file"),
        ({"name": "blank"}, "dataset blank, split train: column 'text' is empty"),
        ({"name": "nul"}, "dataset nul, split train, row 2: contains a NUL character"),
        ({"split": "test"}, r"dataset d: cannot be read: .*test.*\['train'\]"),
        ({"column": "txt"}, "dataset d: no column 'txt' among text, n, tokens; did you mean 'text'"),
        ({"column": "n"}, "dataset d: expected text in column 'n', got int64"),
        ({"column": "tokens"}, r"expected text in column 'tokens', got list<.*string>; with `pretokenized`"),
    ],
)
def test_bad_datasets_are_named(tmp_path, monkeypatch, fields, message, streaming):
    monkeypatch.chdir(tmp_path)
    write_parquet(tmp_path / "d", text=["a row"], n=[1], tokens=[["a"]])
    write_parquet(tmp_path / "blank", text=["", None, " \n "])
    write_parquet(tmp_path / "nul", text=["a row", "no\0ne"])
    with pytest.raises(InputError, match=message) as raised:
        prepare(DatasetText(**{"name": "d", "streaming": streaming, **fields}), "c", show_progress=False)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "c").exists()


def test_a_missing_split_is_said_before_the_long_work(tmp_path):
    valid = DatasetText(str(write_parquet(tmp_path / "d", text=["a row"])), split="validation")
    (tmp_path / "bad.txt").write_bytes(b"\xff\n")
    with pytest.raises(InputError, match="validation"):
        prepare(str(tmp_path / "bad.txt"), tmp_path / "c", valid=valid, show_progress=False)


@pytest.mark.multiprocess
def test_a_stream_through_worker_processes_ends_cleanly(tmp_path):
    words = " ".join(f"w{i % 50}" for i in range(1000))
    for name in ("good", "bad"):
        write_parquet(tmp_path / name, text=[words, ""] * 700)
    spoil(tmp_path / "bad", row_group=25, column=0)
    python = [sys.executable, "-X", "dev", "-W", "default", "-m", "elmolite"]
    options = ["prepare", "--streaming", "--pretokenized", "--quiet", "--workers", "2"]
    env = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    for name, code, said in (("good", 0, r""), ("bad", 2, r"elmolite: dataset bad: cannot be read: .*\n")):
        command = [*python, *options, "--dataset", name, "--out", f"c_{name}"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120)
        assert re.fullmatch(said, done.stderr), done.stderr
        assert done.returncode == code
    assert not (tmp_path / "c_bad").exists()


def test_a_missing_package_is_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert main(["prepare", "--dataset", str(tmp_path), "--out", str(tmp_path / "corpus")]) == 2
    problem = "reading a Hugging Face dataset needs the package datasets"
    assert capsys.readouterr().err == f"elmolite: {problem}; install it with: pip install 'elmolite[datasets]'\n"
