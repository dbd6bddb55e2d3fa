import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import random_sentences, write_sentences

from elmolite import ELMo
from elmolite.cli.main import COMMANDS, main


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture
def text(tmp_path):
    return write_sentences(tmp_path / "text.txt", random_sentences(300))


def test_from_text_to_vectors(tmp_path, text, capsys):
    corpus, out, vectors = tmp_path / "corpus", tmp_path / "run", tmp_path / "vectors.npz"
    assert run("prepare", text, "--out", corpus, "--pretokenized", "--vocab-size", "25", "--workers", "1") == 0
    said = capsys.readouterr().out
    assert "25 words of the softmax" in said
    assert "MB/s" in said
    sizes = ["--model.cell-size", 16, "--model.projection-size", 8, "--model.filters", "[[1, 8], [2, 8]]"]
    assert run("pretrain", "--corpus", corpus, "--out", out, "--n-rows", 4, "--max-steps", 4, *sizes) == 0
    said = capsys.readouterr().out
    assert "held-out perplexity" in said
    assert "validation on" in said
    assert run("pretrain", "--out", out, "--resume") == 0  # its settings are its own
    capsys.readouterr()
    assert run("evaluate", out / "model", text, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    n_targets = sum(len(s) + 1 for s in random_sentences(300))
    assert result["running_text"]["n_targets"] == result["by_sentence"]["n_targets"] == n_targets
    assert run("evaluate", out / "model", text) == 0
    assert "sentence by sentence" in capsys.readouterr().out
    assert run("embed", out / "model", "--input", text, "--output", vectors, "--layers", "top") == 0
    capsys.readouterr()
    with np.load(vectors) as arrays:
        lines = text.read_text().split("\n")[:-1]
        assert arrays.files == [str(i) for i in range(len(lines))]
        expected = ELMo.from_pretrained(out / "model").embed(lines, layers="top")
        for name, array in zip(arrays.files, expected, strict=True):
            np.testing.assert_allclose(arrays[name], array, rtol=2e-6, atol=2e-6)
    assert run("info", out / "model") == 0
    assert "vectors    3 layers of 16" in capsys.readouterr().out


def test_info(capsys):
    assert run("info") == 0
    assert "93,600,864" in capsys.readouterr().out
    assert run("info", "mini", "--runtime") == 0
    said = capsys.readouterr().out
    assert "2,996,448" in said
    assert "threads" in said
    assert "products   without gradients: float32 " in said
    assert "steps      of the LSTM, besides products: " in said


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        run(command, "--help")
    assert exit_.value.code == 0
    assert "usage: elmolite" in capsys.readouterr().out


def output_of(code, *, heavy):
    """Run code in a fresh interpreter, then print which heavy modules it has imported."""
    code = f"import sys; {code}; print(sorted({heavy} & set(sys.modules)))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_overview_imports_nothing_heavy():
    said = output_of("from elmolite.cli.main import main; main(['--help'])", heavy={"torch", "numpy", "lightning"})
    assert said.endswith("[]\n")
    assert all(name in said for name in COMMANDS)


def test_embedding_imports_neither_lightning_nor_datasets():
    assert output_of("from elmolite import ELMo", heavy={"lightning", "datasets", "jsonargparse"}) == "[]\n"


def test_preparing_files_does_without_datasets(tmp_path, text):
    command = ["prepare", str(text), "--out", str(tmp_path / "c"), "--workers", "1"]
    assert output_of(f"from elmolite.cli.main import main; main({command})", heavy={"datasets", "pyarrow"}).endswith(
        "[]\n"
    )


BAD = {
    "unknown command": (["prepar"], "unknown command 'prepar'; did you mean 'prepare'"),
    "unknown option": (
        ["prepare", "a", "--out", "c", "--vocab-sise", "3"],
        "--vocab-sise; did you mean '--vocab-size'",
    ),
    "abbreviated option": (["prepare", "a", "--out", "c", "--vocab-s", "3"], "--vocab-s"),
    "missing option": (["prepare", "a"], "--out"),
    "no text": (["prepare", "--out", "c"], "no text was given: name files"),
    "text twice": (["prepare", "good.txt", "--dataset", "d", "--out", "c"], "TEXT (good.txt) and --dataset exclude"),
    "held-out text twice": (
        ["prepare", "--dataset", "d", "--valid-split", "test", "--valid", "good.txt", "--out", "c"],
        "--valid and --valid-split exclude each other",
    ),
    "streaming of files": (["prepare", "good.txt", "--streaming", "--out", "c"], "--streaming: has a meaning only"),
    "split of files": (["prepare", "good.txt", "--dataset-split", "a", "--out", "c"], "--dataset-split: has a meaning"),
    "held-out split of files": (["prepare", "good.txt", "--valid-split", "a", "--out", "c"], "--valid-split: has a"),
    "missing text": (["prepare", "nowhere.txt", "--out", "c"], "nowhere.txt: no such file"),
    "empty text": (["prepare", "empty.txt", "--out", "c"], "empty.txt: the file is empty"),
    "binary text": (
        ["prepare", "binary", "--out", "c"],
        "binary, line 1: expected UTF-8 text, but",
    ),
    "undecodable text": (["prepare", "latin1.txt", "--out", "c"], "latin1.txt, line 2: not UTF-8"),
    "corpus exists": (["prepare", "good.txt", "--out", "."], "--overwrite"),
    "no vocabulary": (["prepare", "good.txt", "--out", "c", "--vocab", "nowhere"], "nowhere"),
    "no workers": (["prepare", "good.txt", "--out", "c", "--workers", "0"], "--workers 0"),
    "no corpus": (["pretrain", "--corpus", "nowhere", "--out", "r"], "nowhere: no such corpus folder"),
    "unknown preset": (["pretrain", "--corpus", "c", "--out", "r", "--preset", "hug"], "unknown preset 'hug'"),
    "no model": (["embed", "nowhere", "--input", "good.txt", "--output", "v.npz"], "nowhere: no such model folder"),
    "no input": (["embed", "nowhere", "--input", "nothing.txt", "--output", "v.npz"], "nothing.txt: no such file"),
    "model before text": (["embed", "nowhere", "--input", "empty.txt", "--output", "v.npz"], "no such model folder"),
    "wrong output": (["embed", "nowhere", "--input", "good.txt", "--output", "v.txt"], "v.txt"),
    "no model to evaluate": (["evaluate", ".", "good.txt"], "config.json is missing"),
    "no model to describe": (["info", "nowhere"], "nowhere: no such model folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_message_and_exit_code_2(tmp_path, monkeypatch, capsys, case):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.txt").write_text("Some words. And more.\n")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "binary").write_bytes(b"\x7fELF\0\0\n")
    (tmp_path / "latin1.txt").write_bytes("gut\nschön\n".encode("latin-1"))
    before = sorted(tmp_path.iterdir())
    arguments, message = BAD[case]
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.startswith("elmolite: ")
    assert "Traceback" not in said.err + said.out
    assert sorted(tmp_path.iterdir()) == before


def test_the_program_shows_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "elmolite.cli.main", "prepare", "nowhere", "--out", str(tmp_path / "c")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "elmolite: nowhere: no such file, folder or pattern\n"


def test_an_empty_file_gives_no_vectors(tmp_path, model_folder, capsys):
    (tmp_path / "empty.txt").write_text("")
    assert run("embed", model_folder, "--input", tmp_path / "empty.txt", "--output", tmp_path / "v.npz") == 2
    assert "empty.txt: the file is empty" in capsys.readouterr().err
    assert not (tmp_path / "v.npz").exists()


def test_a_full_disk_leaves_no_vectors(tmp_path, model_folder, text, monkeypatch, capsys):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.lib.format.write_array", full)
    assert run("embed", model_folder, "--input", text, "--output", tmp_path / "v.npz") == 2
    assert "v.npz: cannot be written: No space left on device" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["text.txt"]


@pytest.mark.parametrize(("raised", "shown"), [((), "interrupted"), (("go on with --resume",), "go on with --resume")])
def test_an_interrupted_command_says_so(monkeypatch, capsys, raised, shown):
    def stopped(arguments):
        raise KeyboardInterrupt(*raised)

    monkeypatch.setitem(COMMANDS, "info", stopped)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == f"elmolite: {shown}\n"
