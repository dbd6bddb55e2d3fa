"""Text of any size is prepared in the same memory, and any place of it is read at once.

This is at a small size; with ``ELMOLITE_BIG=1`` the text in the shared data folder is measured too, and ten times that
with more and more distinct words, for half an hour (recipes/bench/big_corpus.py).
"""

import json
import os
import random
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED, needs_shared, write_sentences

from elmolite.data import corpus_writer
from elmolite.data.bptt import BPTTBatches
from elmolite.data.corpus import Split
from elmolite.data.prepare import prepare
from elmolite.data.tokenization import SentenceTokenizer

IS_LONG = bool(os.environ.get("ELMOLITE_RELIABILITY"))
BENCH = Path(__file__).parents[2] / "recipes" / "bench" / "big_corpus.py"


@pytest.fixture
def small_steps(monkeypatch):
    """Have small texts go through as many steps as large ones."""
    monkeypatch.setattr("elmolite.data.prepare._TASK_CHARACTERS", 1 << 12)
    monkeypatch.setattr(corpus_writer, "_CHUNK", 1 << 10)
    monkeypatch.setattr(corpus_writer, "_CHUNK_WORDS", 1 << 8)


def peak_of(folder, sentences):
    """Return the most memory that preparing a text took, in bytes."""
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
    peak_of(tmp_path / "first", sentences * 30)  # what is made once in a process
    small, large = peak_of(tmp_path / "small", sentences), peak_of(tmp_path / "large", sentences * 30)
    assert large - small < 4 * 29 * len(sentences)  # less than 4 bytes a sentence: an offset of each has 8


def test_memory_of_preparing_is_hundreds_of_bytes_a_word_type(tmp_path, small_steps):
    few, many = 2_000, 20_000
    sentences = [[f"w{random.Random(i).getrandbits(40)}"] for i in range(many)]
    peak_of(tmp_path / "first", sentences[:few])
    small, large = peak_of(tmp_path / "few", sentences[:few]), peak_of(tmp_path / "many", sentences)
    assert (large - small) / (many - few) < 350


@pytest.mark.parametrize("n_documents", [10_000_000 if IS_LONG else 200_000])
def test_a_step_of_the_fifth_epoch_is_there_in_seconds_however_many_documents_there_are(corpus, n_documents):
    """With ten million, of a sentence each, there are 200 million positions; an epoch's order takes half a second."""
    sentences = np.append(0, np.cumsum(np.random.default_rng(0).integers(2, 40, n_documents)))
    tokens = np.full(sentences[-1], 2, np.uint32)
    tokens[sentences[:-1]] = 0
    split = Split(tokens, sentences, np.arange(n_documents + 1))
    begun = time.perf_counter()
    streams = BPTTBatches(corpus, split, 32, 20, seed=0)
    batch = streams.batch(4 * streams.epoch_steps(0) + 100)
    seconds = time.perf_counter() - begun
    print(f"{seconds:.1f} s")
    assert seconds < 5
    assert batch.n_targets == 32 * 20


@pytest.mark.skipif("ELMOLITE_BIG" not in os.environ, reason="takes half an hour; ELMOLITE_BIG=1")
@needs_shared
def test_ten_times_the_shared_text(tmp_path):
    texts = [str(SHARED / "lm" / f"{name}.train.txt.gz") for name in ("books", "speeches", "wikipedia")]
    command = [sys.executable, str(BENCH), *texts, "--folder", str(tmp_path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    results = [json.loads(line) for line in said.splitlines()]
    print(said)
    once, ten_times = (result for result in results if result["measure"] == "prepare")
    assert ten_times["tokens"] > 9.9 * once["tokens"] > 190e6
    assert ten_times["distinct"] > 3 * once["distinct"]
    assert max(once["peak_mib"], ten_times["peak_mib"]) <= 1024
    (training,) = (result for result in results if result["measure"] == "pretrain")
    assert training["seconds_to_first_step"] < 10
    _, middle, end = (value for name, value in training.items() if name.startswith("anonymous"))
    assert end - middle < 16  # MiB in 500 steps
    assert all(result["first_step"] < 5 for result in results if result["measure"] == "first step")
