"""Token indexers: map a token to the row of ids that a model reads.

A token is read as its UTF-8 bytes, its Unicode characters, its id in the vocabulary, or as ELMoForManyLangs reads it.
:data:`INDEXERS` lists the kinds; a new input scheme is a subclass of :class:`TokenIndexer` and an entry there.

Bytes are encoded as by bilm-tf and AllenNLP: the UTF-8 bytes of a token between a begin and an end mark, padded to 50
ids. Ids are shifted by one so that 0 stays free for padding tokens: 1 to 256 are bytes, 257 to 261 the marks below, 262
ids in all. Unicode characters keep those marks: 262 is the unknown character, the known ones follow, most frequent
first.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from elmolite.data.vocab import (
    BEGIN_SENTENCE_ID,
    END_SENTENCE_ID,
    UNKNOWN_ID,
    VOCAB_FILE,
    Vocabulary,
    WordCounts,
)
from elmolite.errors import InputError, error_prefix
from elmolite.nn import MAX_CHARACTERS, N_BYTE_IDS, PADDING
from elmolite.utils import files

MIN_CHARACTER_COUNT = 5
"""Default minimum count of a Unicode character."""

_BEGIN_SENTENCE, _END_SENTENCE, _BEGIN_WORD, _END_WORD = (i + 1 for i in (256, 257, 258, 259))
_UNKNOWN_CHARACTER = N_BYTE_IDS


class TokenIndexer(ABC):
    """Encodes tokens as rows of ids.

    :cvar kind: the key in :data:`INDEXERS`.
    :cvar file: the file that only folders of this kind contain, if there is one.
    :ivar reads: the symbols that have ids, in words.
    :ivar n_ids: number of distinct ids.
    :ivar unknown_id: the id of symbols without an id of their own.
    :ivar n_word_ids: if not 0, a row begins with an id of the word, below this number, and characters follow.
    :ivar n_word_columns: number of columns at the start of a row that are ids of words.
    :ivar width: number of ids in a row.
    :ivar padding: the id that fills up rows.
    """

    kind: ClassVar[str]
    file: ClassVar[str | None] = None
    reads: str
    n_ids: int
    unknown_id: int
    n_word_ids: int = 0
    n_word_columns: int = 0
    width: int = MAX_CHARACTERS
    padding: int = PADDING

    @abstractmethod
    def rows(self, tokens: Sequence[str]) -> NDArray[np.int32]:
        """Encode tokens, each independently, as (number of tokens, width)."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return the symbol of each id, for comparing two indexers."""

    def sizes(self) -> dict[str, int]:
        """Return the keyword arguments with which a :class:`~elmolite.nn.bilm.BiLM` reads these ids."""
        return {"n_ids": self.n_ids, "n_word_ids": self.n_word_ids, "padding": self.padding}

    @abstractmethod
    def sentence_marks(self) -> NDArray[np.int32]:
        """Return the rows of ``<S>`` and ``</S>``, (2, width)."""

    def save(self, folder: Path) -> None:  # noqa: B027 (an indexer may have no files)
        """Write the files of the indexer, if it has any, to a model or corpus folder."""

    @classmethod
    def load(cls, folder: Path, vocabulary: Vocabulary | None) -> TokenIndexer:  # noqa: ARG003
        """Read the files that :meth:`save` wrote.

        :param vocabulary: the vocabulary of the model or corpus.
        """
        return cls()

    def for_corpus(self) -> CharacterIndexer:
        """Return the indexer for the character table of a corpus for such a model."""
        return ByteIndexer()

    def trim(self, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return a view of (U, C) without the character columns that are padding in every row."""
        used = (rows[:, self.n_word_columns :] != self.padding).any(axis=0)
        return rows[:, : self.n_word_columns + int(used.sum())]


class CharacterIndexer(TokenIndexer):
    """Base of the indexers that encode a token as its symbols between a begin and an end mark."""

    @classmethod
    def from_counts(cls, counts: WordCounts, *, min_count: int | None) -> CharacterIndexer:  # noqa: ARG003
        """Choose the symbols of a corpus.

        :param counts: the word types of the training text with their counts.
        :param min_count: rarer characters share the id of the unknown character; ``None`` for the default.
        """
        return cls()

    @abstractmethod
    def symbols(self, tokens: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the ids of all symbols of all tokens, without marks, and their number in each token."""

    def for_corpus(self) -> CharacterIndexer:
        """Return the indexer itself."""
        return self

    def rows(self, tokens: Sequence[str]) -> NDArray[np.int32]:
        """Encode the first 48 symbols of each token between the marks."""
        rows = np.full((len(tokens), MAX_CHARACTERS), PADDING, dtype=np.int32)
        rows[:, 0] = _BEGIN_WORD
        symbols, lengths = self.symbols(tokens)
        columns = np.arange(len(symbols)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        is_read = columns < MAX_CHARACTERS - 2
        rows[np.repeat(np.arange(len(tokens)), lengths)[is_read], columns[is_read] + 1] = symbols[is_read]
        rows[np.arange(len(tokens)), np.minimum(lengths, MAX_CHARACTERS - 2) + 1] = _END_WORD
        return rows

    def sentence_marks(self) -> NDArray[np.int32]:
        """Return the marks as words of one symbol that no text can spell."""
        rows = np.full((2, MAX_CHARACTERS), PADDING, dtype=np.int32)
        rows[:, 0] = _BEGIN_WORD
        rows[:, 1] = _BEGIN_SENTENCE, _END_SENTENCE
        rows[:, 2] = _END_WORD
        return rows

    def are_cut(self, tokens: Sequence[str]) -> NDArray[np.bool_]:
        """Tell of each token whether it has more symbols than are encoded."""
        return self.symbols(tokens)[1] > MAX_CHARACTERS - 2


class ByteIndexer(CharacterIndexer):
    """Encodes tokens as UTF-8 bytes; lone surrogates, which UTF-8 cannot encode, are dropped as in AllenNLP."""

    kind = "bytes"
    reads = "bytes"
    n_ids = N_BYTE_IDS
    unknown_id = 0  # no byte is unknown

    def names(self) -> list[str]:
        """Return names of the ids."""
        return [f"id {i}" for i in range(self.n_ids)]

    def symbols(self, tokens: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the bytes plus 1."""
        encoded = [token.encode("utf-8", "ignore") for token in tokens]
        ids = np.frombuffer(b"".join(encoded), dtype=np.uint8).astype(np.int32) + 1
        return ids, np.fromiter(map(len, encoded), np.int64)


class UnicodeIndexer(CharacterIndexer):
    """Encodes tokens as the Unicode characters of a corpus; in scripts of 2 or 3 bytes a character, fewer are cut."""

    kind = "unicode"
    file = "characters.json"
    reads = "Unicode characters"
    unknown_id = _UNKNOWN_CHARACTER

    def __init__(self, characters: Sequence[str]) -> None:
        """:param characters: the characters with an id, most frequent first."""
        self.characters = list(characters)
        self.n_ids = _UNKNOWN_CHARACTER + 1 + len(self.characters)
        self._ids = {character: _UNKNOWN_CHARACTER + 1 + i for i, character in enumerate(self.characters)}

    @classmethod
    def from_counts(cls, counts: WordCounts, *, min_count: int | None) -> UnicodeIndexer:
        """Take the characters of the word types, ordered by frequency, then by code point."""
        least = MIN_CHARACTER_COUNT if min_count is None else min_count
        characters: Counter[str] = Counter()
        for word, count in counts:
            for character in word:
                characters[character] += count
        kept = [character for character in characters if characters[character] >= least]
        return cls(sorted(kept, key=lambda character: (-characters[character], character)))

    def save(self, folder: Path) -> None:
        """Write the characters as one string in a JSON file."""
        files.write_bytes(folder / self.file, json.dumps({"characters": "".join(self.characters)}).encode())

    @classmethod
    def load(cls, folder: Path, vocabulary: Vocabulary | None) -> UnicodeIndexer:  # noqa: ARG003
        """Read the characters."""
        path = folder / cls.file
        characters = files.read_json(path, kind="model").get("characters")
        if not isinstance(characters, str):
            raise InputError(f"{path}: 'characters' must be a string")
        return cls(list(characters))

    def names(self) -> list[str]:
        """Return names of the marks, then the characters."""
        return [*(f"id {i}" for i in range(_UNKNOWN_CHARACTER + 1)), *self.characters]

    def symbols(self, tokens: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the id of each character."""
        ids = [self._ids.get(character, _UNKNOWN_CHARACTER) for character in "".join(tokens)]
        return np.array(ids, np.int32), np.fromiter(map(len, tokens), np.int64)


class WordIndexer(TokenIndexer):
    """Encodes a token as its id in a vocabulary; other words are ``<UNK>``."""

    kind = "words"
    reads = "words"
    unknown_id = UNKNOWN_ID
    n_word_columns = width = 1
    padding = BEGIN_SENTENCE_ID  # any id: padding is masked

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.n_ids = len(vocabulary)

    def save(self, folder: Path) -> None:
        """Write the vocabulary."""
        files.write_bytes(folder / VOCAB_FILE, self.vocabulary.to_bytes())

    @classmethod
    def load(cls, folder: Path, vocabulary: Vocabulary | None) -> WordIndexer:
        """Take the vocabulary of the model."""
        if vocabulary is None:
            raise InputError(f"{folder / VOCAB_FILE} is missing")
        return cls(vocabulary)

    def names(self) -> list[str]:
        """Return the words."""
        return self.vocabulary.words

    def rows(self, tokens: Sequence[str]) -> NDArray[np.int32]:
        """Encode tokens as rows of one id."""
        return np.array(self.vocabulary.ids(tokens), np.int32).reshape(-1, 1)

    def sentence_marks(self) -> NDArray[np.int32]:
        """Return the ids of the marks."""
        return np.array([[BEGIN_SENTENCE_ID], [END_SENTENCE_ID]], np.int32)


class ManyLangsIndexer(TokenIndexer):
    """Encodes tokens as ELMoForManyLangs does: the id of the word, if the model reads words, and of its characters.

    :param characters: the id of each character and mark.
    :param words: the id of each word; ``None`` for a model that reads characters only.
    """

    kind = "manylangs"
    file = "lexicon.json"
    reads = "words and Unicode characters"

    BEGIN_SENTENCE, END_SENTENCE, UNKNOWN, PADDING = "<bos>", "<eos>", "<oov>", "<pad>"
    BEGIN_WORD, END_WORD = "<eow>", "<bow>"
    """Swapped, as in the published models: they were trained so."""

    def __init__(self, characters: Mapping[str, int], words: Mapping[str, int] | None) -> None:
        word_marks = (self.BEGIN_SENTENCE, self.END_SENTENCE, self.UNKNOWN)
        character_marks = (*word_marks, self.PADDING, self.BEGIN_WORD, self.END_WORD)
        for name, marks, ids in (("characters", character_marks, characters), ("words", word_marks, words)):
            missing = next((mark for mark in marks if ids is not None and mark not in ids), None)
            if missing is not None:
                raise InputError(f"{missing} is missing among the {name}")
        self.characters = dict(characters)
        self.words = None if words is None else dict(words)
        self.n_ids = 1 + max(self.characters.values())
        self.n_word_ids = 1 + max((self.words or {}).values(), default=-1)
        self.n_word_columns = int(self.words is not None)
        self.width = MAX_CHARACTERS + self.n_word_columns
        self.padding = self.characters[self.PADDING]
        self.unknown_id = self.characters[self.UNKNOWN]

    def save(self, folder: Path) -> None:
        """Write both lexicons as JSON."""
        content = json.dumps({"characters": self.characters, "words": self.words}, ensure_ascii=False)
        files.write_bytes(folder / self.file, content.encode())

    @classmethod
    def load(cls, folder: Path, vocabulary: Vocabulary | None) -> ManyLangsIndexer:  # noqa: ARG003
        """Read both lexicons."""
        path = folder / cls.file
        content = files.read_json(path, kind="model")
        with error_prefix(str(path)):
            return cls(content["characters"], content["words"])

    def names(self) -> list[str]:
        """Return characters and words with their ids, ordered by id."""
        lists = (self.characters, self.words or {})
        return [f"{name} {ids[name]}" for ids in lists for name in sorted(ids, key=ids.__getitem__)]

    def rows(self, tokens: Sequence[str]) -> NDArray[np.int32]:
        """Encode the first 48 characters of each token, which also decide the word."""
        rows = np.full((len(tokens), self.width), self.padding, dtype=np.int32)
        for row, token in zip(rows, tokens, strict=True):
            cut = token[: MAX_CHARACTERS - 2]
            if self.words is not None:
                row[0] = self.words.get(cut, self.words[self.UNKNOWN])
            is_mark = cut in (self.BEGIN_SENTENCE, self.END_SENTENCE)
            symbols = [self.characters.get(each, self.unknown_id) for each in ([cut] if is_mark else cut)]
            symbols = [self.characters[self.BEGIN_WORD], *symbols, self.characters[self.END_WORD]]
            row[self.n_word_columns : self.n_word_columns + len(symbols)] = symbols
        return rows

    def sentence_marks(self) -> NDArray[np.int32]:
        """Return the rows of the marks, which are words of one symbol."""
        return self.rows([self.BEGIN_SENTENCE, self.END_SENTENCE])


INDEXERS: dict[str, type[TokenIndexer]] = {
    cls.kind: cls for cls in (ByteIndexer, UnicodeIndexer, WordIndexer, ManyLangsIndexer)
}


def load_indexer(
    folder: Path, *, kind: str | None, names: Container[str], vocabulary: Vocabulary | None = None
) -> TokenIndexer:
    """Read the indexer of a model or corpus folder.

    :param kind: a key of :data:`INDEXERS`; ``None``, in folders of version 0.1, to recognise it by its file.
    :param names: the files that the manifest of the folder lists.
    """
    if kind is None:
        kind = next((each.kind for each in INDEXERS.values() if each.file is not None and each.file in names), "bytes")
    if kind not in INDEXERS:
        raise InputError(f"{folder}: the kind of indexer must be one of {', '.join(INDEXERS)}, got {kind!r}")
    return INDEXERS[kind].load(folder, vocabulary)
