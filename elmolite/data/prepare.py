"""Prepare a corpus: tokenize text in parallel and write it as a corpus folder."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from elmolite.data import vocab
from elmolite.data.corpus import SUMMARY_FILE, Corpus
from elmolite.data.corpus_writer import CorpusWriter
from elmolite.data.hf_datasets import DatasetText
from elmolite.data.indexers import INDEXERS, CharacterIndexer
from elmolite.data.text import Progress, find_files, read_documents
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import Vocabulary, WordCounts
from elmolite.errors import InputError
from elmolite.utils import folders

logger = logging.getLogger("elmolite")

MIN_COUNT = 2
"""Default minimum count of a word of the vocabulary."""

_TASK_CHARACTERS = 1_000_000  # tokenized by a worker at once


class TokenizedDocuments(NamedTuple):
    """Documents as numbers of their distinct words."""

    words: list[str]  # in order of appearance
    ids: NDArray[np.uint32]  # positions in words counted from 1, 0 before each sentence
    document_lengths: NDArray[np.int64]  # in ids
    n_bytes: int


class _Numbering(dict[str, int]):
    """Word -> number in order of appearance, from 1."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self) + 1
        return number


def tokenize_documents(tokenizer: SentenceTokenizer, documents: Iterable[list[str]]) -> TokenizedDocuments:
    """Split documents (lists of lines) into sentences and words."""
    numbering = _Numbering()
    ids: list[int] = []
    lengths: list[int] = []
    n_bytes = 0
    for document in documents:
        n_before = len(ids)
        for line in document:
            encoded = line.encode("utf-8", "replace")  # lone surrogates, which UTF-8 cannot encode, become "?"
            n_bytes += len(encoded) + 1
            for sentence in tokenizer.sentences(encoded.decode()):
                ids.append(0)
                ids.extend(map(numbering.__getitem__, sentence))
        lengths.append(len(ids) - n_before)
    words = list(numbering)
    for word in words:
        if "\n" in word:
            raise InputError(f"the tokenizer leaves a line end in the token {word!r}; a corpus cannot store it")
    return TokenizedDocuments(words, np.array(ids, np.uint32), np.array(lengths, np.int64), n_bytes)


def tokenize_in_parallel(
    documents: Iterable[list[str]], tokenizer: SentenceTokenizer, *, n_workers: int
) -> Generator[TokenizedDocuments]:
    """Tokenize documents in order, about a megabyte at a time, in worker processes if there is more.

    Each worker has at most two tasks waiting, so memory does not grow with the text.
    """
    tasks = _tasks(documents)
    first = list(islice(tasks, 2))
    tasks = chain(first, tasks)
    if len(first) < 2 or n_workers == 1:
        yield from (tokenize_documents(tokenizer, task) for task in tasks)
        return

    from loky import ProcessPoolExecutor  # its workers do not import the caller's script

    pool = ProcessPoolExecutor(n_workers)
    running: deque[Future[TokenizedDocuments]] = deque()
    try:
        for task in tasks:
            running.append(pool.submit(tokenize_documents, tokenizer, task))
            if len(running) > 2 * n_workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    except BrokenProcessPool:
        raise InputError("a worker process was killed, probably out of memory: use fewer workers") from None
    finally:
        pool.shutdown(kill_workers=True)


def _tasks(documents: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    """Group documents into tasks of about the same size."""
    task: list[list[str]] = []
    size = 0
    for document in documents:
        task.append(document)
        size += sum(map(len, document))
        if size >= _TASK_CHARACTERS:
            yield task
            task, size = [], 0
    if task:
        yield task


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
    characters: str | CharacterIndexer = "bytes",
    min_character_count: int | None = None,
    n_workers: int | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
) -> Corpus:
    """Tokenize text and write it as a corpus folder.

    :param text: one or several files, folders, globs or ``-``; or a dataset.
    :param out: the folder to write.
    :param valid: validation text.
    :param hold_out: without validation text, set every hundredth document aside, up to 200,000 tokens; of fewer than a
        hundred documents, the last hundredth of the text.
    :param tokenizer: ``None`` for :meth:`SentenceTokenizer.english`.
    :param vocab_size: maximum number of words of the softmax, the three specials included; ``None`` for all.
    :param min_count: minimum count of a word of the vocabulary; ``None`` for 2: from words that occur once the model
        learns to expect unknown words.
    :param vocabulary: a given vocabulary, whose words are counted anew.
    :param characters: the symbols of a token: ``"bytes"`` (UTF-8), ``"unicode"`` (the characters of the training text)
        or the indexer of a model (``Checkpoint.characters``).
    :param min_character_count: minimum count of a Unicode character with an id of its own; ``None`` for 5.
    :param n_workers: number of processes; ``None`` for one a core.
    :param overwrite: replace ``out`` if it exists.
    :raises InputError: the text, the vocabulary or ``out`` cannot be used; nothing is written then.
    """
    from loky import cpu_count

    text, valid = (_sources(part) for part in (text, valid))
    if sum(part.count("-") for part in (text, valid) if isinstance(part, list)) > 1:
        raise InputError("standard input (-) can be read only once")
    for name, value in (
        ("min_count", min_count),
        ("min_character_count", min_character_count),
        ("n_workers", n_workers),
    ):
        if value is not None and value < 1:
            raise InputError(f"{name} must be positive, got {value}")
    choose_vocabulary = _vocabulary_chooser(vocabulary, vocab_size, min_count)
    choose_characters = _characters_chooser(characters, min_character_count)
    tokenizer = tokenizer or SentenceTokenizer.english()
    n_workers = n_workers or cpu_count()
    started = time.perf_counter()
    out = Path(out)
    n_bytes = 0
    with (
        folders.writing_folder(out, manifest=SUMMARY_FILE, overwrite=overwrite) as folder,
        closing(CorpusWriter(folder)) as writer,
    ):
        train_text = _open(text, tokenizer, show_progress)
        valid_text = _open(valid, tokenizer, show_progress) if valid else None  # a missing one is an error at once
        for part in _tokenized(train_text, tokenizer, n_workers, "tokenizing", show_progress):
            writer.add(*part[:3], hold_out=hold_out and valid_text is None)
            n_bytes += part.n_bytes
        if valid_text is not None:
            _warn_of_overlap(train_text, valid_text)
            for part in _tokenized(valid_text, tokenizer, n_workers, "validation text", show_progress):
                writer.add_validation(*part[:3])
                n_bytes += part.n_bytes
            if not writer.valid.n_tokens:
                raise InputError("the validation text contains no tokens")
        if not writer.train.n_tokens:
            raise InputError("the text contains no tokens")
        writer.finish(tokenizer, choose_vocabulary, choose_characters, hold_out=hold_out and valid_text is None)
    if show_progress:
        progress = [part.progress for part in (train_text, valid_text) if part is not None]
        logger.info(_describe_reading(progress, n_bytes, time.perf_counter() - started))
    return Corpus.open(out)


def _vocabulary_chooser(
    given: Vocabulary | None, max_size: int | None, min_count: int | None
) -> Callable[[WordCounts, int], Vocabulary]:
    """Return the function from the counts of the word types and the number of sentences to the vocabulary."""
    if given is not None:
        if max_size is not None or min_count is not None:
            raise InputError("vocab_size and min_count cannot be combined with a given vocabulary")
        return lambda counts, n_sentences: given.with_counts(counts, n_sentences=n_sentences)
    if max_size is not None and max_size <= len(vocab.SPECIALS):
        raise InputError(f"vocab_size must be at least {len(vocab.SPECIALS) + 1}, got {max_size}")
    least = MIN_COUNT if min_count is None else min_count
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


def _sources(text: str | Sequence[str] | DatasetText) -> list[str] | DatasetText:
    if isinstance(text, DatasetText):
        return text
    return [text] if isinstance(text, str) else list(text)


class _Opened(NamedTuple):
    documents: Iterator[list[str]]
    progress: Progress
    files: Sequence[Path | None] = ()


def _open(text: list[str] | DatasetText, tokenizer: SentenceTokenizer, show_progress: bool) -> _Opened:
    """Find the files or open the dataset."""
    progress = Progress()
    if isinstance(text, DatasetText):
        pretokenized = tokenizer.is_whitespace
        return _Opened(text.read_documents(progress, pretokenized=pretokenized, show_progress=show_progress), progress)
    found = find_files(text)
    return _Opened(read_documents(found, progress), progress, found)


def _tokenized(
    text: _Opened, tokenizer: SentenceTokenizer, n_workers: int, title: str, show_progress: bool
) -> Iterator[TokenizedDocuments]:
    """Tokenize text with a progress bar (bytes of the files on disk, or rows)."""
    documents, progress, _ = text
    with (
        tqdm(desc=title, unit=progress.unit, unit_scale=True, disable=None if show_progress else True) as bar,
        closing(tokenize_in_parallel(documents, tokenizer, n_workers=n_workers)) as parts,
    ):
        for part in parts:
            bar.total = progress.n_total or None
            bar.update(progress.n_read - bar.n)
            yield part
        bar.update(progress.n_read - bar.n)


def _warn_of_overlap(train: _Opened, valid: _Opened) -> None:
    """Warn about files in both texts."""
    both = {str(file) for file in train.files if file is not None and file in valid.files}
    if both:
        logger.warning("%s: appears in training and validation text: validation perplexity will be too low", min(both))


def _describe_reading(parts: Sequence[Progress], n_bytes: int, seconds: float) -> str:
    """Return the amount and speed of reading, in words."""
    n_lines, n_blank = sum(part.n_lines for part in parts), sum(part.n_blank_lines for part in parts)
    megabytes = n_bytes / 1e6
    speed = f"in {seconds:.1f} s ({megabytes / seconds:.1f} MB/s)"
    return f"read {n_lines:,} lines ({n_blank:,} blank), {megabytes:.1f} MB of text, {speed}"
