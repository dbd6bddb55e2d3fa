"""Naming the valid key that is nearest to a wrong one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from elmolite.errors import InputError


def closest(name: str, valid: Iterable[str]) -> str:
    """Return ``; did you mean X?`` or, where nothing is near, nothing."""
    close = get_close_matches(name, sorted(valid), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``; did you mean X?`` or, where nothing is near, the valid names."""
    names = sorted(valid)
    return closest(name, names) or f"; valid are: {', '.join(names)}"


@cache
def types_of(kind: type[Any]) -> dict[str, Any]:
    """Return the types of the fields of a dataclass, which are written as text and have to be evaluated."""
    return get_type_hints(kind)


def check_choices(config: Any, *, where: str = "") -> None:
    """Hold the fields of a dataclass that are Literals against their values.

    :raises InputError: one has another; the message names the field and the nearest value.
    """
    for name, hint in types_of(type(config)).items():  # type: ignore[arg-type]  # mypy #11470
        value = getattr(config, name)
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise InputError(f"{where}{name}: unknown {value!r}{nearest(str(value), get_args(hint))}")


def check_keys(given: Iterable[str], kind: type[Any], *, where: str) -> None:
    """Hold keys against the fields of a dataclass.

    :raises InputError: one is unknown; the message names it and the nearest field.
    """
    valid = [field.name for field in fields(kind)]
    for key in given:
        if key not in valid:
            raise InputError(f"{where}: unknown key {key!r}{nearest(key, valid)}")
