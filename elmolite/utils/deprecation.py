"""Deprecated names of settings and flags: one table, each entry accepted for one release."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from elmolite.errors import InputError

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

P = ParamSpec("P")
T = TypeVar("T")


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
        setattr(cls, old, _renamed_field(old, new))
    return cls


def _renamed_field(old: str, new: str) -> property:
    def get(config: Any) -> Any:
        warn_renamed(old, new)
        return getattr(config, new)

    return property(get, doc=f"Deprecated: use ``{new}``.")


def accepts_renamed_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """Let the decorated function take its deprecated keyword arguments, with a warning."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **values: P.kwargs) -> T:
        return function(*args, **rename_keys(function.__name__, values))

    return wrapper
