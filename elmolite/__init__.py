"""ELMo: pretrain a character-CNN biLSTM language model on your text, embed sentences fast, fine-tune tasks on it."""

import os
import sys
from typing import TYPE_CHECKING, Any

from elmolite.utils.cpu import set_openmp_defaults

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
    from elmolite.nn.bilm import BiLM
    from elmolite.nn.config import BiLMConfig
    from elmolite.nn.scalar_mix import ScalarMix
    from elmolite.pretraining.config import PretrainingConfig
    from elmolite.pretraining.trainer import pretrain
    from elmolite.tasks.checkpoint import TaskCheckpoint
    from elmolite.tasks.config import (
        ClassifyConfig,
        EntailConfig,
        ExampleColumns,
        FinetuningConfig,
        InputConfig,
        TagConfig,
    )
    from elmolite.tasks.examples.sources import DatasetExamples
    from elmolite.tasks.finetune import finetune
    from elmolite.tasks.heads import TokenFeatures

if "torch" not in sys.modules:
    set_openmp_defaults(os.environ)

# Modules of the public names, imported above for type checkers.
_HOMES = {
    name: module
    for module, names in {
        "checkpoint": "Checkpoint",
        "cli.commands": "load_recipe",
        "data.corpus": "Corpus",
        "data.hf_datasets": "DatasetText",
        "data.prepare": "prepare",
        "embedding.elmo": "ELMo",
        "embedding.output": "EmbeddingFolder",
        "embedding.pooling": "CommonComponent",
        "embedding.word_cache": "WordCache",
        "errors": "InputError",
        "nn.bilm": "BiLM",
        "nn.config": "BiLMConfig",
        "nn.scalar_mix": "ScalarMix",
        "pretraining.config": "PretrainingConfig",
        "pretraining.trainer": "pretrain",
        "tasks.checkpoint": "TaskCheckpoint",
        "tasks.config": "ClassifyConfig EntailConfig ExampleColumns FinetuningConfig InputConfig TagConfig",
        "tasks.examples.sources": "DatasetExamples",
        "tasks.finetune": "finetune",
        "tasks.heads": "TokenFeatures",
    }.items()
    for name in names.split()
}

__all__ = [  # in full, for tools that read the source
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


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that embedding never pays for Lightning."""
    if name == "__version__":
        from importlib.metadata import version

        return version("elmolite")
    if name not in _HOMES:
        raise AttributeError(f"module 'elmolite' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"elmolite.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, also those that have not been imported yet."""
    imported = {"Any", "TYPE_CHECKING", "os", "set_openmp_defaults", "sys"}
    return sorted({*globals(), *__all__, "__version__"} - imported)


if os.environ.get("EAGER_IMPORT"):  # for tools that read __dict__, such as pdoc; the variable of lazy_loader
    globals().update({name: __getattr__(name) for name in __all__})
