"""Numbered sentences -> the files of a corpus folder; :mod:`elmolite.corpus` says what each holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmolite import checked_array, files, vocab
from elmolite.checked_array import CheckedArray
from elmolite.corpus import FORMAT_VERSION, SUMMARY_FILE, VOCAB_FILE, Split
from elmolite.token_indexers import CHARACTERS_FILE, MAX_CHARACTERS, ByteIndexer, CharacterIndexer, UnicodeIndexer
from elmolite.vocab import Vocabulary

_COPY_TOKENS, _COPY_WORDS = 1 << 20, 1 << 16


def write_corpus(
    folder: Path,
    words: list[str],
    train: Split,
    valid: Split,
    *,
    choose_vocabulary: Callable[[Mapping[str, int], int], Vocabulary],
    choose_characters: Callable[[Mapping[str, int]], CharacterIndexer],
) -> dict[str, Any]:
    """Renumber the word forms by frequency and write all files but the summary.

    :param folder: where the corpus is being made.
    :param words: the word forms as they are numbered in ``train`` and ``valid``, from 2 on.
    :param choose_vocabulary: called with the count of each word form, and of the sentences, in the training text.
    :param choose_characters: called with the count of each word form there.
    :returns: the counts for the summary.
    """
    counts = _count(train.tokens, len(words) + 2)
    in_order = np.array(sorted(range(len(words)), key=lambda i: (-counts[i + 2], words[i])), np.int64)
    new_ids = np.arange(len(words) + 2, dtype=np.uint32)
    new_ids[in_order + 2] = np.arange(2, len(words) + 2, dtype=np.uint32)
    words = [words[i] for i in in_order]
    counts = _renumbered(counts, new_ids)
    valid_counts = _renumbered(_count(valid.tokens, len(counts)), new_ids)
    _write_split(folder, "train", train, new_ids)
    _write_split(folder, "valid", valid, new_ids)

    by_word = dict(zip(words, counts[2:].tolist(), strict=True))
    vocabulary, characters = choose_vocabulary(by_word, train.n_sentences), choose_characters(by_word)
    vocab_ids = np.array([vocab.BEGIN_SENTENCE_ID, vocab.END_SENTENCE_ID, *vocabulary.ids(words)], np.int32)
    _write_array(folder / "vocab_ids.npy", iter([vocab_ids]), vocab_ids.shape, np.int32)
    files.write_bytes(folder / VOCAB_FILE, vocabulary.to_bytes())
    files.write_bytes(folder / "words.txt", "".join(f"{word}\n" for word in words).encode("utf-8", "ignore"))
    if isinstance(characters, UnicodeIndexer):
        files.write_bytes(folder / CHARACTERS_FILE, characters.to_bytes())
    _write_character_table(words, characters, folder / "characters.npy")
    is_unknown = vocab_ids == vocab.UNKNOWN_ID
    return {
        "vocabulary_size": len(vocabulary),
        "word_forms": len(words),
        "cut_share": _cut_shares(words, counts + valid_counts),
        "train": _statistics(train, counts, is_unknown),
        "valid": _statistics(valid, valid_counts, is_unknown),
    }


def write_summary(folder: Path, counts: dict[str, Any]) -> None:
    """Write the counts and the marks of all files, last of all: what makes the folder a corpus."""
    marks = {
        path.name: checked_array.fingerprint(path) if path.suffix == ".npy" else files.fingerprint(path)
        for path in sorted(folder.iterdir())
    }
    files.write_manifest(folder / SUMMARY_FILE, {"format_version": FORMAT_VERSION, **counts, "files": marks})


def _count(tokens: NDArray[np.uint32] | CheckedArray, n_forms: int) -> NDArray[np.int64]:
    counts = np.zeros(n_forms, np.int64)
    for start in range(0, len(tokens), _COPY_TOKENS):
        counts += np.bincount(tokens[start : start + _COPY_TOKENS], minlength=n_forms)
    return counts


def _renumbered(counts: NDArray[np.int64], new_ids: NDArray[np.uint32]) -> NDArray[np.int64]:
    renumbered = np.empty_like(counts)
    renumbered[new_ids] = counts
    return renumbered


def _write_array(path: Path, chunks: Iterator[NDArray[Any]], shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    """Write an ``.npy`` file chunk by chunk, with plain writes: on a full disk a memory map would end the process."""
    with files.writing(path) as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in chunks:
            file.write(chunk.astype(dtype, order="C").tobytes())


def _write_split(folder: Path, name: str, split: Split, new_ids: NDArray[np.uint32]) -> None:
    tokens = split.tokens
    renumbered = (new_ids[tokens[i : i + _COPY_TOKENS]] for i in range(0, len(tokens), _COPY_TOKENS))
    _write_array(folder / f"{name}.tokens.npy", renumbered, tokens.shape, np.uint32)
    for part, offsets in (("sentences", split.sentences), ("documents", split.documents)):
        _write_array(folder / f"{name}.{part}.npy", iter([np.asarray(offsets)]), offsets.shape, np.int64)


def _write_character_table(words: Sequence[str], characters: CharacterIndexer, path: Path) -> None:
    """Write the character ids of ``<S>``, ``</S>`` and each word form."""
    blocks = (characters.rows(words[i : i + _COPY_WORDS]) for i in range(0, len(words), _COPY_WORDS))
    dtype = np.int16 if characters.n_ids <= np.iinfo(np.int16).max else np.int32
    _write_array(path, chain([characters.sentence_marks()], blocks), (len(words) + 2, MAX_CHARACTERS), dtype)


def _cut_shares(words: Sequence[str], counts: NDArray[np.int64]) -> dict[str, float]:
    """Return the share of tokens that are cut when they are read as bytes, and as Unicode characters."""
    indexers = {"bytes": ByteIndexer(), "unicode": UnicodeIndexer([])}
    n_tokens = max(1, int(counts[2:].sum()))
    return {
        kind: int(counts[2:][np.fromiter(map(indexer.is_cut, words), bool, len(words))].sum()) / n_tokens
        for kind, indexer in indexers.items()
    }


def _statistics(split: Split, counts: NDArray[np.int64], is_unknown: NDArray[np.bool_]) -> dict[str, float]:
    unknown = int(counts[is_unknown].sum())
    return {
        "documents": split.n_documents,
        "sentences": split.n_sentences,
        "tokens": split.n_tokens,
        "unknown_tokens": unknown,
        "unknown_share": unknown / max(1, split.n_tokens),
    }
