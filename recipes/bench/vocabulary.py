"""Milliseconds of a training step over vocabularies of 10,000, 100,000 and a million words.

    python recipes/bench/vocabulary.py [--rounds 5] [--only "sampled, adam"]
    torchrun --nproc-per-node 2 recipes/bench/vocabulary.py --n-devices 2

Steps of Lightning's Trainer at the preset ``mini``, 32 rows of 20 positions, 1,024 negatives: the sampled softmax with
each optimizer and with the moving average of the weights, a model that reads words, and the adaptive softmax. Targets
are drawn log-uniformly; the words that are read are the same for all sizes, except where the model has them in a table
of that size. The sizes take turns. One JSON line a size: the median, the least and the most of all steps that were
timed, and the median's ratio to that of the smallest.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from elmolite.data.bptt import Batch
from elmolite.data.indexers import ByteIndexer
from elmolite.nn.bilm import BiLM
from elmolite.nn.config import mini
from elmolite.nn.softmax import AdaptiveSoftmax, FullSoftmax, log_uniform_sample
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.estimate import StepClock
from elmolite.pretraining.module import PretrainingModule
from elmolite.utils.torch import quiet_lightning

VOCABULARIES = (10_000, 100_000, 1_000_000)
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "sampled, adagrad": ("characters", {"softmax": "sampled", "optimizer": "adagrad", "learning_rate": 0.2}),
    "sampled, adam": ("characters", {"softmax": "sampled"}),
    "sampled, sgd": ("characters", {"softmax": "sampled", "optimizer": "sgd"}),
    "sampled, adam, average": ("characters", {"softmax": "sampled", "ema_decay": 0.999}),
    "sampled, adam, a table of words": ("words", {"softmax": "sampled"}),
    "adaptive, adam": ("characters", {"softmax": "adaptive"}),
}
"""What a model reads, and how it is trained."""
N_FORMS, N_COLUMNS = 448, 16
"""Distinct words of a batch and their characters: about those of 640 tokens of running text."""
WARM_UP_STEPS, MEASURED_STEPS = 5, 15
RANK = int(os.environ.get("RANK", "0"))
"""Which of the processes that torchrun started this one is; the first prints."""


def make_module(model_input: str, settings: dict[str, Any], vocabulary_size: int) -> PretrainingModule:
    """Make a model and how it is trained."""
    torch.manual_seed(0)
    model, config = replace(mini(), input=model_input), PretrainingConfig(**settings)
    bilm = BiLM(model, **(ByteIndexer().sizes() | ({"n_ids": vocabulary_size} if model_input == "words" else {})))
    kind = AdaptiveSoftmax if config.softmax == "adaptive" else FullSoftmax
    softmax = kind(vocabulary_size=vocabulary_size, projection_size=model.projection_size)
    return PretrainingModule(bilm, softmax, config, n_steps=WARM_UP_STEPS + MEASURED_STEPS)


def batches(module: PretrainingModule, n_devices: int) -> Iterator[Batch]:
    """Give the batches of a round, of this process its share of the rows."""
    config, vocabulary_size = module.config, module.softmax.vocabulary_size
    rng = np.random.default_rng((config.seed, RANK))
    shape = config.batch_size // n_devices, config.bptt_length
    words = torch.from_numpy(ByteIndexer().rows([f"word-{number}" for number in range(N_FORMS)])[:, :N_COLUMNS])

    def draw() -> Tensor:
        seed, n_targets = int(rng.integers(1 << 31)), math.prod(shape)
        ids = log_uniform_sample(vocabulary_size, n_targets, seed=seed, device=torch.device("cpu"))
        return ids[rng.permutation(n_targets)].view(shape)

    for _ in range(module.n_steps):
        targets = [draw(), draw()]
        unique_words = torch.stack(targets).unique()[:, None] if module.bilm.config.input == "words" else words
        inputs = [torch.from_numpy(rng.integers(len(unique_words), size=shape)) for _ in targets]
        n_targets = targets[0].numel()
        yield Batch(unique_words, *inputs, *targets, None, n_targets, n_targets * n_devices)


def step_milliseconds(module: PretrainingModule, seed: int, n_devices: int) -> list[float]:
    """Train for a round, with a new optimizer; return the milliseconds of its later steps."""
    module.config = replace(module.config, seed=seed)
    clock = StepClock()
    with quiet_lightning():
        trainer = Trainer(
            max_steps=module.n_steps,
            devices=n_devices,
            callbacks=[clock],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, DataLoader(list(batches(module, n_devices)), batch_size=None), val_dataloaders=[])
    return [1e3 * (after - before) for before, after in pairwise(clock.times[WARM_UP_STEPS - 1 :])]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--n-devices", type=int, default=1, help="as many as torchrun starts processes")
    parser.add_argument("--only", choices=RUNS, action="append", help="only these")
    options = parser.parse_args()
    for name in options.only or RUNS:
        modules = {size: make_module(*RUNS[name], size) for size in VOCABULARIES}
        times: dict[int, list[float]] = {size: [] for size in VOCABULARIES}
        for number, (size, module) in product(range(options.rounds), modules.items()):
            times[size] += step_milliseconds(module, number, options.n_devices)
        if RANK > 0:
            continue
        smallest = statistics.median(times[VOCABULARIES[0]])
        for size, values in times.items():
            median = statistics.median(values)
            figures = {"median": round(median, 1), "least": round(min(values), 1), "most": round(max(values), 1)}
            ratio = round(median / smallest, 2)
            print(json.dumps({"run": name, "vocabulary": size, "step_ms": figures, "ratio": ratio}), flush=True)


if __name__ == "__main__":
    main()
