"""Deprecated location of :mod:`elmolite.tasks.heads`, for custom heads that were written for version 0.1."""

from typing import Any


def __getattr__(name: str) -> Any:
    from elmolite.tasks import heads
    from elmolite.utils.config import warn_renamed

    new = {"Words": "TokenFeatures", "beside": "concat_output_mix"}.get(name, name)
    if not hasattr(heads, new):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn_renamed(f"{__name__}.{name}", "elmolite.TokenFeatures" if name == "Words" else f"elmolite.tasks.heads.{new}")
    return getattr(heads, new)
