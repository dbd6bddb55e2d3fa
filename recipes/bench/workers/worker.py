"""What all workers share: a system is loaded, then every line of JSON is answered with one, until there are no more.

A worker is started as ``PYTHON NAME_worker.py SETTINGS``, with the settings as JSON; its first line says what was
loaded. Runs on the Python that the system needs, 3.7 or later, and imports nothing but numpy.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np

N_SAMPLED = 256
"""Sentences on which the batch sizes are tried."""


class Embedder:
    """A system: sentences, lists of tokens, -> vectors of each as numpy arrays.

    :ivar versions: of its packages.
    """

    versions: dict[str, str]

    def embed_batch(self, batch: list[list[str]]) -> list[Any]:
        """Return the vectors of a batch, for each sentence all layers of its tokens, (layers, tokens, size)."""
        raise NotImplementedError

    def embed(self, sentences: list[list[str]], batch_size: int) -> list[Any]:
        """Return the vectors of all sentences in order; like lengths stand in a batch, for the least padding."""
        found = [None] * len(sentences)
        for places in _batches(sentences, batch_size):
            for place, vectors in zip(places, self.embed_batch([sentences[i] for i in places])):
                found[place] = vectors
        return found

    def run_through(self, sentences: list[list[str]], batch_size: int) -> None:
        """Embed all sentences, and drop the vectors of each batch."""
        for places in _batches(sentences, batch_size):
            self.embed_batch([sentences[i] for i in places])

    def forget(self) -> None:
        """Forget the words that were seen before: nothing, where a system keeps none."""


def _batches(sentences: list[list[str]], batch_size: int) -> list[list[int]]:
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


class Requests:
    """What a worker can be asked; a method for each, whose arguments and result are JSON."""

    def __init__(
        self, embedder: Embedder, sentences: list[list[str]], *, batch_sizes: list[int], new_words: bool
    ) -> None:
        """:param new_words: forget the words that were seen before each call that is timed."""
        self.embedder = embedder
        self.sentences = sentences
        self.batch_sizes = batch_sizes
        self.batch_size = batch_sizes[0]
        self.new_words = new_words

    def warm_up(self) -> dict[str, Any]:
        """Try the batch sizes on a sample, and keep the best; where words may be known, embed all sentences.

        The sample is of the middle lengths, so that its batches have no more padding than those of all sentences.
        """
        by_length = sorted(self.sentences, key=len)
        start = max(0, len(by_length) - N_SAMPLED) // 2
        sample = by_length[start : start + N_SAMPLED]
        seconds = {}
        self.embedder.embed(sample, self.batch_size)  # the first call is slow
        for size in self.batch_sizes:
            start = time.perf_counter()
            self.embedder.embed(sample, size)
            seconds[size] = round(time.perf_counter() - start, 4)
        self.batch_size = min(seconds, key=seconds.get)
        if not self.new_words:
            self.embedder.embed(self.sentences, self.batch_size)
        return {"batch_size": self.batch_size, "seconds_by_batch_size": seconds}

    def time(self, one_by_one: bool = False) -> dict[str, Any]:
        """Embed all sentences in one call, or in a call each; return the seconds of each call."""
        seconds = []
        for call in [[sentence] for sentence in self.sentences] if one_by_one else [self.sentences]:
            if self.new_words:
                self.embedder.forget()
            start = time.perf_counter()
            found = self.embedder.embed(call, self.batch_size)
            seconds.append(time.perf_counter() - start)
            del found
        return {"seconds": seconds}

    def run_through(self) -> dict[str, Any]:
        """Embed all sentences and keep none of the vectors."""
        self.embedder.run_through(self.sentences, self.batch_size)
        return {}

    def save(self, path: str) -> dict[str, Any]:
        """Write the vectors of all sentences into an .npz file."""
        np.savez(path, *self.embedder.embed(self.sentences, self.batch_size))
        return {}


class Connection:
    """The comparison at the other end: its requests, and the answers to them.

    :ivar settings: of this worker.
    :ivar sentences: what all systems read.
    """

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what a system prints goes where its log goes
        self.settings = json.loads(sys.argv[1])
        self.sentences = json.loads(Path(self.settings["sentences"]).read_text(encoding="utf-8"))
        self._started = time.perf_counter()

    def answer(self, content: dict[str, Any]) -> None:
        """Send an answer."""
        self._answers.write(json.dumps(content) + "\n")
        self._answers.flush()

    def is_loaded(self, versions: dict[str, str]) -> None:
        """Say that the system can take requests, and which one it is."""
        seconds = round(time.perf_counter() - self._started, 1)
        self.answer({"versions": dict(versions, python=platform.python_version()), "load_seconds": seconds})

    def requests(self) -> Iterator[dict[str, Any]]:
        """Wait for each request."""
        for line in sys.stdin:
            yield json.loads(line)


def serve(load: Callable[[dict[str, Any], list[list[str]]], Embedder]) -> None:
    """Load a system that embeds, and answer requests.

    :param load: settings, sentences -> :class:`Embedder`.
    """
    connection = Connection()
    settings, sentences = connection.settings, connection.sentences
    embedder = load(settings, sentences)
    connection.is_loaded(embedder.versions)
    requests = Requests(embedder, sentences, batch_sizes=settings["batch_sizes"], new_words=settings["new_words"])
    for request in connection.requests():
        connection.answer(getattr(requests, request.pop("do"))(**request))
