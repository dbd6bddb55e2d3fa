"""Task of the demonstration: find the words of a sentence that its author marked as code, with back-ticks.

A module is in one split only (train, dev or test), as the checksum of its name decides, and a sentence of several
modules is used once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from elmolite.data.tokenization import SentenceTokenizer
from elmolite.demo.docstrings import Module, checksum
from elmolite.tasks.spans import spans

_MIN_TOKENS, _MAX_TOKENS = 5, 40
_MAX_PER_MODULE = 12
"""Maximum number of sentences of a module, so that no large module dominates."""
_MAX_CODE_SHARE = 0.4
"""Maximum share of code tokens; sentences with more are hardly prose."""


@dataclass(frozen=True)
class TaskSize:
    """Maximum numbers of examples of each split, and the numbers of epochs and of seeds."""

    train: int
    dev: int
    test: int
    n_epochs: int
    n_seeds: int = 3


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
    for number, module in sorted((checksum(module), module) for module in modules):
        split = ("dev", "test", "test")[number % 10] if number % 10 < 3 else "train"
        room = min(_MAX_PER_MODULE, getattr(size, split) - len(splits[split]))
        marked = (paragraph for paragraph in module.paragraphs if "`" in paragraph)
        found = (each for paragraph in marked for each in tagged_sentences(paragraph, tokenizer) if _is_usable(each))
        new = (each for each in found if each.tokens not in seen)
        for sentence in islice(new, room):
            seen.add(sentence.tokens)
            splits[split].append(sentence)
    return splits


def _is_usable(sentence: TaggedSentence) -> bool:
    n_tokens, n_code = len(sentence.tokens), len(sentence.tags) - sentence.tags.count("O")
    return _MIN_TOKENS <= n_tokens <= _MAX_TOKENS and 0 < n_code <= _MAX_CODE_SHARE * n_tokens


def mark(tokens: Sequence[str], tags: Sequence[str]) -> str:
    """Return a sentence with its code between back-ticks."""
    words = list(tokens)
    for span in spans(tags):
        words[span.first] = f"`{words[span.first]}"
        words[span.end - 1] += "`"
    return " ".join(words)
