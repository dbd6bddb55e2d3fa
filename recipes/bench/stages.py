"""Milliseconds of each stage of a pretraining step, and of whole steps.

    elmolite prepare TEXT --out corpus/
    python recipes/bench/stages.py corpus/ [--preset mini] [--rows 32] [--precision bf16-mixed] [--softmax full]

Forward and backward pass of each stage run alone, on the tensors of a training step; the stages take turns. The whole
step is measured by the estimate of ``elmolite pretrain --dry-run``. "rest" is what the stages do not explain: it may be
negative, where a stage alone is slower than within a step. On a GPU the batches are made by other processes during a
step. Prints one JSON line of medians.
"""

from __future__ import annotations

import elmolite  # isort: skip  # noqa: F401  before torch, for the settings of OpenMP

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor
from torch.nn import functional as F

from elmolite.nn.config import PRESETS
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.cuda_graph import TrainingWindow
from elmolite.pretraining.estimate import estimate
from elmolite.pretraining.evaluation import time_major
from elmolite.pretraining.setup import PretrainingRun
from elmolite.utils.torch import best_device

WARM_UP = 5


def stages(run: PretrainingRun, device: torch.device) -> dict[str, Callable[[], object]]:
    """Return a function for each stage of a step."""
    config, bilm, softmax = run.config, run.model.bilm.to(device).train(), run.softmax.to(device)
    steps, n_negatives = count(), config.negatives_of(run.softmax)
    batch = run.train.batch(0)
    targets = time_major(batch.forward_targets), time_major(batch.backward_targets)
    on_device = batch.to(device)
    indices = torch.stack([time_major(on_device.forward_inputs), time_major(on_device.backward_inputs)])
    n_positions, width = indices.shape[1], bilm.config.projection_size
    reset_mask = None if on_device.reset_mask is None else time_major(on_device.reset_mask)
    window, state = TrainingWindow(bilm), bilm.zero_state(config.batch_size)
    x = torch.randn(2, n_positions, width, device=device, requires_grad=True)
    parameters = [*bilm.parameters(), *softmax.parameters()]
    optimizer = torch.optim.Adam(parameters, fused=True)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    gradients = {parameter: parameter.grad for parameter in parameters}

    def differentiate(outputs: Tensor, inputs: list[Tensor]) -> None:
        torch.autograd.grad(outputs, inputs, torch.ones_like(outputs))

    def characters() -> None:
        words = bilm.encode(on_device.unique_words)
        differentiate(F.embedding(indices, words), list(bilm.token_encoder.parameters()))

    def layers() -> None:
        stacks = [*bilm.forward_stack.parameters(), *bilm.backward_stack.parameters()]
        differentiate(window(x, state, reset_mask)[0], [x, *stacks])

    def loss() -> None:
        hidden = x.flatten(0, 1)
        total = softmax.training_loss(hidden, torch.cat(targets).to(device), n_negatives=n_negatives, seed=next(steps))
        differentiate(total, [x, *softmax.parameters()])

    def optimize() -> None:
        for parameter in parameters:
            parameter.grad = gradients[parameter]
        torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        optimizer.step()

    def data() -> None:
        run.train.batch(next(steps))

    return {"data": data, "characters": characters, "LSTM": layers, "softmax": loss, "optimizer": optimize}


def milliseconds(functions: dict[str, Callable[[], object]], repeats: int, device: torch.device) -> dict[str, float]:
    """Time the functions in turn; return the median of each."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(WARM_UP + repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if repeat >= WARM_UP:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--preset", default="mini", choices=PRESETS)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument("--softmax", default="sampled", choices=["full", "sampled", "adaptive"])
    parser.add_argument("--negatives", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=21)
    options = parser.parse_args()
    config = PretrainingConfig(
        batch_size=options.rows,
        precision=options.precision,
        softmax=options.softmax,
        n_negatives=options.negatives,
        valid_tokens=1_000,
    )
    model, device = PRESETS[options.preset](), best_device()
    run = PretrainingRun.build(config, model=model, corpus=options.corpus, init_from=None)
    with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16-mixed"):
        found = milliseconds(stages(run, device), options.repeats, device)
    whole = 1e3 * estimate(config, model=model, corpus=options.corpus).step_seconds
    found |= {"rest": whole - sum(found.values()), "whole step": whole}
    settings = {name: getattr(options, name) for name in ("preset", "rows", "precision", "softmax")}
    print(json.dumps({**settings, "device": str(device), "ms": {name: round(ms, 1) for name, ms in found.items()}}))


if __name__ == "__main__":
    main()
