"""What the comparisons with other systems read: the language reference behind ``help()``, or a text of the user's.

Every machine has the reference, so that anybody can take the same sentences.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from elmolite.data.text import find_files, read_documents
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.demo.docstrings import topics


def sentences(count: int, least: int = 15, most: int = 35) -> list[list[str]]:
    """Return the first sentences of ``least`` to ``most`` tokens."""
    return list(islice((each for each in _reference() if least <= len(each) <= most), count))


def beginnings(count: int, length: int) -> list[list[str]]:
    """Return the first tokens of sentences that have so many."""
    return [each[:length] for each in sentences(count, length, 4 * length)]


def running_text(n_words: int, path: str | None = None) -> list[list[str]]:
    """Return sentences one after the other until they have ``n_words`` tokens, or there are no more.

    :param path: a text, a paragraph a line; ``None`` for the reference.
    """
    found: list[list[str]] = []
    for sentence in _reference() if path is None else _of_file(path):
        if n_words <= 0:
            break
        found.append(sentence[:n_words])
        n_words -= len(sentence)
    return found


def training_text(path: str | None = None) -> list[list[str]]:
    """Return all sentences of a text.

    :param path: a sentence a line, its tokens between spaces; ``None`` for the reference.
    """
    if path is None:
        return list(_reference())
    cut = SentenceTokenizer.whitespace().sentences
    return [sentence for document in read_documents(find_files([path])) for line in document for sentence in cut(line)]


def _reference() -> Iterator[list[str]]:
    tokenizer = SentenceTokenizer.english()
    return (sentence for topic in topics() for paragraph in topic for sentence in tokenizer.sentences(paragraph))


def _of_file(path: str) -> Iterator[list[str]]:
    tokenizer = SentenceTokenizer.english()
    lines = (line for document in read_documents(find_files([path])) for line in document)
    return (sentence for line in lines for sentence in tokenizer.sentences(line))
