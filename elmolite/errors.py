"""Errors that the command line shows as one message, exit codes, and "did you mean" for unknown names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

INTERRUPTED_EXIT_CODE = 130
TERMINATED_EXIT_CODE = 143
PREEMPTED_EXIT_CODE = 75
"""``EX_TEMPFAIL`` of sysexits.h: a stopped run that ``--resume`` continues."""


class InputError(ValueError):
    """Invalid input: a file, an argument or a folder that cannot be used.

    The message names the file and line or the argument, the value found and what was expected. The command line
    prints it and exits with code 2; it shows arguments in backticks, such as ```overwrite=True```, as flags.

    >>> elmo.embed("one string")
    Traceback (most recent call last):
    elmolite.errors.InputError: expected a list of sentences, got str; for one sentence: [text]
    """


class ReportedByRankZero(InputError):  # noqa: N818 (re-raised only to end the process)
    """An :class:`InputError` that every rank raises and only rank 0 prints."""


class Preempted(KeyboardInterrupt):
    """A run that a signal stopped after saving a checkpoint; the command line exits with code 75."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which the command line handles as Ctrl-C; it exits with code 143."""


def exit_code(error: KeyboardInterrupt) -> int:
    """Return the exit code of a command that a signal stopped."""
    codes = {Preempted: PREEMPTED_EXIT_CODE, Terminated: TERMINATED_EXIT_CODE}
    return codes.get(type(error), INTERRUPTED_EXIT_CODE)


@contextmanager
def error_prefix(place: str) -> Iterator[None]:
    """Prefix the messages of the block's input errors with a file or folder, unless they begin with it."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(place) else f"{place}: {error}") from None


def closest(name: str, valid: Iterable[str]) -> str:
    """Return ``; did you mean X?``, or nothing if no valid name is similar."""
    close = get_close_matches(name, sorted(valid), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``; did you mean X?``, or the list of valid names if none is similar."""
    names = sorted(valid)
    return closest(name, names) or f"; valid are: {', '.join(names)}"


@cache
def types_of(kind: type[Any]) -> dict[str, Any]:
    """Return the evaluated type hints of a dataclass."""
    return get_type_hints(kind)


def check_choice(name: str, value: Any, valid: Iterable[str]) -> None:
    """Raise InputError unless a value is one of the valid ones; the message lists them and names the most similar."""
    choices = list(valid)
    if value not in choices:
        raise InputError(f"{name} must be {one_of(choices)}, got {value!r}{closest(str(value), choices)}")


def one_of(choices: Iterable[str], conjunction: str = "or") -> str:
    """Return ``a, b or c``."""
    *others, last = map(str, choices)
    return f"{', '.join(others)} {conjunction} {last}" if others else last


def all_of(names: Iterable[str]) -> str:
    """Return ``a, b and c``."""
    return one_of(names, "and")


def check_choices(config: Any, *, where: str = "") -> None:
    """Check that the ``Literal`` fields of a dataclass have valid values (:func:`check_choice`), and numbers finite."""
    for name, hint in types_of(type(config)).items():  # type: ignore[arg-type]  # mypy #11470
        value = getattr(config, name)
        if get_origin(hint) is Literal:
            check_choice(f"{where}{name}", value, get_args(hint))
        elif isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{where}{name} must be finite, got {value}")
