"""Vocabulary of the softmax: the words that the language model predicts, with their counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from elmolite.data.text import read_lines
from elmolite.errors import InputError

VOCAB_FILE = "vocab.txt"
"""Name of the vocabulary in a model or corpus folder."""

BEGIN_SENTENCE = "<S>"
END_SENTENCE = "</S>"
UNKNOWN = "<UNK>"
SPECIALS = (BEGIN_SENTENCE, END_SENTENCE, UNKNOWN)
BEGIN_SENTENCE_ID, END_SENTENCE_ID, UNKNOWN_ID = range(3)

WordCounts = Iterable[tuple[str, int]]
"""Pairs of a word and its count in a text."""


class Vocabulary:
    """The words of the softmax, ``<S> </S> <UNK>`` first, with their counts in the training text.

    The id of a word is its index in :attr:`words`. A count of 0 means unknown.

    >>> vocabulary = Vocabulary.from_counts([("play", 7), ("garden", 2)], n_sentences=5, max_size=None, min_count=2)
    >>> vocabulary
    Vocabulary(5 words: <S>, </S>, <UNK>, play, garden)
    >>> vocabulary.ids(["play", "bark"])
    [3, 2]
    """

    def __init__(self, words: Sequence[str], counts: Sequence[int]) -> None:
        if tuple(words[:3]) != SPECIALS:
            raise ValueError(f"a vocabulary must begin with {' '.join(SPECIALS)}, got {' '.join(words[:3])}")
        self.words = list(words)
        self.counts = list(counts)
        self._ids = {word: index for index, word in enumerate(words)}

    @classmethod
    def from_counts(cls, counts: WordCounts, *, n_sentences: int, max_size: int | None, min_count: int) -> Vocabulary:
        """Create a vocabulary of the most frequent words.

        :param counts: word types of the training text with their counts, most frequent first.
        :param n_sentences: the count of ``<S>`` and ``</S>``.
        :param max_size: maximum number of words, the three specials included; ``None`` for all.
        :param min_count: minimum count of a word.
        """
        words, kept = list(SPECIALS), [n_sentences, n_sentences, 0]
        for word, count in counts:
            if count >= min_count and word not in SPECIALS and (max_size is None or len(words) < max_size):
                words.append(word)
                kept.append(count)
            else:
                kept[UNKNOWN_ID] += count
        return cls(words, kept)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read a file with one word a line, optionally with a tab and its count, as bilm-tf does.

        Specials are moved to the beginning, and added if missing.
        """
        counts: dict[str, int] = {}
        for number, line in enumerate(read_lines(path), start=1):
            word, _, count = line.partition("\t")
            if not word.strip(" "):
                raise InputError(f"{path}, line {number}: expected a word, got a blank line")
            if count and not (count.isdecimal() and len(count) < 19):  # 64 bits
                raise InputError(f"{path}, line {number}: the count must be a number, got {count!r}")
            if word in counts:
                raise InputError(f"{path}, line {number}: duplicate word {word!r}")
            counts[word] = int(count or 0)
        if not counts:
            raise InputError(f"{path}: the vocabulary is empty")
        words = [*SPECIALS, *(word for word in counts if word not in SPECIALS)]
        return cls(words, [counts.get(word, 0) for word in words])

    def to_bytes(self) -> bytes:
        """Return the content of the file, ``word<TAB>count`` lines."""
        return "".join(f"{word}\t{count}\n" for word, count in zip(self.words, self.counts, strict=True)).encode()

    def with_counts(self, counts: WordCounts, *, n_sentences: int) -> Vocabulary:
        """Return the same words in the same order, with the counts of another text."""
        new = [0] * len(self)
        for word, count in counts:
            new[self.id(word)] += count
        new[BEGIN_SENTENCE_ID] = new[END_SENTENCE_ID] = n_sentences
        return Vocabulary(self.words, new)

    def __len__(self) -> int:
        return len(self.words)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self):,} words: {', '.join(self.words[:8])}{', ...' * (len(self) > 8)})"

    def id(self, word: str) -> int:
        """Return the id of a word of a text; unknown words, and text that spells a special, are ``<UNK>``."""
        index = self._ids.get(word, UNKNOWN_ID)
        return index if index >= len(SPECIALS) else UNKNOWN_ID

    def ids(self, words: Iterable[str]) -> list[int]:
        """Return the id of each word."""
        return [self.id(word) for word in words]
