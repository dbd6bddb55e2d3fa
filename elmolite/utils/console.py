"""Output on a terminal: tables aligned in every script, labels without control characters, levels of loggers."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


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
