"""Command-line entry point: dispatch to a command, messages and exit codes."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any

from elmolite.cli.commands import COMMANDS, PARSERS
from elmolite.cli.help import COMMAND_SYNONYMS, EXAMPLES, overview, with_flags
from elmolite.errors import InputError, ReportedByRankZero, Terminated, exit_code, nearest
from elmolite.utils.config import default_device

INPUT_ERROR_EXIT_CODE = 2
logger = logging.getLogger("elmolite")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Results are written to standard output, everything else to standard error.

    :returns: the exit code: 0; 2 after one message for an error that the user can fix; 75 if a signal stopped a run
        that ``--resume`` continues; 130 after Ctrl-C and 143 after SIGTERM.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    with _log_on_stderr(quiet="--quiet" in words, verbose="--verbose" in words):
        try:
            return _main(words)
        except ReportedByRankZero:
            return INPUT_ERROR_EXIT_CODE
        except InputError as error:
            print(f"elmolite: {error}", file=sys.stderr)
            return INPUT_ERROR_EXIT_CODE
        except BrokenPipeError:  # the reader of the output has exited, as with `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except OSError as error:
            if error.filename is None:  # not about a file of the user
                raise
            print(f"elmolite: {error.filename}: {error.strerror}", file=sys.stderr)
            return INPUT_ERROR_EXIT_CODE
        except KeyboardInterrupt as error:
            print(f"elmolite: {str(error) or 'interrupted'}", file=sys.stderr)
            return exit_code(error)


def _main(words: Sequence[str]) -> int:
    match words:
        case []:
            print(_overview(), file=sys.stderr)
            return INPUT_ERROR_EXIT_CODE
        case ["-h" | "--help" | "--help-all"] | ["help"] | ["help", "help" | "-h" | "--help"]:
            print(_overview())
        case ["-V" | "--version", *_] | ["version"]:
            from elmolite import __version__

            print(f"elmolite {__version__}")
        case ["help", name, *rest]:
            _run(name, [*rest, "--help"])
        case [name, *rest]:
            _run(name, rest)
    return 0


def _overview() -> str:
    summaries = {name: (command.__doc__ or "").splitlines()[0] for name, command in COMMANDS.items()}
    return overview({**summaries, "help": "Show the help of a command."})


def _run(name: str, words: Sequence[str]) -> None:
    if name.startswith("-"):
        raise InputError(f"unknown option {name!r}: the command must come first, as in {EXAMPLES['embed'][0]}")
    if name not in COMMANDS:
        raise InputError(f"unknown command {name!r}{_similar(name)}")
    if name in PARSERS:
        found = PARSERS[name](words)
    else:
        from elmolite.cli.options import CommandParser

        parser = CommandParser(name, COMMANDS[name])
        found = parser.invocation(parser.parse(words))
    with (
        _arguments_as_flags(found.shown),
        default_device(found.device),
        redirect_stdout(sys.stderr) if found.json else nullcontext(),
        nullcontext() if name == "pretrain" else _terminable(),  # training saves a checkpoint first
    ):
        result = COMMANDS[name](**found.arguments)
    if result is not None:
        print(json.dumps(_finite(result.values)) if found.json else result.text)
        if result.next:
            logger.info(f"next: {result.next}")


def _similar(name: str) -> str:
    """Return the command of a name in other tools, or the nearest one."""
    if name in COMMAND_SYNONYMS:
        return f"; did you mean {COMMAND_SYNONYMS[name]!r}?"
    return nearest(name, COMMANDS)


def _finite(values: Any) -> Any:
    """Return values that JSON has: null for NaN and infinity."""
    if isinstance(values, dict):
        return {str(key): _finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


@contextmanager
def _arguments_as_flags(options: Mapping[str, str]) -> Iterator[None]:
    """Show arguments in what the block logs and raises as options of the command, see :func:`with_flags`."""

    def translate(record: logging.LogRecord) -> bool:
        record.msg, record.args = with_flags(record.getMessage(), options), ()
        return True

    logger.addFilter(translate)
    try:
        yield
    except (InputError, KeyboardInterrupt) as error:
        error.args = (with_flags(str(error), options),)
        raise
    finally:
        logger.removeFilter(translate)


@contextmanager
def _terminable() -> Iterator[None]:
    """Handle SIGTERM as Ctrl-C, so that the block removes its partial files."""

    def terminate(*_: object) -> None:
        raise Terminated("terminated")

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
