"""What a reader did not take as it stands, told in one line: what, how often, where first."""

from __future__ import annotations

import sys

BLANK_LINES = "blank lines left out"


class Remarks:
    """Counts what was left out of a source, or replaced.

    :ivar source: a file or a dataset, for the message.
    :ivar unit: what its parts are, "line" or "row".
    """

    def __init__(self, source: str, *, unit: str = "line") -> None:
        self.source = source
        self.unit = unit
        self._found: dict[str, tuple[int, int]] = {}
        """What -> how often, and in which line or row first."""

    def note(self, what: str, number: int, *, times: int = 1) -> None:
        """Count what was found.

        :param what: in the plural, as "blank lines left out".
        :param number: of the line or row.
        """
        before, first = self._found.get(what, (0, number))
        self._found[what] = before + times, first

    def count(self, what: str) -> int:
        """Return how often something was noted."""
        return self._found.get(what, (0, 0))[0]

    def describe(self) -> str:
        """Return all of it in one line, which is empty where there is nothing to say."""
        found = self._found.items()
        return "; ".join(f"{what}: {times:,} (first in {self.unit} {number:,})" for what, (times, number) in found)

    def tell(self) -> None:
        """Print source and line to standard error, where there is something to say."""
        if self._found:
            print(f"{self.source}: {self.describe()}", file=sys.stderr)
