"""Texts and corpora of a small random language, and the shared data."""

import random
from pathlib import Path

import pytest

from elmolite.data.corpus import Corpus
from elmolite.data.prepare import prepare
from elmolite.data.tokenization import SentenceTokenizer

SHARED = Path(__file__).parents[3] / "shared" / "data"

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not beside the checkout")


def random_sentences(n, *, seed=0, words=None):
    """Sentences in which a word depends on the one before; no two are alike by design."""
    rng = random.Random(seed)
    words = words or [a + b for a in ("ba", "do", "ki", "lu", "me", "ra") for b in ("n", "st", "ve", "ly", "é")]
    sentences = []
    for _ in range(n):
        at = rng.randrange(len(words))
        sentence = []
        for _ in range(rng.randint(1, 12)):
            sentence.append(words[at])
            at = (at * 7 + rng.randint(1, 3)) % len(words)
        sentences.append(sentence)
    return sentences


def write_sentences(path, sentences, *, document_every=10):
    lines = []
    for number, sentence in enumerate(sentences):
        if number and number % document_every == 0:
            lines.append("")
        lines.append(" ".join(sentence))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def make_corpus(folder, sentences, **options) -> Corpus:
    folder.mkdir(parents=True, exist_ok=True)
    text = write_sentences(folder / "text.txt", sentences)
    options = {"tokenizer": SentenceTokenizer.whitespace(), "show_progress": False, **options}
    return prepare([str(text)], folder / "corpus", **options)
