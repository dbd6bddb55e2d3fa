"""HTML reports: one self-contained file without scripts, for light and dark screens.

Functions take plain text, which they escape, and return HTML.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence

_STYLE = """
:root { color-scheme: light dark; --text: #1a1c1f; --page: #ffffff; --soft: #5c6470; --line: #d9dde3; --code: #f3f5f8;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #a3487a; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8eb; --page: #16181c; --soft: #9aa3af; --line: #353a43;
  --code: #1f2329; --c0: #56b4e9; --c1: #f0a050; --c2: #3cc79b; --c3: #d98fbc; } }
body { margin: 0 auto; padding: 1rem; max-width: 50rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
pre { background: var(--code); padding: .75rem; border-radius: 6px; white-space: pre-wrap;
  font: 13px/1.5 ui-monospace, monospace; }
.wide { overflow-x: auto; } pre, td.number { font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; margin: .75rem 0; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { font-weight: 600; } th.number, td.number { text-align: right; }
td span { display: block; padding: 0 .3em; }
mark { background: color-mix(in srgb, var(--c1) 28%, transparent); color: inherit; border-radius: 3px;
  padding: 0 .15em; }
svg { width: 100%; max-width: 37rem; height: auto; } svg text { fill: var(--text); font: 13px system-ui, sans-serif; }
.grid { stroke: var(--line); } .curve { fill: none; stroke-width: 2; } .dashed { stroke-dasharray: 6 4; }
"""
_STYLE += "".join(f".c{i} {{ stroke: var(--c{i}); }} svg text.t{i} {{ fill: var(--c{i}); }}\n" for i in range(4))
_WIDTH, _HEIGHT = 460, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 118, 12, 40
_LINE_HEIGHT = 15


def page(title: str, sections: Iterable[tuple[str, Iterable[str]]]) -> str:
    """Return a whole document.

    :param sections: heading and HTML parts of each section; the first may have an empty heading.
    """
    body = []
    for heading, parts in sections:
        body += [f"<h2>{html.escape(heading)}</h2>" if heading else "", *parts]
    name = html.escape(title)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{html.escape(text)}</p>"


def code(text: str) -> str:
    """Return text in a fixed-width font, with its line ends."""
    return f"<pre>{html.escape(text)}</pre>"


def tokens(words: Sequence[str], *, marked: Iterable[int]) -> str:
    """Return a sentence with some of its words highlighted.

    :param marked: indices of the words.
    """
    chosen = set(marked)
    escaped = map(html.escape, words)
    return " ".join(f"<mark>{word}</mark>" if index in chosen else word for index, word in enumerate(escaped))


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, n_text: int = 1, escaped: bool = False) -> str:
    """Return a table.

    :param n_text: number of left-aligned columns; the others hold numbers.
    :param escaped: the cells are HTML already.
    """

    def line(tag: str, cells: Sequence[str]) -> str:
        kinds = ["" if index < n_text else ' class="number"' for index in range(len(cells))]
        return "".join(f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))

    body = "".join(f"<tr>{line('td', row if escaped else [*map(html.escape, row)])}</tr>\n" for row in rows)
    head = f"<thead><tr>{line('th', [*map(html.escape, header)])}</tr></thead>\n" if any(header) else ""
    return f'<div class="wide"><table>\n{head}<tbody>\n{body}</tbody></table></div>'


def shaded(value: float) -> str:
    """Return a value from 0 to 1 as the HTML of a cell, coloured by its size."""
    share = round(60 * min(max(value, 0.0), 1.0) ** 2)
    return f'<span style="background: color-mix(in srgb, var(--c0) {share}%, transparent)">{value:.2f}</span>'


def line_chart(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_label: str,
    y_label: str,
    levels: Mapping[str, float] | None = None,
) -> str:
    """Return curves as SVG, each with its last value.

    :param curves: points of each curve by its name; the finite ones are drawn.
    :param levels: horizontal lines to compare with, by name.
    """
    lines = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in curves.items()}
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return ""
    last_x = max(x for points in lines.values() for x, _ in points) or 1.0
    constants = {name: [(0.0, y), (last_x, y)] for name, y in (levels or {}).items() if math.isfinite(y)}
    all_lines = {**lines, **constants}
    values = [y for points in all_lines.values() for _, y in points]
    low, high = min(values), max(values)

    def across(x: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * x / last_x

    def down(y: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - (y - low) / ((high - low) or 1))

    parts = []
    for tick in _ticks(low, high):
        parts.append(f'<path class="grid" d="M{_LEFT} {down(tick):.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{down(tick) + 4:.1f}" text-anchor="end">{tick:,g}</text>')
    for tick in _ticks(0, last_x):
        parts.append(f'<text x="{across(tick):.1f}" y="{_HEIGHT - 22}" text-anchor="middle">{tick:,g}</text>')
    middle, name = (_LEFT + _WIDTH - _RIGHT) / 2, html.escape(x_label)
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">{name}</text>')
    ends = []
    for number, (name, points) in enumerate(all_lines.items()):
        colour = number % 4
        path = "L".join(f"{across(x):.1f} {down(y):.1f}" for x, y in points)
        dashes = " dashed" if name in constants else ""
        parts.append(f'<path class="curve c{colour}{dashes}" d="M{path}"/>')
        ends.append((down(points[-1][1]), colour, f"{name} {points[-1][1]:.4g}"))
    bottom = -math.inf
    for y, colour, label in sorted(ends):
        bottom = max(y + 4, bottom + _LINE_HEIGHT)
        parts.append(f'<text class="t{colour}" x="{_WIDTH - _RIGHT + 6}" y="{bottom:.1f}">{html.escape(label)}</text>')
    label = html.escape(f"{y_label} against {x_label}", quote=True)
    return (
        f'<p>{html.escape(y_label)}</p>\n<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">\n'
        + ("\n".join(parts) + "\n</svg>")
    )


def _ticks(low: float, high: float) -> list[float]:
    """Return round values between two bounds."""
    size = 10.0 ** math.floor(math.log10((high - low) or 1))
    step = next(factor * size for factor in (0.2, 0.5, 1, 2) if (high - low) / (factor * size) <= 6)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
