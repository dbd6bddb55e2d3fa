"""Plots as PNG files: curves, confusion matrices, layer weights, probes (``pip install 'elmolite[plot]'``).

Every function writes its file atomically and returns the path; without matplotlib it returns ``None``, and the first
one logs a note.
The colours are the colour-blind-safe palette of Okabe and Ito.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from elmolite.utils import files
from elmolite.utils.console import printable

logger = logging.getLogger("elmolite")

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
DASHES = ("-", "--", "-.", ":")
MAX_CONFUSION_LABELS = 50
"""Maximum labels of a confusion matrix; the least frequent become one."""
MAX_COUNTED_LABELS = 20
"""Maximum labels of a confusion matrix with the counts in its cells."""
MAX_MIXES_WITH_VALUES = 6
"""Maximum groups of bars with their values above."""
DOTS_PER_INCH = 130
OTHERS = "(others)"
SHARES_OF_SCALE = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1)


@dataclass(frozen=True)
class Panel:
    """Curves that share a vertical axis."""

    y_label: str
    curves: Mapping[str, tuple[Sequence[float], Sequence[float | None]]]
    """Name of each curve -> its x and y values; ``None`` and NaN are left out."""
    best: Literal["highest", "lowest"] | None = None
    """Point of each curve to mark and give in the legend."""


@cache
def _note_missing_matplotlib() -> None:
    logger.info("plots are not drawn: matplotlib is not installed (pip install 'elmolite[plot]')")


def _figure(*, width: float, height: float, title: str) -> Any | None:
    """Make an empty figure, sizes in inches; ``None`` without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        _note_missing_matplotlib()
        return None
    figure = Figure(figsize=(width, height), layout="constrained")
    n_columns = int(width * 9)
    lines = [part for line in title.split("\n") for part in wrap(line, n_columns)]
    figure.suptitle("\n".join(_plain(line, width=n_columns) for line in lines), fontsize=11)
    return figure


def _save(figure: Any, path: Path) -> Path:
    """Write the PNG, without a warning for each character that the fonts lack."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        with files.writing(path) as file:
            figure.savefig(file, format="png", dpi=DOTS_PER_INCH)
    return path


def _plain(text: str, *, width: int = 40) -> str:
    """Escape a name so that matplotlib draws it literally and shows it in legends."""
    shown = printable(text, width=width).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def _styles() -> Iterator[dict[str, str]]:
    """Yield line styles endlessly; neighbours differ in colour, marker and dashes."""
    looks = zip(cycle(COLOURS), cycle(MARKERS), cycle(DASHES), strict=True)
    yield from ({"color": colour, "marker": marker, "linestyle": dash} for colour, marker, dash in looks)


def draw_curves(panels: Sequence[Panel], path: Path, *, title: str, x_label: str) -> Path | None:
    """Draw panels of curves on top of each other, with a common horizontal axis."""
    figure = _figure(width=7, height=1.2 + 2.8 * len(panels), title=title)
    if figure is None:
        return None
    all_axes = np.atleast_1d(figure.subplots(len(panels), sharex=True))
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw_panel(axes, panel)
    all_axes[-1].set_xlabel(x_label)
    x_values = {float(x) for panel in panels for xs, _ in panel.curves.values() for x in xs}
    if all(map(float.is_integer, x_values)):
        all_axes[-1].xaxis.get_major_locator().set_params(integer=True)
    if len(x_values) == 1:
        all_axes[-1].set_xlim(min(x_values) - 1, min(x_values) + 1)
    return _save(figure, path)


def _draw_panel(axes: Any, panel: Panel) -> None:
    handles = []
    for (name, (xs, ys)), style in zip(panel.curves.items(), _styles(), strict=False):
        x = np.array(xs, dtype=float)
        y = np.array([np.nan if value is None else value for value in ys], dtype=float)
        x, y = x[np.isfinite(y)], y[np.isfinite(y)]
        if len(x) > 40:
            style = {**style, "marker": ""}
        label = _plain(name if len(y) else f"{name} (no values)")
        (line,) = axes.plot(x, y, **style)
        if panel.best and len(y):
            i = int(y.argmax() if panel.best == "highest" else y.argmin())
            label += f", {panel.best} {y[i]:.4g} at {x[i]:g}"
            axes.plot(x[i], y[i], "o", markersize=12, markerfacecolor="none", markeredgecolor=style["color"])
        line.set_label(label)
        handles.append(line)
    axes.set_ylabel(_plain(panel.y_label))
    axes.grid(visible=True, which="both", alpha=0.3)
    if handles:
        axes.legend(handles=handles, fontsize="small", framealpha=0.7)


def draw_training(
    path: Path,
    *,
    losses: Mapping[str, Sequence[float | None]],
    metrics: Mapping[str, Sequence[float | None]],
    title: str,
) -> Path | None:
    """Draw losses, and below them metrics to maximise, against the epoch.

    :param losses: one value per epoch of each curve ("training", "dev"), ``None`` if missing.
    :param metrics: as ``losses``; the best epoch of each is marked.
    """
    losses_at, metrics_at = (
        {name: (range(1, len(values) + 1), values) for name, values in curves.items()} for curves in (losses, metrics)
    )
    panels = [Panel("loss", losses_at)] if losses else []
    if metrics:
        panels.append(Panel("dev metric", metrics_at, best="highest"))
    return draw_curves(panels, path, title=title, x_label="epoch")


def draw_confusion(labels: Sequence[str], counts: NDArray[np.int64], path: Path, *, title: str) -> Path | None:
    """Draw a confusion matrix: rows are normalised to shares of the gold label; small matrices show the counts.

    :param labels: K.
    :param counts: (K, K): gold label x predicted label.
    """
    if len(labels) > MAX_CONFUSION_LABELS:
        title = f"{title}\nthe {MAX_CONFUSION_LABELS - 1} most frequent of {len(labels):,} labels"
        labels, counts = _with_others(labels, counts, MAX_CONFUSION_LABELS - 1)
    n_labels = len(labels)
    with_counts = n_labels <= MAX_COUNTED_LABELS
    side = max(3.4, n_labels * (0.5 if with_counts else 0.2))
    names = [_plain(label, width=24) for label in labels]
    margin = 0.085 * max(map(len, names))
    is_rotated = margin > side / n_labels
    height = side + 1.3 + (margin if is_rotated else 0.1)
    figure = _figure(width=max(5.0, side + margin + 2.0), height=height, title=title)
    if figure is None:
        return None
    axes = figure.subplots()
    _draw_cells(figure, axes, counts, with_counts=with_counts)
    size = 9 if with_counts else 7
    axes.set_xticks(range(n_labels), names, rotation=90 if is_rotated else 0, fontsize=size)
    axes.set_yticks(range(n_labels), names, fontsize=size)
    axes.set(xlabel="predicted label", ylabel="gold label")
    return _save(figure, path)


def _with_others(labels: Sequence[str], counts: NDArray[np.int64], n_kept: int) -> tuple[list[str], NDArray[np.int64]]:
    """Merge all but the most frequent labels into one."""
    frequency = counts.sum(axis=0) + counts.sum(axis=1)
    kept = np.sort(np.argsort(-frequency, kind="stable")[:n_kept])
    row = np.full(len(counts), n_kept)
    row[kept] = np.arange(n_kept)
    merged = np.zeros((n_kept + 1, n_kept + 1), dtype=np.int64)
    np.add.at(merged, (row[:, None], row[None, :]), counts)
    return [*(labels[i] for i in kept), OTHERS], merged


def _draw_cells(figure: Any, axes: Any, counts: NDArray[np.int64], *, with_counts: bool) -> None:
    support = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, support, out=np.zeros(counts.shape), where=support > 0)
    shares[support[:, 0] == 0] = np.nan
    shades = np.sqrt(shares)  # keeps confusions of a few per cent visible
    image = axes.imshow(shades, cmap="Blues", vmin=0, vmax=1)
    axes.set_facecolor("#EEEEEE")  # rows without gold examples
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02, ticks=np.sqrt(SHARES_OF_SCALE))
    bar.ax.set_yticklabels([f"{share:.0%}" for share in SHARES_OF_SCALE])
    bar.set_label("share of the gold label")
    edges = np.arange(1, len(counts)) - 0.5
    axes.hlines(edges, -0.5, len(counts) - 0.5, color="#DDDDDD", linewidth=0.5)
    axes.vlines(edges, -0.5, len(counts) - 0.5, color="#DDDDDD", linewidth=0.5)
    if with_counts:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shades[row, column] > 0.6 else "black"
                text = str(count) if count < 10_000 else f"{count // 1000}k"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)


def draw_layer_weights(
    mixes: Mapping[str, Sequence[float]], path: Path, *, title: str, layer_names: Sequence[str]
) -> Path | None:
    """Draw the weights of scalar mixes: one group of bars per mix, one bar per layer.

    :param mixes: name of each mix -> weights of its layers, which sum to 1.
    """
    n_layers = len(layer_names)
    labels = [_plain(name, width=30) for name in mixes]
    label_width = 0.09 * max(map(len, labels))
    width = min(20.0, max(6.0, 2.0 + len(mixes) * max(0.35 * n_layers, label_width)))
    figure = _figure(width=width, height=4.2, title=title)
    if figure is None:
        return None
    axes = figure.subplots()
    bar_width = 0.8 / n_layers
    for layer, (name, style) in enumerate(zip(layer_names, _styles(), strict=False)):
        heights = [weights[layer] for weights in mixes.values()]
        positions = np.arange(len(mixes)) + (layer - (n_layers - 1) / 2) * bar_width
        bars = axes.bar(positions, heights, 0.92 * bar_width, color=style["color"], label=_plain(name))
        if len(mixes) <= MAX_MIXES_WITH_VALUES:
            axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=1)
    is_rotated = label_width * len(mixes) > width - 2.0
    axes.set_xticks(range(len(mixes)), labels, rotation=90 if is_rotated else 0)
    axes.set_ylabel("weight")
    axes.margins(y=0.1)
    _add_grid_and_legend(axes)
    return _save(figure, path)


def draw_probe(
    scores: Mapping[str, Sequence[float]],
    path: Path,
    *,
    metric: str,
    title: str,
    layer_names: Sequence[str],
    baselines: Mapping[str, float],
) -> Path | None:
    """Draw the metric of probing classifiers against the layer: one line per encoder ("pretrained", "untrained").

    :param scores: name of each encoder -> metric of its layers, from layer 0.
    :param baselines: metrics that do not depend on a layer, drawn as horizontal lines.
    """
    figure = _figure(width=1.1 * len(layer_names) + 4.5, height=4.2, title=title)
    if figure is None:
        return None
    axes = figure.subplots()
    for (name, values), style in zip(scores.items(), _styles(), strict=False):
        axes.plot(range(len(values)), values, **style, label=_plain(name))
    for (name, value), dash in zip(baselines.items(), cycle((":", "-.", "--")), strict=False):
        axes.axhline(value, linestyle=dash, color="#666666", label=_plain(name))
    axes.set_xticks(range(len(layer_names)), list(map(_plain, layer_names)))
    axes.set_ylabel(_plain(metric))
    axes.margins(x=0.06, y=0.1)
    _add_grid_and_legend(axes)
    return _save(figure, path)


def _add_grid_and_legend(axes: Any) -> None:
    axes.grid(visible=True, axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
