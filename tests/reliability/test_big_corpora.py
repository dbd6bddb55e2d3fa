"""Memory of preparing a corpus does not grow with the text; ``recipes/bench/big_corpus.py`` measures large ones."""

import random
import tracemalloc

import pytest
from helpers.data import write_sentences

from elmolite.data import corpus_writer
from elmolite.data.prepare import prepare
from elmolite.data.tokenization import SentenceTokenizer


@pytest.fixture
def small_steps(monkeypatch):
    """Split small texts into as many parts as large ones."""
    monkeypatch.setattr("elmolite.data.prepare._TASK_CHARACTERS", 1 << 12)
    monkeypatch.setattr(corpus_writer, "_CHUNK", 1 << 10)
    monkeypatch.setattr(corpus_writer, "_CHUNK_WORDS", 1 << 8)


def peak_of(folder, sentences):
    """Return the peak memory of preparing a text, in bytes."""
    folder.mkdir()
    write_sentences(folder / "text.txt", sentences)
    tracemalloc.start()
    prepare(
        str(folder / "text.txt"),
        folder / "corpus",
        tokenizer=SentenceTokenizer.whitespace(),
        vocab_size=100,
        n_workers=1,
        show_progress=False,
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_of_preparing_does_not_grow_with_the_text(tmp_path, small_steps):
    sentences = [["a", f"b{i % 50}"] for i in range(5_000)]
    peak_of(tmp_path / "first", sentences)  # warm up
    small, large = peak_of(tmp_path / "small", sentences), peak_of(tmp_path / "large", sentences * 15)
    assert large - small < 4 * 14 * len(sentences)  # 4 bytes a sentence; its offset has 8


def test_memory_of_preparing_is_bounded_by_word_type(tmp_path, small_steps):
    few, many = 2_000, 10_000
    sentences = [[f"w{random.Random(i).getrandbits(40)}"] for i in range(many)]
    peak_of(tmp_path / "first", sentences[:few])
    small, large = peak_of(tmp_path / "few", sentences[:few]), peak_of(tmp_path / "many", sentences)
    assert (large - small) / (many - few) < 350
