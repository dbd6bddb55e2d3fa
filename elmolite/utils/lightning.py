"""Filters for Lightning's log lines and warnings."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's announcements, and its warnings about deliberate choices."""
    with quiet_logging(), warnings.catch_warnings():
        for message in (
            ".*does not have many workers.*",
            ".*your dataloader is not resumable.*",  # its sampler begins at the step
            ".*in eval mode at the start of training.*",  # a frozen language model
            ".*GPU available but not used.*",
            ".*isinstance.treespec, LeafSpec.*",
            ".*Total length of `.*` across ranks is zero.*",
        ):
            warnings.filterwarnings("ignore", message=message)
        yield


@contextmanager
def quiet_logging() -> Iterator[None]:
    """Let Lightning log warnings and errors only."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
