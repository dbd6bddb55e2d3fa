"""Records, such as rows or JSON objects -> examples."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from elmolite.data.text import ReadReport
from elmolite.errors import InputError
from elmolite.tasks.examples.columns import ChosenColumns, ExampleColumns, listing
from elmolite.tasks.examples.example import Example, Task
from elmolite.tasks.specs import TASKS

NO_AGREED_LABEL = "pairs without an agreed label left out"
"""For training and evaluation pairs whose annotators agreed on no label (``-``) are left out."""

_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")  # JSON can write them, UTF-8 cannot


class Record(NamedTuple):
    """Values by the name of their column, and where they stand."""

    values: Mapping[str, Any]
    place: str
    number: int
    """Of the line or row, which the place names too."""


class Examples(NamedTuple):
    """What was read."""

    examples: list[Example]
    report: ReadReport
    """What is not among them, or not as it stands: blank lines, pairs without an agreed label and the like."""

    def checked(self) -> Examples:
        """Return them, if there are any.

        :raises InputError: there is none.
        """
        if not self.examples:
            reasons = self.report.describe()
            raise InputError(f"{self.report.source}: is empty (no example){reasons and f'; {reasons}'}")
        return self


def read_records(
    records: Iterable[Record],
    chosen: ChosenColumns,
    task: Task,
    columns: ExampleColumns,
    report: ReadReport,
    *,
    needs_labels: bool,
) -> Examples:
    """Return the examples of all records.

    :param report: takes how many are left out, and how many lone surrogates are replaced.
    :raises InputError: a record has no sentence or no label, or something else in their place.
    """
    examples: list[Example] = []
    for record in records:
        try:
            labels = _labels(record, chosen, task, columns)
            if labels is not None and labels == (TASKS[task].no_label,):
                if needs_labels:
                    report.add(NO_AGREED_LABEL, record.number)
                    continue
                labels = None
            if labels is None and needs_labels:
                raise InputError(f"no label in {chosen.label!r}")
            sentences = tuple(_sentence(record, name, task) for name in chosen.sentences)
            if TASKS[task].has_token_labels and labels is not None:
                check_lengths(sentences[0], labels)
        except InputError as error:
            raise InputError(f"{record.place}: {error}") from None
        _note_surrogates(record, chosen, report)
        examples.append(Example(sentences, labels or (), record.place))
    return Examples(examples, report)


def _note_surrogates(record: Record, chosen: ChosenColumns, report: ReadReport) -> None:
    """Count what :func:`_clean` replaces."""
    for name in (*chosen.sentences, chosen.label):
        value = record.values.get(name or "")
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not text.isascii() and (n_found := len(_LONE_SURROGATE.findall(text))):
                report.add("lone surrogates replaced by U+FFFD", record.number, times=n_found)


def check_lengths(tokens: str | tuple[str, ...], tags: tuple[str, ...]) -> None:
    """Hold the number of tags against that of the tokens.

    :raises InputError: they differ.
    """
    if len(tokens) != len(tags):
        raise InputError(f"the sentence has {len(tokens)} tokens and {len(tags)} tags")


def _sentence(record: Record, name: str, task: Task) -> str | tuple[str, ...]:
    if name not in record.values:
        raise InputError(f"no {name!r} among {listing(list(record.values))}")
    value = record.values[name]
    sentence: str | tuple[str, ...]
    if isinstance(value, str):
        sentence = _clean(value).strip()
        if TASKS[task].has_token_labels:
            sentence = tuple(sentence.split())
    elif isinstance(value, list):
        for number, token in enumerate(value, start=1):
            if not isinstance(token, str):
                raise InputError(f"token {number} in {name!r} is {_kind(token)}, not a string")
        sentence = tuple(_clean(token) for token in value)
    elif value is None:
        sentence = ""
    else:
        raise InputError(f"{name!r} holds {_kind(value)}, not a sentence or a list of tokens")
    if not sentence:
        raise InputError(f"the sentence in {name!r} is empty")
    return sentence


def _labels(record: Record, chosen: ChosenColumns, task: Task, columns: ExampleColumns) -> tuple[str, ...] | None:
    """Return what the label column holds, ``None`` where nothing is said."""
    value = None if chosen.label is None else record.values.get(chosen.label)
    if chosen.label is None or value is None:
        return None
    if isinstance(value, str):
        return split_labels(_clean(value), task, columns)
    if not isinstance(value, list):
        return (_label(value, chosen.label),)
    labels = tuple(_label(part, chosen.label) for part in value)
    if TASKS[task].has_token_labels:
        return labels
    if TASKS[task].label_kind == "single" and len(labels) != 1:
        raise InputError(f"{chosen.label!r} holds {len(labels)} labels; a pair of sentences has one")
    return tuple(dict.fromkeys(labels))


def split_labels(text: str, task: Task, columns: ExampleColumns) -> tuple[str, ...] | None:
    """Return the labels that a field of text holds, ``None`` where nothing is said."""
    if columns.label_separator is not None:
        parts = (part.strip() for part in text.split(columns.label_separator))
        return tuple(dict.fromkeys(part for part in parts if part))
    if TASKS[task].has_token_labels:
        return tuple(text.split()) or None
    return (text.strip(),) if text.strip() else None


def _label(value: object, name: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise InputError(f"{name!r} holds {_kind(value)}, not a label")
    label = _clean(str(value)).strip()
    if not label:
        raise InputError(f"{name!r} holds an empty label")
    return label


def _clean(text: str) -> str:
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")
