"""Demonstration: docstrings of this installation -> corpus -> pretrained model -> vectors -> a task.

The task is to find the words of a sentence that its author marked as code, with back-ticks. A module is in one split
only (train, dev or test), as the checksum of its name decides, and a sentence of several modules is used once.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

from tqdm import tqdm

from elmolite.data.corpus import Corpus
from elmolite.data.prepare import prepare
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.demo import docstrings
from elmolite.demo.docstrings import Module
from elmolite.embedding.elmo import ELMo
from elmolite.embedding.neighbours import NeighbourIndex, unit
from elmolite.errors import InputError
from elmolite.nn.bilm import BiLMConfig, tiny
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.trainer import pretrain
from elmolite.reports import plots
from elmolite.reports.plots import Panel
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.config import FinetuningConfig, InputConfig
from elmolite.tasks.finetune import FinetuningResult, finetune
from elmolite.tasks.heads import TagConfig
from elmolite.tasks.spans import spans
from elmolite.utils import files
from elmolite.utils.console import table

SENTENCES = ("The children play in the park.", "The play premiered yesterday.")
QUERIES = ("returns", "set", "object", "first")
"""Words whose nearest neighbours in context are printed."""
N_NEIGHBOURS = 4

_MIN_TOKENS, _MAX_TOKENS = 5, 40
_MAX_PER_MODULE = 12
"""Maximum number of sentences of a module, so that no large module dominates."""
_MAX_CODE_SHARE = 0.4
"""Maximum share of code tokens; sentences with more are hardly prose."""
_N_SHOWN, _MAX_SHOWN_TOKENS = 5, 16
MODELS = ("untrained", "pretrained")


@dataclass(frozen=True)
class TaskSize:
    """Maximum numbers of examples of each split, and of epochs."""

    train: int
    dev: int
    test: int
    n_epochs: int


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
    _run_task(modules, model, elmo.tokenizer, out / "task", plan.task)

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


class TaggedSentence(NamedTuple):
    """Tokens and their tags: ``B-CODE``, ``I-CODE`` or ``O``."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]


def tagged_sentences(paragraph: str, tokenizer: SentenceTokenizer) -> Iterator[TaggedSentence]:
    """Yield the sentences of a paragraph, without its back-ticks."""
    in_code = False
    for sentence in tokenizer.sentences(paragraph):
        tokens, tags = [], []
        tag = "I-CODE"
        for token in sentence:
            if token == "`":
                in_code, tag = not in_code, "B-CODE"
            else:
                tokens.append(token)
                tags.append(tag if in_code else "O")
                tag = "I-CODE"
        yield TaggedSentence(tuple(tokens), tuple(tags))


def make_splits(
    modules: Iterable[Module], tokenizer: SentenceTokenizer, size: TaskSize
) -> dict[str, list[TaggedSentence]]:
    """Return the sentences of each split; they do not depend on the order of the modules."""
    splits: dict[str, list[TaggedSentence]] = {"train": [], "dev": [], "test": []}
    seen: set[tuple[str, ...]] = set()
    for checksum, module in sorted((_checksum(module), module) for module in modules):
        split = ("dev", "test", "test")[checksum % 10] if checksum % 10 < 3 else "train"
        room = min(_MAX_PER_MODULE, getattr(size, split) - len(splits[split]))
        marked = (paragraph for paragraph in module.paragraphs if "`" in paragraph)
        found = (each for paragraph in marked for each in tagged_sentences(paragraph, tokenizer) if _is_usable(each))
        new = (each for each in found if each.tokens not in seen)
        for sentence in islice(new, room):
            seen.add(sentence.tokens)
            splits[split].append(sentence)
    return splits


def _checksum(module: Module) -> int:
    return zlib.crc32(f"{module.package}/{module.name}".encode("utf-8", "replace"))


def _is_usable(sentence: TaggedSentence) -> bool:
    n_tokens, n_code = len(sentence.tokens), len(sentence.tags) - sentence.tags.count("O")
    return _MIN_TOKENS <= n_tokens <= _MAX_TOKENS and 0 < n_code <= _MAX_CODE_SHARE * n_tokens


def _run_task(modules: Iterable[Module], model: Path, tokenizer: SentenceTokenizer, out: Path, size: TaskSize) -> None:
    """Train on the layers of the pretrained and of the untrained model, and print scores and predictions."""
    splits = make_splits(modules, tokenizer, size)
    for name, sentences in splits.items():
        lines = [json.dumps({"tokens": each.tokens, "tags": each.tags}) + "\n" for each in sentences]
        files.write_bytes(out / f"{name}.jsonl", "".join(lines).encode())
    results = {
        name: finetune(
            "tag",
            encoder=model,
            train=out / "train.jsonl",
            dev=out / "dev.jsonl",
            test=out / "test.jsonl",
            out=out / name,
            config=FinetuningConfig(n_epochs=size.n_epochs, patience=size.n_epochs, learning_rate=0.003),
            inputs=InputConfig(dropout=0.1),
            head=TagConfig(hidden_size=32, dropout=0.2),
            random_init=name == "untrained",
            cache=out / "layers",
            show_progress=False,
        )
        for name in MODELS
    }
    counts = ", ".join(f"{len(sentences):,} {name}" for name, sentences in splits.items())
    print(f"Which words did the author mark as code? {counts} sentences, seed {FinetuningConfig().seed}\n")
    rows = [["language model", "precision", "recall", "F1 of spans, test"]]
    for name, result in results.items():
        if result.test is not None and result.test.spans is not None:
            micro = result.test.spans.micro
            rows.append([name, f"{micro.precision:.3f}", f"{micro.recall:.3f}", f"{micro.f1:.3f}"])
    print(f"{table(rows)}\n\nPredictions of the pretrained one:")
    _print_predictions(results["pretrained"], splits["test"])


def _print_predictions(result: FinetuningResult, sentences: Sequence[TaggedSentence]) -> None:
    short = [each for each in sentences if len(each.tokens) <= _MAX_SHOWN_TOKENS][:_N_SHOWN]
    trained = TaskCheckpoint.from_pretrained(result.folder)
    for sentence, prediction in zip(short, trained.predict([each.tokens for each in short]), strict=True):
        print(f"  {mark(sentence.tokens, prediction.labels)}")
        if prediction.labels != sentence.tags:
            print(f"    author: {mark(sentence.tokens, sentence.tags)}")


def mark(tokens: Sequence[str], tags: Sequence[str]) -> str:
    """Return a sentence with its code between back-ticks."""
    words = list(tokens)
    for span in spans(tags):
        words[span.first] = f"`{words[span.first]}"
        words[span.end - 1] += "`"
    return " ".join(words)
