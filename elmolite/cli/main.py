"""The command line: which subcommand, and what becomes of its errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from elmolite.cli.commands import convert, demo, embed, evaluate, info, neighbours, prepare, pretrain
from elmolite.cli.task_commands import finetune, predict, test
from elmolite.errors import InputError, ReportedByRankZero, exit_code, nearest

INPUT_ERROR_EXIT_CODE = 2
COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    command.__name__: command
    for command in (prepare, pretrain, evaluate, embed, neighbours, convert, finetune, predict, test, info, demo)
}


def _overview() -> str:
    lines = [f"  {name:<10} {(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    return "usage: elmolite COMMAND ...\n\n" + "\n".join(lines) + "\n\nelmolite COMMAND --help tells more."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    :returns: the exit code: 0; 2 with one message for an error that the user can mend; 75 when a signal has stopped a
        run that ``--resume`` goes on with; 130 when one has stopped anything else.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else INPUT_ERROR_EXIT_CODE
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"elmolite {version('elmolite')}")
        return 0
    try:
        if arguments[0] not in COMMANDS:
            raise InputError(f"unknown command {arguments[0]!r}{nearest(arguments[0], COMMANDS)}")
        COMMANDS[arguments[0]](arguments[1:])
    except ReportedByRankZero:
        return INPUT_ERROR_EXIT_CODE
    except InputError as error:
        print(f"elmolite: {error}", file=sys.stderr)
        return INPUT_ERROR_EXIT_CODE
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as error:
        print(f"elmolite: {str(error) or 'interrupted'}", file=sys.stderr)
        return exit_code(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
