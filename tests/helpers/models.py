"""Language models with random weights."""

import torch

from elmolite.data.indexers import ByteIndexer
from elmolite.nn.bilm import BiLM, BiLMConfig


def make_bilm(config: BiLMConfig, indexer=None, *, seed=None) -> BiLM:
    """Return a model that reads the ids of an indexer, bytes by default."""
    if seed is not None:
        torch.manual_seed(seed)
    return BiLM(config, **(indexer or ByteIndexer()).sizes())
