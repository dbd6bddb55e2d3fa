"""Prepare a corpus: tokenize text in parallel and write it as a corpus folder."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmolite.data import vocab
from elmolite.data.corpus import SUMMARY_FILE, Corpus
from elmolite.data.corpus_writer import CorpusWriter, TokenizedDocuments
from elmolite.data.hf_datasets import DatasetText
from elmolite.data.indexers import INDEXERS, CharacterIndexer
from elmolite.data.text import Progress, find_files, read_documents
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import Vocabulary
from elmolite.errors import InputError, check_choice
from elmolite.utils import folders
from elmolite.utils.console import ProgressBar, byte_size, n_of

logger = logging.getLogger("elmolite")

MIN_COUNT = 2
"""Default minimum count of a word of the vocabulary."""

_TASK_CHARACTERS = 1_000_000  # tokenized by a worker at once


def tokenize_documents(tokenizer: SentenceTokenizer, documents: Iterable[list[str]]) -> TokenizedDocuments:
    """Split documents (lists of lines) into sentences and words."""
    pieces: list[str] = []
    piece_ends = [0]
    n_bytes = 0
    for document in documents:
        encoded = [line.encode("utf-8", "replace") for line in document]  # lone surrogates become "?"
        n_bytes += sum(map(len, encoded)) + len(encoded)
        pieces += tokenizer.pieces(map(bytes.decode, encoded))
        piece_ends.append(len(pieces))
    words, ids, lengths = _encode(tokenizer, pieces)
    for word in words:
        if "\n" in word:
            raise InputError(f"the tokenizer leaves a line end in the token {word!r}; a corpus cannot store it")
    is_kept = (ids != 0) | (np.concatenate([[0], ids])[:-1] != 0)  # no empty sentence
    n_kept = np.concatenate([[0], np.cumsum(is_kept)])
    document_ends = n_kept[np.concatenate([[0], np.cumsum(lengths)])[piece_ends]]
    # so far 0 is at the end of each sentence, not before it
    return TokenizedDocuments(words, np.roll(ids[is_kept], 1), np.diff(document_ends), n_bytes)


def _encode(tokenizer: SentenceTokenizer, pieces: list[str]) -> tuple[list[str], NDArray[np.uint32], NDArray[np.int64]]:
    """Return the distinct words of pieces, their tokens as numbers from 1 (0: line end), and the length of each piece.

    Python handles the tokens of distinct pieces, a tenth of all, and NumPy the rest.
    """
    piece_numbers: defaultdict[str, int] = defaultdict(count().__next__)
    numbers = np.fromiter(map(piece_numbers.__getitem__, pieces), np.int64, len(pieces))
    tokens = tokenizer.tokens_of(list(piece_numbers))
    word_numbers: defaultdict[str, int] = defaultdict(count(1).__next__, {"\n": 0})
    ids = np.fromiter(map(word_numbers.__getitem__, chain.from_iterable(tokens)), np.uint32)
    lengths = np.fromiter(map(len, tokens), np.int64)
    begins = (np.cumsum(lengths) - lengths)[numbers]
    lengths = lengths[numbers]
    shifts = begins - (np.cumsum(lengths) - lengths)
    return list(word_numbers)[1:], ids[np.arange(lengths.sum()) + np.repeat(shifts, lengths)], lengths


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

    pool = worker_pool(n_workers)
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


def worker_pool(n_workers: int | None = None) -> Any:
    """Return a pool of processes, one a core by default, that do not import the caller's script and end with it."""
    from loky import ProcessPoolExecutor

    return ProcessPoolExecutor(n_workers, initializer=_end_with, initargs=(os.getpid(),))


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, which cannot end it if it was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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

    >>> prepare("text.txt", "prepared", n_workers=1, show_progress=False)
    Corpus('prepared', 273 training and 7 validation tokens, 10 words)

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
    :param show_progress: show progress bars and log a summary.
    :raises InputError: the text, the vocabulary or ``out`` cannot be used; nothing is written then.
    """
    from loky import cpu_count

    _check_vocabulary_options(vocabulary, vocab_size, min_count)
    _check_character_options(characters, min_character_count)
    if n_workers is not None and n_workers < 1:
        raise InputError(f"n_workers must be positive, got {n_workers}")
    tokenizer = tokenizer or SentenceTokenizer.english()
    n_workers = n_workers or cpu_count()
    started = time.perf_counter()
    with folders.writing_folder(Path(out), manifest=SUMMARY_FILE, overwrite=overwrite) as folder:
        train_text = _Text(text, tokenizer, n_workers, show_progress)
        valid_text = _Text(valid, tokenizer, n_workers, show_progress) if valid else None  # a missing one is found now
        texts = [each for each in (train_text, valid_text) if each is not None]
        if sum(each.files.count(None) for each in texts) > 1:
            raise InputError("standard input (-) can be read only once")
        hold_out = hold_out and valid_text is None
        writer = CorpusWriter(folder)
        for part in train_text.tokenize("tokenizing"):
            writer.add(part, hold_out=hold_out)
        if valid_text is not None:
            _warn_of_overlap(train_text.files, valid_text.files)
            for part in valid_text.tokenize("tokenizing the validation text"):
                writer.add_validation(part)
            if not writer.valid_spool.n_tokens:
                raise InputError("the validation text contains no tokens")
        if not writer.train_spool.n_tokens:
            raise InputError("the text contains no tokens")
        writer.sort_words(hold_out=hold_out)
        n_sentences = writer.train.n_sentences
        if vocabulary is not None:
            vocabulary = vocabulary.with_counts(writer.word_counts(), n_sentences=n_sentences)
        else:
            vocabulary = Vocabulary.from_counts(
                writer.word_counts(), n_sentences=n_sentences, max_size=vocab_size, min_count=min_count or MIN_COUNT
            )
        if isinstance(characters, str):
            characters = _character_kinds()[characters].from_counts(writer.word_counts(), min_count=min_character_count)
        writer.finish(tokenizer, vocabulary, characters)
    if show_progress:
        _log_reading(texts, time.perf_counter() - started)
    return Corpus.open(out)


def _check_vocabulary_options(vocabulary: Vocabulary | None, vocab_size: int | None, min_count: int | None) -> None:
    if vocabulary is not None and not (vocab_size is None and min_count is None):
        raise InputError("`vocab_size` and `min_count` cannot be combined with a given vocabulary")
    if vocab_size is not None and vocab_size <= len(vocab.SPECIALS):
        raise InputError(f"vocab_size must be at least {len(vocab.SPECIALS) + 1}, got {vocab_size}")
    if min_count is not None and min_count < 1:
        raise InputError(f"min_count must be positive, got {min_count}")


def _check_character_options(characters: str | CharacterIndexer, min_count: int | None) -> None:
    if isinstance(characters, str):
        check_choice("characters", characters, _character_kinds())
    if min_count is not None and characters != "unicode":
        raise InputError("min_character_count requires `characters='unicode'`")
    if min_count is not None and min_count < 1:
        raise InputError(f"min_character_count must be positive, got {min_count}")


def _character_kinds() -> dict[str, type[CharacterIndexer]]:
    return {kind: cls for kind, cls in INDEXERS.items() if issubclass(cls, CharacterIndexer)}


class _Text:
    """Text to tokenize; its files are found, or its dataset is opened, at once.

    :ivar files: empty for a dataset.
    """

    def __init__(
        self,
        source: str | Sequence[str] | DatasetText,
        tokenizer: SentenceTokenizer,
        n_workers: int,
        show_progress: bool,
    ) -> None:
        self.tokenizer = tokenizer
        self.n_workers = n_workers
        self.show_progress = show_progress
        self.progress = Progress()
        self.n_bytes = 0
        self.files: list[Path | None] = []
        if isinstance(source, DatasetText):
            self.documents = source.read_documents(
                self.progress, pretokenized=tokenizer.is_whitespace, show_progress=show_progress
            )
        else:
            self.files = find_files([source] if isinstance(source, str) else source)
            self.documents = read_documents(self.files, self.progress)

    def tokenize(self, title: str) -> Iterator[TokenizedDocuments]:
        """Tokenize the documents with a progress bar (bytes of the files on disk, or rows)."""
        progress = self.progress
        with (
            ProgressBar(title, unit=progress.unit, show=self.show_progress) as bar,
            closing(tokenize_in_parallel(self.documents, self.tokenizer, n_workers=self.n_workers)) as parts,
        ):
            for part in parts:
                bar.total = progress.n_total or None
                bar.update(progress.n_read - bar.n)
                self.n_bytes += part.n_bytes
                yield part
            bar.update(progress.n_read - bar.n)


def _warn_of_overlap(train: Sequence[Path | None], valid: Sequence[Path | None]) -> None:
    both = {str(file) for file in train if file is not None and file in valid}
    if both:
        logger.warning("%s: appears in training and validation text: validation perplexity will be too low", min(both))


def _log_reading(texts: Sequence[_Text], seconds: float) -> None:
    n_lines, n_blank = (sum(getattr(each.progress, name) for each in texts) for name in ("n_lines", "n_blank_lines"))
    n_bytes = sum(each.n_bytes for each in texts)
    speed = f"in {seconds:.1f} s ({byte_size(n_bytes / seconds)}/s)"
    logger.info(f"read {n_of(n_lines, 'line')} ({n_blank:,} blank), {byte_size(n_bytes)} of text, {speed}")
