"""Config dataclasses: read from the JSON of a manifest with every key and type checked; shared settings."""

from __future__ import annotations

import math
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from elmolite.errors import InputError, nearest, types_of
from elmolite.utils.deprecation import rename_keys

T = TypeVar("T")
Precision = Literal["32-true", "bf16-mixed"]
"""Lightning's names: all in float32; or matrix products in bfloat16, and states, sums and weights in float32."""

_MAX_INT = 1 << 62


def check_precision(precision: str) -> None:
    """Refuse an unknown precision."""
    if precision not in get_args(Precision):
        raise InputError(f"precision: unknown {precision!r}{nearest(precision, get_args(Precision))}")


def read_fields(kind: type[T], fields: Any, *, where: str) -> T:
    """Make a dataclass from a JSON object; missing fields keep their defaults.

    :param where: the file and the key in it, for messages.
    """
    if not isinstance(fields, dict):
        raise InputError(f"{where} must be an object with the fields of {kind.__name__}")
    fields = rename_keys(kind, fields, warn=False)
    hints = types_of(kind)  # type: ignore[arg-type]  # mypy #11470
    for name, value in fields.items():
        if name not in hints:
            raise InputError(f"{where}: unknown key {name!r}{nearest(name, hints)}")
        if not _is_of(value, hints[name]):
            expected = hints[name].__name__ if isinstance(hints[name], type) else hints[name]
            raise InputError(f"{where}: {name!r} is {str(value)[:60]!r}; expected {expected}")
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from None


def _is_of(value: Any, hint: Any) -> bool:
    """Return whether a JSON value has a type; the dataclass itself checks the values of a Literal."""
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
        return type(value) is int and abs(value) <= _MAX_INT
    return type(value) is (NoneType if hint is None else hint)
