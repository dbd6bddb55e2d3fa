"""Text -> corpus folder: tokenise in parallel, count, number the word forms, write memory maps.

Two passes, so that memory holds the distinct words and never the text: the first tokenises and spools word forms in
the order in which they appear, the second renumbers them by frequency.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from elmolite import chars, corpus, files, tokenization, vocab
from elmolite.errors import InputError
from elmolite.parallel_tokenization import Numbering, Tokenised, tokenise_in_parallel
from elmolite.text import Progress, read_documents
from elmolite.tokenization import SentenceTokenizer
from elmolite.vocab import Vocabulary

HELD_OUT_EVERY = 100
"""Every so-manyth document is held out where no validation text is given ..."""
HELD_OUT_TOKENS = 200_000
"""... up to so many tokens, sentence marks among them."""

DEFAULT_MIN_COUNT = 2

_COPY_TOKENS, _COPY_WORDS = 1 << 20, 1 << 16


class _Spool:
    """Word forms of one split on disk, with the offsets of its sentences and documents in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_ids = 0
        self.sentence_starts: list[NDArray[np.int64]] = []
        self.document_starts: list[NDArray[np.int64]] = []
        self._file = path.open("wb")

    def add(self, ids: NDArray[np.uint32], document_lengths: NDArray[np.int64]) -> None:
        self._file.write(ids.tobytes())
        document_lengths = document_lengths[document_lengths > 0]
        self.sentence_starts.append(np.flatnonzero(ids == 0) + self.n_ids)
        self.document_starts.append(np.cumsum(document_lengths) - document_lengths + self.n_ids)
        self.n_ids += len(ids)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def split(self) -> corpus.Split:
        """Return what was spooled, as provisional word forms."""
        self.close()
        sentences = np.concatenate([*self.sentence_starts, np.array([self.n_ids])])
        documents = np.concatenate([*self.document_starts, np.array([self.n_ids])])
        tokens = np.memmap(self.path, np.uint32, "r") if self.n_ids else np.zeros(0, np.uint32)
        return corpus.Split(tokens, sentences, np.searchsorted(sentences, documents))


class _Collector:
    """Gathers tokenised text of all workers under one numbering, and sets held-out documents aside."""

    def __init__(self, folder: Path) -> None:
        self.numbering = Numbering(n_reserved=2)  # <S> and </S>
        self.train = _Spool(folder / "train.spool")
        self.valid = _Spool(folder / "valid.spool")
        self.n_bytes = 0
        self._n_documents = 0

    def add(self, part: Tokenised, *, hold_out: bool) -> None:
        """Add training text, some of which may be held out."""
        ids = self._renumber(part)
        held_out = np.zeros(len(part.document_lengths), bool)
        if hold_out:
            first = -(self._n_documents + 1) % HELD_OUT_EVERY
            for index in range(first, len(held_out), HELD_OUT_EVERY):
                n_new = int(part.document_lengths[held_out].sum() + part.document_lengths[index])
                held_out[index] = self.valid.n_ids + n_new <= HELD_OUT_TOKENS
        self._n_documents += len(held_out)
        in_held_out = np.repeat(held_out, part.document_lengths)
        self.train.add(ids[~in_held_out], part.document_lengths[~held_out])
        self.valid.add(ids[in_held_out], part.document_lengths[held_out])

    def add_valid(self, part: Tokenised) -> None:
        """Add text that was given for validation."""
        self.valid.add(self._renumber(part), part.document_lengths)

    def close(self) -> None:
        """Close the spools."""
        self.train.close()
        self.valid.close()

    def splits(self, *, hold_out: bool) -> tuple[corpus.Split, corpus.Split]:
        """Return the training and the held-out text.

        :raises InputError: there is no token.
        """
        train, valid = self.train.split(), self.valid.split()
        if not train.n_tokens:
            raise InputError("the text holds no tokens")
        if hold_out and not valid.n_sentences and train.n_sentences > 1:
            return _hold_out_tail(train)
        return train, valid

    def remove_spools(self) -> None:
        """Delete what was only a step on the way."""
        self.train.path.unlink()
        self.valid.path.unlink()

    def _renumber(self, part: Tokenised) -> NDArray[np.uint32]:
        self.n_bytes += part.n_bytes
        numbers = [0, *map(self.numbering.__getitem__, part.words)]
        return np.array(numbers, np.uint32)[part.ids]


def _hold_out_tail(train: corpus.Split) -> tuple[corpus.Split, corpus.Split]:
    """Cut off the last hundredth of a text that has too few documents to hold out whole ones."""
    n_held_out = min(HELD_OUT_TOKENS, max(1, len(train.tokens) // HELD_OUT_EVERY))
    cut = int(np.searchsorted(train.sentences, len(train.tokens) - n_held_out, side="right")) - 1
    cut = max(cut, 1)
    at = int(train.sentences[cut])
    first = int(np.searchsorted(train.documents, cut))  # the first document behind the cut
    before = np.append(train.documents[:first], cut)
    behind = train.documents[first:] - cut
    if len(behind) == 0 or behind[0] != 0:
        behind = np.append(0, behind)
    return (
        corpus.Split(train.tokens[:at], train.sentences[: cut + 1], before),
        corpus.Split(train.tokens[at:], train.sentences[cut:] - at, behind),
    )


def _count(tokens: NDArray[np.uint32], n_forms: int) -> NDArray[np.int64]:
    counts = np.zeros(n_forms, np.int64)
    for start in range(0, len(tokens), _COPY_TOKENS):
        counts += np.bincount(tokens[start : start + _COPY_TOKENS], minlength=n_forms)
    return counts


def _write_array(path: Path, chunks: Iterator[NDArray[Any]], shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    """Write an ``.npy`` file chunk by chunk, with plain writes: on a full disk a memory map would end the process."""
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in chunks:
            file.write(chunk.astype(dtype, order="C").tobytes())


def _write_split(folder: Path, name: str, split: corpus.Split, new_ids: NDArray[np.uint32]) -> None:
    tokens = split.tokens
    renumbered = (new_ids[tokens[i : i + _COPY_TOKENS]] for i in range(0, len(tokens), _COPY_TOKENS))
    _write_array(folder / f"{name}.tokens.npy", renumbered, tokens.shape, np.uint32)
    _write_array(folder / f"{name}.sentences.npy", iter([split.sentences]), split.sentences.shape, np.int64)
    _write_array(folder / f"{name}.documents.npy", iter([split.documents]), split.documents.shape, np.int64)


def _write_character_table(words: Sequence[str], path: Path) -> NDArray[np.bool_]:
    """Write the character ids of ``<S>``, ``</S>`` and each word form; tell which forms were cut."""
    blocks = (chars.character_ids(words[i : i + _COPY_WORDS]) for i in range(0, len(words), _COPY_WORDS))
    shape = (len(words) + 2, chars.MAX_CHARACTERS)
    _write_array(path, chain([chars.sentence_marks()], blocks), shape, np.int16)
    return np.array([False, False, *map(chars.is_cut, words)])


def _statistics(split: corpus.Split, counts: NDArray[np.int64], is_unknown: NDArray[np.bool_]) -> dict[str, float]:
    unknown = int(counts[is_unknown].sum())
    return {
        "documents": split.n_documents,
        "sentences": split.n_sentences,
        "tokens": split.n_tokens,
        "unknown_tokens": unknown,
        "unknown_share": unknown / max(1, split.n_tokens),
    }


def prepare(
    text: str | Sequence[str],
    out: str | Path,
    *,
    valid: str | Sequence[str] = (),
    hold_out: bool = True,
    tokenizer: SentenceTokenizer | None = None,
    vocab_size: int | None = None,
    min_count: int | None = None,
    vocabulary: Vocabulary | None = None,
    n_workers: int | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
) -> corpus.Corpus:
    """Make a corpus folder from text.

    :param text: files, folders, globs or ``-``, one or several.
    :param out: the folder to make.
    :param valid: held-out text.
    :param hold_out: where no held-out text is given, set every hundredth document aside, up to 200,000 tokens, or, of
        fewer than a hundred documents, the last hundredth of the text.
    :param tokenizer: how to cut the text; ``None`` for :meth:`SentenceTokenizer.english`.
    :param vocab_size: number of words of the softmax, the three specials included; ``None`` for all.
    :param min_count: rarer words are outside the vocabulary; ``None`` for 2, so that the model learns from the words
        that stand once what to expect of words that it does not know.
    :param vocabulary: a given one instead; its counts are taken anew.
    :param n_workers: processes; ``None`` for one a core.
    :param overwrite: replace ``out`` if it exists.
    :raises InputError: the text, the vocabulary or ``out`` cannot be used; nothing is left in ``out`` then.
    """
    text, valid = ([part] if isinstance(part, str) else list(part) for part in (text, valid))
    if [*text, *valid].count("-") > 1:
        raise InputError("standard input (-) can be read only once")
    if vocabulary is not None and (vocab_size is not None or min_count is not None):
        raise InputError("a given vocabulary has its words: a size and a minimum count have no meaning beside it")
    if vocab_size is not None and vocab_size <= len(vocab.SPECIALS):
        raise InputError(f"vocabulary size {vocab_size}: at least {len(vocab.SPECIALS) + 1} are needed")
    tokenizer = tokenizer or SentenceTokenizer.english()
    n_workers = n_workers or os.cpu_count() or 1
    started = time.perf_counter()
    out = Path(out)
    with (
        files.writing_folder(out, manifest=corpus.SUMMARY_FILE, overwrite=overwrite) as folder,
        closing(_Collector(folder)) as collector,
    ):
        for part in _tokenised(text, tokenizer, n_workers, "tokenising", show_progress):
            collector.add(part, hold_out=hold_out and not valid)
        if valid:
            for part in _tokenised(valid, tokenizer, n_workers, "held-out text", show_progress):
                collector.add_valid(part)
            if collector.valid.n_ids == 0:
                raise InputError("the held-out text holds no tokens")
        train, valid_split = collector.splits(hold_out=hold_out)
        files.write_bytes(folder / tokenization.FILE_NAME, tokenizer.to_bytes())
        words = list(collector.numbering)
        summary = _write(folder, words, train, valid_split, vocabulary, vocab_size, min_count or DEFAULT_MIN_COUNT)
        collector.remove_spools()
        _write_summary(folder, summary)
    if show_progress:
        megabytes, seconds = collector.n_bytes / 1e6, time.perf_counter() - started
        print(f"{megabytes:.1f} MB of text in {seconds:.1f} s: {megabytes / seconds:.1f} MB/s")
    return corpus.Corpus.open(out)


def _tokenised(
    sources: Sequence[str], tokenizer: SentenceTokenizer, n_workers: int, title: str, show_progress: bool
) -> Iterator[Tokenised]:
    """Read and tokenise text behind a progress bar (bytes of the files as they lie on disk)."""
    progress = Progress()
    documents = read_documents(sources, progress)
    with tqdm(desc=title, unit="B", unit_scale=True, disable=None if show_progress else True) as bar:
        for part in tokenise_in_parallel(documents, tokenizer, n_workers=n_workers):
            bar.total = progress.bytes_total or None
            bar.update(progress.bytes_read - bar.n)
            yield part
        bar.update(progress.bytes_read - bar.n)


def _write(
    folder: Path,
    words: list[str],
    train: corpus.Split,
    valid: corpus.Split,
    vocabulary: Vocabulary | None,
    vocab_size: int | None,
    min_count: int,
) -> dict[str, Any]:
    """Renumber the word forms by frequency, choose the vocabulary, write the arrays; return the counts."""
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
    if vocabulary is None:
        vocabulary = Vocabulary.from_counts(
            by_word, n_sentences=train.n_sentences, max_size=vocab_size, min_count=min_count
        )
    else:
        vocabulary = vocabulary.with_counts(by_word, n_sentences=train.n_sentences)
    vocab_ids = np.array([vocab.BEGIN_SENTENCE_ID, vocab.END_SENTENCE_ID, *vocabulary.ids(words)], np.int32)
    _write_array(folder / "vocab_ids.npy", iter([vocab_ids]), vocab_ids.shape, np.int32)
    files.write_bytes(folder / corpus.VOCAB_FILE, vocabulary.to_bytes())
    files.write_bytes(folder / "words.txt", "".join(f"{word}\n" for word in words).encode("utf-8", "ignore"))
    is_cut = _write_character_table(words, folder / "characters.npy")
    is_unknown = vocab_ids == vocab.UNKNOWN_ID
    return {
        "vocabulary_size": len(vocabulary),
        "word_forms": len(words),
        "cut_word_forms": int(is_cut.sum()),
        "cut_tokens": int((counts + valid_counts)[is_cut].sum()),
        "train": _statistics(train, counts, is_unknown),
        "valid": _statistics(valid, valid_counts, is_unknown),
    }


def _write_summary(folder: Path, counts: dict[str, Any]) -> None:
    """Write the counts and the marks of all files, last of all: what makes the folder a corpus."""
    manifest = {path.name: files.fingerprint(path) for path in sorted(folder.iterdir())}
    summary = {"format_version": corpus.FORMAT_VERSION, **counts, "files": manifest}
    files.write_bytes(folder / corpus.SUMMARY_FILE, files.json_bytes(summary))


def _renumbered(counts: NDArray[np.int64], new_ids: NDArray[np.uint32]) -> NDArray[np.int64]:
    renumbered = np.empty_like(counts)
    renumbered[new_ids] = counts
    return renumbered
