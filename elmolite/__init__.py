"""ELMo: pretrain a character-CNN biLSTM language model on your text, embed sentences fast, fine-tune tasks on it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elmolite.checkpoint import Checkpoint
    from elmolite.data.corpus import Corpus
    from elmolite.data.dataset_text import DatasetText
    from elmolite.data.prepare import prepare
    from elmolite.embedding.elmo import ELMo
    from elmolite.embedding.output import EmbeddingFolder
    from elmolite.embedding.pooling import CommonComponent
    from elmolite.embedding.word_cache import WordCache
    from elmolite.errors import InputError
    from elmolite.examples.columns import ExampleColumns
    from elmolite.examples.dataset import DatasetExamples
    from elmolite.finetuning import finetune
    from elmolite.finetuning_config import ClassifyConfig, EntailConfig, FinetuningConfig, InputConfig, TagConfig
    from elmolite.nn.bilm import BiLM, BiLMConfig
    from elmolite.nn.scalar_mix import ScalarMix
    from elmolite.pretrain_options import load_recipe
    from elmolite.pretraining.config import PretrainingConfig
    from elmolite.pretraining.trainer import pretrain
    from elmolite.task_checkpoint import TaskCheckpoint

__all__ = [
    "BiLM",
    "BiLMConfig",
    "Checkpoint",
    "ClassifyConfig",
    "CommonComponent",
    "Corpus",
    "DatasetExamples",
    "DatasetText",
    "ELMo",
    "EmbeddingFolder",
    "EntailConfig",
    "ExampleColumns",
    "FinetuningConfig",
    "InputConfig",
    "InputError",
    "PretrainingConfig",
    "ScalarMix",
    "TagConfig",
    "TaskCheckpoint",
    "WordCache",
    "finetune",
    "load_recipe",
    "prepare",
    "pretrain",
]

_HOMES = {
    "BiLM": "nn.bilm",
    "BiLMConfig": "nn.bilm",
    "Checkpoint": "checkpoint",
    "ClassifyConfig": "finetuning_config",
    "CommonComponent": "embedding.pooling",
    "Corpus": "data.corpus",
    "DatasetExamples": "examples.dataset",
    "DatasetText": "data.dataset_text",
    "ELMo": "embedding.elmo",
    "EmbeddingFolder": "embedding.output",
    "EntailConfig": "finetuning_config",
    "ExampleColumns": "examples.columns",
    "FinetuningConfig": "finetuning_config",
    "InputConfig": "finetuning_config",
    "InputError": "errors",
    "PretrainingConfig": "pretraining.config",
    "ScalarMix": "nn.scalar_mix",
    "TagConfig": "finetuning_config",
    "TaskCheckpoint": "task_checkpoint",
    "WordCache": "embedding.word_cache",
    "finetune": "finetuning",
    "load_recipe": "pretrain_options",
    "prepare": "data.prepare",
    "pretrain": "pretraining.trainer",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that embedding never pays for Lightning."""
    if name not in _HOMES:
        raise AttributeError(f"module 'elmolite' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"elmolite.{_HOMES[name]}"), name)
