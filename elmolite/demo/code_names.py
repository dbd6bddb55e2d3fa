"""Task of the demonstration: find the words of a sentence that its author marked as code.

The labels are the back-ticks of the docstrings. A module is in one split only (train, dev or test), as the checksum of
its name decides, and a sentence that occurs in several modules is used once.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from elmolite.data.tokenization import SentenceTokenizer
from elmolite.demo.docstrings import Module
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.config import FinetuningConfig, InputConfig
from elmolite.tasks.finetune import FinetuningResult, finetune
from elmolite.tasks.heads import TagConfig
from elmolite.tasks.spans import spans
from elmolite.utils import files
from elmolite.utils.console import table

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


def run(modules: Iterable[Module], model: Path, tokenizer: SentenceTokenizer, out: Path, size: TaskSize) -> None:
    """Train the task on the layers of the pretrained and of the untrained model, and print scores and predictions.

    :param model: folder of the language model.
    :param out: folder for the examples and both runs.
    """
    splits = make_splits(modules, tokenizer, size)
    for name, sentences in splits.items():
        lines = [json.dumps({"tokens": each.tokens, "tags": each.tags}) + "\n" for each in sentences]
        files.write_bytes(out / f"{name}.jsonl", "".join(lines).encode())
    results = {}
    for name in MODELS:
        results[name] = _train(model, out, name=name, n_epochs=size.n_epochs)
    counts = ", ".join(f"{len(sentences):,} {name}" for name, sentences in splits.items())
    print(f"Which words did the author mark as code? {counts} sentences, seed {FinetuningConfig().seed}\n")
    rows = [["language model", "precision", "recall", "F1 of spans, test"]]
    for name, result in results.items():
        if result.test is not None and result.test.spans is not None:
            micro = result.test.spans.micro
            rows.append([name, f"{micro.precision:.3f}", f"{micro.recall:.3f}", f"{micro.f1:.3f}"])
    print(f"{table(rows)}\n\nPredictions of the pretrained one:")
    _print_predictions(results["pretrained"], splits["test"])


def _train(model: Path, out: Path, *, name: str, n_epochs: int) -> FinetuningResult:
    return finetune(
        "tag",
        encoder=model,
        train=out / "train.jsonl",
        dev=out / "dev.jsonl",
        test=out / "test.jsonl",
        out=out / name,
        config=FinetuningConfig(n_epochs=n_epochs, patience=n_epochs, batch_size=32, learning_rate=0.003),
        inputs=InputConfig(dropout=0.1),
        head=TagConfig(hidden_size=32, dropout=0.2),
        random_init=name == "untrained",
        cache=out / "layers",
        show_progress=False,
    )


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
