"""Naming the valid key that is nearest to a wrong one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from elmolite.errors import InputError


def closest(name: str, valid: Iterable[str]) -> str:
    """Return ``; did you mean X?`` or, where nothing is near, nothing."""
    close = get_close_matches(name, sorted(valid), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``; did you mean X?`` or, where nothing is near, the valid names."""
    names = sorted(valid)
    return closest(name, names) or f"; valid are: {', '.join(names)}"


def check_keys(given: Iterable[str], kind: type[Any], *, where: str) -> None:
    """Hold keys against the fields of a dataclass.

    :raises InputError: one is unknown; the message names it and the nearest field.
    """
    valid = [field.name for field in fields(kind)]
    for key in given:
        if key not in valid:
            raise InputError(f"{where}: unknown key {key!r}{nearest(key, valid)}")
