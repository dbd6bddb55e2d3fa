"""Deprecated location of :mod:`elmolite.tasks.compare`, as the README of version 0.1 imported it."""

from elmolite.tasks.compare import baselines as baselines, compare as compare, probes as probes
from elmolite.utils.config import warn_renamed

warn_renamed(__name__, "elmolite.tasks.compare")
