"""The same task trained in several ways and with several seeds, in one table: what each part brings.

The *baselines* ask what pretraining and mixing bring: the same language model untrained, single layers, their average,
static vectors alone. The *probe* asks what each layer knows: a linear classifier on each, of the trained and the
untrained model (Peters et al. 2018, section 5.3; Liu et al. 2019).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from elmolite.errors import InputError
from elmolite.reports import plots
from elmolite.tasks.config import FinetuningConfig
from elmolite.tasks.finetune import FinetuningResult, layer_names, run
from elmolite.tasks.inputs import MIX, NO_LAYERS
from elmolite.tasks.setup import FinetuningSetup
from elmolite.tasks.specs import TASKS
from elmolite.utils import files
from elmolite.utils.console import table

COMPARISON_FILE = "comparison.json"
UNTRAINED = "untrained, "


@dataclass(frozen=True)
class Comparison:
    """The results of ways to train a task, each with one seed or several."""

    results: Mapping[str, Sequence[FinetuningResult]]

    def describe(self) -> str:
        """Return a table: the mean and, of several seeds, the standard deviation of the dev and test values."""
        first = next(iter(self.results.values()))[0]
        has_test = first.test is not None
        rows = [
            ["", f"dev {first.dev.name}", *([f"test {first.dev.name}"] if has_test else []), "epochs", "s an epoch"]
        ]
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
        n_seeds = len(next(iter(self.results.values())))
        note = f"\nmean ± standard deviation of {n_seeds} seeds" if n_seeds > 1 else ""
        return table(rows) + note

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
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
    """Return the values of the seeds, their mean and, of several, their standard deviation."""
    mean = {"mean": statistics.mean(values)} if values else {}
    deviation = {"deviation": statistics.stdev(values)} if len(values) > 1 else {}
    return {"values": list(values), **mean, **deviation}


def _mean_and_deviation(values: Sequence[float]) -> str:
    mean = f"{statistics.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}"


def baselines(setup: FinetuningSetup) -> dict[str, FinetuningSetup]:
    """Return ways to train a task, by name: as it is set up, and with less.

    :raises InputError: there is nothing less to compare with.
    """
    if setup.is_untrained or setup.inputs.layers == NO_LAYERS:
        raise InputError("--baselines compares a trained language model with less: leave --untrained and 'none' to it")

    def reading(layers: str, static: str | None = None) -> FinetuningSetup:
        inputs = replace(setup.inputs, layers=layers, static=static, mixes_at_output=False)
        return replace(setup, inputs=inputs)

    own = str(setup.inputs.layers) + (" and static" if setup.inputs.static else "")
    ways = {own: setup, **{layers: reading(layers) for layers in (MIX, "average", "top", "token") if layers != own}}
    ways[UNTRAINED + own] = replace(setup, is_untrained=True)
    if setup.inputs.static is not None:
        ways[UNTRAINED + MIX] = replace(reading(MIX), is_untrained=True)
        ways["static vectors only"] = reading(NO_LAYERS, setup.inputs.static)
    return ways


def probes(setup: FinetuningSetup) -> dict[str, FinetuningSetup]:
    """Return a linear classifier on each layer and on their mix, of the trained and of the untrained language model.

    :raises InputError: the language model is said to be untrained.
    """
    if setup.is_untrained:
        raise InputError("--probe probes the untrained language model beside the trained one: leave --untrained to it")
    head = TASKS[setup.examples.task].probe
    ways = {}
    for prefix, is_untrained in (("", False), (UNTRAINED, True)):
        names = dict(zip(layer_names(setup.elmo.n_layers), map(str, range(setup.elmo.n_layers)), strict=True))
        for name, layers in {**names, MIX: MIX}.items():
            inputs = replace(setup.inputs, layers=layers, mixes_at_output=False, static=None, dropout=0.0)
            ways[prefix + name] = replace(setup, inputs=inputs, head=head, is_untrained=is_untrained)
    return ways


def compare(
    ways: Mapping[str, FinetuningSetup],
    config: FinetuningConfig | None = None,
    *,
    out: str | Path,
    n_seeds: int = 1,
    cache: Path | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
) -> Comparison:
    """Train each way with each seed, from ``config.seed`` on, one after the other.

    :param ways: such as :func:`baselines` and :func:`probes` give, or one: ``{"as it is": setup}``.
    :param out: gets a folder for each run, and the values of all in ``comparison.json``.
    :raises InputError: as :func:`elmolite.tasks.finetune.run`.
    """
    config, out = config or FinetuningConfig(), Path(out)
    if (out / COMPARISON_FILE).exists() and not overwrite:
        raise InputError(
            f"{out} holds a comparison already, whole or broken off: choose another folder, or say --overwrite"
        )
    results: dict[str, list[FinetuningResult]] = {}
    for name, setup in ways.items():
        for seed in range(config.seed, config.seed + n_seeds):
            if show_progress:
                print(f"\n{name}, seed {seed}")
            results.setdefault(name, []).append(
                run(
                    setup,
                    replace(config, seed=seed),
                    out / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}",
                    cache=cache,
                    refers_to_encoder=True,
                    overwrite=True,
                    show_progress=show_progress,
                )
            )
            files.write_bytes(out / COMPARISON_FILE, files.json_bytes(Comparison(results).as_dict()))
    return Comparison(results)


def draw_profile(comparison: Comparison, n_layers: int, path: Path) -> None:
    """Draw what the probes of :func:`probes` read from each layer."""
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
