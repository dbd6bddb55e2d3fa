import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import make_bilm

from elmolite.checkpoint import Checkpoint
from elmolite.data.corpus import Corpus
from elmolite.data.prepare import prepare
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.nn.bilm import BiLM, BiLMConfig
from elmolite.nn.softmax import FullSoftmax
from elmolite.pretraining.checkpointing import TrainingCheckpoints, load_checkpoint
from elmolite.tasks.examples.records import ExampleColumns
from elmolite.tasks.examples.sources import read_examples

SHARED = Path(__file__).parents[2] / "shared" / "data"

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not beside the checkout")


def pytest_configure(config):
    # Two threads are what results are compared under; workers of a test runner would fight over more.
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(2, os.cpu_count() or 1))


def pytest_collection_modifyitems(items):
    for item in items:
        if "reliability" in item.path.parts:
            item.add_marker("reliability")


def random_sentences(n, *, seed=0, words=None):
    """Sentences of a small random language in which a word depends on the one before; no two are alike by design."""
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


def examples_of(path, content, task, *, needs_labels=True, **columns):
    """Sentences and labels of what a file with this content holds."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = read_examples(path, task, ExampleColumns(**columns), needs_labels=needs_labels)
    return [(*example.sentences, example.labels) for example in found.examples]


def training_checkpoint(out) -> dict[str, Any]:
    """Return the latest training checkpoint of a run."""
    return load_checkpoint(TrainingCheckpoints(out).paths()[0])


def small_config(**changes) -> BiLMConfig:
    sizes = {"filters": [(1, 8), (2, 8), (3, 16)], "cell_size": 24, "projection_size": 12, "n_highway_layers": 1}
    return BiLMConfig(**{**sizes, **changes})


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"), random_sentences(400))


@pytest.fixture
def dataset_cache(tmp_path, monkeypatch) -> Path:
    """A cache of Hugging Face datasets of the test's own, and no network."""
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> Path:
    """The user's cache of layers, which is the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches" / "elmolite"


@pytest.fixture
def no_pictures(monkeypatch):
    """They take longer than the training of a small model."""
    monkeypatch.setattr("elmolite.tasks.finetune._draw", lambda *of_the_run: None)


@pytest.fixture
def bilm() -> BiLM:
    torch.manual_seed(1)
    return make_bilm(small_config()).eval()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, corpus) -> Path:
    torch.manual_seed(2)
    config = small_config()
    softmax = FullSoftmax(vocabulary_size=len(corpus.vocabulary), projection_size=config.projection_size)
    folder = tmp_path_factory.mktemp("models") / "model"
    Checkpoint(make_bilm(config), corpus.tokenizer, corpus.characters, softmax, corpus.vocabulary).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="session")
def tasks(tmp_path_factory, model_folder):
    """A trained task of each kind; see ``train_every_kind``."""
    from helpers.small_tasks import train_every_kind

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elmolite.tasks.finetune._draw", lambda *of_the_run: None)
        return train_every_kind(model_folder, tmp_path_factory.mktemp("tasks"))
