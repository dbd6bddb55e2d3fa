"""Write a corpus folder: spool sentences to disk, number word types by frequency, write the arrays.

:mod:`elmolite.data.corpus` describes the files. Sentences are spooled with word types numbered in order of appearance
and renumbered at the end, so memory holds the distinct words, never the text: about 130 bytes a word type of
ten letters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from elmolite.data import vocab
from elmolite.data.corpus import FORMAT_VERSION, SUMMARY_FILE, WORDS_FILE, Split
from elmolite.data.indexers import ByteIndexer, CharacterIndexer, UnicodeIndexer
from elmolite.data.tokenization import FILE_NAME as TOKENIZER_FILE, SentenceTokenizer
from elmolite.data.vocab import Vocabulary, WordCounts
from elmolite.utils import files, folders

VALIDATION_EVERY = 100
"""Without validation text, every hundredth document is set aside."""
MAX_VALIDATION_TOKENS = 200_000
"""Maximum number of tokens set aside, sentence marks included."""

_N_RESERVED = 2  # <S> and </S>
_CHUNK = 1 << 20  # numbers
_CHUNK_WORDS = 1 << 16

Items = TypeVar("Items", NDArray[Any], Sequence[str])


class TokenizedDocuments(NamedTuple):
    """Documents as numbers of their distinct words."""

    words: list[str]  # in order of appearance
    ids: NDArray[np.uint32]  # positions in words counted from 1, 0 before each sentence
    document_lengths: NDArray[np.int64]  # in ids
    n_bytes: int


class ArraySpool:
    """A one-dimensional array in a temporary file: appended to, then memory-mapped."""

    def __init__(self, path: Path, dtype: type[np.generic]) -> None:
        self.path = path
        self._dtype = dtype
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, numbers: NDArray[Any]) -> None:
        """Add numbers at the end."""
        with self.path.open("ab") as file:
            file.write(numbers.astype(self._dtype, copy=False).tobytes())
        self._length += len(numbers)

    def array(self) -> NDArray[Any]:
        """Return all numbers, memory-mapped."""
        return np.memmap(self.path, self._dtype, "r") if self._length else np.empty(0, self._dtype)


class SplitSpool:
    """The arrays of a :class:`~elmolite.data.corpus.Split` in temporary files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.tokens = ArraySpool(folder / f"{name}.tokens.spool", np.uint32)
        self.sentences = ArraySpool(folder / f"{name}.sentences.spool", np.int64)
        self.documents = ArraySpool(folder / f"{name}.documents.spool", np.int64)

    @property
    def n_tokens(self) -> int:
        """Number of tokens, without sentence marks."""
        return len(self.tokens) - len(self.sentences)

    def add(self, ids: NDArray[np.uint32], document_lengths: NDArray[np.int64]) -> None:
        """Append documents.

        :param ids: word types, 0 before each sentence.
        :param document_lengths: in ids; documents of length 0 are left out.
        """
        lengths = document_lengths[document_lengths > 0]
        sentences = np.flatnonzero(ids == 0)
        documents = np.searchsorted(sentences, np.cumsum(lengths) - lengths)
        self.documents.append(documents + len(self.sentences))
        self.sentences.append(sentences + len(self.tokens))
        self.tokens.append(ids)

    def finish(self) -> Split:
        """Append the final offsets and return all sentences, memory-mapped."""
        self.documents.append(np.array([len(self.sentences)]))
        self.sentences.append(np.array([len(self.tokens)]))
        return Split(self.tokens.array(), self.sentences.array(), self.documents.array())


def split_tail(split: Split, n_positions: int) -> tuple[Split, Split]:
    """Split off the fewest last sentences with ``n_positions`` together, but never the first sentence."""
    tokens, sentences, documents = split.tokens, split.sentences, split.documents
    cut = max(1, int(np.searchsorted(sentences[:-1], len(tokens) - n_positions, side="right")) - 1)
    start = sentences[cut]
    first = Split(tokens[:start], sentences[: cut + 1], np.append(documents[documents < cut], cut))
    return first, Split(tokens[start:], sentences[cut:] - start, np.union1d(cut, documents[documents >= cut]) - cut)


class CorpusWriter:
    """Collects tokenized documents and writes them as a corpus folder.

    Call :meth:`add` and :meth:`add_validation`, then :meth:`sort_words`, then :meth:`finish`.

    :param folder: an empty folder, also for the temporary files.
    """

    train: Split
    valid: Split

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.train_spool = SplitSpool(folder, "train")
        self.valid_spool = SplitSpool(folder, "valid")
        self._numbers: dict[str, int] = {}  # word -> number, in order of appearance
        self._n_documents = 0

    def add(self, documents: TokenizedDocuments, *, hold_out: bool) -> None:
        """Append training text.

        :param hold_out: set every hundredth document aside for validation.
        """
        ids, lengths = self._renumber(documents), documents.document_lengths
        is_valid = np.zeros(len(lengths), bool)
        if hold_out:
            first = -(self._n_documents + 1) % VALIDATION_EVERY
            for index in range(first, len(is_valid), VALIDATION_EVERY):
                n_new = int(lengths[is_valid].sum() + lengths[index])
                is_valid[index] = len(self.valid_spool.tokens) + n_new <= MAX_VALIDATION_TOKENS
        self._n_documents += len(is_valid)
        in_valid = np.repeat(is_valid, lengths)
        self.train_spool.add(ids[~in_valid], lengths[~is_valid])
        self.valid_spool.add(ids[in_valid], lengths[is_valid])

    def add_validation(self, documents: TokenizedDocuments) -> None:
        """Append validation text."""
        self.valid_spool.add(self._renumber(documents), documents.document_lengths)

    def sort_words(self, *, hold_out: bool) -> None:
        """Renumber the word types by frequency, and write the text.

        :param hold_out: if no document was set aside, set the last hundredth of the text aside.
        """
        train, valid = self.train_spool.finish(), self.valid_spool.finish()
        if hold_out and not valid.n_sentences and train.n_sentences > 1:
            n_valid = min(MAX_VALIDATION_TOKENS, max(1, len(train.tokens) // VALIDATION_EVERY))
            train, valid = split_tail(train, n_valid)
        words = list(self._numbers)
        self._numbers.clear()
        counts, valid_counts = (_count(split, len(words)) for split in (train, valid))
        order = _by_frequency(words, counts[_N_RESERVED:])
        old_ids = np.concatenate([np.arange(_N_RESERVED), order + _N_RESERVED])
        new_ids = np.empty(len(old_ids), np.uint32)
        new_ids[old_ids] = np.arange(len(old_ids), dtype=np.uint32)
        for name, split in (("train", train), ("valid", valid)):
            self._write_array(f"{name}.tokens", map(new_ids.__getitem__, _chunks(split.tokens)), split.tokens.shape)
            self._write_array(f"{name}.sentences", _chunks(split.sentences), split.sentences.shape, np.int64)
            self._write_array(f"{name}.documents", _chunks(split.documents), split.documents.shape, np.int64)
        self.train, self.valid = train, valid
        self._words = [words[index] for index in order.tolist()]
        self._counts, self._valid_counts = counts[old_ids], valid_counts[old_ids]

    def word_counts(self) -> WordCounts:
        """Return the word types and their counts in the training text, most frequent first."""
        return zip(self._words, map(int, self._counts[_N_RESERVED:]), strict=True)

    def finish(self, tokenizer: SentenceTokenizer, vocabulary: Vocabulary, characters: CharacterIndexer) -> None:
        """Write the tables of the word types and, last, the manifest."""
        words = self._words
        marks = [vocab.BEGIN_SENTENCE_ID, vocab.END_SENTENCE_ID]
        vocab_ids = np.fromiter(chain(marks, map(vocabulary.id, words)), np.int32)
        self._write_array("vocab_ids", [vocab_ids], vocab_ids.shape, np.int32)
        with files.writing(self.folder / WORDS_FILE) as file:
            for word_chunk in _chunks(words, _CHUNK_WORDS):
                file.write("".join(f"{word}\n" for word in word_chunk).encode())
        self._write_array(
            "characters",
            chain([characters.sentence_marks()], map(characters.rows, _chunks(words, _CHUNK_WORDS))),
            (len(vocab_ids), characters.width),
            np.int16 if characters.n_ids <= np.iinfo(np.int16).max else np.int32,
        )
        files.write_bytes(self.folder / vocab.VOCAB_FILE, vocabulary.to_bytes())
        files.write_bytes(self.folder / TOKENIZER_FILE, tokenizer.to_bytes())
        characters.save(self.folder)
        is_unknown = vocab_ids == vocab.UNKNOWN_ID
        summary = {
            "format_version": FORMAT_VERSION,
            "indexer": characters.kind,
            "vocabulary_size": len(vocabulary),
            "word_forms": len(words),
            "cut_share": _cut_shares(words, self._counts + self._valid_counts),
            "train": _statistics(self.train, self._counts, is_unknown),
            "valid": _statistics(self.valid, self._valid_counts, is_unknown),
        }
        del self.train, self.valid  # Windows deletes no mapped file
        for spool in self.folder.glob("*.spool"):
            spool.unlink()
        files.write_manifest(self.folder / SUMMARY_FILE, {**summary, "files": folders.file_entries(self.folder)})

    def _renumber(self, documents: TokenizedDocuments) -> NDArray[np.uint32]:
        numbers = self._numbers
        new = [numbers.setdefault(word, len(numbers) + _N_RESERVED) for word in documents.words]
        return np.array([0, *new], np.uint32)[documents.ids]

    def _write_array(
        self, name: str, chunks: Iterable[NDArray[Any]], shape: tuple[int, ...], dtype: type[np.generic] = np.uint32
    ) -> None:
        """Write an ``.npy`` file chunk by chunk; a memory map would end the process if the disk is full."""
        with files.writing(self.folder / f"{name}.npy") as file:
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for chunk in chunks:
                file.write(chunk.astype(dtype, order="C").tobytes())


def _chunks(items: Items, size: int | None = None) -> Iterator[Items]:
    size = size or _CHUNK
    return (items[start : start + size] for start in range(0, len(items), size))


def _count(split: Split, n_words: int) -> NDArray[np.int64]:
    counts = np.zeros(n_words + _N_RESERVED, np.int64)
    for chunk in _chunks(split.tokens):
        np.add.at(counts, chunk, 1)
    return counts


def _by_frequency(words: Sequence[str], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices of words by descending count, then by code points."""
    by_word = np.array(sorted(range(len(words)), key=words.__getitem__), np.int64)
    return by_word[np.argsort(-counts[by_word], kind="stable")]


def _cut_shares(words: Sequence[str], counts: NDArray[np.int64]) -> dict[str, float]:
    """Return the share of tokens that are cut when read as bytes, and as Unicode characters."""
    counts = counts[_N_RESERVED:]
    n_tokens = max(1, int(counts.sum()))
    chunks = list(zip(_chunks(words, _CHUNK_WORDS), _chunks(counts, _CHUNK_WORDS), strict=True))
    return {
        indexer.kind: int(sum(part[indexer.are_cut(chunk)].sum() for chunk, part in chunks)) / n_tokens
        for indexer in (ByteIndexer(), UnicodeIndexer([]))
    }


def _statistics(split: Split, counts: NDArray[np.int64], is_unknown: NDArray[np.bool_]) -> dict[str, float]:
    n_unknown = int(counts[is_unknown].sum())
    return {
        "documents": split.n_documents,
        "sentences": split.n_sentences,
        "tokens": split.n_tokens,
        "unknown_tokens": n_unknown,
        "unknown_share": n_unknown / max(1, split.n_tokens),
    }
