"""Where embedding stands against the machine: of each stage its operations, the least time they take, and the measured.

    python recipes/bench/floor.py small [--sentences 200]

Prints how fast memory is read, in GB/s, by what is read again and again: as the weights of a sentence alone, step after
step. Then the rates of one large matrix product, in GFLOP/s: torch's own, in float32 or bf16 that of MKL, and that of
elmolite with packed weights, which in int8 are fbgemm's; and a JSON line a stage and precision, in microseconds: of a
new word for the characters, of a position for the LSTMs and for all of it. The floor is the stage's products at the
best of these rates.
"""

from __future__ import annotations

import elmolite  # isort: skip  # noqa: F401  before torch, for the settings of OpenMP

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from texts import sentences
from torch.nn import functional as F

from elmolite.data.indexers import ByteIndexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.embedding.batching import pack
from elmolite.embedding.elmo import ELMo
from elmolite.nn.bilm import BiLM
from elmolite.nn.config import PRESETS, BiLMConfig
from elmolite.nn.packed_linear import linear_op, products_in, vector_dtype
from elmolite.utils.config import EmbeddingPrecision

CPU = torch.device("cpu")
SHAPE = (256, 2048, 4096)
"""Rows, inputs and outputs of the product whose rate is measured: that of both maps of a highway layer."""


def seconds(function: Callable[[], object], repeats: int = 9) -> float:
    """Return the median time of a function, the first runs left out."""
    times = []
    for repeat in range(repeats + 2):
        start = time.perf_counter()
        function()
        if repeat >= 2:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def rates(dtype: torch.dtype) -> dict[str, float]:
    """Measure a product in two ways, in operations per second."""
    n_rows, n_in, n_out = SHAPE
    x, weight = (torch.randn(rows, n_in).to(vector_dtype(dtype)) for rows in (n_rows, n_out))
    packed = linear_op(weight, dtype=dtype)
    n_operations = 2 * n_rows * n_in * n_out
    return {
        "torch": n_operations / seconds(lambda: F.linear(x, weight)),
        "packed": n_operations / seconds(lambda: packed(x)),
    }


def reading_rate(mebibytes: int) -> float:
    """Measure the adding up of so many numbers that were added up just before, in bytes per second."""
    numbers = torch.ones(mebibytes << 18)
    return numbers.nbytes / seconds(numbers.sum)


def step_bytes(config: BiLMConfig) -> int:
    """Count the bytes of the weights that a step of a sentence alone reads anew, in both directions."""
    return 2 * 4 * config.cell_size * config.projection_size * (4 + 1)  # recurrent and projection, float32


def operations(config: BiLMConfig, *, n_symbols: float) -> dict[str, float]:
    """Count the operations of the products of a new word and of a position.

    :param n_symbols: positions of a word that the convolutions go over, on average.
    """
    n_filters = sum(count for _, count in config.filters)
    convolution = n_symbols * sum(width * count for width, count in config.filters) * config.character_embedding_size
    highways = config.n_highway_layers * 2 * n_filters**2
    gates = 4 * config.cell_size * 2 * config.projection_size
    layer = gates + config.cell_size * config.projection_size
    return {
        "characters": 2 * (convolution + highways + n_filters * config.projection_size),
        "LSTMs": 2 * 2 * config.n_layers * layer,
    }


def measure(elmo: ELMo, dtype: torch.dtype, text: list[list[str]]) -> dict[str, float]:
    """Measure each stage, in seconds of a new word or of a position."""
    ids = elmo.to_ids(text)
    packed = pack(ids)
    n_positions = sum(map(len, text))
    encode = elmo.bilm.token_encoder

    def embed_anew() -> None:
        elmo.word_cache.clear()
        elmo.embed(text)

    with torch.no_grad(), products_in(dtype, CPU):
        words, state = encode(ids.unique_words), elmo.bilm.zero_state(len(packed.order))
        inputs = (packed.forward_inputs, packed.backward_inputs, packed.batch_sizes, state)
        return {
            "characters": seconds(lambda: encode(ids.unique_words)) / len(ids.unique_words),
            "LSTMs": seconds(lambda: elmo.bilm.run(words, *inputs)) / n_positions,
            "all": seconds(embed_anew) / n_positions,
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("--sentences", type=int, default=200)
    options = parser.parse_args()
    torch.manual_seed(0)
    config = PRESETS[options.preset]()
    elmo = ELMo(BiLM(config, **ByteIndexer().sizes()), SentenceTokenizer.whitespace())
    text = sentences(options.sentences)
    unique_words = elmo.to_ids(text).unique_words
    n_symbols = (unique_words != elmo.indexer.padding).sum().item() / len(unique_words) + 1  # and one window of padding
    counts = operations(config, n_symbols=n_symbols)
    counts["all"] = counts["LSTMs"] + counts["characters"] * len(unique_words) / sum(map(len, text))
    read = {f"{size} MiB": round(reading_rate(size) / 1e9) for size in (2, 4, 8, 16, 64)}
    print(json.dumps({"reading_GB_per_s": read, "weights_of_a_step_MB": round(step_bytes(config) / 1e6, 1)}))
    dtypes: dict[EmbeddingPrecision, torch.dtype] = {
        "32-true": torch.float32,
        "bf16-mixed": torch.bfloat16,
        "int8": torch.int8,
    }
    for precision, dtype in dtypes.items():
        elmo.precision = precision
        found = rates(dtype)
        print(json.dumps({"precision": precision} | {name: round(rate / 1e9) for name, rate in found.items()}))
        for stage, took in measure(elmo, dtype, text).items():
            floor = counts[stage] / max(found.values())
            line = {"stage": stage, "precision": precision, "MFLOP": round(counts[stage] / 1e6, 1)}
            print(json.dumps(line | {"floor_us": round(1e6 * floor, 1), "measured_us": round(1e6 * took, 1)}))


if __name__ == "__main__":
    main()
