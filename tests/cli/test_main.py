import errno
import json
import logging
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import warnings

import pytest
import torch

import elmolite
from elmolite.cli.commands import COMMANDS, PARSERS, Result, finetune
from elmolite.cli.help import COMMAND_SYNONYMS, EXAMPLES, GROUPS, METAVARS, SECTIONS, SYNONYMS
from elmolite.cli.main import main
from elmolite.cli.options import CommandParser
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError, Preempted
from elmolite.nn.config import KINDS
from elmolite.tasks.config import HEAD_CONFIGS, ExampleColumns, FinetuningConfig
from elmolite.utils.config import default_device
from elmolite.utils.torch import best_device, trainer_devices

HEAVY = {"torch", "lightning", "datasets"}
WITHOUT_TORCH = {
    "--help": 0, "help embed": 0, "pretrain --help": 0, "finetune tag --help-all": 0,
    "embed mini-en --input nosuch --output v": 2, "embed nosuch --input good.txt --output v": 2,
    "evaluate mini-en nosuch": 2, "neighbours nosuch good.txt --query a": 2, "convert nosuch out": 2,
    "pretrain --corpus nosuch --out r": 2, "pretrain --corpus nosuch --out r --preset nosuch": 2,
    "pretrain --config nosuch": 2,
    **{f"pretrain --corpus nosuch --out r --{option} {value}": 2
       for option, values in {"softmax": ("adaptive", "ful"), **{f"model.{name}": (*kinds, "nosuch")
                              for name, kinds in KINDS.items()}}.items()
       for value in values},
    "pretrain --device gpu": 2, "finetune tag --encoder mini-en --train nosuch --out r": 2,
    "finetune tag --encoder mini-en --train good.txt --out .": 2, "finetune nosuch": 2, "prepare good.txt --out .": 2,
    "predict nosuch --input good.txt": 2, "test mini-en good.txt": 2, "info nosuch": 2, "demo --lr 3": 2,
    **dict.fromkeys(("pretrain", "embed", "finetune", "finetune entail", "predict", "test", "neighbours"), 2),
}  # fmt: skip
"""Command lines that need no torch, and their exit codes."""


@pytest.mark.multiprocess
def test_help_and_errors_import_nothing_heavy(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "good.txt").write_text("yes\n")
    code = f"""
import sys
from elmolite.cli.main import main
def exit_code(words):
    try:
        return main(words)
    except SystemExit as error:
        return error.code
for line in {list(WITHOUT_TORCH)}:
    code = exit_code(line.split())
    print("RAN", line, code, sorted({HEAVY} & set(sys.modules)), sep="|")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    ran = [line for line in done.stdout.splitlines() if line.startswith("RAN")]
    assert ran == [f"RAN|{line}|{code}|[]" for line, code in WITHOUT_TORCH.items()]
    assert "Traceback" not in done.stderr


COMMAND_LINES = [*(name for name in COMMANDS if name != "finetune"), *(f"finetune {task}" for task in HEAD_CONFIGS)]


@pytest.mark.parametrize("command", COMMAND_LINES)
def test_help_of_a_command(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as exit_:
        main([*command.split(), "--help"])
    text = capsys.readouterr().out
    assert exit_.value.code == 0
    assert text.startswith(f"usage: elmolite {command} ")
    assert len(text.splitlines()) <= 100
    assert all(f"--{name}" in text for name in ("json", "device", "quiet", "verbose", "config"))
    with pytest.raises(SystemExit):
        main(["help", *command.split()])
    assert capsys.readouterr().out == text
    with pytest.raises(SystemExit):
        main([*command.split(), "--help-all"])
    everything = capsys.readouterr().out
    assert set(re.findall(r"^  (--[\w.-]+)", text, re.M)) <= set(re.findall(r"^  (--[\w.-]+)", everything, re.M))
    assert "``" not in everything


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_the_examples_of_the_help_are_valid(line):
    name, *words = shlex.split(line.partition(" > ")[0])[1:]
    if "--resume" not in words:  # which needs the run
        parser = None if name in PARSERS else CommandParser(name, COMMANDS[name])
        found = PARSERS[name](words) if parser is None else parser.invocation(parser.parse(words))
        assert found.arguments


def test_options_are_described_and_names_exist():
    parsers = [CommandParser(name, COMMANDS[name]) for name in COMMANDS if name != "finetune"]
    for task, kind in HEAD_CONFIGS.items():
        parsers.append(CommandParser("finetune", finetune, fixed={"task": task}, kinds={"head": kind}))
    options = [(name, option) for parser in parsers for name, option in parser.options.items()]
    assert [name for name, option in options if not option.text[:1].isupper() and "deprecated" not in option.text] == []
    names = {name for name, _ in options}
    assert SYNONYMS.keys() <= names
    assert {name for of_kind in METAVARS.values() for name in of_kind.split()} <= names
    assert {name.split()[0] for name in COMMAND_SYNONYMS.values()} <= COMMANDS.keys()
    assert [name for name in GROUPS if name not in COMMANDS] == []
    assert all(name in {"help", *COMMANDS} for section in SECTIONS.values() for name in section)


COMPLETE = """
source completion.bash
complete_words() {
    COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=()
    _shtab_elmolite
    echo "${COMPREPLY[*]}"
}
complete_words elmolite em
complete_words elmolite embed mini-en --dtype ""
complete_words elmolite pretrain --learn
complete_words elmolite finetune ""
complete_words elmolite finetune tag --head.k
"""


@pytest.mark.multiprocess
def test_completion(tmp_path, capsys):
    pytest.importorskip("shtab", reason="the extra completion is not installed")
    for shell, option in (("zsh", '"--learning-rate['), ("fish", "-l learning-rate -"), ("bash", " --learning-rate ")):
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert option in script
    (tmp_path / "completion.bash").write_text(script)
    done = subprocess.run(["bash", "-c", COMPLETE], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "embed", "float32 float16 bfloat16", "--learning-rate", "classify tag entail", "--head.kind",
    ]  # fmt: skip


def test_completion_without_shtab(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert capsys.readouterr().err == "elmolite: completion needs shtab: pip install 'elmolite[completion]'\n"


def test_json_has_no_nan(monkeypatch, capsys):
    values = {"loss": math.nan, "scores": [math.inf, 1.5]}
    monkeypatch.setitem(COMMANDS, "info", lambda: Result("text", values, "elmolite help"))
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"loss": None, "scores": [None, 1.5]}
    assert main(["info"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("text\n", "next: elmolite help\n")


@pytest.mark.parametrize(("words", "name"), [([], "cpu"), (["--device", "cpu"], "cpu"), (["--device=meta"], None)])
def test_device(monkeypatch, capsys, words, name):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setitem(COMMANDS, "info", lambda: Result(str(best_device()), {}))
    assert main(["info", *words]) == (0 if name else 2)
    assert capsys.readouterr().out == (f"{name}\n" if name else "")


def test_device_of_a_trainer():
    with default_device("cpu"):
        assert (best_device(), trainer_devices(best_device(), 2)) == (torch.device("cpu"), 2)
    assert trainer_devices(torch.device("cuda:1")) == [1]
    with pytest.raises(InputError, match="device must be cuda for 2 devices, got cuda:1"):
        trainer_devices(torch.device("cuda:1"), 2)
    with default_device("mps" if not torch.backends.mps.is_available() else "cuda:99"), pytest.raises(InputError):
        best_device()
    with pytest.raises(InputError, match="device must be auto"), default_device("gpu"):
        pass


def test_version_and_no_command(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"elmolite {elmolite.__version__}\n"
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: elmolite COMMAND")
    for word, message in (
        ("prepar", "unknown command 'prepar'; did you mean 'prepare'?"),
        ("train", "unknown command 'train'; did you mean 'pretrain'?"),
        ("--input", "unknown option '--input': the command must come first, as in elmolite embed mini-en"),
    ):
        assert main([word]) == 2
        assert capsys.readouterr().err.startswith(f"elmolite: {message}")


@pytest.mark.parametrize(
    ("raised", "code", "shown"),
    [
        (KeyboardInterrupt(), 130, "elmolite: interrupted\n"),
        (Preempted("continue with --resume"), 75, "elmolite: continue with --resume\n"),
        (InputError("a.txt: bad"), 2, "elmolite: a.txt: bad\n"),
        (PermissionError(errno.EACCES, "Permission denied", "a.txt"), 2, "elmolite: a.txt: Permission denied\n"),
    ],
)
def test_exit_codes(monkeypatch, capsys, raised, code, shown):
    def stopped():
        raise raised

    monkeypatch.setitem(COMMANDS, "info", stopped)
    assert main(["info"]) == code
    assert capsys.readouterr().err == shown


@pytest.mark.parametrize(
    ("switch", "shown"),
    [([], ["info", "warning"]), (["--quiet"], ["warning"]), (["--verbose"], ["debug", "info", "warning"])],
)
def test_the_log_is_shown(monkeypatch, capsys, switch, shown):
    logger = logging.getLogger("elmolite")

    def talk():
        for level in (logging.DEBUG, logging.INFO, logging.WARNING):
            logger.log(level, logging.getLevelName(level).lower())
        print("result")

    monkeypatch.setitem(COMMANDS, "info", talk)
    before = logger.level, list(logger.handlers)
    assert main(["info", *switch]) == 0
    said = capsys.readouterr()
    assert [line.split()[-1] for line in said.err.splitlines()] == shown
    assert said.out == "result\n"
    assert (logger.level, logger.handlers) == before


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("o exists: pass `overwrite=True`", "o exists: pass --overwrite"),
        ("n_seeds must be positive: a smaller `batch_size`", "--seeds must be positive: a smaller --batch-size"),
        ("pass `columns.second_text='NAME'`", "pass --columns.second-text NAME"),
        ("`n_epochs=2`: start; `cache=False` or `random_init`", "--n-epochs 2: start; --no-cache or --untrained"),
        ("use `--ntasks-per-node=2`, `a b`", "use `--ntasks-per-node=2`, `a b`"),
        ("'`dog` barks': expected [brackets], not `n_nodes`", "'`dog` barks': expected [brackets], not `n_nodes`"),
    ],
)
def test_arguments_are_shown_as_flags(monkeypatch, capsys, message, shown):
    def info(
        *,
        config: FinetuningConfig,
        columns: ExampleColumns,
        overwrite: bool = False,
        seeds: int = 1,
        no_cache: bool = False,
        untrained: bool = False,
    ):
        logging.getLogger("elmolite").warning(message)
        raise InputError(message)

    monkeypatch.setitem(COMMANDS, "info", info)
    assert main(["info"]) == 2
    assert capsys.readouterr().err == f"{shown}\nelmolite: {shown}\n"


def test_sigterm_leaves_no_partial_file(monkeypatch, capsys, tmp_path, model_folder):
    def embed_iter(*_, **__):
        assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".partial"]
        os.kill(os.getpid(), signal.SIGTERM)
        yield

    monkeypatch.setattr(ELMo, "embed_iter", embed_iter)
    (tmp_path / "text").write_text("a b\n")
    before = signal.getsignal(signal.SIGTERM)
    output = tmp_path / "out" / "vectors.npz"
    assert main(["embed", str(model_folder), "--input", str(tmp_path / "text"), "--output", str(output)]) == 143
    assert capsys.readouterr().err.startswith("elmolite: terminated; nothing was written")
    assert list((tmp_path / "out").iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.filterwarnings("default::FutureWarning")
def test_a_deprecation_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(COMMANDS, "info", lambda: warnings.warn("a is deprecated; use b", FutureWarning, stacklevel=1))
    assert main(["info", "--quiet"]) == 0
    assert capsys.readouterr().err == "a is deprecated; use b\n"


def test_the_program_shows_no_traceback(tmp_path):
    command = [sys.executable, "-m", "elmolite", "prepare", "nowhere", "--out", tmp_path / "c"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "elmolite: nowhere: no such file, folder or pattern\n")
