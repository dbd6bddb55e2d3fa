"""Two small things that hold for any module: its mode during a block, and the device it should be on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Set evaluation mode for the block, and after it the mode that was there."""
    if not any(each.training for each in module.modules()):  # setting a mode costs as much as a short sentence does
        yield
        return
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def best_device() -> torch.device:
    """Return the GPU where there is one, and the CPU elsewhere."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
