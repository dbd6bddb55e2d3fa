"""Write a corpus folder: spool sentences to disk, number word types by frequency, write the arrays.

:mod:`elmolite.data.corpus` describes the files. Sentences are spooled with word types numbered in order of appearance
and renumbered at the end, so memory holds the distinct words, never the text: about 130 bytes a word type of
ten letters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from elmolite.data import vocab
from elmolite.data.corpus import FORMAT_VERSION, SUMMARY_FILE, WORDS_FILE
from elmolite.data.indexers import ByteIndexer, CharacterIndexer, UnicodeIndexer
from elmolite.data.tokenization import FILE_NAME as TOKENIZER_FILE
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import Vocabulary, WordCounts
from elmolite.utils import files, folders

VALIDATION_EVERY = 100
"""Without validation text, every hundredth document is set aside."""
MAX_VALIDATION_TOKENS = 200_000
"""Maximum number of tokens set aside, sentence marks included."""

_N_RESERVED = 2  # <S> and </S>
_CHUNK = 1 << 20  # numbers
_CHUNK_WORDS = 1 << 16

Number = TypeVar("Number", bound=np.generic)


class ArraySpool(Generic[Number]):
    """A one-dimensional array in a temporary file, appended to and read in chunks."""

    def __init__(self, path: Path, dtype: type[Number]) -> None:
        self.path = path
        self._dtype = np.dtype(dtype)
        self._file = path.open("w+b")
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, numbers: NDArray[Number]) -> None:
        """Add numbers at the end."""
        self._file.seek(self._length * self._dtype.itemsize)
        self._file.write(numbers.astype(self._dtype, copy=False).tobytes())
        self._length += len(numbers)

    def chunks(self) -> Iterator[NDArray[Number]]:
        """Yield all numbers, about a million at a time."""
        for start in range(0, self._length, _CHUNK):
            yield self._read(start, min(start + _CHUNK, self._length))

    def last(self, n: int) -> NDArray[Number]:
        """Return the last n numbers, or all if there are fewer."""
        return self._read(max(0, self._length - n), self._length)

    def pop(self, start: int) -> NDArray[Number]:
        """Remove and return the numbers from ``start`` on."""
        numbers = self._read(start, self._length)
        self._length = start
        return numbers

    def close(self) -> None:
        """Close and delete the file."""
        try:
            self._file.close()
        finally:  # also if the disk is full
            self.path.unlink(missing_ok=True)

    def _read(self, start: int, end: int) -> NDArray[Number]:
        self._file.seek(start * self._dtype.itemsize)
        return np.frombuffer(self._file.read((end - start) * self._dtype.itemsize), self._dtype)


class SplitSpool:
    """The arrays of a :class:`~elmolite.data.corpus.Split` in temporary files, without the final offsets."""

    def __init__(self, folder: Path, name: str) -> None:
        self.tokens = ArraySpool(folder / f"{name}.tokens.spool", np.uint32)
        self.sentences = ArraySpool(folder / f"{name}.sentences.spool", np.int64)
        self.documents = ArraySpool(folder / f"{name}.documents.spool", np.int64)

    @property
    def n_positions(self) -> int:
        """Number of tokens, including sentence marks."""
        return len(self.tokens)

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
        self.sentences.append(sentences + self.n_positions)
        self.tokens.append(ids)

    def pop_tail(self, n_positions: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Remove the fewest last sentences with ``n_positions`` together, but never the first sentence.

        :returns: the arguments of :meth:`add`.
        """
        n_sentences = len(self.sentences)
        sentences = self.sentences.last(n_positions + 1)  # each has one position or more
        first = n_sentences - len(sentences)
        cut = first + int(np.searchsorted(sentences, self.n_positions - n_positions, side="right")) - 1
        cut = max(cut, 1)
        documents = self.documents.last(n_sentences - cut)
        documents = documents[documents >= cut]
        self.documents.pop(len(self.documents) - len(documents))
        self.sentences.pop(cut)
        ids = self.tokens.pop(int(sentences[cut - first]))
        begins = np.union1d(sentences[cut - first], sentences[documents - first])
        return ids, np.diff(begins, append=begins[0] + len(ids))

    def close(self) -> None:
        """Close and delete the files."""
        with ExitStack() as stack:
            for spool in (self.tokens, self.sentences, self.documents):
                stack.callback(spool.close)


class CorpusWriter:
    """Collects tokenized documents and writes them as a corpus folder.

    :param folder: an empty folder, also for the temporary files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.train = SplitSpool(folder, "train")
        self.valid = SplitSpool(folder, "valid")
        self._numbers: dict[str, int] = {}  # word -> number, in order of appearance
        self._n_documents = 0

    def add(
        self, words: Sequence[str], ids: NDArray[np.uint32], document_lengths: NDArray[np.int64], *, hold_out: bool
    ) -> None:
        """Append training text.

        :param words: distinct words of these documents.
        :param ids: positions in ``words`` counted from 1, with 0 before each sentence.
        :param document_lengths: in ids.
        :param hold_out: set every hundredth document aside for validation.
        """
        ids = self._renumber(words, ids)
        is_valid = np.zeros(len(document_lengths), bool)
        if hold_out:
            first = -(self._n_documents + 1) % VALIDATION_EVERY
            for index in range(first, len(is_valid), VALIDATION_EVERY):
                n_new = int(document_lengths[is_valid].sum() + document_lengths[index])
                is_valid[index] = self.valid.n_positions + n_new <= MAX_VALIDATION_TOKENS
        self._n_documents += len(is_valid)
        in_valid = np.repeat(is_valid, document_lengths)
        self.train.add(ids[~in_valid], document_lengths[~is_valid])
        self.valid.add(ids[in_valid], document_lengths[is_valid])

    def add_validation(
        self, words: Sequence[str], ids: NDArray[np.uint32], document_lengths: NDArray[np.int64]
    ) -> None:
        """Append validation text; the arguments are those of :meth:`add`."""
        self.valid.add(self._renumber(words, ids), document_lengths)

    def hold_out_tail(self) -> None:
        """Set the last hundredth aside for validation, if there were too few documents to set whole ones aside."""
        if not len(self.valid.sentences) and len(self.train.sentences) > 1:
            n_valid = min(MAX_VALIDATION_TOKENS, max(1, self.train.n_positions // VALIDATION_EVERY))
            self.valid.add(*self.train.pop_tail(n_valid))

    def finish(
        self,
        tokenizer: SentenceTokenizer,
        choose_vocabulary: Callable[[WordCounts, int], Vocabulary],
        choose_characters: Callable[[WordCounts], CharacterIndexer],
    ) -> None:
        """Renumber the word types by frequency and write all files, the manifest last.

        :param choose_vocabulary: called with the word types and their counts in the training text, most frequent
            first, and its number of sentences.
        :param choose_characters: called with the same counts.
        """
        words = list(self._numbers)
        self._numbers.clear()
        counts = _count(self.train, len(words))
        order = _by_frequency(words, counts[_N_RESERVED:])
        words = [words[index] for index in order.tolist()]
        new_ids = np.arange(len(counts), dtype=np.uint32)
        new_ids[order + _N_RESERVED] = np.arange(_N_RESERVED, len(counts), dtype=np.uint32)
        del order
        self._write_words(words)
        for name, split in (("train", self.train), ("valid", self.valid)):
            self._write_split(name, split, new_ids)
        counts, valid_counts = (_renumbered(each, new_ids) for each in (counts, _count(self.valid, len(words))))
        del new_ids

        word_counts = counts[_N_RESERVED:].tolist()
        vocabulary = choose_vocabulary(zip(words, word_counts, strict=True), len(self.train.sentences))
        characters = choose_characters(zip(words, word_counts, strict=True))
        marks = [vocab.BEGIN_SENTENCE_ID, vocab.END_SENTENCE_ID]
        vocab_ids = np.fromiter(chain(marks, map(vocabulary.id, words)), np.int32)
        self._write_array("vocab_ids", [vocab_ids], vocab_ids.shape, np.int32)
        self._write_characters(words, characters)
        files.write_bytes(self.folder / vocab.VOCAB_FILE, vocabulary.to_bytes())
        files.write_bytes(self.folder / TOKENIZER_FILE, tokenizer.to_bytes())
        characters.save(self.folder)
        is_unknown = vocab_ids == vocab.UNKNOWN_ID
        summary = {
            "format_version": FORMAT_VERSION,
            "indexer": characters.kind,
            "vocabulary_size": len(vocabulary),
            "word_forms": len(words),
            "cut_share": _cut_shares(words, counts + valid_counts),
            "train": _statistics(self.train, counts, is_unknown),
            "valid": _statistics(self.valid, valid_counts, is_unknown),
        }
        self.close()
        files.write_manifest(self.folder / SUMMARY_FILE, {**summary, "files": folders.file_entries(self.folder)})

    def close(self) -> None:
        """Delete the temporary files."""
        with ExitStack() as stack:
            for spool in (self.train, self.valid):
                stack.callback(spool.close)

    def _renumber(self, words: Sequence[str], ids: NDArray[np.uint32]) -> NDArray[np.uint32]:
        numbers = self._numbers
        new = [numbers.setdefault(word, len(numbers) + _N_RESERVED) for word in words]
        return np.array([0, *new], np.uint32)[ids]

    def _write_words(self, words: Sequence[str]) -> None:
        with files.writing(self.folder / WORDS_FILE) as file:
            for start in range(0, len(words), _CHUNK_WORDS):
                file.write("".join(f"{word}\n" for word in words[start : start + _CHUNK_WORDS]).encode())

    def _write_split(self, name: str, split: SplitSpool, new_ids: NDArray[np.uint32]) -> None:
        renumbered = (new_ids[chunk] for chunk in split.tokens.chunks())
        self._write_array(f"{name}.tokens", renumbered, (split.n_positions,), np.uint32)
        for part, starts, end in (
            ("sentences", split.sentences, split.n_positions),
            ("documents", split.documents, len(split.sentences)),
        ):
            with_end = chain(starts.chunks(), [np.array([end])])
            self._write_array(f"{name}.{part}", with_end, (len(starts) + 1,), np.int64)

    def _write_characters(self, words: Sequence[str], characters: CharacterIndexer) -> None:
        """Write the character ids of ``<S>``, ``</S>`` and each word type."""
        blocks = (characters.rows(words[start : start + _CHUNK_WORDS]) for start in range(0, len(words), _CHUNK_WORDS))
        dtype = np.int16 if characters.n_ids <= np.iinfo(np.int16).max else np.int32
        shape = len(words) + _N_RESERVED, characters.width
        self._write_array("characters", chain([characters.sentence_marks()], blocks), shape, dtype)

    def _write_array(
        self, name: str, chunks: Iterable[NDArray[Any]], shape: tuple[int, ...], dtype: type[np.generic]
    ) -> None:
        """Write an ``.npy`` file chunk by chunk; a memory map would end the process if the disk is full."""
        with files.writing(self.folder / f"{name}.npy") as file:
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for chunk in chunks:
                file.write(chunk.astype(dtype, order="C").tobytes())


def _count(split: SplitSpool, n_words: int) -> NDArray[np.int64]:
    counts = np.zeros(n_words + _N_RESERVED, np.int64)
    for chunk in split.tokens.chunks():
        np.add.at(counts, chunk, 1)
    return counts


def _by_frequency(words: Sequence[str], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices of words by descending count, then by code points."""
    by_word = np.array(sorted(range(len(words)), key=words.__getitem__), np.int64)
    return by_word[np.argsort(-counts[by_word], kind="stable")]


def _renumbered(counts: NDArray[np.int64], new_ids: NDArray[np.uint32]) -> NDArray[np.int64]:
    renumbered = np.empty_like(counts)
    renumbered[new_ids] = counts
    return renumbered


def _cut_shares(words: Sequence[str], counts: NDArray[np.int64]) -> dict[str, float]:
    """Return the share of tokens that are cut when read as bytes, and as Unicode characters."""
    counts = counts[_N_RESERVED:]
    n_tokens = max(1, int(counts.sum()))
    return {
        indexer.kind: int(counts[np.fromiter(map(indexer.is_cut, words), bool)].sum()) / n_tokens
        for indexer in (ByteIndexer(), UnicodeIndexer([]))
    }


def _statistics(split: SplitSpool, counts: NDArray[np.int64], is_unknown: NDArray[np.bool_]) -> dict[str, float]:
    n_unknown = int(counts[is_unknown].sum())
    return {
        "documents": len(split.documents),
        "sentences": len(split.sentences),
        "tokens": split.n_tokens,
        "unknown_tokens": n_unknown,
        "unknown_share": n_unknown / max(1, split.n_tokens),
    }
