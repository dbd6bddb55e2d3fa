"""Config dataclasses: read from JSON, checked; the default device; deprecated names of settings and flags."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from elmolite.errors import InputError, nearest, types_of

P = ParamSpec("P")
T = TypeVar("T")
Precision = Literal["32-true", "bf16-mixed"]
"""Lightning's names: all in float32; or matrix products in bfloat16, and states, sums and weights in float32."""

EmbeddingPrecision = Literal[Precision, "int8"]
"""Or matrix products in int8, on a CPU and without gradients."""

AUTO = "auto"
_device: ContextVar[str] = ContextVar("device", default=AUTO)
_LARGEST = 1 << 62


@contextmanager
def default_device(name: str) -> Iterator[None]:
    """Choose the device of the block for everything that otherwise runs on the best one.

    :param name: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``; resolved where torch is imported, by
        :func:`elmolite.utils.torch.best_device`.
    """
    if name != AUTO and not re.fullmatch(r"cpu|(cuda|mps)(:\d+)?", name):
        raise InputError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}")
    token = _device.set(name)
    try:
        yield
    finally:
        _device.reset(token)


def device_name() -> str:
    """Return the name of the device that :func:`default_device` chose."""
    return _device.get()


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
        if not is_of(value, hints[name]):
            expected = hints[name].__name__ if isinstance(hints[name], type) else hints[name]
            raise InputError(f"{where}: {name!r} is {str(value)[:60]!r}; expected {expected}")
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from None


def is_of(value: Any, hint: Any) -> bool:
    """Return whether a JSON value has a type; the dataclass itself checks the values of a Literal."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(is_of(value, part) for part in parts)
    if origin is Literal:
        return type(value) in {type(part) for part in parts}
    if origin is list:
        return isinstance(value, list) and all(is_of(each, parts[0]) for each in value)
    if origin is tuple:
        return isinstance(value, list) and len(value) == len(parts) and all(map(is_of, value, parts))
    if hint in (int, float):
        return type(value) in (int, hint) and abs(value) <= _LARGEST  # no NaN
    return type(value) is (NoneType if hint is None else hint)


RENAMED_SETTINGS: dict[str, dict[str, str]] = {
    "PretrainingConfig": {
        "n_rows": "batch_size",
        "window": "bptt_length",
        "n_accumulated": "accumulate_steps",
        "clip_norm": "max_grad_norm",
    },
    "FinetuningConfig": {"clip_norm": "max_grad_norm", "cache_precision": "cache_dtype"},
    "InputConfig": {"mixes_at_output": "output_mix"},
    "finetune": {"is_untrained": "random_init"},
}
"""Class name of a config dataclass, or name of a function -> {old name: new name}.

Flags and recipe keys follow from the fields of a dataclass.
"""
RENAMED_FLAGS: dict[str, dict[str, str]] = {
    "pretrain": {"--plan": "--dry-run"},
    **{command: {"--own-head": "--custom-head"} for command in ("finetune", "predict", "test")},
}
"""Command -> {old flag: new flag}, for flags that do not come from the field of a config dataclass."""


def renamed_message(old: str, new: str) -> str:
    """Return the warning that a name is deprecated."""
    return f"{old} is deprecated and will be removed in the next release; use {new}"


def warn_renamed(old: str, new: str) -> None:
    """Warn that a name is deprecated."""
    warnings.warn(renamed_message(old, new), FutureWarning, stacklevel=3)


def rename_keys(kind: type[Any] | str, values: Mapping[str, Any], *, warn: bool = True) -> dict[str, Any]:
    """Return settings or arguments with deprecated keys replaced by the current ones.

    :param kind: the dataclass, or the name of a dataclass or function.
    :param warn: false for files that an earlier version wrote, which nobody needs to edit.
    """
    renamed = RENAMED_SETTINGS.get(kind if isinstance(kind, str) else kind.__name__, {})
    found: dict[str, Any] = {}
    for key, value in values.items():
        new = renamed.get(key, key)
        if new != key and new in values:
            raise InputError(f"{key} is the deprecated name of {new}: give one of them")
        if new != key and warn:
            warn_renamed(key, new)
        found[new] = value
    return found


def accepts_renamed_settings(cls: type[T]) -> type[T]:
    """Class decorator: let a config dataclass take and give its deprecated fields, with a warning.

    Apply it above ``@dataclass``.
    """
    init: Callable[..., None] = cls.__init__

    @functools.wraps(init)
    def __init__(self: T, *args: Any, **values: Any) -> None:  # noqa: N807
        init(self, *args, **rename_keys(cls, values))

    cls.__init__ = __init__  # type: ignore[method-assign, assignment]
    for old, new in RENAMED_SETTINGS.get(cls.__name__, {}).items():

        def get(config: Any, old: str = old, new: str = new) -> Any:
            warn_renamed(old, new)
            return getattr(config, new)

        setattr(cls, old, property(get, doc=f"Deprecated: use ``{new}``."))
    return cls


def accepts_renamed_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """Let the decorated function take its deprecated keyword arguments, with a warning."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **values: P.kwargs) -> T:
        return function(*args, **rename_keys(function.__name__, values))

    return wrapper
