"""Comparison of runs: baselines, layer probes and several seeds of a task, in one table.

Baselines measure the effect of pretraining and of the scalar mix: the same language model with random weights, single
layers, their average, static vectors only. Probes measure what each layer encodes: a linear classifier on each layer of
the trained and the untrained model (Peters et al. 2018, section 5.3; Liu et al. 2019).
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from elmolite.errors import InputError
from elmolite.hub import COMPARISON_FILE
from elmolite.reports import plots
from elmolite.tasks.config import FinetuningConfig
from elmolite.tasks.finetune import CacheFolder, FinetuningResult, FinetuningRun, fit, layer_names
from elmolite.tasks.inputs import MIX, NO_LAYERS
from elmolite.utils import files
from elmolite.utils.console import html_table, table

logger = logging.getLogger("elmolite")

UNTRAINED = "untrained, "


@dataclass(frozen=True)
class Comparison:
    """Results of several configurations of a task, each with one seed or more."""

    results: Mapping[str, Sequence[FinetuningResult]]

    def __repr__(self) -> str:
        return f"Comparison({', '.join(self.results)})"

    def _repr_html_(self) -> str:
        return html_table(self._rows())

    def describe(self) -> str:
        """Return a table of the dev and test scores: means and, with several seeds, standard deviations."""
        n_seeds = len(next(iter(self.results.values())))
        note = f"\nmean ± standard deviation of {n_seeds} seeds" if n_seeds > 1 else ""
        return table(self._rows()) + note

    def _rows(self) -> list[list[str]]:
        first = next(iter(self.results.values()))[0]
        has_test = first.test is not None
        rows = [["", f"dev {first.dev.name}", *([f"test {first.dev.name}"] if has_test else []), "epochs", "s/epoch"]]
        for name, results in self.results.items():
            tests = [each.test.value for each in results if each.test is not None]
            rows.append(
                [
                    name,
                    _mean_and_deviation([each.dev.value for each in results]),
                    *([_mean_and_deviation(tests)] if has_test else []),
                    f"{statistics.mean(len(each.epochs) for each in results):.0f}",
                    f"{_median_seconds(results):.1f}",
                ]
            )
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            name: {
                "measure": results[0].dev.name,
                "dev": _summary([each.dev.value for each in results]),
                "test": _summary([each.test.value for each in results if each.test is not None]),
                "best_epoch": [each.best_epoch for each in results],
                "seconds_an_epoch": _median_seconds(results),
            }
            for name, results in self.results.items()
        }


def _median_seconds(results: Sequence[FinetuningResult]) -> float:
    return statistics.median(epoch["seconds"] for each in results for epoch in each.epochs)


def _summary(values: Sequence[float]) -> dict[str, Any]:
    """Return the scores of all seeds, their mean and, if there are several, standard deviation."""
    mean = {"mean": statistics.mean(values)} if values else {}
    deviation = {"deviation": statistics.stdev(values)} if len(values) > 1 else {}
    return {"values": list(values), **mean, **deviation}


def _mean_and_deviation(values: Sequence[float]) -> str:
    mean = f"{statistics.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}"


def baselines(run: FinetuningRun) -> dict[str, FinetuningRun]:
    """Return a run and its baselines, by name."""
    if run.random_init or run.inputs.layers == NO_LAYERS:
        raise InputError("baselines need the layers of a trained language model: drop `random_init` or 'none'")

    def with_inputs(layers: str, static: str | None = None) -> FinetuningRun:
        return replace(run, inputs=replace(run.inputs, layers=layers, static=static, output_mix=False))

    own = str(run.inputs.layers) + (" and static" if run.inputs.static else "")
    runs = {own: run, **{layers: with_inputs(layers) for layers in (MIX, "average", "top", "token") if layers != own}}
    runs[UNTRAINED + own] = replace(run, random_init=True)
    if run.inputs.static is not None:
        runs[UNTRAINED + MIX] = replace(with_inputs(MIX), random_init=True)
        runs["static vectors only"] = with_inputs(NO_LAYERS, run.inputs.static)
    return runs


def probes(run: FinetuningRun) -> dict[str, FinetuningRun]:
    """Return linear probes of each layer and of their mix, of the trained and of the untrained language model."""
    if run.random_init:
        raise InputError("probes compare the trained and the untrained language model: drop `random_init`")
    runs = {}
    for prefix, random_init in (("", False), (UNTRAINED, True)):
        layers_by_name = {name: str(layer) for layer, name in enumerate(layer_names(run.elmo.n_layers))}
        for name, layers in {**layers_by_name, MIX: MIX}.items():
            inputs = replace(run.inputs, layers=layers, output_mix=False, static=None, dropout=0.0)
            runs[prefix + name] = replace(run, inputs=inputs, head=run.examples.spec.probe, random_init=random_init)
    return runs


def compare(
    runs: Mapping[str, FinetuningRun],
    config: FinetuningConfig | None = None,
    *,
    out: str | Path,
    n_seeds: int = 1,
    cache: CacheFolder = None,
    overwrite: bool = False,
    show_progress: bool = True,
    on_result: Callable[[str, FinetuningResult], object] | None = None,
) -> Comparison:
    """Train every run with ``n_seeds`` seeds, starting at ``config.seed``.

    :param runs: those of :func:`baselines` or :func:`probes`, or any others, by name.
    :param out: gets a folder for each run and seed, and all scores in ``comparison.json``.
    :param on_result: called after each run and seed, with the name of the run and its result.
    """
    config, out = config or FinetuningConfig(), Path(out)
    if n_seeds < 1:
        raise InputError(f"n_seeds must be positive, got {n_seeds}")
    if (out / COMPARISON_FILE).exists() and not overwrite:
        raise InputError(f"{out} contains an earlier comparison: choose another folder, or pass `overwrite=True`")
    results: dict[str, list[FinetuningResult]] = {}
    for name, run in runs.items():
        for seed in range(config.seed, config.seed + n_seeds):
            logger.log(logging.INFO if show_progress else logging.DEBUG, f"{name}, seed {seed}")
            result = fit(
                run,
                replace(config, seed=seed),
                out / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}",
                cache=cache,
                refers_to_encoder=True,
                overwrite=True,
                show_progress=show_progress,
            )
            results.setdefault(name, []).append(result)
            files.write_bytes(out / COMPARISON_FILE, files.json_bytes(Comparison(results).as_dict()))
            if on_result is not None:
                on_result(name, result)
    return Comparison(results)


def draw_profile(comparison: Comparison, n_layers: int, path: Path) -> None:
    """Plot the scores of :func:`probes` by layer."""
    names = layer_names(n_layers)
    first = next(iter(comparison.results.values()))[0]
    part = "dev" if first.test is None else "test"

    def value(name: str) -> float:
        results = comparison.results[name]
        return statistics.mean((each.dev if each.test is None else each.test).value for each in results)

    profiles = {"pretrained": [value(name) for name in names], "untrained": [value(UNTRAINED + name) for name in names]}
    mixes = {"pretrained, mix": value(MIX), "untrained, mix": value(UNTRAINED + MIX)}
    title = f"{path.parent.name}: a linear classifier on each layer"
    plots.draw_probe(profiles, path, metric=f"{part} {first.dev.name}", title=title, layer_names=names, baselines=mixes)
