import logging
import os
import signal
import subprocess
import sys
import warnings

import pytest

import elmolite
from elmolite.cli.main import COMMANDS, main, with_flags
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError, Preempted


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [(["--help"], {"torch", "numpy", "lightning", "jsonargparse"}), (["embed", "--help"], {"torch", "lightning"})],
)
def test_help_imports_nothing_heavy(arguments, heavy):
    code = f"from elmolite.cli.main import main\ntry: main({arguments})\nexcept SystemExit: pass\n"
    code += f"import sys; print(sorted({heavy} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"usage: elmolite {'embed' if 'embed' in arguments else 'COMMAND'}")
    assert said.endswith("[]\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert f"usage: elmolite {command}" in capsys.readouterr().out


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
        ("a smaller `batch_size`", "a smaller --batch-size"),
        ("pass `columns.second_text='NAME'`", "pass --columns.second-text NAME"),
        ("`n_nodes=2`: start; `cache=False` or `random_init`", "--n-nodes 2: start; --no-cache or --untrained"),
        ("use `--ntasks-per-node=2`, `a b`", "use `--ntasks-per-node=2`, `a b`"),
    ],
)
def test_arguments_are_shown_as_flags(monkeypatch, capsys, message, shown):
    def info():
        logging.getLogger("elmolite").warning(message)
        raise InputError(message)

    monkeypatch.setitem(COMMANDS, "info", info)
    assert with_flags(message) == shown
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
    assert capsys.readouterr().err == "elmolite: terminated\n"
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
