"""Time, memory and perplexity of the three softmaxes over vocabularies of 10,000, 100,000 and a million words.

The text is given; one token in twenty gets a random ending, so that there are more than a million word forms. Every
run is the preset mini in bf16, the same rows, steps and seed, in a process of its own; the step time is the median of
the log, the memory the peak of the process, in which one sentence is validated. The perplexity is exact, on the
first held-out tokens.

    python recipes/bench/softmax.py books.train.txt.gz speeches.train.txt.gz wikipedia.train.txt.gz
"""

import argparse
import csv
import json
import random
import statistics
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from peers import peak_memory

from elmolite import Checkpoint, Corpus, prepare
from elmolite.data.text import find_files, read_documents
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.pretraining.evaluation import evaluate

VOCABULARIES = (10_000, 100_000, 1_000_000)
KINDS = ("full", "sampled", "adaptive")
ENDED_SHARE, N_ENDINGS = 0.05, 100_000
TOO_SLOW = {("full", 1_000_000): 8}
"""Runs that are only timed, over so many steps."""
SETTINGS = "--preset mini --learning-rate 0.005 --precision bf16-mixed --log-every-steps 2 --valid-tokens 1 "
SETTINGS += "--n-validations 1"


def write_text(sources: list[str], path: Path) -> None:
    """Write the text tokenised, one sentence per line, with a random ending on one token in twenty."""
    rng, tokenizer = random.Random(0), SentenceTokenizer.english()
    with path.open("w", encoding="utf-8") as file:
        for document in read_documents(find_files(sources)):
            for line in document:
                for sentence in tokenizer.sentences(line):
                    tokens = [
                        f"{token}{rng.randrange(N_ENDINGS)}" if rng.random() < ENDED_SHARE else token
                        for token in sentence
                    ]
                    file.write(" ".join(tokens) + "\n")
            file.write("\n")


def run(corpus: Path, out: Path, kind: str, n_steps: int) -> dict[str, float]:
    """Train in a process of its own; return milliseconds a step and MiB."""
    command = f"-m elmolite pretrain {SETTINGS} --softmax {kind} --max-steps {n_steps}".split()
    process = subprocess.Popen(
        [sys.executable, *command, "--corpus", str(corpus), "--out", str(out)], stdout=subprocess.DEVNULL
    )
    peak_kib = 0
    while process.poll() is None:
        peak_kib = max(peak_kib, peak_memory(process.pid))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"training failed: {kind} on {corpus}")
    with (out / "log.csv").open(newline="") as file:
        speeds = [float(row["tokens_per_second"]) for row in csv.DictReader(file) if row["tokens_per_second"]]
    return {"step_ms": round(1e3 * 640 / statistics.median(speeds)), "peak_mib": peak_kib // 1024}


def perplexity(corpus: Path, model: Path, max_tokens: int) -> float:
    """Return the exact perplexity of a model on the first held-out tokens."""
    data, checkpoint = Corpus.open(corpus), Checkpoint.from_pretrained(model)
    assert checkpoint.softmax is not None
    split = data.valid.first_sentences(max_tokens)
    return evaluate(checkpoint.bilm, checkpoint.softmax, data, split, by_sentence=False).average


def main() -> None:
    """Measure and print a line of JSON for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="+")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--valid-tokens", type=int, default=20_000)
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_text(options.text, folder / "text.txt")
        for size in VOCABULARIES:
            prepare(
                str(folder / "text.txt"),
                folder / f"corpus-{size}",
                tokenizer=SentenceTokenizer.whitespace(),
                vocab_size=size,
                min_count=1,
                show_progress=False,
            )
        for size, kind in product(VOCABULARIES, KINDS):
            corpus, out = folder / f"corpus-{size}", folder / f"{kind}-{size}"
            n_steps = TOO_SLOW.get((kind, size), options.steps)
            result: dict[str, object] = {"vocabulary": size, "softmax": kind, "steps": n_steps}
            result |= run(corpus, out, kind, n_steps)
            if n_steps == options.steps:
                result["perplexity"] = round(perplexity(corpus, out / "model", options.valid_tokens), 1)
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
