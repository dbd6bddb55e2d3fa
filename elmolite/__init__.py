"""ELMo: pretrain a character-CNN biLSTM language model on your own text, and embed sentences fast."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elmolite.bilm import BiLM, BiLMConfig
    from elmolite.checkpoint import Checkpoint
    from elmolite.corpus import Corpus
    from elmolite.dataset_text import DatasetText
    from elmolite.elmo import ELMo
    from elmolite.errors import InputError
    from elmolite.preparation import prepare
    from elmolite.pretrain_options import load_recipe
    from elmolite.pretraining import pretrain
    from elmolite.pretraining_config import PretrainingConfig

__all__ = [
    "BiLM",
    "BiLMConfig",
    "Checkpoint",
    "Corpus",
    "DatasetText",
    "ELMo",
    "InputError",
    "PretrainingConfig",
    "load_recipe",
    "prepare",
    "pretrain",
]

_HOMES = {
    "BiLM": "bilm",
    "BiLMConfig": "bilm",
    "Checkpoint": "checkpoint",
    "Corpus": "corpus",
    "DatasetText": "dataset_text",
    "ELMo": "elmo",
    "InputError": "errors",
    "PretrainingConfig": "pretraining_config",
    "load_recipe": "pretrain_options",
    "prepare": "preparation",
    "pretrain": "pretraining",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that embedding never pays for Lightning."""
    if name not in _HOMES:
        raise AttributeError(f"module 'elmolite' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"elmolite.{_HOMES[name]}"), name)
