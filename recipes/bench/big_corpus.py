"""Measure large corpora: memory and time of `prepare`, time to the first step, memory of pretraining.

    python recipes/bench/big_corpus.py books.train.txt.gz wikipedia.train.txt.gz --times 10 --folder /tmp

The large text repeats TEXT `--times` times. From the second time on, letters of some words are changed, so that the
number of distinct words grows by Heaps' law: after n times to n ** 0.7 times that of TEXT if all changed words are new
(`--growth 0.7`). It is written to a temporary folder, which is removed at the end except with `--keep`.

Prints a JSON line for each of:

- `prepare` of TEXT and of the large text, with the remaining options of the command line (such as `--vocab-size
  50000`). The peak is the sum of the proportional set sizes (PSS) of all processes, mapped files included, sampled
  every 0.1 s;
- `pretrain` in a new process: seconds from its start to the first step in its log, imports and a validation text of
  2,000 tokens included; and its anonymous memory at some of 1,000 steps;
- the first step at the beginning, in the middle and in the last of 10 epochs, each in a new process: seconds to open
  the corpus and create the model, and then to the gradients of that step.
"""

import argparse
import csv
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

from elmolite.data.text import read_lines

LOOK_EVERY_SECONDS = 0.1
CHANGED_LETTERS = 3
SHORTEST_CHANGED = 4
LETTERS = "etaoinshrdlcumwfgypbvk"
N_STEPS = 1000
SETTINGS = ["--preset", "mini", "--valid-tokens", "2000"]


def changed(word: str, rng: random.Random) -> str:
    """Replace some letters of a word."""
    letters = list(word)
    for _ in range(CHANGED_LETTERS):
        letters[rng.randrange(len(letters))] = rng.choice(LETTERS)
    return "".join(letters)


def noisy_lines(lines: Iterator[str], every: float, rng: random.Random) -> Iterator[str]:
    """Change one word in `every`, only words of four letters or more."""
    due = 0.0
    for line in lines:
        words = line.split(" ")
        due += len(words) / every
        for _ in range(int(due)):
            index = rng.randrange(len(words))
            if len(words[index]) >= SHORTEST_CHANGED and words[index].isalpha():
                words[index] = changed(words[index], rng)
                due -= 1
        yield " ".join(words)


def repeated(sources: list[Path], n_times: int, *, n_words: int, n_distinct: int, growth: float) -> Iterator[str]:
    """Yield the lines of a text `n_times` times, with new words.

    :param n_words: number of words of the text.
    :param n_distinct: number of distinct words.
    :param growth: after n times there are ``n_distinct * n ** growth`` distinct words if all changed words are new.
    """
    for time_ in range(n_times):
        n_new = n_distinct * ((time_ + 1) ** growth - time_**growth)
        every = float("inf") if time_ == 0 else n_words / max(n_new, 1)
        rng = random.Random(time_)
        for source in sources:
            yield from noisy_lines(read_lines(source), every, rng)
            yield ""


def memory_of_tree(root: int) -> int:
    """Return the proportional set size of a process and its descendants, in bytes."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended
                continue
            children.setdefault(parent, []).append(int(folder.name))
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        waiting += children.get(process, [])
        total += _field(Path(f"/proc/{process}/smaps_rollup"), "Pss:")
    return total


def anonymous_memory(process: int) -> int:
    """Return the anonymous memory of a process, in bytes."""
    return _field(Path(f"/proc/{process}/status"), "RssAnon:")


def _field(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:  # the process has ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def watch(command: list[str], look: Callable[[int], None], said: Path) -> float:
    """Run a command while sampling its process, and return its duration in seconds.

    :raises SystemExit: it failed.
    """
    started = time.monotonic()
    with said.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        while process.poll() is None:
            look(process.pid)
            time.sleep(LOOK_EVERY_SECONDS)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{said.read_text()}")
    return time.monotonic() - started


def elmolite(*arguments: str) -> list[str]:
    """Return the command line of a subcommand."""
    return [sys.executable, "-m", "elmolite", *arguments]


def prepare(texts: list[Path], out: Path, options: list[str]) -> dict[str, float]:
    """Prepare texts, and return time, memory and counts."""
    peak = 0

    def look(process: int) -> None:
        nonlocal peak
        peak = max(peak, memory_of_tree(process))

    command = elmolite("prepare", *map(str, texts), "--out", str(out), *options)
    seconds = watch(command, look, out.parent / "said.txt")
    summary = json.loads((out / "corpus.json").read_text())
    return {
        "peak_mib": round(peak / 2**20),
        "seconds": round(seconds, 1),
        "tokens": summary["train"]["tokens"] + summary["valid"]["tokens"],
        "distinct": summary["word_forms"],
        "documents": summary["train"]["documents"],
        "vocabulary": summary["vocabulary_size"],
    }


def pretrain(corpus: Path, out: Path, n_steps: int) -> dict[str, float]:
    """Pretrain, and return the seconds to the first step and the memory at some steps."""
    started, first = time.monotonic(), 0.0
    memory: dict[int, int] = {}

    def look(process: int) -> None:
        nonlocal first
        if not (out / "log.csv").is_file():
            return
        with (out / "log.csv").open(newline="") as file:
            steps = [int(row["step"]) for row in csv.DictReader(file) if row["loss"]]
        if steps:
            first = first or time.monotonic() - started
            memory.setdefault(steps[-1], anonymous_memory(process))

    options = ["--corpus", str(corpus), "--out", str(out), *SETTINGS, "--n-validations", "1", "--log-every-steps", "1"]
    watch(elmolite("pretrain", *options, "--max-steps", str(n_steps)), look, out.parent / "said.txt")
    at = [min(memory, key=lambda step: abs(step - share * n_steps)) for share in (0.1, 0.5, 1.0)]
    return {
        "seconds_to_first_step": round(first, 1),
        **{f"anonymous_mib_at_step_{step}": round(memory[step] / 2**20) for step in at},
    }


def first_step(corpus: Path, place: str) -> None:
    """Open a corpus, create a model, compute one step of a run, and print the seconds."""
    begun = time.monotonic()
    import torch

    from elmolite.data.bptt import BPTTBatches
    from elmolite.nn.config import PRESETS
    from elmolite.pretraining.config import PretrainingConfig
    from elmolite.pretraining.evaluation import run_batch, time_major
    from elmolite.pretraining.setup import PretrainingRun

    config = PretrainingConfig()
    run = PretrainingRun.build(config, model=PRESETS["mini"](), corpus=corpus)
    bilm, softmax, n_steps = run.model.bilm, run.softmax, run.n_steps
    step = {"beginning": 0, "middle": n_steps // 2, "last epoch": n_steps - 2}[place]
    loaded = time.monotonic()
    streams = BPTTBatches(run.corpus, run.corpus.train, config.batch_size, config.bptt_length, config.seed)
    batch = streams.batch(step)
    read = time.monotonic()
    forward, backward, _ = run_batch(bilm, batch, bilm.zero_state(config.batch_size))
    targets = torch.cat([time_major(batch.forward_targets), time_major(batch.backward_targets)])
    softmax.full_loss(torch.cat([forward, backward]), targets).backward()
    done = time.monotonic()
    seconds = {"load": loaded - begun, "batch": read - loaded, "first_step": done - loaded}
    print(json.dumps({"place": place, "step": step, **{name: round(value, 2) for name, value in seconds.items()}}))


def measure(options: argparse.Namespace, rest: list[str], folder: Path) -> None:
    """Write the large text and measure everything."""
    small = prepare(options.text, folder / "small", rest)
    print(json.dumps({"measure": "prepare", "times": 1, **small}), flush=True)
    text = folder / "big.txt"
    n_words, n_distinct = small["tokens"], small["distinct"]
    lines = repeated(options.text, options.times, n_words=n_words, n_distinct=n_distinct, growth=options.growth)
    with text.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    print(json.dumps({"measure": "text", "times": options.times, "bytes": text.stat().st_size}), flush=True)
    big = prepare([text], folder / "big", rest)
    text.unlink()
    print(json.dumps({"measure": "prepare", "times": options.times, **big}), flush=True)
    print(json.dumps({"measure": "pretrain", **pretrain(folder / "big", folder / "run", options.steps)}), flush=True)
    for place in ("beginning", "middle", "last epoch"):
        command = [sys.executable, __file__, str(folder / "big"), "--first-step", place]
        said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(json.dumps({"measure": "first step", **said}), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, nargs="+", help="files, also .gz")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--growth", type=float, default=0.7, help="exponent of the distinct words")
    parser.add_argument("--steps", type=int, default=N_STEPS, help="steps of pretraining")
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the text and the corpora")
    parser.add_argument("--first-step", help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args()
    if options.first_step:
        first_step(options.text[0], options.first_step)
        return
    folder = Path(mkdtemp(prefix="big-corpus-", dir=options.folder))
    try:
        measure(options, rest, folder)
    finally:
        if not options.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
