"""Deprecated location of task examples and fine-tuning runs, as the README of version 0.1 imported them."""

from typing import Any

from elmolite.tasks.examples.sources import TaskExamples as TaskExamples
from elmolite.tasks.finetune import FinetuningRun
from elmolite.utils.config import rename_keys, warn_renamed

warn_renamed(__name__, "elmolite.tasks.examples.sources and elmolite.tasks.finetune")


def set_up(examples: TaskExamples, **settings: Any) -> FinetuningRun:
    """Call :meth:`FinetuningRun.build`."""
    return FinetuningRun.build(examples, **rename_keys("finetune", settings))
