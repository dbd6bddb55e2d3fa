"""Print the tables of README.md: the bytes sent in an optimizer step, and the number of GPUs that a network allows.

python recipes/distributed/communication.py
"""

from __future__ import annotations

from itertools import count

import torch

from elmolite.nn.bilm import BiLM
from elmolite.nn.config import PRESETS
from elmolite.nn.softmax import make_softmax
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.estimate import sent_bytes
from elmolite.pretraining.module import PretrainingModule
from elmolite.utils.torch import without_weights

ROWS, BPTT_LENGTH = 1024, 20  # of each GPU, as in the measured speeds
N_NEGATIVES = 8192
SHARE = 0.2  # of a step
NVLINK, ETHERNET = 450e9, 100e9 / 8  # bytes per second in each direction
N_GPUS = 8  # at most
SOFTMAXES = [("full", 10_000), ("full", 30_000), ("adaptive", 100_000), ("adaptive", 793_471)]
SOFTMAXES += [("sampled", 100_000), ("sampled", 793_471)]
SPEEDS = [  # preset, softmax, words, tokens per second
    ("small", "adaptive", 30_000, 530_000, "measured"),
    ("small", "full", 30_000, 420_000, "measured"),
    ("original", "sampled", 793_471, 285_000, "measured"),
    ("small", "adaptive", 30_000, 1_500_000, "aim"),
    ("original", "sampled", 793_471, 700_000, "aim"),
]


def bytes_of_step(preset: str, softmax: str, n_words: int, *, n_gpus: int, accumulate_steps: int = 1) -> int:
    """Return the bytes that each GPU sends, for a text in which the frequency of a word is a power of its rank."""
    config = PretrainingConfig(
        batch_size=ROWS,
        bptt_length=BPTT_LENGTH,
        accumulate_steps=accumulate_steps,
        softmax=softmax,
        n_negatives=N_NEGATIVES,
    )
    with without_weights():
        bilm = BiLM(PRESETS[preset]())
        kind = {"kind": config.softmax_kind(n_words)}
        output = make_softmax(kind, vocabulary_size=n_words, projection_size=bilm.config.projection_size)
    module = PretrainingModule(bilm, output, config, n_steps=1)
    frequencies = (torch.arange(n_words, dtype=torch.float64) + 9) ** -1.31
    return sent_bytes(module, frequencies / frequencies.sum(), n_processes=n_gpus, batch_size=n_gpus * ROWS)


def table_of_bytes() -> str:
    """Return the megabytes of a step by preset and softmax, with two GPUs."""
    lines = ["| preset | " + " | ".join(f"{softmax} {n_words:,}" for softmax, n_words in SOFTMAXES) + " |"]
    lines.append("|---" * (1 + len(SOFTMAXES)) + "|")
    for preset in PRESETS:
        megabytes = [bytes_of_step(preset, *each, n_gpus=2) / 1e6 for each in SOFTMAXES]
        lines.append(f"| `{preset}` | " + " | ".join(f"{each:,.1f}" for each in megabytes) + " |")
    return "\n".join(lines)


def table_of_gpus() -> str:
    """Return the largest number of GPUs by network, and the batches to accumulate for more than that."""
    lines = ["| preset, softmax | tokens/s of a GPU | step | NVLink | 100 Gb/s | for 8 at 100 Gb/s |", "|---" * 6 + "|"]
    for preset, softmax, n_words, speed, source in SPEEDS:
        seconds = ROWS * BPTT_LENGTH / speed
        model = preset, softmax, n_words
        sent = [bytes_of_step(*model, n_gpus=n_gpus) for n_gpus in range(1, N_GPUS + 1)]
        on_nvlink, on_ethernet = (
            sum(n_bytes / bandwidth <= SHARE * seconds for n_bytes in sent) for bandwidth in (NVLINK, ETHERNET)
        )
        n_accumulated = next(
            n
            for n in count(1)
            if bytes_of_step(*model, n_gpus=N_GPUS, accumulate_steps=n) / ETHERNET <= SHARE * n * seconds
        )
        lines.append(
            f"| `{preset}`, {softmax} {n_words:,} | {speed:,}, {source} | {1e3 * seconds:.1f} ms | {on_nvlink} | "
            f"{on_ethernet} | `--accumulate-steps {n_accumulated}` |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table_of_bytes(), table_of_gpus(), sep="\n\n")
