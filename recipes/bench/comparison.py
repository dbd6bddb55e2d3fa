"""What the comparisons with other systems share: their options, the same model and sentences for all, turns, figures.

Every system has its own process, and only one computes at a time: they take turns, A B A B, so that all of them see the
same machine. A figure is the median of the turns, with the least and the most; so is a ratio, which is of one turn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peers import System, Worker

from elmolite.checkpoint import Checkpoint
from elmolite.data.indexers import ByteIndexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import SPECIALS
from elmolite.nn.bilm import BiLM
from elmolite.nn.config import PRESETS

MAX_LOAD = 0.5
"""The load average of a minute above which others compute here."""
PAUSE_SECONDS = 0.5
"""Before each turn: threads of the one before may spin for a while when they have nothing to do."""

Figures = Mapping[str, Sequence[float]]
"""Of each system a figure a turn."""


def argument_parser(description: str | None, *, preset: str, repeats: int) -> argparse.ArgumentParser:
    """Return the options that all comparisons have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default=preset, help="whose sizes the models have")
    parser.add_argument("--repeats", type=int, default=repeats, help="turns of each system")
    parser.add_argument("--threads", type=int, default=2)
    peers = Path(os.environ.get("BENCH_PEERS", "bench-peers"))
    parser.add_argument("--peers", type=Path, default=peers, help="folder of environments (or set BENCH_PEERS)")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="for a busy machine to become quiet")
    parser.add_argument("--anyway", action="store_true", help="measure on a busy machine")
    return parser


@dataclass(frozen=True)
class Comparison:
    """Systems that are ready to be measured."""

    workers: Sequence[Worker]
    sentences: Sequence[Sequence[str]]
    options: argparse.Namespace
    load: float
    """The load average before the start."""

    def take_turns(self, measure: Callable[[Worker], float]) -> Figures:
        """Measure each system once in every turn."""
        figures: dict[str, list[float]] = {worker.system.name: [] for worker in self.workers}
        for _ in range(self.options.repeats):
            for worker in self.workers:
                time.sleep(PAUSE_SECONDS)
                figures[worker.system.name].append(measure(worker))
        return figures

    def words_per_second(self) -> Figures:
        """Embed all sentences in one call in every turn."""
        n_words = sum(map(len, self.sentences))
        return self.take_turns(lambda worker: n_words / worker.ask("time")["seconds"][0])

    def report(self, title: str, unit: str, figures: Figures, **results: Any) -> None:
        """Print a JSON line a system, and one with the ratios and where they were taken."""
        for worker in self.workers:
            print(json.dumps({"system": worker.system.name, unit: summary(figures[worker.system.name])} | worker.about))
        result = {
            "comparison": title,
            "times_better": self._ratios(figures, more_is_better=unit.endswith("_per_second")),
            **results,
            "preset": self.options.preset,
            "sentences": len(self.sentences),
            "words": sum(map(len, self.sentences)),
            "repeats": self.options.repeats,
            "threads": self.options.threads,
            "cpu": cpu(),
            "load_before": round(self.load, 2),
        }
        print(json.dumps(result), flush=True)

    def _ratios(self, figures: Figures, *, more_is_better: bool) -> dict[str, dict[str, float]]:
        """Return how many times better elmolite, in each of its ways, is than each peer."""
        systems = [worker.system for worker in self.workers]
        found = {}
        for ours in (system.name for system in systems if system.environment is None):
            for peer in (system.name for system in systems if system.environment is not None):
                pairs = zip(figures[ours], figures[peer], strict=True)
                found[f"{ours} : {peer}"] = summary([a / b if more_is_better else b / a for a, b in pairs])
        return found


@contextmanager
def running(
    systems: Sequence[System],
    sentences: Sequence[Sequence[str]],
    options: argparse.Namespace,
    vocabulary: Sequence[str] = SPECIALS,
) -> Iterator[Comparison]:
    """Load the systems that are there, one after the other, with the same weights and sentences.

    :param vocabulary: of the softmax, where systems are trained.
    :raises SystemExit: others compute on this machine, or a system failed.
    """
    load = wait_until_quiet(options.wait, anyway=options.anyway)
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        write_model(options.preset, folder / "model")
        (folder / "sentences.json").write_text(json.dumps(sentences), encoding="utf-8")
        (folder / "vocabulary.txt").write_text("".join(f"{word}\n" for word in vocabulary), encoding="utf-8")
        workers = []
        for system in systems:
            python = system.python(options.peers)
            if python is None:
                where = options.peers / str(system.environment)
                print(f"{system.name} is left out: no environment {where} (recipes/bench/README.md)", file=sys.stderr)
            else:
                workers.append(stack.enter_context(Worker(system, python, folder, {"threads": options.threads})))
        yield Comparison(workers, sentences, options, load)


def write_model(preset: str, folder: Path) -> None:
    """Write a model of random weights, always the same, in the format that AllenNLP, simple_elmo and bilm-tf read."""
    torch.manual_seed(0)
    bilm = BiLM(PRESETS[preset](), **ByteIndexer().sizes())
    Checkpoint(bilm, SentenceTokenizer.whitespace(), ByteIndexer()).save_hdf5(folder)


def wait_until_quiet(seconds: float, *, anyway: bool) -> float:
    """Wait until nobody else computes here; return the load average.

    :raises SystemExit: somebody still does after so long; but not with ``anyway``, which warns.
    """
    until = time.monotonic() + seconds
    while os.getloadavg()[0] > MAX_LOAD and time.monotonic() < until:
        time.sleep(1)
    load = os.getloadavg()[0]
    if load > MAX_LOAD:
        message = f"the machine is busy: a load average of {load:.2f}, more than {MAX_LOAD}"
        if not anyway:
            raise SystemExit(f"{message}; --wait 120 waits, --anyway measures all the same")
        print(f"{message}; these figures are not to be trusted", file=sys.stderr)
    return load


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the spread, to four digits."""
    found = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def cpu() -> str:
    """Return the model of the processor and how many cores there are."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"
