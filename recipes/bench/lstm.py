"""Milliseconds of a forward and backward pass of two LSTM layers in both directions: ours, and ``nn.LSTM(proj_size)``.

    python recipes/bench/lstm.py [--rows 32] [--repeats 21]

At the size of the preset ``mini``: 512 cells, projection 128, windows of 20. ``nn.LSTM`` has no clips, no resets and no
residual connection; ours is measured with all of them, and without clips and resets. The three take turns; prints a
JSON line with medians and ratios for each precision.
"""

from __future__ import annotations

import elmolite  # isort: skip  # noqa: F401  before torch, for the settings of OpenMP

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
from elmolite.nn.recurrent import run_stacks

CELLS, PROJECTION, STEPS, LAYERS = 512, 128, 20, 2
RESET_SHARE = 0.005
"""Positions that reset the state: a tenth of the sentences, of about 20 words."""


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
    sizes = {"cell_size": CELLS, "projection_size": PROJECTION, "n_layers": LAYERS, "dropout": 0.0}
    n_positions = STEPS * options.rows
    x = torch.randn(2, n_positions, PROJECTION, requires_grad=True)
    gradient = torch.randn(2, n_positions, PROJECTION)
    resets = torch.rand(n_positions) < RESET_SHARE

    def ours(config: BiLMConfig, reset_mask: torch.Tensor | None) -> Callable[[], None]:
        bilm = BiLM(config, **ByteIndexer().sizes())
        stacks, state = [bilm.forward_stack, bilm.backward_stack], bilm.zero_state(options.rows)

        def run() -> None:
            outputs, _ = run_stacks(stacks, x, [options.rows] * STEPS, state, reset_mask)
            outputs[-1].backward(gradient)

        return run

    layers = [torch.nn.LSTM(PROJECTION, CELLS, proj_size=PROJECTION, num_layers=LAYERS) for _ in range(2)]

    def theirs() -> None:
        outputs = [layer(each.view(STEPS, options.rows, PROJECTION))[0] for layer, each in zip(layers, x, strict=True)]
        torch.stack(outputs).flatten(1, 2).backward(gradient.to(outputs[0].dtype))

    functions = {
        "elmolite": ours(BiLMConfig(**sizes), resets),
        "elmolite, no clips and resets": ours(BiLMConfig(**sizes, cell_clip=None, projection_clip=None), None),
        "nn.LSTM": theirs,
    }
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            times = milliseconds(functions, options.repeats)
        ratios = {name: round(times["nn.LSTM"] / times[name], 2) for name in times}
        rounded = {name: round(value, 1) for name, value in times.items()}
        print(json.dumps({"precision": str(dtype), "rows": options.rows, "ms": rounded, "times_as_fast": ratios}))


if __name__ == "__main__":
    main()
