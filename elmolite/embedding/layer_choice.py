"""Which layers of the language model a user wants."""

from __future__ import annotations

from numbers import Integral
from typing import Literal

from torch import Tensor

from elmolite.errors import InputError

LayerChoice = Literal["all", "top", "average"] | int
"""All, the top one, the average of all, or the number of one; 0 is the token layer."""


def check(choice: LayerChoice, n_layers: int) -> None:
    """Refuse what a model does not have.

    :param n_layers: L.
    :raises InputError: there is no such layer.
    """
    is_name = isinstance(choice, str) and choice in ("all", "top", "average")
    is_number = isinstance(choice, Integral) and not isinstance(choice, bool) and 0 <= choice < n_layers
    if not (is_name or is_number):
        raise InputError(f"layers={choice!r}: expected 'all', 'top', 'average' or 0 to {n_layers - 1}")


def choose(layers: Tensor, choice: LayerChoice) -> Tensor:
    """Select from (L, ...): all of it, or without the first dimension."""
    if choice == "all":
        return layers
    if choice == "average":
        return layers.mean(dim=0)
    return layers[-1 if choice == "top" else int(choice)]
