"""Invalid and unusual label files: refused with file and line, or read, with a count of what was left out."""

import gzip
import re

import pytest
from helpers.small_tasks import WRITERS

from elmolite.cli.main import main
from elmolite.errors import InputError
from elmolite.tasks.examples.files import read_examples
from elmolite.tasks.examples.records import ExampleColumns


def row(number, form, upos="NOUN"):
    """A line of CoNLL-U."""
    return f"{number}\t{form}\t_\t{upos}\t_\t_\t_\t_\t_\t_\n"


TWO = row(1, "ban") + row(2, "kin", "VERB")
BIO = "ban B-x\nkin I-x\nlun O\n"
HEAD = "text,label\n"
TEXT = "text\tlabel\n"
OBJECT = '{"text": "ban kin", "label": "a"}\n'
PAIR = "premise\thypothesis\tlabel\n"

# (task, file name, content, columns, pattern of the message)
REFUSED = [
    ("tag", "a.conllu", TWO + "3\tlun\t_\tNOUN\n", {}, "line 3: expected the 10 columns of CoNLL-U, got 4"),
    ("tag", "a.conllu", TWO.replace("kin", "kin\tx"), {}, "line 2: expected the 10 columns of CoNLL-U, got 11"),
    ("tag", "a.conllu", TWO.replace("\t", " "), {}, "line 1: expected the 10 columns of CoNLL-U, got 1"),
    ("tag", "a.conllu", TWO[:-12], {}, "line 2: expected the 10 columns of CoNLL-U"),
    ("tag", "a.conllu", TWO + TWO, {}, "line 3: expected the ID 3, got '1'"),
    ("tag", "a.conllu", row(1, "ban") + row(3, "kin"), {}, "line 2: expected the ID 2, got '3'"),
    ("tag", "a.conllu", TWO + row("x", "lun"), {}, "line 3: expected the ID 3, got 'x'"),
    ("tag", "a.conllu", row(1, "ban") + row(2, ""), {}, "line 2: the token is empty"),
    ("tag", "a.conllu", row(1, "ban") + row(2, "kin", ""), {}, "line 2: the tag is empty"),
    ("tag", "a.conllu", row(1, "ban", "_"), {}, "line 1: a sentence without tags: every UPOS is '_'"),
    ("tag", "a.conllu", "# a\n\n# b\n\n", {}, "contains no example; sentences without words left out: 2"),
    ("tag", "a.conllu", TWO, {"label": "UPSO"}, "CoNLL-U has no column 'UPSO'; did you mean 'UPOS'"),
    ("tag", "a.conllu", TWO, {"label": "11"}, "CoNLL-U has no column '11'; valid are: DEPREL"),
    ("tag", "a.conllu", f"{TWO}\n".replace("\n", "\r"), {}, r"line 1: lines end in \\r alone"),
    ("tag", "a.conllu", TWO + row(3, "l\0n"), {}, "line 3: contains a NUL byte"),
    ("tag", "a.conllu", (TWO + row(3, "né")).encode("latin-1"), {}, "line 3: not UTF-8 .*pass --columns.encoding"),
    ("classify", "a.conllu", TWO, {}, "the format conllu is not for classify with labels"),
    ("tag", "a.conll", "ban\nkin\n\nlun\n", {}, "line 1: expected a token and its tag, got 'ban'"),
    ("tag", "a.conll", BIO + "ban NN O\n", {}, "line 4: expected 2 columns as in the lines above, got 3"),
    ("tag", "a.conll", "ban O\nkin\n", {}, "line 2: expected 2 columns as in the lines above, got 1"),
    ("tag", "a.conll", f"{BIO}\xa0\n{BIO}", {}, "line 4: expected 2 columns"),
    ("tag", "a.conll", "ban\tO\nkin\t\n", {}, "line 2: the tag is empty"),
    ("tag", "a.conll", "ban\tO\n\tO\n", {}, "line 2: the token is empty"),
    ("tag", "a.conll", "-DOCSTART- O\n\n", {}, "contains no example; -DOCSTART- lines left out: 1"),
    ("tag", "a.conll", BIO, {"label": "5"}, "no column '5'; CoNLL columns are given by number, here 1 to 2"),
    ("tag", "a.conll", BIO, {"label": "ner"}, "no column 'ner'; CoNLL columns are given by number"),
    ("tag", "a.conll", "", {}, "the file is empty"),
    ("classify", "a.csv", HEAD + 'ban,a\n"kin,b\nlun,a\n', {}, "line 3: invalid CSV row"),
    ("classify", "a.csv", HEAD + '"ban" kin,a\n', {}, "line 2: invalid CSV row"),
    ("classify", "a.csv", HEAD + "ban,a\nk\rn,b\n", {}, "line 3: invalid CSV row: a carriage return outside"),
    ("classify", "a.csv", HEAD + "ban,a\n" * 15 + "kin\n", {}, "line 17: expected 2 fields as in line 1, got 1"),
    ("classify", "a.csv", HEAD + "ban, kin,a\n", {}, "line 2: expected 2 fields as in line 1, got 3"),
    ("classify", "a.csv", HEAD, {}, "a.csv: contains no example"),
    ("classify", "a.csv", "text,text,label\nban,kin,a\n", {}, "line 1: the text may be 'text' or 'text'"),
    ("classify", "a.csv", "text,x,x\na,1,2\n", {"label": "x"}, "line 1: 2 columns are named 'x'"),
    ("classify", "a.csv", "body,topic\nban,a\n", {}, "line 1: no usual column name among 'body', 'topic'; pass"),
    ("classify", "a.csv", "text;label\nban;a\n", {}, "line 1: no usual column name among 'text;label'; pass"),
    ("classify", "a.csv", HEAD + "ban,a\nkin,\n", {}, "line 3: no label in 'label'"),
    ("classify", "a.csv", HEAD + '"",a\n', {}, "line 2: the sentence in 'text' is empty"),
    ("classify", "a.csv", HEAD + "   ,a\n", {}, "line 2: the sentence in 'text' is empty"),
    ("classify", "a.csv", HEAD + "ban,a\n", {"text": "body"}, r"line 1: no column 'body' \(text\) among"),
    ("classify", "a.csv", HEAD + "ban,a\n", {"label": "7"}, r"line 1: no column '7' \(label\) among"),
    ("classify", "a.csv", (HEAD + "ban,a\n").encode("utf-16"), {}, "line 1: expected UTF-8 text, .* UTF-16"),
    ("classify", "a.csv", b"PK\x03\x04\x14\0", {}, "line 1: expected UTF-8 text, .* a zip archive"),
    ("classify", "a.tsv", TEXT + "ban\tkin\ta\n", {}, "line 2: expected 2 fields as in line 1, got 3"),
    ("classify", "a.tsv", TEXT + "ban\t\n", {}, "line 2: no label in 'label'"),
    ("classify", "a.tsv", "text label\nban a\n", {}, "line 1: no usual column name among 'text label'"),
    ("classify", "a.tsv", "ban kin\ta\n", {"text": "1", "label": "0"}, "line 1: no column '0'"),
    ("classify", "a.jsonl", OBJECT * 2 + '{"text": "ban"\n', {}, "line 3: invalid JSON"),
    ("classify", "a.jsonl", '{"text" "b"}\n', {}, "line 1: invalid JSON: Expecting ':' .* at column 9"),
    ("classify", "a.jsonl", OBJECT + '["ban", "a"]\n', {}, "line 2: expected a JSON object per line"),
    ("classify", "a.json", '[{"text": "ban", "label": "a"}]\n', {}, "line 1: expected a JSON object per line"),
    ("classify", "a.json", '{\n "text": "ban"\n}\n', {}, "line 1: invalid JSON: .*expected one object per line"),
    ("classify", "a.jsonl", '{"text": "ban", "text": "kin", "label": "a"}', {}, "line 1: .*duplicate key 'text'"),
    ("classify", "a.jsonl", OBJECT + "[" * 100_000 + "\n", {}, "line 2: invalid JSON"),
    ("classify", "a.jsonl", '{"text": "ban", "label": ' + "9" * 10_000 + "}\n", {}, "line 1: invalid JSON"),
    ("classify", "a.jsonl", '{"text": "ban", "label": NaN}\n', {}, "line 1: no label in 'label'"),
    ("classify", "a.txt", "a ban kin\nb\n", {}, "line 2: no sentence after the label: 'b'"),
    ("classify", "a.txt", "__label__a ban\nkin lun\n", {}, "line 2: no label: 'kin lun'"),
    ("classify", "a.txt", "__label__ ban\n", {}, "line 1: no label"),
    ("classify", "a.txt", b"a caf\xe9\n", {}, "line 1: not UTF-8 .*pass --columns.encoding latin-1"),
    ("classify", "a.txt", "".join(f"{chr(97 + i)}x is a word\n" for i in range(26)), {}, "26 first words occur once"),
    ("classify", "a.txt.gz", gzip.compress(b"a ban kin\n" * 500)[:-9], {}, "broken gzip file after line"),
    ("classify", "a.txt.gz", "a ban\n", {}, "broken gzip file"),
    ("entail", "a.tsv", PAIR + "ban\tsame\n", {}, "line 2: expected 3 fields as in line 1, got 2"),
    ("entail", "a.tsv", PAIR + "ban\t\tsame\n", {}, "line 2: the sentence in 'hypothesis' is empty"),
    ("entail", "a.tsv", PAIR + "ban\tkin\t-\n", {}, "contains no example; pairs without an agreed label left out: 1"),
    ("entail", "a.tsv", "premise\tlabel\nban\tsame\n", {}, "line 1: no usual column name for the second_text"),
    ("entail", "a.txt", "plain\n", {}, "line 1: no usual column name among 'plain'; pass --columns.text"),
]

# (task, file name, content, number of examples, pattern of the report)
READ = [
    ("tag", "a.conllu", f"# text = ban kin\n#\n{TWO}\n", 1, "^$"),
    ("tag", "a.conllu", row("1-2", "bankin", "_") + TWO, 1, r"multiword tokens left out: 1 \(first in line 1\)"),
    ("tag", "a.conllu", TWO + row("2.1", "gone", "_"), 1, r"empty nodes left out: 1 \(first in line 3\)"),
    ("tag", "a.conllu", f"# a\n\n{TWO}\n", 1, "sentences without words left out: 1"),
    ("tag", "a.conllu", f"{TWO}\n{TWO}\n".replace("\n", "\r\n"), 2, "^$"),
    ("tag", "a.conllu", f"{TWO} \t\n{TWO}", 2, "^$"),
    ("tag", "a.conllu", f"{TWO}\n\ufeff{TWO}", 2, "byte order marks inside the text"),
    ("tag", "a.conll", f"-DOCSTART- O\n\n{BIO}\n", 1, "-DOCSTART- lines left out: 1"),
    ("tag", "a.conll", "ban\tO\nkin O\n", 1, "^$"),
    ("tag", "a.conll", f"\n\n{BIO}\n\n\n{BIO}\n\n", 2, "^$"),
    ("tag", "a.conll", "#ff O\n@ban B-x\n\n# O\n", 2, "^$"),
    ("classify", "a.csv", HEAD + 'ban "kin" lun,a\n', 1, "^$"),
    ("classify", "a.csv", HEAD + '"ban\nkin",a\nlun,b\n', 2, "line ends inside quotes, kept as text: 1"),
    ("classify", "a.csv", "\ufeff" + HEAD + "ban,a\n", 1, "^$"),
    ("classify", "a.csv", HEAD + "ban,a\n\n  \nkin,b\n\n", 2, r"blank lines left out: 3 \(first in line 3\)"),
    ("classify", "a.csv", HEAD + "ban " * 50_000 + ",a\n", 1, "^$"),  # above the limit of the csv module
    ("classify", "a.csv", "text,label" + ",x" * 9_998 + "\nban,a" + "," * 9_998 + "\n", 1, "^$"),
    ("classify", "a.tsv", TEXT + '"ban\ta\nkin"\tb\n', 2, "^$"),
    ("classify", "a.tsv", TEXT + "ban\ta\n\t\n", 1, "blank lines left out: 1"),
    ("classify", "a.jsonl", '{"text": "ban", "label": "a", "score": NaN}\n', 1, "^$"),
    ("classify", "a.jsonl", '{"text": "ban\u2028kin", "label": "a"}\n', 1, "^$"),
    ("classify", "a.jsonl", '{"text": "ban \\ud83d", "label": "a"}\n', 1, r"surrogates replaced by U\+FFFD: 1"),
    ("classify", "a.txt", "  left ban\nright kin\n", 2, "^$"),
    ("classify", "a.txt", "left\tban kin\n\nright\tlun\n \n", 2, r"blank lines left out: 2 \(first in line 2\)"),
    ("entail", "a.tsv", PAIR + "ban\tkin\t-\nban\tban\tsame\n", 1, "pairs without an agreed label left out: 1"),
]


def write(folder, name, content):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


@pytest.mark.parametrize(("task", "name", "content", "columns", "message"), REFUSED)
def test_invalid_files_are_refused_with_file_and_line(tmp_path, task, name, content, columns, message):
    path = write(tmp_path, name, content)
    with pytest.raises(InputError, match=message) as raised:
        read_examples(path, task, ExampleColumns(**columns))
    said = str(raised.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    assert len(said) < 500


@pytest.mark.parametrize(("task", "name", "content", "n_examples", "report"), READ)
def test_unusual_files_are_read_and_reported(tmp_path, task, name, content, n_examples, report):
    found = read_examples(write(tmp_path, name, content), task)
    assert len(found.examples) == n_examples
    assert re.search(report, found.report.describe())


@pytest.mark.parametrize(("task", "content"), [("classify", "a\n"), ("tag", "ban O\nkin\n\n"), ("entail", "a\tb\n")])
def test_commands_refuse_invalid_files_before_training(tmp_path, model_folder, capsys, task, content):
    invalid, valid = write(tmp_path, "bad.txt", content), WRITERS[task](tmp_path / "good.txt")
    for parts in (("--train", invalid, "--dev", valid), ("--train", valid, "--dev", invalid)):
        arguments = ["finetune", task, "--encoder", model_folder, "--out", tmp_path / "run", *parts]
        assert main([str(each) for each in arguments]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"elmolite: {invalid}")
        assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
