"""Documents -> word forms as numbers, in as many processes as there are cores."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from elmolite.data import word_forms
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.worker_pool import worker_pool
from elmolite.errors import InputError

TASK_CHARACTERS = 1_000_000
"""Text that a worker takes at once."""


@dataclass
class Tokenised:
    """Some documents as word forms numbered in the order in which they appear, 0 in front of each sentence."""

    words: bytes  # the distinct ones, a newline behind each; form i + 1 is line i
    digests: NDArray[np.uint64]  # of the words, (number of words, 2)
    ids: NDArray[np.uint32]
    document_lengths: NDArray[np.int64]  # in ids
    n_bytes: int


class _Numbering(dict[str, int]):
    """Word form -> number, a new one for a new form, from 1 on."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self) + 1
        return number


def tokenise(tokenizer: SentenceTokenizer, documents: Iterable[list[str]]) -> Tokenised:
    """Cut documents (lists of lines) into sentences and word forms.

    :raises InputError: a token has a line end in it.
    """
    numbering = _Numbering()
    ids: list[int] = []
    lengths: list[int] = []
    n_bytes = 0
    for document in documents:
        before = len(ids)
        for line in document:
            encoded = line.encode("utf-8", "replace")  # lone surrogates, for which UTF-8 has no bytes, become "?"
            n_bytes += len(encoded) + 1
            for sentence in tokenizer.sentences(encoded.decode()):
                ids.append(0)
                ids.extend(map(numbering.__getitem__, sentence))
        lengths.append(len(ids) - before)
    for word in numbering:
        if "\n" in word:
            raise InputError(f"the tokenizer leaves a line end in the token {word!r}: corpora have a word a line")
    words = [word.encode() for word in numbering]
    return Tokenised(
        b"".join(word + b"\n" for word in words),
        word_forms.digests(words),
        np.array(ids, np.uint32),
        np.array(lengths, np.int64),
        n_bytes,
    )


_worker_tokenizer: SentenceTokenizer


def _start_worker(tokenizer: bytes) -> None:
    global _worker_tokenizer
    _worker_tokenizer = SentenceTokenizer.from_bytes(tokenizer)


def _run_worker(documents: list[list[str]]) -> Tokenised:
    return tokenise(_worker_tokenizer, documents)


def _tasks(documents: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    """Group documents into tasks of about the same size."""
    task: list[list[str]] = []
    size = 0
    for document in documents:
        task.append(document)
        size += sum(map(len, document))
        if size >= TASK_CHARACTERS:
            yield task
            task, size = [], 0
    if task:
        yield task


def tokenise_in_parallel(
    documents: Iterable[list[str]], tokenizer: SentenceTokenizer, *, n_workers: int
) -> Iterator[Tokenised]:
    """Tokenise documents in order; text of one task needs no other process."""
    tasks = _tasks(documents)
    first = list(islice(tasks, 2))
    if len(first) < 2 or n_workers == 1:
        for task in chain(first, tasks):
            yield tokenise(tokenizer, task)
        return
    running: deque[Future[Tokenised]] = deque()
    with worker_pool(n_workers, at_start=_start_worker, arguments=(tokenizer.to_bytes(),)) as pool:
        for task in chain(first, tasks):
            running.append(pool.submit(_run_worker, task))
            if len(running) > 2 * n_workers:
                yield _result(running.popleft())
        while running:
            yield _result(running.popleft())


def _result(task: Future[Tokenised]) -> Tokenised:
    try:
        return task.result()
    except BrokenProcessPool:
        raise InputError("a worker was killed, probably for want of memory: try fewer --workers") from None
