"""Options and fixtures. Modules that import torch are imported by the fixtures that need them."""

import os

# Before torch is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("quick", max_examples=12, deadline=None, derandomize=True, suppress_health_check=HealthCheck)
settings.register_profile("all", settings.get_profile("quick"), max_examples=84)  # 1,008 in make test-all
settings.load_profile("quick")


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="every case of tests/reliability instead of a sample")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "reliability" in item.path.parts:
            item.add_marker("reliability")
    if not config.getoption("full"):
        left_out = [item for item in items if item.get_closest_marker("full")]
        items[:] = [item for item in items if not item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def is_full(pytestconfig) -> bool:
    """Whether every case is tested, or a sample."""
    return pytestconfig.getoption("full")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    from helpers.data import make_corpus, random_sentences

    return make_corpus(tmp_path_factory.mktemp("corpus"), random_sentences(400))


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, corpus) -> Path:
    """Folder of a pretraining run of 12 steps; not to be changed."""
    from helpers.pretraining import train

    return train(corpus, tmp_path_factory.mktemp("pretraining") / "run").parent


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
def bilm():
    from helpers.models import make_bilm, small_config

    return make_bilm(small_config(), seed=1).eval()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, corpus) -> Path:
    from helpers.models import make_bilm, small_config

    from elmolite.checkpoint import Checkpoint
    from elmolite.nn.softmax import FullSoftmax

    bilm = make_bilm(small_config(), seed=2)
    softmax = FullSoftmax(vocabulary_size=len(corpus.vocabulary), projection_size=bilm.config.projection_size)
    folder = tmp_path_factory.mktemp("models") / "model"
    Checkpoint(bilm, corpus.tokenizer, corpus.characters, softmax, corpus.vocabulary).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tasks(tmp_path_factory, model_folder):
    """A trained task of each kind; see ``train_every_kind``."""
    from helpers.small_tasks import train_every_kind

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elmolite.tasks.finetune._draw", lambda *of_the_run: None)
        return train_every_kind(model_folder, tmp_path_factory.mktemp("tasks"))
