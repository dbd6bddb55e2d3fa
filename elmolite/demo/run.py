"""Demonstration: docstrings of this installation -> corpus -> pretrained model -> vectors -> a task."""

from __future__ import annotations

import csv
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from elmolite.data.corpus import Corpus
from elmolite.data.prepare import prepare
from elmolite.demo import code_names, docstrings
from elmolite.demo.code_names import TaskSize
from elmolite.demo.docstrings import Module
from elmolite.embedding.elmo import ELMo
from elmolite.embedding.neighbours import NeighbourIndex, unit
from elmolite.errors import InputError
from elmolite.nn.bilm import BiLMConfig, tiny
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.trainer import pretrain
from elmolite.reports import plots
from elmolite.reports.plots import Panel
from elmolite.utils import files

SENTENCES = ("The children play in the park.", "The play premiered yesterday.")
QUERIES = ("returns", "set", "object", "first")
"""Words whose nearest neighbours in context are printed."""
N_NEIGHBOURS = 4


@dataclass(frozen=True)
class Size:
    """Size of the demonstration."""

    max_words: int
    vocab_size: int
    model: BiLMConfig
    training: PretrainingConfig
    max_context_sentences: int
    task: TaskSize
    max_modules: int | None = None
    """Maximum modules of each package; ``None`` for all."""


def _size(name: Literal["full", "smoke"]) -> Size:
    if name == "smoke":
        model = BiLMConfig(filters=[(1, 16), (2, 16), (3, 32)], cell_size=64, projection_size=32, n_highway_layers=1)
        training = PretrainingConfig(
            max_steps=150, n_validations=3, valid_tokens=3000, warmup_steps=20, learning_rate=0.01
        )
        return Size(60_000, 2000, model, training, 200, TaskSize(240, 60, 60, n_epochs=2), max_modules=40)
    training = PretrainingConfig(max_steps=1000, n_validations=4, valid_tokens=20_000, learning_rate=0.005)
    return Size(5_000_000, 10_000, tiny(), training, 2000, TaskSize(3000, 400, 900, n_epochs=8))


def run(out: Path, *, size: Literal["full", "smoke"] = "full") -> None:
    """Run the demonstration.

    :param out: folder for the results; an earlier demonstration in it is replaced.
    :raises InputError: the folder contains other files.
    """
    started = time.perf_counter()
    plan = _size(size)
    _clear(out)

    _heading("1. Text: the documentation of Python and of the installed packages")
    modules = list(tqdm(docstrings.modules(max_modules=plan.max_modules), unit=" modules", disable=None))
    n_words = _write_text(modules, out / "text.txt", plan.max_words)
    print(f"{n_words:,} words of prose")

    _heading("2. elmolite prepare: sentences, tokens, vocabulary, validation documents")
    corpus = prepare([str(out / "text.txt")], out / "corpus", vocab_size=plan.vocab_size, overwrite=True)
    print(corpus.describe())

    _heading("3. elmolite pretrain: a character CNN and two LSTMs in each direction")
    model = pretrain(plan.training, model=plan.model, corpus=out / "corpus", out=out)
    history = _read_log(out / "log.csv")
    _print_perplexities(history)

    _heading("4. Vectors: the same word in two sentences")
    elmo = ELMo.from_pretrained(model)
    _print_two_senses(elmo)

    _heading("5. Nearest neighbours in context, in the validation text")
    _print_neighbours(elmo, corpus, plan.max_context_sentences)

    _heading("6. elmolite finetune: a tagger on these vectors, and on those of the same model untrained")
    code_names.run(modules, model, elmo.tokenizer, out / "task", plan.task)

    plot = _draw(history, out / "loss.png")
    _heading(f"Done in {time.perf_counter() - started:.0f} s")
    print(f"model     {model}\nlog       {out / 'log.csv'}")
    if plot:
        print(f"plot      {plot}")
    print(f"task      {out / 'task'}")
    print(f"next      elmolite evaluate {model} YOUR_TEXT.txt")
    print(f"          elmolite embed {model} --input YOUR_TEXT.txt --output vectors.npz")
    print(
        f"          elmolite finetune tag --encoder {model} --train {out / 'task' / 'train.jsonl'} --out {out}-tagger"
    )
    print("          elmolite prepare YOUR_TEXT.txt --out corpus   # then pretrain on it")


def _clear(out: Path) -> None:
    """Remove an earlier demonstration.

    :raises InputError: the folder contains other files.
    """
    of_pretraining = {"pretraining.json", "log.csv", "points", "checkpoints", "tensorboard", "model"}
    ours = {"text.txt", "corpus", *of_pretraining, "task", "tasks", "loss.png"}
    found = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if others := found - ours:
        raise InputError(f"{out}: contains other files ({min(others)}); pass another --out for the demonstration")
    for name in found:
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _write_text(modules: list[Module], path: Path, max_words: int) -> int:
    """Write a paragraph per line and a blank line after each document; return the number of words."""
    n_words = 0
    with files.writing(path) as file:
        for document in docstrings.distinct_paragraphs(modules):
            file.write(("\n".join(document) + "\n\n").encode("utf-8", "ignore"))
            n_words += sum(len(paragraph.split()) for paragraph in document)
            if n_words >= max_words:
                break
    return n_words


def _read_log(path: Path) -> list[dict[str, float]]:
    """Return the numbers in each line of the training log."""
    names = ("step", "loss", "valid_forward", "valid_backward")
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(row[name]) for name in names if row.get(name)} for row in csv.DictReader(file)]


def _print_perplexities(history: list[dict[str, float]]) -> None:
    """Print the first and last validation perplexity of each direction."""
    validations = [row for row in history if "valid_forward" in row]
    for direction in ("forward", "backward"):
        first, last = (row[f"valid_{direction}"] for row in (validations[0], validations[-1]))
        print(f"validation perplexity, {direction:<9}{first:>9.1f} -> {last:>7.1f}  ({first / last:.0f} times lower)")


def _print_two_senses(elmo: ELMo) -> None:
    vectors = elmo.embed(list(SENTENCES))
    for sentence, layers in zip(SENTENCES, vectors, strict=True):
        print(f"{sentence!r:<36} -> {layers.shape[0]} layers x {layers.shape[1]} tokens x {layers.shape[2]}")
    index = [elmo.tokenizer.tokens(sentence).index("play") for sentence in SENTENCES]
    for layer in range(elmo.n_layers):
        a, b = (unit(vectors[i][layer, index[i]]) for i in range(2))
        name = "token layer" if layer == 0 else f"LSTM layer {layer}"
        print(f"cosine of the two 'play', {name}: {float(a @ b):.3f}")


def _print_neighbours(elmo: ELMo, corpus: Corpus, max_sentences: int) -> None:
    """Print the tokens of the validation text whose top-layer vectors are nearest to those of some words in it."""
    index = NeighbourIndex(elmo, corpus.sentences(corpus.valid, max_sentences))
    for word in QUERIES:
        query = index.find(word)
        if query is not None:
            print(f"\n{index.describe(query, N_NEIGHBOURS)}")


def _draw(history: list[dict[str, float]], path: Path) -> Path | None:
    """Draw the perplexity of the training and the validation text."""
    training = [row for row in history if "loss" in row]
    validation = [row for row in history if "valid_forward" in row]
    curves = {"training": ([row["step"] for row in training], [math.exp(row["loss"]) for row in training])}
    for direction in ("forward", "backward"):
        values = [row[f"valid_{direction}"] for row in validation]
        curves[f"validation, {direction}"] = ([row["step"] for row in validation], values)
    return plots.draw_curves([Panel("perplexity", curves, is_log=True)], path, title="Pretraining", x_label="step")
