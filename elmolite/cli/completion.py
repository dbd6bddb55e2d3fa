"""Shell completion, by shtab (``elmolite[completion]``)."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from elmolite.cli import help  # noqa: A004
from elmolite.cli.commands import COMMANDS
from elmolite.cli.help import flag
from elmolite.cli.options import CommandParser, metavar
from elmolite.errors import InputError
from elmolite.tasks.config import HEAD_CONFIGS


def script(shell: str) -> str:
    """Return the completion script of a shell.

    :param shell: bash, zsh or fish.
    """
    try:
        import shtab
    except ImportError:
        raise InputError("completion needs shtab: pip install 'elmolite[completion]'") from None
    root = ArgumentParser(prog="elmolite", description=help.DOCUMENTATION)
    commands = root.add_subparsers(dest="command")
    for name, function in COMMANDS.items():
        summary = (function.__doc__ or "").splitlines()[0]
        if name == "finetune":
            tasks = commands.add_parser(name, help=summary).add_subparsers(dest="task")
            for task, kind in HEAD_CONFIGS.items():
                parser = CommandParser(f"{name} {task}", function, fixed={"task": task}, kinds={"head": kind})
                _add_options(tasks.add_parser(task, help=kind.summary, add_help=False), parser, shtab.FILE)
        else:
            target = commands.add_parser(name, help=summary, add_help=False)
            _add_options(target, CommandParser(name, function), shtab.FILE)
    commands.add_parser("help", help="Show the help of a command.", add_help=False).add_argument(
        "name", help="Command.", choices=list(COMMANDS)
    )
    text = str(shtab.complete(root, shell))
    return text.replace('"(*)::', '"*:') if shell == "zsh" else text  # shtab's form completes one argument of several


def _add_options(target: ArgumentParser, parser: CommandParser, file: Any) -> None:
    """Add the options of a command."""
    for name, option in parser.options.items():
        settings: dict[str, Any] = {"help": option.text}
        if option.is_switch:
            settings["action"] = "store_true"
        elif choices := option.choices:
            settings["choices"] = choices
        elif option.is_argument and option.hint == Sequence[str]:
            settings["nargs"] = "*"
        action: Any = target.add_argument(name if option.is_argument else flag(name), **settings)
        if metavar(name, option) in ("FILE", "FOLDER", "MODEL", "RECIPE", "TEXT", "SRC", "NAME"):
            action.complete = file
