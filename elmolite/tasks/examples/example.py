"""A labelled example, as all tasks have it: one sentence or two, and labels."""

from __future__ import annotations

from typing import NamedTuple

Task = str
"""A key of :data:`elmolite.tasks.specs.TASKS`."""


class Example(NamedTuple):
    """One sentence or two, and what is to be predicted.

    A sentence is a string, which is cut into tokens as the text of the model was, or its tokens.
    """

    sentences: tuple[str | tuple[str, ...], ...]
    """One; for entailment the premise and the hypothesis."""
    labels: tuple[str, ...]
    """Of classification and entailment: the label, or of several that can hold together those that do. Of tagging:
    one a token. Empty where none is known."""
    place: str
    """Where it stands, as ``train.tsv, line 7``, for a message."""
