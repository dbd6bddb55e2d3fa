"""What the command line shows as a message, not a traceback: what a user can mend, and the end of a run by a signal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED_EXIT_CODE = 130
STOPPED_EXIT_CODE = 75
"""Of a run that goes on with ``--resume``: "temporary failure", of sysexits.h."""


class InputError(ValueError):
    """Bad input: a file, an argument or a folder that cannot be used.

    The message names the file and line or the argument, says what was found and what was expected. The command
    line prints it and leaves with exit code 2.
    """


@contextmanager
def saying_where(place: str) -> Iterator[None]:
    """Put the place, a file or a folder, in front of messages that do not begin with it."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(place) else f"{place}: {error}") from None


class SaidElsewhereError(InputError):
    """An :class:`InputError` that several processes have in common, in one that leaves it to the first to print it."""


class StoppedError(KeyboardInterrupt):
    """A signal has ended a run, and all that it had done was saved; the command line leaves with exit code 75."""


def exit_code(error: KeyboardInterrupt) -> int:
    """Return the exit code of a command that a signal has ended."""
    return STOPPED_EXIT_CODE if isinstance(error, StoppedError) else INTERRUPTED_EXIT_CODE
