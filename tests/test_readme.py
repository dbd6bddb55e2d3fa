"""What the README says of files and commands is so."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.data import random_sentences, write_sentences
from helpers.legacy_numpy import write_bilm_tf

from elmolite.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_map_names_every_package_and_no_other():
    table = re.search(r"\| package \|.*?\n\n", README, flags=re.DOTALL)[0]
    named = {
        name.rstrip("/") for row in table.strip().splitlines() for name in re.findall(r"`(\w+/?)`", row.split("|")[1])
    }
    package = ROOT / "elmolite"
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    modules = {path.stem for path in package.glob("*.py") if not path.name.startswith("__")}
    deprecated = {path.stem for path in package.glob("*.py") if path.read_text().startswith('"""Deprecated')}
    assert named == folders | modules - deprecated


def block(start, language):
    """The first block of code in this language after some words of the README."""
    return re.search(rf"{re.escape(start)}.*?```{language}\n(.*?)```", README, flags=re.DOTALL)[1]


def run_commands(start, capsys):
    for line in block(start, "bash").strip().splitlines():
        assert main(shlex.split(line, comments=True)[1:]) == 0, capsys.readouterr().err


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_commands_exist():
    for command in re.findall(r"^(?:\.venv/bin/)?elmolite (\w+)", README, flags=re.MULTILINE):
        assert command in COMMANDS


@pytest.mark.slow
def test_the_commands_of_your_own_text_run(folder):
    (folder / "books").mkdir()
    write_sentences(folder / "books" / "a.txt", random_sentences(300))
    for name in ("notes.txt", "other-text.txt", "sentences.txt"):
        write_sentences(folder / name, random_sentences(100))
    small = "--model.cell-size 16 --model.projection-size 8 --max-steps 3 --batch-size 4 --n-validations 1"
    for line in block("## Your own text", "bash").strip().split("\n"):
        line = line.replace("notes.txt.gz", "notes.txt").replace("--preset mini", f"--preset mini {small}")
        words = [
            name
            for word in shlex.split(line)[1:]
            for name in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
        ]
        assert main(words) == 0, line


def test_the_python_block_runs():
    names = {}
    exec(block("## Vectors", "python"), names)
    assert [part.shape for part in names["vectors"]] == [(3, 4, 256), (3, 1, 256)]
    assert [part.shape for part in names["top"]] == [(4, 256), (1, 256)]
    assert names["mask"].tolist() == [[True]]
    exec(block("**Sentences.**", "python"), names)
    assert names["sentences"].shape == (2, 256)


@pytest.mark.slow
def test_pretraining_from_python_runs(folder):
    (folder / "books").mkdir()
    write_sentences(folder / "books" / "a.txt", random_sentences(300))
    recipe = folder / "recipe.yaml"
    recipe.write_text("preset: tiny\nmax_steps: 3\nbatch_size: 4\nmodel:\n  cell_size: 16\n")
    names = {}
    exec(block("**From Python**", "python").replace("recipes/pretrain/mini.yaml", str(recipe)), names)
    assert (names["folder"] / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "recipes/README.md", "recipes/bench/README.md"])
def test_named_files_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(r"(?:elmolite|tests|recipes|checkpoints)/[\w./-]+\.(?:py|md|yaml|sh)", text)
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    missing = [path for path in named if "NAME" not in path and not (ROOT / path).exists()]
    missing += [link for link in links if not ((ROOT / name).parent / link).exists()]
    assert missing == []


def test_the_example_of_a_command_runs(tmp_path, monkeypatch, capsys):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    names = {"Sequence": Sequence}
    exec(re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)[1], names)
    monkeypatch.setitem(COMMANDS, "count", names["count"])
    (tmp_path / "a.txt").write_text("a word or two\n")
    assert main(["count", str(tmp_path / "a.txt"), "--min-length", "3"]) == 0
    assert capsys.readouterr().out == "2\n"


@pytest.mark.slow
def test_the_code_under_tasks_runs(folder, capsys):
    lines = [f"{' '.join(sentence)}\t{'long' if len(sentence) > 6 else 'short'}" for sentence in random_sentences(40)]
    for name in ("train.tsv", "dev.tsv"):
        Path(name).write_text("\n".join(["text\tlabel", *lines]) + "\n", encoding="utf-8")
    code = block("## Tasks\n", "python")
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.splitlines()[-1] in ("('long',)", "('short',)")
    several = block("Several seeds and the baselines", "python")
    exec(compile(several.replace("n_epochs=10", "n_epochs=1"), "README.md", "exec"), {})
    assert "mean ± standard deviation of 2 seeds" in capsys.readouterr().out

    Path("gated.py").write_text(code[: code.index("result = finetune")], encoding="utf-8")
    own = ["--custom-head", "gated.py:GatedAverage"]
    files = ["--train", "train.tsv", "--dev", "dev.tsv", "--n-epochs", "1"]
    assert main(["finetune", "classify", "--encoder", "mini-en", *files, "--out", "runs/gated", *own]) == 0
    assert main(["test", "runs/gated", "dev.tsv", *own]) == 0
    assert main(["predict", "runs/gated", "--input", "dev.tsv", "--output", "predicted.jsonl", *own]) == 0
    assert main(["test", "runs/gated", "dev.tsv"]) == 2
    assert "--custom-head" in capsys.readouterr().err


@pytest.mark.slow
def test_the_commands_of_tasks_run(folder, capsys):
    words = ["ban", "dost", "kive", "luly", "men"]
    rows = [f"{i}\t{word}\t_\t{'V' if word.endswith('n') else 'N'}" + "\t_" * 6 for i, word in enumerate(words, 1)]
    for name in ("train.conllu", "dev.conllu", "test.conllu", "other.conllu"):
        Path(name).write_text("\n".join(rows) + "\n\n", encoding="utf-8")
    write_sentences(Path("sentences.txt"), random_sentences(5))
    run_commands("## Tasks\n", capsys)


@pytest.mark.slow
def test_the_commands_of_earlier_models_run(folder, capsys):
    write_bilm_tf(folder, names=("elmo_2x4096_options.json", "elmo_2x4096_weights.hdf5"))
    run_commands("## Earlier models\n", capsys)
    assert sorted(path.name for path in Path("for-allennlp").iterdir()) == ["options.json", "weights.hdf5"]
