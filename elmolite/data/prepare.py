"""Text -> corpus folder: tokenise in parallel, count, number the word forms, write memory maps.

Two passes, so that memory holds the distinct words, some 80 bytes each, and never the text: the first tokenises and
spools word forms in the order in which they appear, the second renumbers them by frequency.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from elmolite.data import corpus, tokenization, vocab
from elmolite.data.corpus_writer import write_corpus, write_summary
from elmolite.data.hf_datasets import DatasetText
from elmolite.data.indexers import INDEXERS, CharacterIndexer
from elmolite.data.parallel_tokenization import Tokenised, tokenise_in_parallel
from elmolite.data.spooled_split import SpooledSplit
from elmolite.data.text import Progress, find_files, read_documents
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import Vocabulary, WordCounts
from elmolite.data.word_forms import WordForms
from elmolite.errors import InputError
from elmolite.utils import files, folders

HELD_OUT_EVERY = 100
"""Every so-manyth document is held out where no validation text is given ..."""
HELD_OUT_TOKENS = 200_000
"""... up to so many tokens, sentence marks among them."""

DEFAULT_MIN_COUNT = 2


class _Collector:
    """Gathers tokenised text of all workers under one numbering, and sets held-out documents aside."""

    def __init__(self, folder: Path) -> None:
        self.words = WordForms(folder / "words.spool", n_reserved=2)  # <S> and </S>
        self.train = SpooledSplit(folder, "train")
        self.valid = SpooledSplit(folder, "valid")
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
                held_out[index] = self.valid.n_positions + n_new <= HELD_OUT_TOKENS
        self._n_documents += len(held_out)
        in_held_out = np.repeat(held_out, part.document_lengths)
        self.train.add(ids[~in_held_out], part.document_lengths[~held_out])
        self.valid.add(ids[in_held_out], part.document_lengths[held_out])

    def add_valid(self, part: Tokenised) -> None:
        """Add text that was given for validation."""
        self.valid.add(self._renumber(part), part.document_lengths)

    def hold_out_tail(self) -> None:
        """Set the last hundredth aside, of a text that has too few documents to hold out whole ones."""
        if not self.valid.n_sentences and self.train.n_sentences > 1:
            n_held_out = min(HELD_OUT_TOKENS, max(1, self.train.n_positions // HELD_OUT_EVERY))
            self.valid.add(*self.train.cut_off(n_held_out))

    def close(self) -> None:
        """Delete what is only a step on the way."""
        with ExitStack() as stack:
            for spool in (self.words, self.train, self.valid):
                stack.callback(spool.close)

    def _renumber(self, part: Tokenised) -> NDArray[np.uint32]:
        self.n_bytes += part.n_bytes
        numbers = np.append(np.uint32(0), self.words.numbers(part.words, part.digests))
        return numbers[part.ids]


def _vocabulary_chooser(
    given: Vocabulary | None, max_size: int | None, min_count: int | None
) -> Callable[[WordCounts, int], Vocabulary]:
    """Return what makes the vocabulary from the counts of the word forms and the number of sentences."""
    if given is not None:
        if max_size is not None or min_count is not None:
            raise InputError("a given vocabulary has its words: a size and a minimum count have no meaning beside it")
        return lambda counts, n_sentences: given.with_counts(counts, n_sentences=n_sentences)
    if max_size is not None and max_size <= len(vocab.SPECIALS):
        raise InputError(f"vocabulary size {max_size}: at least {len(vocab.SPECIALS) + 1} are needed")
    least = DEFAULT_MIN_COUNT if min_count is None else min_count
    return lambda counts, n_sentences: Vocabulary.from_counts(
        counts, n_sentences=n_sentences, max_size=max_size, min_count=least
    )


def _characters_chooser(
    characters: str | CharacterIndexer, min_count: int | None
) -> Callable[[WordCounts], CharacterIndexer]:
    """Return the function from the counts of the word types to the indexer."""
    if isinstance(characters, CharacterIndexer):
        if min_count is not None:
            raise InputError("min_character_count requires characters='unicode', got the characters of a model")
        return lambda counts: characters  # noqa: ARG005
    kinds = {kind: cls for kind, cls in INDEXERS.items() if issubclass(cls, CharacterIndexer)}
    if characters not in kinds:
        raise InputError(f"characters must be one of {', '.join(kinds)}, got {characters!r}")
    choose = partial(kinds[characters].from_counts, min_count=min_count)
    choose(())  # refuses min_count before the long work
    return choose


def prepare(
    text: str | Sequence[str] | DatasetText,
    out: str | Path,
    *,
    valid: str | Sequence[str] | DatasetText = (),
    hold_out: bool = True,
    tokenizer: SentenceTokenizer | None = None,
    vocab_size: int | None = None,
    min_count: int | None = None,
    vocabulary: Vocabulary | None = None,
    characters: Literal["bytes", "unicode"] | CharacterIndexer = "bytes",
    min_character_count: int | None = None,
    n_workers: int | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
) -> corpus.Corpus:
    """Make a corpus folder from text.

    :param text: files, folders, globs or ``-``, one or several; or a dataset.
    :param out: the folder to make.
    :param valid: held-out text.
    :param hold_out: where no held-out text is given, set every hundredth document aside, up to 200,000 tokens, or, of
        fewer than a hundred documents, the last hundredth of the text.
    :param tokenizer: how to cut the text; ``None`` for :meth:`SentenceTokenizer.english`.
    :param vocab_size: number of words of the softmax, the three specials included; ``None`` for all.
    :param min_count: rarer words are outside the vocabulary; ``None`` for 2, so that the model learns from the words
        that stand once what to expect of words that it does not know.
    :param vocabulary: a given one instead; its counts are taken anew.
    :param characters: what tokens are read as: UTF-8 bytes, the Unicode characters of the training text, or those of
        a model (``Checkpoint.indexer``).
    :param min_character_count: rarer Unicode characters share the id of the unknown one; ``None`` for 5.
    :param n_workers: processes; ``None`` for one a core.
    :param overwrite: replace ``out`` if it exists.
    :raises InputError: the text, the vocabulary or ``out`` cannot be used; nothing is left in ``out`` then.
    """
    text, valid = (_sources(part) for part in (text, valid))
    _check(text, valid, min_count, min_character_count)
    choose_vocabulary = _vocabulary_chooser(vocabulary, vocab_size, min_count)
    choose_characters = _characters_chooser(characters, min_character_count)
    tokenizer = tokenizer or SentenceTokenizer.english()
    n_workers = n_workers or os.cpu_count() or 1
    started = time.perf_counter()
    out = Path(out)
    with (
        folders.writing_folder(out, manifest=corpus.SUMMARY_FILE, overwrite=overwrite) as folder,
        closing(_Collector(folder)) as collector,
    ):
        train_text = _open(text, tokenizer, show_progress)
        valid_text = _open(valid, tokenizer, show_progress) if valid else None  # if it is missing, say so at once
        for part in _tokenised(train_text, tokenizer, n_workers, "tokenising", show_progress):
            collector.add(part, hold_out=hold_out and valid_text is None)
        if valid_text is not None:
            _tell_what_is_both(train_text, valid_text)
            for part in _tokenised(valid_text, tokenizer, n_workers, "held-out text", show_progress):
                collector.add_valid(part)
            if not collector.valid.n_tokens:
                raise InputError("the held-out text holds no tokens")
        if not collector.train.n_tokens:
            raise InputError("the text holds no tokens")
        if hold_out and valid_text is None:
            collector.hold_out_tail()
        files.write_bytes(folder / tokenization.FILE_NAME, tokenizer.to_bytes())
        summary = write_corpus(
            folder,
            collector.words,
            collector.train,
            collector.valid,
            choose_vocabulary=choose_vocabulary,
            choose_characters=choose_characters,
        )
        collector.close()
        write_summary(folder, summary)
    if show_progress:
        progress = [part.progress for part in (train_text, valid_text) if part is not None]
        print(_describe_reading(progress, collector.n_bytes, time.perf_counter() - started))
    return corpus.Corpus.open(out)


def _check(
    text: list[str] | DatasetText,
    valid: list[str] | DatasetText,
    min_count: int | None,
    min_character_count: int | None,
) -> None:
    if sum(part.count("-") for part in (text, valid) if isinstance(part, list)) > 1:
        raise InputError("standard input (-) can be read only once")
    for name, count in (("minimum count", min_count), ("minimum count of characters", min_character_count)):
        if count is not None and count < 1:
            raise InputError(f"{name} {count}: at least 1 is needed")


def _sources(text: str | Sequence[str] | DatasetText) -> list[str] | DatasetText:
    if isinstance(text, DatasetText):
        return text
    return [text] if isinstance(text, str) else list(text)


def _tell_what_is_both(train: _Opened, valid: _Opened) -> None:
    """Say if a file is trained on and held out: what is measured on it says nothing of other text."""
    both = {str(file) for file in train.files if file is not None and file in valid.files}
    if both:
        print(f"{min(both)}: is both training and held-out text; what a model has read, it knows", file=sys.stderr)


def _describe_reading(parts: Sequence[Progress], n_bytes: int, seconds: float) -> str:
    """Return how much was read, in words."""
    n_lines, n_blank = (sum(counts) for counts in ([p.n_lines for p in parts], [p.n_blank_lines for p in parts]))
    lines = f"{n_lines:,} lines, {n_blank:,} of them blank"
    return f"{lines}: {n_bytes / 1e6:.1f} MB of text in {seconds:.1f} s: {n_bytes / 1e6 / seconds:.1f} MB/s"


class _Opened(NamedTuple):
    documents: Iterator[list[str]]
    progress: Progress
    files: Sequence[Path | None] = ()


def _open(text: list[str] | DatasetText, tokenizer: SentenceTokenizer, show_progress: bool) -> _Opened:
    """Find files, or open a dataset."""
    progress = Progress()
    if isinstance(text, DatasetText):
        pretokenized = tokenizer.is_whitespace
        return _Opened(text.read_documents(progress, pretokenized=pretokenized, show_progress=show_progress), progress)
    found = find_files(text)
    return _Opened(read_documents(found, progress), progress, found)


def _tokenised(
    text: _Opened, tokenizer: SentenceTokenizer, n_workers: int, title: str, show_progress: bool
) -> Iterator[Tokenised]:
    """Tokenise text behind a progress bar (bytes of the files as they lie on disk, or rows)."""
    documents, progress, _ = text
    with tqdm(desc=title, unit=progress.unit, unit_scale=True, disable=None if show_progress else True) as bar:
        for part in tokenise_in_parallel(documents, tokenizer, n_workers=n_workers):
            bar.total = progress.n_total or None
            bar.update(progress.n_read - bar.n)
            yield part
        bar.update(progress.n_read - bar.n)
