"""Broken text ends in a message that names file and line, odd text in vectors and counts that add up; nothing is lost.

The classes are in ``bad_text.py`` and ``bad_tasks.py``; here are the commands on them, and classes of several files.
``make test-reliability`` adds those that are huge.
"""

import gzip
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from bad_tasks import TASK_FILES
from bad_text import TEXTS, Refused, Taken
from small_tasks import HEADS, WRITERS, setup_of, train

from elmolite.cli.main import main
from elmolite.data.corpus import Corpus
from elmolite.data.text import MAX_LINE_BYTES, PIECE_BYTES
from elmolite.tasks.examples.files import read_examples
from elmolite.tasks.examples.records import NO_AGREED_LABEL

IS_LONG = bool(os.environ.get("ELMOLITE_RELIABILITY"))
is_long = pytest.mark.skipif(not IS_LONG, reason="takes minutes: ELMOLITE_RELIABILITY=1, or make test-reliability")
REFUSED_TEXTS = {name: text for name, text in TEXTS.items() if isinstance(text.expected, Refused)}
TAKEN_TEXTS = {name: text for name, text in TEXTS.items() if isinstance(text.expected, Taken)}
LONG_SENTENCES = {name for name, text in TAKEN_TEXTS.items() if max(map(len, text.content.split(b"\n"))) > 10_000}
QUICK_TO_PREDICT = {name for name, text in TAKEN_TEXTS.items() if text.expected.remark or text.expected.n_blank}
LINES_TO_EMBED = [pytest.param(name, marks=is_long) if name in LONG_SENTENCES else name for name in TAKEN_TEXTS]
LINES_TO_PREDICT = [name if name in QUICK_TO_PREDICT else pytest.param(name, marks=is_long) for name in TAKEN_TEXTS]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory, model_folder):
    """Give the folder of a trained model of each task."""
    folder = tmp_path_factory.mktemp("tasks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elmolite.tasks.finetune._draw", lambda *of_the_run: None)
        for task, write in WRITERS.items():
            train(
                setup_of(model_folder, task, train=write(folder / f"{task}.txt"), head=HEADS[task]),
                folder / task,
                n_epochs=1,
            )
    return folder


@pytest.fixture
def run(capsys):
    """Run a command, and give its exit code and what it said on both streams."""

    def command(*arguments):
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return command


def written(folder, text):
    path = folder / text.name
    path.write_bytes(text.content)
    return path


def check_refused(answer, path, message):
    code, out, err = answer
    assert code == 2, (out, err)
    assert err.startswith(f"elmolite: {path}"), err
    assert err.count("\n") == 1, err
    assert re.search(message, err), err


def check_taken(answer, remark, path):
    code, _, err = answer
    assert code == 0, err
    told = [line for line in err.splitlines() if line.startswith(str(path))]
    assert len(told) == bool(remark), err
    assert re.search(remark, err), err


def letters(text):
    """Return what is no white space, and no byte order mark at the start of a line: all that must not be lost."""
    lines = (line.lstrip("\ufeff") for line in text.split("\n"))
    return "".join(character for line in lines for character in line if not character.isspace())


def letters_of(corpus):
    splits = (corpus.train, corpus.valid)
    return "".join(
        letters("".join(tokens)) for split in splits for tokens in corpus.sentences(split, split.n_sentences)
    )


@pytest.mark.parametrize("name", REFUSED_TEXTS)
def test_broken_text_is_refused_by_file_and_line(tmp_path, model_folder, tasks, run, name):
    text = REFUSED_TEXTS[name]
    path = written(tmp_path, text)
    commands = {
        "prepare": ("prepare", path, "--out", tmp_path / "corpus"),
        "embed": ("embed", model_folder, "--input", path, "--output", tmp_path / "vectors.npz"),
        "predict": ("predict", tasks / "classify", "--input", path, "--output", tmp_path / "new.jsonl"),
        "evaluate": ("evaluate", model_folder, path),
    }
    if not IS_LONG:
        del commands["evaluate"]  # which reads as prepare does
    if len(text.content) > MAX_LINE_BYTES:
        commands = {name: commands[name] for name in ("embed", "predict")}  # the others read such lines in pieces
    for command, arguments in commands.items():
        expected = text.others.get(command, text.expected)
        if isinstance(expected, Taken):
            check_vectors(run(*arguments), tmp_path / "vectors.npz", expected)
            (tmp_path / "vectors.npz").unlink()
        else:
            check_refused(run(*arguments), path, expected.message)
    assert list(tmp_path.iterdir()) == [path]


def check_vectors(answer, path, expected):
    code, out, err = answer
    assert code == 0, err
    with np.load(path) as arrays:
        assert list(arrays) == [str(i) for i in range(expected.n_lines)]
        assert sum(array.shape[1] == 0 for array in arrays.values()) == expected.n_blank
        assert all(np.isfinite(array).all() for array in arrays.values())
    blank = f", {expected.n_blank:,} of them without tokens" * bool(expected.n_blank)
    assert f"{path}: {expected.n_lines:,} sentences{blank}, " in out


@pytest.mark.parametrize("name", TAKEN_TEXTS)
@pytest.mark.parametrize("way", ["raw", pytest.param("pretokenized", marks=is_long)])
def test_of_odd_text_no_character_is_lost(tmp_path, run, name, way):
    text = TAKEN_TEXTS[name]
    path, expected = written(tmp_path, text), text.expected
    options = ["--pretokenized"] * (way == "pretokenized")
    answer = run("prepare", path, "--out", tmp_path / "corpus", "--workers", 1, *options)
    check_taken(answer, expected.remark or "pieces" * (len(text.content) > PIECE_BYTES), path)
    assert f"{expected.n_lines:,} lines, {expected.n_blank:,} of them blank: " in answer[1]
    corpus = Corpus.open(tmp_path / "corpus")
    assert letters_of(corpus) == letters(decoded(text))
    if way == "pretokenized" and len(text.content) <= PIECE_BYTES:
        assert corpus.train.n_sentences + corpus.valid.n_sentences == expected.n_lines - expected.n_blank


def decoded(text):
    content = gzip.decompress(text.content) if text.name.endswith(".gz") else text.content
    return content.decode()


@pytest.mark.parametrize("name", LINES_TO_EMBED)
def test_of_odd_text_every_line_has_its_vectors(tmp_path, model_folder, run, name):
    text = TAKEN_TEXTS[name]
    path, output = written(tmp_path, text), tmp_path / "vectors.npz"
    answer = run("embed", model_folder, "--input", path, "--output", output)
    check_taken(answer, text.expected.remark, path)
    check_vectors(answer, output, text.expected)


@pytest.mark.parametrize("name", LINES_TO_PREDICT)
def test_of_odd_text_every_line_has_its_prediction(tmp_path, tasks, run, name):
    text = TAKEN_TEXTS[name]
    expected, path = text.expected, written(tmp_path, text)
    options = ("--input", path, "--columns.format=text")
    answer = run("predict", tasks / "classify", *options)
    blank = f"blank lines left out: {expected.n_blank}" * bool(expected.n_blank)
    check_taken(answer, f"{expected.remark}.*{blank}" if expected.remark or blank else "", path)
    records = [json.loads(line) for line in answer[1].split("\n")[:-1]]
    assert len(records) == expected.n_lines - expected.n_blank
    assert letters("\n".join(record["text"] for record in records)) == letters(decoded(text))


@pytest.mark.parametrize("name", TASK_FILES)
def test_task_files_are_read_whole_or_refused_before_training(tmp_path, model_folder, tasks, run, name):
    case = TASK_FILES[name]
    path, out = written(tmp_path, case), tmp_path / "run"
    if isinstance(case.expected, Refused):
        sound = path if case.options else tasks / f"{case.task}.txt"  # the options are said of both files
        finetune = ("finetune", case.task, "--encoder", model_folder, "--out", out, *case.options)
        for files in (("--train", path, "--dev", sound), ("--train", sound, "--dev", path)):
            check_refused(run(*finetune, *files), path, case.expected.message)
        check_refused(run("test", tasks / case.task, path, *case.options), path, case.expected.message)
        assert not out.exists()
        return
    read = read_examples(path, case.task)
    assert len(read.examples) == case.expected.n_examples
    assert re.search(case.expected.remark, read.report.describe()), read.report.describe()
    answer = run("predict", tasks / case.task, "--input", path, *case.options)
    keeps_all = read.report.count(NO_AGREED_LABEL)  # what cannot be learnt from can be predicted
    check_taken(answer, "" if keeps_all else case.expected.remark, path)
    records = [json.loads(line) for line in answer[1].split("\n")[:-1]]
    assert sum("gold" in record for record in records) == case.expected.n_examples
    assert len(records) == case.expected.n_examples + keeps_all


def peak_mebibytes(*arguments):
    """Run a command in a process of its own, and return the most memory that it had."""
    program = f"import sys; from elmolite.cli.main import main; sys.exit(main({[str(each) for each in arguments]!r}))"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss / 1024


@is_long
@pytest.mark.parametrize("way", ["raw", "pretokenized"])
def test_a_line_of_100_megabytes_needs_no_more_memory_than_one_of_20(tmp_path, way):
    options = ["--pretokenized"] * (way == "pretokenized")
    peaks = []
    for megabytes in (20, 100):
        path = tmp_path / f"{megabytes}.txt"
        path.write_text("these words stand in one line " * (megabytes * 1_000_000 // 30))
        peaks.append(peak_mebibytes("prepare", path, "--out", tmp_path / f"c{megabytes}", "--workers", 1, *options))
    corpus = Corpus.open(tmp_path / "c100")
    assert corpus.train.n_tokens + corpus.valid.n_tokens == 100_000_000 // 30 * 6
    assert peaks[1] < peaks[0] + 300, peaks


@is_long
def test_a_million_blank_lines(tmp_path, model_folder, run):
    path = tmp_path / "text.txt"
    path.write_text("good text\n" + "\n" * 1_000_000 + "good text\n")
    code, out, _ = run("prepare", path, "--out", tmp_path / "corpus")
    assert (code, "1,000,002 lines, 1,000,000 of them blank" in out) == (0, True)
    code, out, _ = run("embed", model_folder, "--input", path, "--output", tmp_path / "vectors")
    assert (code, "1,000,002 sentences, 1,000,000 of them without tokens, 4 tokens" in out) == (0, True)


@is_long
@pytest.mark.parametrize("content", ["x" * 10_000_000, "ban kin " * 50_000], ids=["a word of 10 MB", "100,000 tokens"])
def test_long_sentences(tmp_path, model_folder, tasks, run, content):
    path, n_tokens = tmp_path / "text.txt", len(content.split())
    path.write_text(content)
    code, out, err = run("prepare", path, "--out", tmp_path / "corpus", "--pretokenized")
    assert (code, err.count("words of more than") if n_tokens == 1 else err) == (0, 1 if n_tokens == 1 else "")
    code, out, _ = run("embed", model_folder, "--input", path, "--output", tmp_path / "vectors")
    assert (code, f"1 sentences, {n_tokens:,} tokens" in out) == (0, True)
    code, out, _ = run("predict", tasks / "classify", "--input", path, "--columns.format=text")
    assert (code, len(out.split("\n"))) == (0, 2)
    code, _, _ = run("evaluate", model_folder, path)
    assert code == 0
