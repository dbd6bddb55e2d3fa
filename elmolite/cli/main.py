"""Command-line entry point: dispatch to a command, messages and exit codes."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from elmolite.cli.commands import COMMANDS, PARSERS
from elmolite.errors import InputError, ReportedByRankZero, exit_code, nearest

INPUT_ERROR_EXIT_CODE = 2
logger = logging.getLogger("elmolite")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    :returns: the exit code: 0; 2 after one message for an error that the user can fix; 75 if a signal stopped a run
        that ``--resume`` continues; 130 if one stopped anything else.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0 if words else INPUT_ERROR_EXIT_CODE
    if words[0] == "--version":
        from elmolite import __version__

        print(f"elmolite {__version__}")
        return 0
    with _log_on_stderr(quiet="--quiet" in words, verbose="--verbose" in words):
        try:
            _run(words[0], words[1:])
        except ReportedByRankZero:
            return INPUT_ERROR_EXIT_CODE
        except InputError as error:
            print(f"elmolite: {error}", file=sys.stderr)
            return INPUT_ERROR_EXIT_CODE
        except BrokenPipeError:  # the reader of the output has exited, as with `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except KeyboardInterrupt as error:
            print(f"elmolite: {str(error) or 'interrupted'}", file=sys.stderr)
            return exit_code(error)
    return 0


def _overview() -> str:
    lines = [f"  {name:<10} {(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    return "usage: elmolite COMMAND ...\n\n" + "\n".join(lines) + "\n\nelmolite COMMAND --help tells more."


def _run(name: str, words: Sequence[str]) -> None:
    if name not in COMMANDS:
        raise InputError(f"unknown command {name!r}{nearest(name, COMMANDS)}")
    if name in PARSERS:
        arguments = PARSERS[name](words)
    else:
        from elmolite.cli.options import CommandParser

        parser = CommandParser(name, COMMANDS[name])
        arguments = parser.arguments(parser.parse(words))
    COMMANDS[name](**arguments)


@contextmanager
def _log_on_stderr(*, quiet: bool, verbose: bool) -> Iterator[None]:
    """Show what the library logs, and deprecation warnings, one line each.

    :param quiet: show warnings only.
    :param verbose: show debug messages and times.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s" if verbose else "%(message)s"))
    level = logger.level
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)
    logger.addHandler(handler)
    show_warning = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
        if issubclass(category, FutureWarning):
            logger.warning(message)
        else:
            show_warning(message, category, *rest)

    warnings.showwarning = show  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.showwarning = show_warning
        logger.removeHandler(handler)
        logger.setLevel(level)


if __name__ == "__main__":
    sys.exit(main())
