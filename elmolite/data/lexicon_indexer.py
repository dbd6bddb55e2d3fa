"""Token -> ids of ELMoForManyLangs: of the word, in a list of words, and of its Unicode characters, in another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmolite.data.indexers import TokenIndexer
from elmolite.errors import InputError
from elmolite.nn import MAX_CHARACTERS
from elmolite.utils import files

LEXICON_FILE = "lexicon.json"
"""In a model folder: both lists."""
_MAX_BYTES = 1 << 26
"""Of that file: more than a million words."""

BEGIN_SENTENCE, END_SENTENCE, UNKNOWN, PADDING = "<bos>", "<eos>", "<oov>", "<pad>"
_BEGIN_WORD, _END_WORD = "<eow>", "<bow>"
"""They are swapped, as in the published models: in training and since."""
_MAX_IDS = 1 << 28
_MARKS = (BEGIN_SENTENCE, END_SENTENCE, UNKNOWN, PADDING, _BEGIN_WORD, _END_WORD)


class LexiconIndexer(TokenIndexer):
    """Ids of a word and of its characters; both lists hold marks among the rest."""

    reads = "words and Unicode characters"

    def __init__(self, characters: Mapping[str, int], words: Mapping[str, int] | None) -> None:
        """Take both lists.

        :param characters: the id of each character.
        :param words: the id of each word; ``None`` for a model that reads characters alone.
        :raises InputError: an id is negative, or a mark is missing.
        """
        for name, marks, ids in (
            ("characters", _MARKS, characters),
            ("words", (BEGIN_SENTENCE, END_SENTENCE, UNKNOWN), words),
        ):
            if ids is None:
                continue
            if min(ids.values(), default=0) < 0:
                raise InputError(f"a negative id is among the {name}")
            if max(ids.values(), default=0) >= _MAX_IDS:
                raise InputError(f"an id of {_MAX_IDS:,} or more is among the {name}")
            missing = [mark for mark in marks if mark not in ids]
            if missing:
                raise InputError(f"{missing[0]} is missing among the {name}")
        self.characters = dict(characters)
        self.words = None if words is None else dict(words)
        self.n_ids = 1 + max(self.characters.values())
        self.n_word_ids = 1 + max((self.words or {}).values(), default=-1)
        self.width = MAX_CHARACTERS + (self.words is not None)
        self.padding = self.characters[PADDING]
        self.unknown_id = self.characters[UNKNOWN]

    def names(self) -> list[str]:
        """Return characters and words with their ids, in the order of those."""
        lists = (self.characters, self.words or {})
        return [f"{name} {ids[name]}" for ids in lists for name in sorted(ids, key=ids.__getitem__)]

    def rows(self, tokens: Sequence[str]) -> NDArray[np.int32]:
        """Encode tokens; of each the first 48 characters count, for the word too."""
        rows = np.full((len(tokens), self.width), self.padding, dtype=np.int32)
        for row, token in zip(rows, tokens, strict=True):
            cut = token[: MAX_CHARACTERS - 2]
            if self.words is not None:
                row[0] = self.words.get(cut, self.words[UNKNOWN])
            is_mark = cut in (BEGIN_SENTENCE, END_SENTENCE)
            symbols = [self.characters.get(each, self.unknown_id) for each in ([cut] if is_mark else cut)]
            at = int(self.words is not None)
            row[at : at + len(symbols) + 2] = [self.characters[_BEGIN_WORD], *symbols, self.characters[_END_WORD]]
        return rows

    def sentence_marks(self) -> NDArray[np.int32]:
        """Return the rows of the marks, which are words of one symbol."""
        return self.rows([BEGIN_SENTENCE, END_SENTENCE])

    def trim(self, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """Drop the columns of characters that are padding in every row; a view."""
        at = int(self.words is not None)
        return rows[:, : at + int((rows[:, at:] != self.padding).any(axis=0).sum())]

    def to_bytes(self) -> bytes:
        """Serialise as JSON."""
        return json.dumps({"characters": self.characters, "words": self.words}, ensure_ascii=False).encode()

    @classmethod
    def load(cls, path: Path) -> LexiconIndexer:
        """Read the file that :meth:`to_bytes` made.

        :raises InputError: it is not one.
        """
        content = files.read_json(path, kind="model", max_bytes=_MAX_BYTES)
        characters: Any = content.get("characters")
        words: Any = content.get("words")
        for ids in (characters, words):
            if ids is not None and not (isinstance(ids, dict) and all(type(each) is int for each in ids.values())):
                raise InputError(f"{path}: 'characters' and 'words' must be objects of ids")
        try:
            return cls(characters, words)
        except (InputError, AttributeError, TypeError) as error:
            raise InputError(f"{path}: {error}") from None
