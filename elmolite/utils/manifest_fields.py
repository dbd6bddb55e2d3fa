"""A dataclass of settings from the JSON of a manifest: every key known, every value of its type."""

from __future__ import annotations

import math
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from elmolite.errors import InputError, nearest, types_of

T = TypeVar("T")

_MAX_WHOLE = 1 << 62


def read_fields(kind: type[T], fields: Any, *, where: str) -> T:
    """Make a dataclass of the values that JSON has for its fields; those that are missing have their defaults.

    :param where: the file and the key in it, for messages.
    :raises InputError: it is no object, a key is unknown, or a value is of another type or not one that there is.
    """
    if not isinstance(fields, dict):
        raise InputError(f"{where} must be an object with the fields of {kind.__name__}")
    hints = types_of(kind)  # type: ignore[arg-type]  # mypy #11470
    for name, value in fields.items():
        if name not in hints:
            raise InputError(f"{where}: unknown key {name!r}{nearest(name, hints)}")
        if not _is_of(value, hints[name]):
            raise InputError(f"{where}: {name!r} is {str(value)[:60]!r}; expected {_described(hints[name])}")
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from None


def _is_of(value: Any, hint: Any) -> bool:
    """Tell whether a value is of a type; which of the names of a Literal it is, the dataclass tells."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_is_of(value, part) for part in parts)
    if origin is Literal:
        return type(value) in {type(part) for part in parts}
    if origin is list:
        return isinstance(value, list) and all(_is_of(each, parts[0]) for each in value)
    if origin is tuple:
        return isinstance(value, list) and len(value) == len(parts) and all(map(_is_of, value, parts))
    if hint is float:
        return (type(value) is float and math.isfinite(value)) or _is_of(value, int)
    if hint is int:
        return type(value) is int and abs(value) <= _MAX_WHOLE
    return type(value) is (NoneType if hint is None else hint)


def _described(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
