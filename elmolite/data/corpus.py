"""A tokenised corpus on disk, memory-mapped.

The folder holds, besides ``vocab.txt``, ``tokenizer.json`` and, for Unicode characters, ``characters.json``:

=====================  ======================================================================================
``corpus.json``        counts, and the size and checksum of every other file, of an ``.npy`` file also those
                       of its blocks, which are checked when they are first read; written last
``words.txt``          the distinct word forms; form i + 2 is line i (0 is ``<S>``, 1 is ``</S>``)
``characters.npy``     their character ids, (number of forms, 50)
``vocab_ids.npy``      their ids in the softmax vocabulary, (number of forms)
``*.tokens.npy``       ``train`` and ``valid``: the forms of all sentences on end, ``<S>`` in front of each
``*.sentences.npy``    where each sentence begins in the tokens, and the end
``*.documents.npy``    which sentence each document begins with, and the end
=====================  ======================================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmolite.data.checked_array import CheckedArray
from elmolite.data.indexers import N_BYTE_IDS, CharacterIndexer, TokenIndexer, WordIndexer, load_indexer
from elmolite.data.tokenization import FILE_NAME as TOKENIZER_FILE
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import SPECIALS, VOCAB_FILE, Vocabulary
from elmolite.errors import InputError
from elmolite.nn import MAX_CHARACTERS
from elmolite.utils import files, folders

FORMAT_VERSION = 3
"""3 since the ``.npy`` files have checksums of their blocks, and ``corpus.json`` one of its own."""
SUMMARY_FILE = "corpus.json"
WORDS_FILE = "words.txt"


@dataclass
class Split:
    """Sentences on end, of the training or of the held-out text."""

    tokens: NDArray[np.uint32] | CheckedArray  # (number of positions): word forms
    sentences: NDArray[np.int64] | CheckedArray  # (n_sentences + 1): offsets in tokens
    documents: NDArray[np.int64] | CheckedArray  # (n_documents + 1): offsets in sentences

    @property
    def n_sentences(self) -> int:
        """Number of sentences."""
        return len(self.sentences) - 1

    @property
    def n_documents(self) -> int:
        """Number of documents."""
        return len(self.documents) - 1

    @property
    def n_tokens(self) -> int:
        """Number of tokens, sentence marks not counted."""
        return len(self.tokens) - self.n_sentences

    def first_sentences(self, max_tokens: int) -> Split:
        """Return as many whole sentences from the start as have at most ``max_tokens`` tokens, at least one."""
        tokens_before = np.asarray(self.sentences) - np.arange(len(self.sentences))
        n = max(1, int(np.searchsorted(tokens_before, max_tokens, side="right")) - 1)
        documents = np.asarray(self.documents)
        return Split(self.tokens[: self.sentences[n]], self.sentences[: n + 1], np.append(documents[documents < n], n))


class Corpus:
    """A corpus folder that :func:`elmolite.data.prepare.prepare` made."""

    def __init__(self, folder: Path, summary: dict[str, Any]) -> None:
        self.folder = folder
        self.summary = summary
        if missing := {VOCAB_FILE, TOKENIZER_FILE, WORDS_FILE} - summary["files"].keys():
            raise InputError(f"{folder / SUMMARY_FILE}: 'files' must name {min(missing)}")
        self.vocabulary = Vocabulary.load(folder / VOCAB_FILE)
        self.tokenizer = SentenceTokenizer.load(folder / TOKENIZER_FILE)
        characters = load_indexer(folder, kind=summary.get("indexer"), names=summary["files"])
        if not isinstance(characters, CharacterIndexer):
            raise InputError(f"{folder / SUMMARY_FILE}: a corpus cannot have an indexer of kind {characters.kind!r}")
        self.characters = characters
        self._character_rows = self._array("characters", n_dims=2)
        self.vocab_ids = self._array("vocab_ids")
        if self._character_rows.shape != (len(self.vocab_ids), MAX_CHARACTERS):
            raise InputError(f"{folder}: characters.npy and vocab_ids.npy are not of the same word forms")
        self.train = self._split("train")
        self.valid = self._split("valid")

    @classmethod
    def open(cls, folder: str | Path) -> Corpus:
        """Open a corpus; where sentences begin is read and checked, of what is larger only the heading.

        What reads from it raises an :class:`InputError` where it comes upon a damaged block, or an id that is none.

        :raises InputError: the folder is not a whole corpus, a file is damaged, or files do not fit each other; the
            message names the file.
        """
        folder = folders.resolve_committed(Path(folder))
        return cls(folder, folders.open_folder(folder, SUMMARY_FILE, kind="corpus", version=FORMAT_VERSION))

    def indexer(self, model_input: str) -> TokenIndexer:
        """Return how a model with this ``input`` ("characters" or "words") reads tokens."""
        return WordIndexer(self.vocabulary) if model_input == "words" else self.characters

    def rows(self, forms: NDArray[Any] | slice, model_input: str) -> NDArray[np.int32]:
        """Return word forms as a model with this ``input`` reads them, (number of forms, width).

        :raises InputError: there is no such form, or it has ids that there are not.
        """
        with self._explaining():
            rows = self.vocab_ids[forms][:, None] if model_input == "words" else self._character_rows[forms]
        return self._checked(rows, self.indexer(model_input).n_ids).astype(np.int32)

    def targets(self, forms: NDArray[Any]) -> NDArray[np.int32]:
        """Return the ids of word forms in the vocabulary.

        :raises InputError: there is no such form, or it has an id that there is not.
        """
        with self._explaining():
            return self._checked(self.vocab_ids[forms], len(self.vocabulary))

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Make of an index that is none an error that says whose it is."""
        try:
            yield
        except IndexError:
            raise InputError(f"{self.folder}: the text has word forms that {WORDS_FILE} has not") from None

    def _checked(self, ids: NDArray[Any], n_ids: int) -> NDArray[Any]:
        if ids.size and not (ids.min() >= 0 and ids.max() < n_ids):
            raise InputError(f"{self.folder}: word forms have ids that are not of 0 to {n_ids - 1:,}")
        return ids

    def fingerprint(self) -> str:
        """Return what tells this corpus from any other: a hash over the checksums of its files."""
        return hashlib.sha256(files.json_bytes(self.summary["files"])).hexdigest()

    def words(self) -> list[str]:
        """Return the word forms, ``<S>`` and ``</S>`` first, so that the index is the form.

        :raises InputError: there are others than those whose ids the corpus has.
        """
        path = self.folder / WORDS_FILE
        try:
            words = ["<S>", "</S>", *path.read_text(encoding="utf-8").split("\n")[:-1]]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read: {error}") from None
        if len(words) != len(self.vocab_ids):
            raise InputError(f"{path}: {len(words) - 2:,} word forms where {len(self.vocab_ids) - 2:,} have ids")
        return words

    def sentences(self, split: Split, max_sentences: int) -> list[list[str]]:
        """Return the tokens of the first sentences of a split.

        :raises InputError: there are word forms that are none.
        """
        words = self.words()
        bounds = split.sentences[: max_sentences + 1]
        with self._explaining():
            return [[words[form] for form in split.tokens[begin + 1 : end]] for begin, end in pairwise(bounds)]

    def describe(self) -> str:
        """Return the counts, for a person.

        :raises InputError: the summary has not all of them.
        """
        try:
            return self._described()
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.folder / SUMMARY_FILE}: its counts are not all there: {error!r}") from None

    def _described(self) -> str:
        summary, train, valid = self.summary, self.summary["train"], self.summary["valid"]
        lines = [
            f"corpus      {self.folder}",
            f"training    {_counts(train)}",
            f"held out    {_counts(valid)}",
            f"vocabulary  {summary['vocabulary_size']:,} words of the softmax; "
            f"{summary['word_forms']:,} word forms with characters",
            f"characters  {self._describe_characters()}; words longer than {MAX_CHARACTERS - 2} are cut: "
            f"of bytes {summary['cut_share']['bytes']:.2%} of the tokens, of Unicode characters "
            f"{summary['cut_share']['unicode']:.2%}",
        ]
        if not valid["tokens"]:
            lines.append("warning     there is no held-out text: training will not be validated (see --valid)")
        if summary["vocabulary_size"] == len(SPECIALS):
            lines.append("warning     no word is frequent enough for the vocabulary (see --min-count)")
        return "\n".join(lines)

    def _describe_characters(self) -> str:
        n_characters = self.characters.n_ids - N_BYTE_IDS - 1
        return f"{n_characters:,} {self.characters.reads}" if n_characters > 0 else self.characters.reads

    def _array(self, name: str, *, n_dims: int = 1) -> CheckedArray:
        name = f"{name}.npy"
        if name not in self.summary["files"]:
            raise InputError(f"{self.folder / SUMMARY_FILE}: 'files' must name {name}")
        return CheckedArray(self.folder / name, self.summary["files"][name], kinds="iu", n_dims=n_dims)

    def _split(self, name: str) -> Split:
        tokens, sentences, documents = (self._array(f"{name}.{part}") for part in ("tokens", "sentences", "documents"))
        for begins, end in ((sentences, len(tokens)), (documents, len(sentences) - 1)):
            offsets = begins[:]
            if not len(offsets) or offsets[0] != 0 or offsets[-1] != end or (offsets[1:] < offsets[:-1]).any():
                raise InputError(f"{begins.path}: must begin with 0, never fall and end with {end:,}")
        return Split(tokens, sentences, documents)


def _counts(part: dict[str, Any]) -> str:
    return (
        f"{part['tokens']:,} tokens, {part['sentences']:,} sentences, {part['documents']:,} documents, "
        f"{part['unknown_share']:.2%} outside the vocabulary"
    )
