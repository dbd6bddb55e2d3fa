"""``python -m elmolite``."""

import sys

from elmolite.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
