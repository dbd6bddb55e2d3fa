"""In which precision matrix products are computed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, get_args

from elmolite.errors import InputError, nearest

if TYPE_CHECKING:
    import torch

Precision = Literal["32-true", "bf16-mixed"]
"""Lightning's names: everything in float32; or matrix products in bfloat16, and states, sums and weights in float32."""


def check_precision(precision: str) -> None:
    """Refuse what is none.

    :raises InputError: there is no such precision.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision: unknown {precision!r}{nearest(precision, get_args(Precision))}")


def products_in(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Compute the matrix products of a block in a precision."""
    import torch  # not before it is needed: the settings of a command name precisions too

    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")
