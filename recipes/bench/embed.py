"""Words per second of embedding 200 sentences of 15 to 35 words, with random weights.

    python recipes/bench/embed.py small [--batch-tokens 4096] [--repeats 5]

The sentences come from the language reference behind Python's ``help()``, so that every machine has them. Prints one
JSON line: the median, and the least and most, over the repeats, where no word was seen before and where all were.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time

import torch

from elmolite.bilm import PRESETS, BiLM
from elmolite.documentation import topics
from elmolite.elmo import ELMo
from elmolite.tokenization import SentenceTokenizer

N_SENTENCES = 200


def sentences() -> list[list[str]]:
    """Return the first sentences of 15 to 35 tokens."""
    tokenizer = SentenceTokenizer.english()
    found = (
        s for paragraphs in topics() for text in paragraphs for s in tokenizer.sentences(text) if 15 <= len(s) <= 35
    )
    return [sentence for sentence, _ in zip(found, range(N_SENTENCES), strict=False)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    elmo = ELMo(BiLM(PRESETS[options.preset]()), SentenceTokenizer.whitespace())
    text = sentences()
    n_words = sum(map(len, text))
    elmo.embed(text[:20])

    def measure(*, is_new: bool) -> dict[str, int]:
        speeds = []
        for _ in range(options.repeats):
            if is_new:
                elmo.word_cache.clear()
            start = time.perf_counter()
            elmo.embed(text, batch_tokens=options.batch_tokens)
            speeds.append(n_words / (time.perf_counter() - start))
        return {
            "words_per_second": round(statistics.median(speeds)),
            "least": round(min(speeds)),
            "most": round(max(speeds)),
        }

    result = {
        "preset": options.preset,
        "words": n_words,
        "nothing seen before": measure(is_new=True),
        "every word seen before": measure(is_new=False),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
