"""Output for people: progress bars, tables aligned in every script, labels without control characters, log levels."""

from __future__ import annotations

import logging
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from html import escape
from typing import Any, Self

BAR_DELAY_SECONDS = 5.0
"""Duration of work after which a bar appears that was not asked for."""
PROGRESS_LINE_SECONDS = 15.0
"""Time between two lines of progress where no bar can be drawn."""
logger = logging.getLogger("elmolite")


class ProgressBar:
    """Progress of long work: a bar on a terminal or in a notebook, elsewhere a line in the log every 15 seconds.

    Close it, or use it as a context manager. Messages of the library are written above the bar.

    :ivar n: amount done, in units.
    :ivar total: amount to do; ``None`` if unknown. It may be corrected during the work.
    """

    def __init__(
        self,
        desc: str,
        *,
        unit: str,
        total: int | None = None,
        is_estimate: bool = False,
        initial: int = 0,
        show: bool | None = None,
    ) -> None:
        """Start the clock.

        :param unit: plural name of the unit, such as "tokens".
        :param is_estimate: whether ``total`` is estimated.
        :param initial: amount that an earlier run has done.
        :param show: show the bar at once; ``None``: after five seconds; ``False``: never.
        """
        self.desc = desc
        self.unit = unit
        self.total = total
        self.is_estimate = is_estimate
        self.n = self._initial = initial
        self.show = show
        self._bar: Any = None
        self._close = ExitStack()
        self._started = self._line_at = time.monotonic()
        if show and is_interactive():
            self._open_bar()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the bar."""
        self._close.close()
        self._bar = None

    def update(self, n: int, text: str = "") -> None:
        """Add to the amount done, and show it.

        :param text: shown after the rate, for instance the loss.
        """
        self.n += n
        if self.show is False:
            return
        now = time.monotonic()
        if self._bar is None and now - self._started > BAR_DELAY_SECONDS and is_interactive():
            self._open_bar()
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(self.n - self._bar.n)
        elif now - self._line_at > PROGRESS_LINE_SECONDS:
            self._line_at = now
            logger.info(self._line(now - self._started, text))

    def _open_bar(self) -> None:
        from tqdm.auto import tqdm
        from tqdm.contrib.logging import logging_redirect_tqdm

        scales = self.total is None or self.total >= 100_000
        layout = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
        bar = tqdm(
            desc=self.desc,
            total=self.total,
            initial=self.n,
            unit=f" {self.unit}",
            unit_scale=scales,
            bar_format=None if self.total is None else layout,
            nrows=20,  # also on terminals that have no size, where tqdm draws nothing
        )
        self._bar = self._close.enter_context(bar)
        self._close.enter_context(logging_redirect_tqdm([logger]))

    def _line(self, seconds: float, text: str) -> str:
        from tqdm import tqdm

        rate = (self.n - self._initial) / seconds
        parts = [
            f"{self.desc}: {self.n:,}",
            f"{rate:,.0f} {self.unit}/s" if rate >= 10 else f"{rate:.2g} {self.unit}/s",
        ]
        parts += [text] if text else []
        if self.total:
            parts[0] += f" of {'about ' * self.is_estimate}{self.total:,}"
            if rate:
                parts.append(f"{tqdm.format_interval((self.total - self.n) / rate)} left")
        parts[0] += f" {self.unit}"
        return ", ".join(parts)


def n_of(n: int, noun: str) -> str:
    """Return a number with its noun, such as "1 sentence" or "1,000 sentences"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def byte_size(n: float) -> str:
    """Return a number of bytes with its unit, such as "1.23MB"."""
    from tqdm import tqdm

    return str(tqdm.format_sizeof(n, "B"))


def is_interactive() -> bool:
    """Tell whether a progress bar can be drawn: standard error is a terminal, or the code runs in a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return sys.stderr.isatty() or (shell is not None and "IPKernelApp" in shell.config)


def printable(text: str, *, width: int = 40) -> str:
    """Return a label for one line: cut to ``width`` columns, unprintable characters as ``�``."""
    shown = "".join(char if char.isprintable() else "�" for char in text) or "''"
    if display_width(shown) <= width:
        return shown
    while display_width(shown) > width - 1:
        shown = shown[:-1]
    return f"{shown}…"


def display_width(text: str) -> int:
    """Return the width of a text in terminal columns: 0 for combining marks, 2 for wide East Asian characters."""
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def table(rows: Sequence[Sequence[str]], *, n_left: int = 1, gap: int = 2) -> str:
    """Lay out rows of cells in columns.

    :param rows: all of one length; an empty row becomes an empty line.
    :param n_left: number of left-aligned columns; the others are right-aligned.
    :param gap: spaces between two columns.
    """
    filled = [row for row in rows if row]
    widths = [max(map(display_width, column)) for column in zip(*filled, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=False)):
            padding = " " * (width - display_width(cell))
            cells.append(cell + padding if index < n_left else padding + cell)
        lines.append((" " * gap).join(cells).rstrip())
    return "\n".join(lines)


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows of cells as an HTML table for notebooks; the first row is the header."""
    lines = []
    for number, row in enumerate(rows):
        tag = "td" if number else "th"
        lines.append("".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row))
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


@contextmanager
def log_level(level: int, *names: str) -> Iterator[None]:
    """Set the level of some loggers for the block."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(level)
        yield
    finally:
        for logger, former in zip(loggers, levels, strict=True):
            logger.setLevel(former)
