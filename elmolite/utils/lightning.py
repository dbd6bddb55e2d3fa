"""What Lightning prints and logs of its own accord, kept from the user where we say it or it is no news."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what Lightning announces, which is said elsewhere, and warns of, where the choice is deliberate here."""
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
    """Let Lightning log warnings only; what else it announces is said by us, or is no news."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
