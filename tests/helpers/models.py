"""Language models with random weights."""

import numpy as np
import torch

from elmolite.data.indexers import ByteIndexer
from elmolite.nn.bilm import BiLM
from elmolite.nn.config import BiLMConfig


def small_config(**changes) -> BiLMConfig:
    sizes = {"filters": [(1, 8), (2, 8), (3, 16)], "cell_size": 24, "projection_size": 12, "n_highway_layers": 1}
    return BiLMConfig(**{**sizes, **changes})


def make_bilm(config: BiLMConfig, indexer=None, *, seed=None) -> BiLM:
    """Return a model that reads the ids of an indexer, bytes by default."""
    if seed is not None:
        torch.manual_seed(seed)
    return BiLM(config, **(indexer or ByteIndexer()).sizes())


def assert_close(found, expected, *, rtol=1e-5, atol=2e-6):
    """Compare the vectors of sentences."""
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)
