"""Milliseconds of a forward and backward pass of two LSTM layers: ours against ``nn.LSTM(proj_size=...)``.

    python recipes/bench/lstm.py [--rows 32] [--repeats 21]

At the size of the preset ``mini``: 512 cells, projection 128, windows of 20. ``nn.LSTM`` has no clips and no residual
connection; ours has both. The two take turns; prints one JSON line with medians and their ratio for each precision.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable

import torch

from elmolite.data.indexers import ByteIndexer
from elmolite.nn.bilm import BiLM
from elmolite.nn.config import BiLMConfig

CELLS, PROJECTION, STEPS, LAYERS = 512, 128, 20, 2


def milliseconds(functions: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Time the functions in turn; return the median of each."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 3):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if repeat >= 3:  # the first ones warm up
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=21)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*LSTM with projections is not supported with oneDNN.*")
    torch.manual_seed(0)
    config = BiLMConfig(cell_size=CELLS, projection_size=PROJECTION, n_layers=LAYERS, dropout=0.0)
    ours = BiLM(config, **ByteIndexer().sizes()).forward_stack
    theirs = torch.nn.LSTM(PROJECTION, CELLS, proj_size=PROJECTION, num_layers=LAYERS)
    x = torch.randn(STEPS * options.rows, PROJECTION, requires_grad=True)
    gradient = torch.randn(STEPS * options.rows, PROJECTION)

    def run_ours() -> None:
        outputs, _ = ours(x, [options.rows] * STEPS, ours.zero_state(options.rows, x))
        outputs[-1].backward(gradient)

    def run_theirs() -> None:
        outputs, _ = theirs(x.view(STEPS, options.rows, PROJECTION))
        outputs.flatten(0, 1).backward(gradient.to(outputs.dtype))

    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            times = milliseconds({"elmolite": run_ours, "nn.LSTM": run_theirs}, options.repeats)
        ratio = times["nn.LSTM"] / times["elmolite"]
        rounded = {name: round(value, 1) for name, value in times.items()}
        print(
            json.dumps({"precision": str(dtype), "rows": options.rows, "ms": rounded, "times_as_fast": round(ratio, 2)})
        )


if __name__ == "__main__":
    main()
