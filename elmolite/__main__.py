"""Entry point of the program and of ``python -m elmolite``."""

import sys


def run() -> int:
    """Run the command line; Ctrl-C while its modules are imported is one line, as it is later."""
    try:
        from elmolite.cli.main import main

        return main()
    except KeyboardInterrupt:
        print("elmolite: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run())
