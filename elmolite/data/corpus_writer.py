"""Numbered sentences -> the files of a corpus folder; :mod:`elmolite.data.corpus` says what each holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmolite.data import checked_array, vocab
from elmolite.data.corpus import FORMAT_VERSION, SUMMARY_FILE, WORDS_FILE
from elmolite.data.indexers import ByteIndexer, CharacterIndexer, UnicodeIndexer
from elmolite.data.spooled_split import SpooledSplit
from elmolite.data.vocab import VOCAB_FILE, Vocabulary, WordCounts
from elmolite.data.word_forms import WordForms
from elmolite.utils import files

_COPY_WORDS = 1 << 16


def write_corpus(
    folder: Path,
    words: WordForms,
    train: SpooledSplit,
    valid: SpooledSplit,
    *,
    choose_vocabulary: Callable[[WordCounts, int], Vocabulary],
    choose_characters: Callable[[WordCounts], CharacterIndexer],
) -> dict[str, Any]:
    """Renumber the word forms by frequency and write all files but the summary.

    :param folder: where the corpus is being made.
    :param words: the word forms as they are numbered in ``train`` and ``valid``, from 2 on; no more may come.
    :param choose_vocabulary: called with the count of each word form in the training text, most frequent first, and
        that of the sentences there.
    :param choose_characters: called with the same counts of the word forms.
    :returns: the counts for the summary.
    """
    counts, valid_counts = _write_by_frequency(folder, words, train, valid)
    in_order = _WordsFile(folder / WORDS_FILE)
    vocabulary = choose_vocabulary(in_order.with_counts(counts[2:]), train.n_sentences)
    characters = choose_characters(in_order.with_counts(counts[2:]))
    marks = [vocab.BEGIN_SENTENCE_ID, vocab.END_SENTENCE_ID]
    vocab_ids = np.fromiter(chain(marks, map(vocabulary.id, in_order)), np.int32)
    _write_array(folder / "vocab_ids.npy", [vocab_ids], vocab_ids.shape, np.int32)
    files.write_bytes(folder / VOCAB_FILE, vocabulary.to_bytes())
    characters.save(folder)
    _write_character_table(in_order, len(counts), characters, folder / "characters.npy")
    is_unknown = vocab_ids == vocab.UNKNOWN_ID
    return {
        "indexer": characters.kind,
        "vocabulary_size": len(vocabulary),
        "word_forms": len(words),
        "cut_share": _cut_shares(in_order, counts + valid_counts),
        "train": _statistics(train, counts, is_unknown),
        "valid": _statistics(valid, valid_counts, is_unknown),
    }


def _write_by_frequency(
    folder: Path, words: WordForms, train: SpooledSplit, valid: SpooledSplit
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Write the words, most frequent first, and the sentences in their new numbers; return their counts in each."""
    n_forms = len(words) + 2
    counts = _count(train, n_forms)
    text = words.text()
    in_order = text.by_frequency(counts[2:])
    with files.writing(folder / WORDS_FILE) as file:
        for start in range(0, len(in_order), _COPY_WORDS):
            file.write(text.lines(in_order[start : start + _COPY_WORDS]))
    new_ids = np.arange(n_forms, dtype=np.uint32)
    new_ids[in_order + 2] = np.arange(2, n_forms, dtype=np.uint32)
    _write_split(folder, "train", train, new_ids)
    _write_split(folder, "valid", valid, new_ids)
    return _renumbered(counts, new_ids), _renumbered(_count(valid, n_forms), new_ids)


def write_summary(folder: Path, counts: dict[str, Any]) -> None:
    """Write the counts and the marks of all files, last of all: what makes the folder a corpus."""
    marks = {
        path.name: checked_array.fingerprint(path) if path.suffix == ".npy" else files.file_entry(path)
        for path in sorted(folder.iterdir())
    }
    files.write_manifest(folder / SUMMARY_FILE, {"format_version": FORMAT_VERSION, **counts, "files": marks})


class _WordsFile:
    """The word forms, most frequent first, read a line at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[str]:
        with self._path.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                yield line[:-1]

    def with_counts(self, counts: NDArray[np.int64]) -> WordCounts:
        """Yield each with its count."""
        return zip(self, map(int, counts), strict=True)


def _count(split: SpooledSplit, n_forms: int) -> NDArray[np.int64]:
    counts = np.zeros(n_forms, np.int64)
    for chunk in split.tokens.chunks():
        np.add.at(counts, chunk, 1)
    return counts


def _renumbered(counts: NDArray[np.int64], new_ids: NDArray[np.uint32]) -> NDArray[np.int64]:
    renumbered = np.empty_like(counts)
    renumbered[new_ids] = counts
    return renumbered


def _write_array(path: Path, chunks: Iterable[NDArray[Any]], shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    """Write an ``.npy`` file chunk by chunk, with plain writes: on a full disk a memory map would end the process."""
    with files.writing(path) as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in chunks:
            file.write(chunk.astype(dtype, order="C").tobytes())


def _write_split(folder: Path, name: str, split: SpooledSplit, new_ids: NDArray[np.uint32]) -> None:
    renumbered = (new_ids[chunk] for chunk in split.tokens.chunks())
    _write_array(folder / f"{name}.tokens.npy", renumbered, (split.n_positions,), np.uint32)
    for part, starts, end in (
        ("sentences", split.sentences, split.n_positions),
        ("documents", split.documents, split.n_sentences),
    ):
        with_end = chain(starts.chunks(), [np.array([end])])
        _write_array(folder / f"{name}.{part}.npy", with_end, (len(starts) + 1,), np.int64)


def _write_character_table(words: Iterable[str], n_forms: int, characters: CharacterIndexer, path: Path) -> None:
    """Write the character ids of ``<S>``, ``</S>`` and each word form."""
    words = iter(words)
    blocks = map(characters.rows, iter(lambda: list(islice(words, _COPY_WORDS)), []))
    dtype = np.int16 if characters.n_ids <= np.iinfo(np.int16).max else np.int32
    _write_array(path, chain([characters.sentence_marks()], blocks), (n_forms, characters.width), dtype)


def _cut_shares(words: Iterable[str], counts: NDArray[np.int64]) -> dict[str, float]:
    """Return the share of tokens that are cut when they are read as bytes, and as Unicode characters."""
    indexers = {"bytes": ByteIndexer(), "unicode": UnicodeIndexer([])}
    n_tokens = max(1, int(counts[2:].sum()))
    return {
        kind: int(counts[2:][np.fromiter(map(indexer.is_cut, words), bool)].sum()) / n_tokens
        for kind, indexer in indexers.items()
    }


def _statistics(split: SpooledSplit, counts: NDArray[np.int64], is_unknown: NDArray[np.bool_]) -> dict[str, float]:
    unknown = int(counts[is_unknown].sum())
    return {
        "documents": split.n_documents,
        "sentences": split.n_sentences,
        "tokens": split.n_tokens,
        "unknown_tokens": unknown,
        "unknown_share": unknown / max(1, split.n_tokens),
    }
