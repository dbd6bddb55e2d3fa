"""ELMo: pretrain a character-CNN biLSTM language model on your text, embed sentences fast, fine-tune tasks on it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str

    from elmolite.checkpoint import Checkpoint
    from elmolite.cli.commands import load_recipe
    from elmolite.data.corpus import Corpus
    from elmolite.data.hf_datasets import DatasetText
    from elmolite.data.prepare import prepare
    from elmolite.embedding.elmo import ELMo
    from elmolite.embedding.output import EmbeddingFolder
    from elmolite.embedding.pooling import CommonComponent
    from elmolite.embedding.word_cache import WordCache
    from elmolite.errors import InputError
    from elmolite.nn.bilm import BiLM, BiLMConfig
    from elmolite.nn.scalar_mix import ScalarMix
    from elmolite.pretraining.config import PretrainingConfig
    from elmolite.pretraining.trainer import pretrain
    from elmolite.tasks.checkpoint import TaskCheckpoint
    from elmolite.tasks.config import FinetuningConfig, InputConfig
    from elmolite.tasks.examples.hf_datasets import DatasetExamples
    from elmolite.tasks.examples.records import ExampleColumns
    from elmolite.tasks.finetune import finetune
    from elmolite.tasks.heads import ClassifyConfig, EntailConfig, TagConfig, TokenFeatures

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
    "TokenFeatures",
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
    "ClassifyConfig": "tasks.heads",
    "CommonComponent": "embedding.pooling",
    "Corpus": "data.corpus",
    "DatasetExamples": "tasks.examples.hf_datasets",
    "DatasetText": "data.hf_datasets",
    "ELMo": "embedding.elmo",
    "EmbeddingFolder": "embedding.output",
    "EntailConfig": "tasks.heads",
    "ExampleColumns": "tasks.examples.records",
    "FinetuningConfig": "tasks.config",
    "InputConfig": "tasks.config",
    "InputError": "errors",
    "PretrainingConfig": "pretraining.config",
    "ScalarMix": "nn.scalar_mix",
    "TagConfig": "tasks.heads",
    "TaskCheckpoint": "tasks.checkpoint",
    "TokenFeatures": "tasks.heads",
    "WordCache": "embedding.word_cache",
    "finetune": "tasks.finetune",
    "load_recipe": "cli.commands",
    "prepare": "data.prepare",
    "pretrain": "pretraining.trainer",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that embedding never pays for Lightning."""
    if name == "__version__":
        from importlib.metadata import version

        return version("elmolite")
    if name not in _HOMES:
        raise AttributeError(f"module 'elmolite' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"elmolite.{_HOMES[name]}"), name)
