"""Entry point of ``python -m elmolite``."""

import sys

from elmolite.cli.main import main

sys.exit(main())
