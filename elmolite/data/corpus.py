"""Tokenized corpus on disk, memory-mapped.

The folder contains, besides ``vocab.txt``, ``tokenizer.json`` and, for Unicode characters, ``characters.json``:

=====================  ======================================================================================
``corpus.json``        counts, and the size and SHA-256 of every other file; written last
``words.txt``          the distinct word types; type i + 2 is line i (0 is ``<S>``, 1 is ``</S>``)
``characters.npy``     their character ids, (number of types, 50)
``vocab_ids.npy``      their ids in the softmax vocabulary, (number of types)
``*.tokens.npy``       ``train`` and ``valid``: the word types of all sentences, ``<S>`` before each
``*.sentences.npy``    the offset of each sentence in the tokens, and the end
``*.documents.npy``    the first sentence of each document, and the end
=====================  ======================================================================================

Opening a corpus verifies the sizes of the arrays, :meth:`Corpus.verify` the checksums of all files.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmolite.data import SUMMARY_FILE as SUMMARY_FILE
from elmolite.data.indexers import CharacterIndexer, TokenIndexer, WordIndexer, load_indexer
from elmolite.data.tokenization import FILE_NAME as TOKENIZER_FILE, SentenceTokenizer
from elmolite.data.vocab import SPECIALS, VOCAB_FILE, Vocabulary
from elmolite.errors import InputError
from elmolite.nn import MAX_CHARACTERS, N_BYTE_IDS
from elmolite.utils import files, folders
from elmolite.utils.console import ProgressBar, html_table, n_of

FORMAT_VERSION = 3
"""Version 0.1 of elmolite also wrote checksums of the blocks of arrays, which are ignored."""
WORDS_FILE = "words.txt"


@dataclass
class Split:
    """The sentences of the training or validation text."""

    tokens: NDArray[np.uint32]  # (number of positions): word types
    sentences: NDArray[np.int64]  # (n_sentences + 1): offsets in tokens
    documents: NDArray[np.int64]  # (n_documents + 1): offsets in sentences
    source: tuple[Path, str] | None = None  # the corpus folder and the name, of a whole split

    @classmethod
    def open(cls, folder: Path, name: str) -> Split:
        """Map the arrays of a split."""
        tokens, sentences, documents = (
            files.map_array(folder / f"{name}.{part}.npy") for part in ("tokens", "sentences", "documents")
        )
        return cls(tokens, sentences, documents, (folder, name))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle a whole split without its arrays, which another process maps again."""
        if self.source is not None:
            return Split.open, self.source
        return Split, (self.tokens, self.sentences, self.documents)

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
        """Number of tokens, without sentence marks."""
        return len(self.tokens) - self.n_sentences

    def first_sentences(self, max_tokens: int) -> Split:
        """Return the first whole sentences, at least one, of up to ``max_tokens`` tokens."""
        tokens_before = self.sentences - np.arange(len(self.sentences))
        n = max(1, int(np.searchsorted(tokens_before, max_tokens, side="right")) - 1)
        documents = np.append(self.documents[self.documents < n], n)
        return Split(self.tokens[: self.sentences[n]], self.sentences[: n + 1], documents)


class Corpus:
    """A corpus folder written by :func:`elmolite.data.prepare.prepare`.

    >>> corpus = Corpus.open("corpus")
    >>> corpus
    Corpus('corpus', 273 training and 7 validation tokens, 10 words)
    >>> corpus.sentences(corpus.train, max_sentences=1)
    [['The', 'children', 'play', 'in', 'the', 'garden', '.']]
    """

    def __init__(self, folder: Path, summary: dict[str, Any]) -> None:
        self.folder = folder
        self.summary = summary
        self.vocabulary = Vocabulary.load(folder / VOCAB_FILE)
        self.tokenizer = SentenceTokenizer.load(folder / TOKENIZER_FILE)
        characters = load_indexer(folder, kind=summary.get("indexer"), names=summary["files"])
        assert isinstance(characters, CharacterIndexer)
        self.characters = characters
        self._character_rows = files.map_array(folder / "characters.npy")
        self.vocab_ids = files.map_array(folder / "vocab_ids.npy")
        self.train = Split.open(folder, "train")
        self.valid = Split.open(folder, "valid")

    def __reduce__(self) -> tuple[Any, ...]:
        return Corpus.open, (self.folder,)

    def __repr__(self) -> str:
        counts = f"{self.train.n_tokens:,} training and {self.valid.n_tokens:,} validation tokens"
        return f"Corpus({str(self.folder)!r}, {counts}, {len(self.vocabulary):,} words)"

    def _repr_html_(self) -> str:
        rows = [["", "tokens", "sentences", "documents", "out of vocabulary"]]
        for name, part in (("training", self.summary["train"]), ("validation", self.summary["valid"])):
            counts = [f"{part[key]:,}" for key in ("tokens", "sentences", "documents")]
            rows.append([name, *counts, f"{part['unknown_share']:.2%}"])
        return html_table(rows)

    @classmethod
    def open(cls, folder: str | Path) -> Corpus:
        """Open a corpus; arrays are memory-mapped, and only their sizes are verified.

        :raises InputError: the folder is incomplete, or a file is damaged.
        """
        folder = folders.resolve_committed(Path(folder))
        summary = folders.open_folder(
            folder, SUMMARY_FILE, kind="corpus", version=FORMAT_VERSION, unhashed_suffix=".npy"
        )
        return cls(folder, summary)

    def verify(self, *, show_progress: bool | None = None) -> None:
        """Verify the checksums of all files, which reads them whole.

        :param show_progress: show a progress bar; by default if it takes more than five seconds.
        :raises InputError: a file is missing or damaged; the message names it.
        """
        entries = self.summary["files"]
        n_bytes = sum(entry["bytes"] for entry in entries.values())
        with ProgressBar("verifying", unit="bytes", total=n_bytes, show=show_progress) as bar:
            for name, entry in entries.items():
                files.check_file(self.folder / name, entry)
                bar.update(entry["bytes"])

    def indexer(self, model_input: str) -> TokenIndexer:
        """Return the indexer of a model with this ``input``, "characters" or "words"."""
        return WordIndexer(self.vocabulary) if model_input == "words" else self.characters

    def rows(self, types: NDArray[Any] | slice, model_input: str) -> NDArray[np.int32]:
        """Return the rows of ids of word types, (number of types, width), for a model with this ``input``."""
        rows = self.vocab_ids[types][:, None] if model_input == "words" else self._character_rows[types]
        return rows.astype(np.int32)

    def targets(self, types: NDArray[Any]) -> NDArray[Any]:
        """Return the ids of word types in the vocabulary."""
        return np.asarray(self.vocab_ids[types])

    def fingerprint(self) -> str:
        """Return a hash over the checksums of all files, which identifies the corpus."""
        return hashlib.sha256(files.json_bytes(self.summary["files"])).hexdigest()

    def words(self) -> list[str]:
        """Return the word types, ``<S>`` and ``</S>`` first, in the order of their numbers."""
        path = self.folder / WORDS_FILE
        try:
            return ["<S>", "</S>", *path.read_text(encoding="utf-8").split("\n")[:-1]]
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: cannot be read: {error}") from None

    def sentences(self, split: Split, max_sentences: int) -> list[list[str]]:
        """Return the tokens of the first sentences of a split."""
        words = self.words()
        bounds = split.sentences[: max_sentences + 1]
        return [[words[each] for each in split.tokens[begin + 1 : end]] for begin, end in pairwise(bounds)]

    def describe(self) -> str:
        """Return the counts as text."""
        summary, train, valid = self.summary, self.summary["train"], self.summary["valid"]
        characters = self.characters.reads
        if (n_characters := self.characters.n_ids - N_BYTE_IDS - 1) > 0:
            characters = f"{n_characters:,} {characters}"
        lines = [
            f"corpus      {self.folder}",
            f"training    {_counts(train)}",
            f"validation  {_counts(valid)}",
            f"vocabulary  {n_of(summary['vocabulary_size'], 'word')} of the softmax, of "
            f"{n_of(summary['word_forms'], 'word type')}",
            f"characters  {characters}; the first {MAX_CHARACTERS - 2} of a word are read: this cuts "
            f"{summary['cut_share']['bytes']:.2%} of the tokens as bytes, {summary['cut_share']['unicode']:.2%} as "
            "Unicode characters",
        ]
        if not valid["tokens"]:
            lines.append("warning     no validation text: training will not be validated")
        if summary["vocabulary_size"] == len(SPECIALS):
            lines.append("warning     no word is frequent enough for the vocabulary: lower its minimum count")
        return "\n".join(lines)


def _counts(part: dict[str, Any]) -> str:
    return (
        f"{', '.join(n_of(part[f'{noun}s'], noun) for noun in ('token', 'sentence', 'document'))}, "
        f"out-of-vocabulary rate {part['unknown_share']:.2%}"
    )
