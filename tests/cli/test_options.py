from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml

from elmolite.cli.help import EXAMPLES
from elmolite.cli.options import CommandParser
from elmolite.errors import InputError
from elmolite.utils.config import RENAMED_SETTINGS


@dataclass
class Schedule:
    """Learning rate schedule.

    :param steps: Number of ``steps``.
    :param sizes: deprecated: nothing uses them
    """

    steps: int = 10
    rate: float | None = 0.5
    use_warmup: bool = True
    kind: Literal["cosine", "linear"] = "cosine"
    sizes: list[tuple[int, int]] = field(default_factory=lambda: [(1, 2)])

    def __post_init__(self):
        if self.rate is not None and self.rate < 0:
            raise InputError("model.rate must not be negative")


def toy(
    text: Sequence[str] = (),
    *,
    out: Path,
    name: str | None = None,
    valid: Sequence[str] = (),
    query: Annotated[Sequence[str], "repeatable"] = (),
    n: int = 5,
    count: bool = False,
    config: Schedule,
    model: Schedule,
):
    """Do nothing, 100% of the time.

    :param text: files of
        text
    :param out: Results.
    :param n: how many
    """


@pytest.fixture(autouse=True)
def _described(monkeypatch):
    monkeypatch.setitem(EXAMPLES, "toy", ("$ elmolite toy t.txt",))
    monkeypatch.setitem(RENAMED_SETTINGS, "Schedule", {"size": "sizes"})


def options():
    return CommandParser("toy", toy)


def parse(*words):
    return (parser := options()).invocation(parser.parse(words)).arguments


@pytest.fixture
def in_file(tmp_path):
    def write(text):
        (tmp_path / "toy.yaml").write_text(text, encoding="utf-8")
        return f"--config={tmp_path / 'toy.yaml'}"

    return write


def test_defaults_are_those_of_the_function_and_the_dataclasses():
    found = parse("--out", "o")
    assert found == {
        "text": [], "out": Path("o"), "name": None, "valid": [], "query": [], "n": 5, "count": False,
        "config": Schedule(), "model": Schedule(),
    }  # fmt: skip


def test_kinds_of_options():
    found = parse(
        "a", "b", "--valid", "v", "w", "--out=o", "--query", "x", "-n", "3", "--query=y", "--count", "--model.steps=3",
        "--use_warmup", "false", "--model.rate=null", "--kind", "linear", "--sizes", "[[3, 4], [5, 6]]",
    )  # fmt: skip
    assert (found["text"], found["valid"], found["query"]) == (["a", "b"], ["v", "w"], ["x", "y"])
    assert (found["n"], found["count"]) == (3, True)
    assert found["config"] == Schedule(use_warmup=False, kind="linear", sizes=[(3, 4), (5, 6)])
    assert found["model"] == Schedule(steps=3, rate=None)


@pytest.mark.parametrize("text", ["#a", "~", "no", "1.50", "07", "[x", "{a: b}", "é"])
def test_text_stays_text(in_file, text):
    assert parse("--out", "o", "--name", text)["name"] == text
    assert parse("--out", text)["out"] == Path(text)
    assert parse("--out", "o", in_file(yaml.safe_dump({"name": text})))["name"] == text
    assert parse(in_file(f"out: '{text}'"))["out"] == Path(text)


def test_null_is_nothing(in_file):
    assert parse("--out", "o", "--name", "null")["name"] is None
    for null in ("null", "~", ""):
        assert parse("--out", "o", in_file(f"name: {null}\nrate: {null}"))["name"] is None


def test_the_command_line_takes_precedence_over_the_file(in_file):
    config = in_file(
        "out: o\nn: 2\ncount: true\nvalid: [a, b]\nquery: [c, d]\nsteps: 7\nsizes:\n  - [1, 1]\n  - [2, 2]\n"
        "model:\n  steps: 8\n  use_warmup: no\n"
    )
    found = parse("text", "steps", "query", "--steps", "9", config, "-n=4")
    assert (found["out"], found["text"], found["n"], found["count"]) == (Path("o"), ["text", "steps", "query"], 4, True)
    assert (found["valid"], found["query"]) == (["a", "b"], ["c", "d"])
    assert found["config"] == Schedule(steps=9, sizes=[(1, 1), (2, 2)])
    assert found["model"] == Schedule(steps=8, use_warmup=False)
    assert parse("--query", "e", config)["query"] == ["e"]


def test_printed_settings_are_a_configuration_file(in_file, capsys):
    words = ["--out", "#o", "--count", "--model.rate=null", "--sizes=[[7, 8]]", "--valid", "a", "b"]
    with pytest.raises(SystemExit) as exit_:
        parse(*words, "--print-config")
    assert exit_.value.code == 0
    assert parse(in_file(capsys.readouterr().out)) == parse(*words)


def test_help(capsys):
    parser = options()
    parser.set_defaults({"model.steps": 77})
    with pytest.raises(SystemExit) as exit_:
        parser.parse(["--help"])
    assert exit_.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "usage: elmolite toy [TEXT ...] --out FOLDER [options] Do nothing, 100% of the time.",
        "TEXT files of text", "-n N how many (default: 5)", "--out FOLDER Results (required)",
        "--model.steps N Number of steps (default: 77)", "--use-warmup {true,false}", "$ elmolite toy t.txt",
    ):  # fmt: skip
        assert part in text
    assert "--sizes" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--out is required: elmolite toy [TEXT ...] --out FOLDER [options]; see elmolite toy --help"),
        (["--out"], "--out requires a value"),
        (["--out", "o", "-x"], "unexpected argument '-x'"),
        (["--out", "o", "--step", "1"], "unknown option '--step'; did you mean '--steps'?"),
        (["--out", "o", "-n", "x"], "-n must be an integer, got 'x'"),
        (["--out", "o", "--rate", "x"], "--rate must be a number or null, got 'x'"),
        (["--out", "o", "--kind", "lineal"], "--kind must be cosine or linear, got 'lineal'; did you mean 'linear'?"),
        (["--out", "o", "--count=yes"], "--count takes no value"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["--out", "o", "--model.rate=-1"], "--model.rate must not be negative"),
        (["--out", "o", "--text", "t"], "TEXT is an argument, as in elmolite toy [TEXT ...] --out FOLDER"),
        (["--output", "o"], "unknown option '--output'; did you mean '--out'?"),
        (["--out", "o", "--use-warmpu", "no"], "did you mean '--use-warmup'?"),
        (["--out", "o", "--warmup", "no"], "did you mean '--use-warmup' or '--model.use-warmup'?"),
        (["--out", "o", "--dtype", "x"], "unknown option '--dtype'; see elmolite toy --help"),
    ],
)  # fmt: skip
def test_mistakes_on_the_command_line(words, message):
    with pytest.raises(InputError) as error:
        parse(*words)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step: 1", "unknown key 'step'; did you mean 'steps'?"),
        ("model: {stepps: 1}", "unknown key 'model.stepps'; did you mean 'model.steps'?"),
        ("steps: many", "steps must be an integer, got 'many'"),
        ("steps:", "steps: a value is missing"),
        ("quiet: true", "'quiet' must be given on the command line"),
        ("count: 3", "count: expected true or false, got '3'"),
        ("valid: [a, ~]", "valid must be a text or a list of texts, got ['a', None]"),
        ("size: [[1, 2]]\nsizes: [[3, 4]]", "two values of 'sizes', one of them by its deprecated name"),
        ("- 1", "expected 'key: value' lines"),
        ("a: [", "invalid YAML"),
    ],
)
def test_mistakes_in_a_file(in_file, text, message):
    with pytest.raises(InputError) as error:
        parse("--out", "o", in_file(text))
    assert str(error.value).startswith(in_file(text).removeprefix("--config="))
    assert message in str(error.value)
