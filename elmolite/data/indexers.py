"""Token -> the row of ids that a model reads: its bytes, its Unicode characters, or the word itself.

This is the only owner of the special ids. The default is bilm-tf's and AllenNLP's: a token is its UTF-8 bytes between
a begin and an end mark, padded to 50 ids. Ids are shifted by one so that 0 is left for a padded token: 1..256 are
bytes, 257..261 the marks below, 262 ids in all. Unicode characters keep those marks and follow them: 262 is any
character that the training text hardly had, the others come after it, most frequent first.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elmolite.data.vocab import BEGIN_SENTENCE_ID, END_SENTENCE_ID, UNKNOWN_ID, Vocabulary, WordCounts
from elmolite.errors import InputError
from elmolite.nn import MAX_CHARACTERS
from elmolite.utils import files

N_BYTE_IDS = 262
"""Number of ids where tokens are bytes, the 0 of a padded token included."""

_BEGIN_SENTENCE, _END_SENTENCE, _BEGIN_WORD, _END_WORD, PADDING = (i + 1 for i in (256, 257, 258, 259, 260))
_UNKNOWN_CHARACTER = N_BYTE_IDS

CHARACTERS_FILE = "characters.json"
"""In a corpus or model folder: the characters, where they are not bytes."""


class TokenIndexer(ABC):
    """How tokens become rows of ids.

    ``n_ids`` is the number of different ids, ``width`` the ids of a row, ``padding`` the one that fills rows up,
    ``unknown_id`` that of what has no id of its own, and ``reads`` what the ids stand for, in words. Where
    ``n_word_ids`` is not 0, a row begins with one of so many ids of words, and characters follow.
    """

    reads: str
    n_ids: int
    unknown_id: int
    n_word_ids: int = 0
    width: int = MAX_CHARACTERS
    padding: int = PADDING

    @abstractmethod
    def rows(self, tokens: Sequence[str]) -> NDArray[np.int32]:
        """Encode tokens, each on its own, as (number of tokens, width)."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return what each id stands for, so that two indexers can be compared."""

    def sizes(self) -> dict[str, int]:
        """Return the keyword arguments with which a :class:`~elmolite.nn.bilm.BiLM` reads these ids."""
        return {"n_ids": self.n_ids, "n_word_ids": self.n_word_ids, "padding": self.padding}

    @abstractmethod
    def sentence_marks(self) -> NDArray[np.int32]:
        """Return the rows of ``<S>`` and ``</S>``, (2, width)."""

    def trim(self, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """Drop the columns that are padding in every row of (U, C); a view."""
        used = (rows != self.padding).any(axis=0)
        return rows[:, : int(used.sum())]


class CharacterIndexer(TokenIndexer):
    """What bytes and Unicode characters share: a word between its marks."""

    @abstractmethod
    def symbols(self, token: str) -> NDArray[np.int32]:
        """Return the ids of all symbols of a token, without marks."""

    @staticmethod
    @abstractmethod
    def length(token: str) -> int:
        """Return the number of symbols of a token."""

    def rows(self, tokens: Sequence[str]) -> NDArray[np.int32]:
        """Encode tokens; the marks surround the first 48 symbols."""
        rows = np.full((len(tokens), MAX_CHARACTERS), PADDING, dtype=np.int32)
        rows[:, 0] = _BEGIN_WORD
        for row, token in zip(rows, tokens, strict=True):
            symbols = self.symbols(token)[: MAX_CHARACTERS - 2]
            row[1 : len(symbols) + 1] = symbols
            row[len(symbols) + 1] = _END_WORD
        return rows

    def sentence_marks(self) -> NDArray[np.int32]:
        """Return the marks as words of one symbol that no text can spell."""
        rows = np.full((2, MAX_CHARACTERS), PADDING, dtype=np.int32)
        rows[:, 0] = _BEGIN_WORD
        rows[:, 1] = _BEGIN_SENTENCE, _END_SENTENCE
        rows[:, 2] = _END_WORD
        return rows

    def is_cut(self, token: str) -> bool:
        """Tell whether a token has more symbols than are encoded."""
        return self.length(token) > MAX_CHARACTERS - 2


class ByteIndexer(CharacterIndexer):
    """UTF-8 bytes; lone surrogates, which UTF-8 has no bytes for, are dropped as AllenNLP does."""

    reads = "bytes"
    n_ids = N_BYTE_IDS
    unknown_id = 0  # there is no unknown byte

    def names(self) -> list[str]:
        """Return the ids themselves."""
        return _mark_names(self.n_ids)

    def symbols(self, token: str) -> NDArray[np.int32]:
        """Return the bytes plus 1."""
        return np.frombuffer(token.encode("utf-8", "ignore"), dtype=np.uint8).astype(np.int32) + 1

    @staticmethod
    def length(token: str) -> int:
        """Count the bytes."""
        return len(token.encode("utf-8", "ignore"))


class UnicodeIndexer(CharacterIndexer):
    """The Unicode characters of a corpus: in scripts of two or three bytes a character, words are cut later."""

    reads = "Unicode characters"
    unknown_id = _UNKNOWN_CHARACTER

    def __init__(self, characters: Sequence[str]) -> None:
        """:param characters: those that have an id, most frequent first."""
        self.characters = list(characters)
        self.n_ids = _UNKNOWN_CHARACTER + 1 + len(self.characters)
        self._ids = {character: _UNKNOWN_CHARACTER + 1 + i for i, character in enumerate(self.characters)}

    @classmethod
    def from_counts(cls, counts: WordCounts, *, min_count: int) -> UnicodeIndexer:
        """Take the characters of word forms.

        :param counts: how often each word form stands in the text.
        :param min_count: rarer characters share the id of the unknown one.
        """
        characters: Counter[str] = Counter()
        for word, count in counts:
            for character in word:
                characters[character] += count
        kept = [character for character in characters if characters[character] >= min_count]
        return cls(sorted(kept, key=lambda character: (-characters[character], character)))

    @classmethod
    def load(cls, path: Path) -> UnicodeIndexer:
        """Read the file that :meth:`to_bytes` made.

        :raises InputError: it is not one.
        """
        characters = files.read_json(path, kind="model").get("characters")
        if not isinstance(characters, str) or len(set(characters)) != len(characters):
            raise InputError(f"{path}: 'characters' must be a string in which no character stands twice")
        return cls(list(characters))

    def to_bytes(self) -> bytes:
        """Serialise as JSON, the characters as one string."""
        return json.dumps({"characters": "".join(self.characters)}).encode()

    def names(self) -> list[str]:
        """Return the characters behind the marks."""
        return [*_mark_names(_UNKNOWN_CHARACTER + 1), *self.characters]

    def symbols(self, token: str) -> NDArray[np.int32]:
        """Return the id of each character."""
        return np.array([self._ids.get(character, _UNKNOWN_CHARACTER) for character in token], np.int32)

    @staticmethod
    def length(token: str) -> int:
        """Count the characters."""
        return len(token)


class WordIndexer(TokenIndexer):
    """The id of the word in a vocabulary; words outside it are ``<UNK>``."""

    reads = "words"
    unknown_id = UNKNOWN_ID
    width = 1
    padding = BEGIN_SENTENCE_ID  # any id does: what is padded is never looked at

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.n_ids = len(vocabulary)

    def names(self) -> list[str]:
        """Return the words."""
        return self.vocabulary.words

    def rows(self, tokens: Sequence[str]) -> NDArray[np.int32]:
        """Encode tokens as rows of one id."""
        return np.array(self.vocabulary.ids(tokens), np.int32).reshape(-1, 1)

    def sentence_marks(self) -> NDArray[np.int32]:
        """Return the ids of the marks."""
        return np.array([[BEGIN_SENTENCE_ID], [END_SENTENCE_ID]], np.int32)

    def trim(self, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the rows: a word is its one id."""
        return rows


def _mark_names(n: int) -> list[str]:
    """Name ids in a way that no character is named."""
    return [f"id {i}" for i in range(n)]


def load_characters(folder: Path, names: Container[str]) -> CharacterIndexer:
    """Return the characters of a corpus or model folder: bytes, unless there is a file of them among its ``names``."""
    return UnicodeIndexer.load(folder / CHARACTERS_FILE) if CHARACTERS_FILE in names else ByteIndexer()
