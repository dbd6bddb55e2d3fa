"""Labelled examples, the columns that hold them, and records (table rows, JSON objects) -> examples.

Readers of formats with named values go through :func:`choose_columns` and :func:`read_records`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from elmolite.data.text import BLANK_LINES, ReadReport
from elmolite.errors import InputError, closest
from elmolite.tasks.config import ExampleColumns
from elmolite.tasks.specs import TASKS, ColumnNames, TaskSpec
from elmolite.utils.console import n_of

NO_AGREED_LABEL = "pairs without an agreed label left out"

_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")  # JSON can write them, UTF-8 cannot


class Example(NamedTuple):
    """A labelled example of any task."""

    sentences: tuple[str | tuple[str, ...], ...]
    """One sentence, or premise and hypothesis; each a string to tokenize, or its tokens."""
    labels: tuple[str, ...]
    """Classification: the labels; tagging: one tag per token; entailment: the label. Empty if unknown."""
    location: str
    """Source of the example for messages, such as ``train.tsv, line 7``."""


class ReadOptions(NamedTuple):
    """Arguments that all readers share."""

    task: str
    columns: ExampleColumns
    needs_labels: bool

    @property
    def spec(self) -> TaskSpec:
        """The entry of the task in :data:`TASKS`."""
        return TASKS[self.task]


class ChosenColumns(NamedTuple):
    """Names of existing columns."""

    sentences: tuple[str, ...]
    label: str | None


def choose_columns(
    names: Sequence[str], options: ReadOptions, *, location: str, numbered: bool = False
) -> ChosenColumns:
    """Find the given columns, and the others by their usual names.

    :param location: file and line, or dataset, for messages.
    :param numbered: whether columns may be given by number.
    :raises InputError: a column is missing, or its name is ambiguous.
    """
    found = {
        option: _find(column, names, option=option, location=location, numbered=numbered)
        for option, column in options.columns.given.items()
    }

    def choose(option: str, groups: ColumnNames, *, required: bool = True) -> str | None:
        if option in found:
            return found[option]
        free = [name for name in names if name not in found.values()]
        matches = next(filter(None, ([n for n in free if n.strip().casefold() in group] for group in groups)), [])
        if len(matches) == 1:
            return found.setdefault(option, matches[0])
        if not required:
            return None
        argument = f"`columns.{option}='NAME'`"
        if matches:
            raise InputError(f"{location}: the {option} may be {' or '.join(map(repr, matches))}; pass {argument}")
        raise InputError(f"{location}: no usual column name for the {option} among {listing(names)}; pass {argument}")

    spec = options.spec
    sentences = [choose(*each) for each in zip(("text", "second_text"), spec.text_columns, strict=False)]
    label = choose("label", spec.label_columns, required=options.needs_labels)
    return ChosenColumns(tuple(name for name in sentences if name is not None), label)


def has_usual_name(names: Iterable[str], task: str) -> bool:
    """Return whether any of the names is a usual one for a column of the task."""
    spec = TASKS[task]
    usual = {name for groups in (*spec.text_columns, spec.label_columns) for group in groups for name in group}
    return any(name.strip().casefold() in usual for name in names)


def is_number(column: str) -> bool:
    """Return whether a column is given by its number."""
    return column.isascii() and column.isdigit()


def _find(column: str, names: Sequence[str], *, option: str, location: str, numbered: bool) -> str:
    if column in names:
        return column
    if numbered and is_number(column) and 1 <= int(column) <= len(names):
        return names[int(column) - 1]
    raise InputError(f"{location}: no column {column!r} ({option}) among {listing(names)}{closest(column, names)}")


def listing(names: Sequence[str]) -> str:
    """Join quoted names by commas, shortened if they are many or long."""
    shown = [excerpt(name) for name in names[:12]]
    return ", ".join([*shown, f"and {len(names) - 12} more"] if len(names) > 12 else shown)


def excerpt(value: Any, *, length: int = 40) -> str:
    """Return a value as in source code, shortened if it is long."""
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 4]}...{text[-1]}"


Record = tuple[int, Mapping[str, Any]]
"""Number of the line or row; values by column name."""


def filled_lines(lines: Iterable[str], report: ReadReport) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank with their numbers, and count the others."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line
        else:
            report.add(BLANK_LINES, number)


def read_records(
    records: Iterable[Record], chosen: ChosenColumns, report: ReadReport, options: ReadOptions
) -> list[Example]:
    """Return the examples of all records.

    :param report: counts pairs left out.
    :raises InputError: a record has no sentence or no label, or a value of another type; the message names its line.
    """
    examples: list[Example] = []
    used = {*chosen.sentences, chosen.label}
    for number, record in records:
        location = f"{report.source}, {report.unit} {number}"
        values = {name: _clean(value) for name, value in record.items() if name in used}
        try:
            if missing := next((name for name in chosen.sentences if name not in values), None):
                raise InputError(f"no {missing!r} among {listing(list(record))}")
            labels = _labels(values.get(chosen.label or ""), chosen.label or "", options)
            if labels is not None and labels == (options.spec.no_label,):
                if options.needs_labels:
                    report.add(NO_AGREED_LABEL, number)
                    continue
                labels = None
            if labels is None and options.needs_labels:
                raise InputError(f"no label in {chosen.label!r}")
            sentences = tuple(_sentence(values[name], name, options) for name in chosen.sentences)
            if options.spec.has_token_labels and labels is not None and len(sentences[0]) != len(labels):
                raise InputError(f"the sentence has {n_of(len(sentences[0]), 'token')} and {n_of(len(labels), 'tag')}")
        except InputError as error:
            raise InputError(f"{location}: {error}") from None
        examples.append(Example(sentences, labels or (), location))
    return examples


def _clean(value: Any) -> Any:
    """Replace lone surrogates by U+FFFD."""
    if isinstance(value, list):
        return [_clean(part) for part in value]
    return _LONE_SURROGATE.sub("\ufffd", value) if isinstance(value, str) else value


def _sentence(value: Any, name: str, options: ReadOptions) -> str | tuple[str, ...]:
    if not (value is None or isinstance(value, str | list)):
        raise InputError(f"{name!r} must be a sentence or a list of tokens, got {excerpt(value)}")
    if isinstance(value, list) and (wrong := [token for token in value if not isinstance(token, str)]):
        raise InputError(f"a token in {name!r} must be a string, got {excerpt(wrong[0])}")
    if isinstance(value, str):
        value = value.split() if options.spec.has_token_labels else value.strip()
    if not value:
        raise InputError(f"the sentence in {name!r} is empty")
    return tuple(value) if isinstance(value, list) else value


def _labels(value: Any, name: str, options: ReadOptions) -> tuple[str, ...] | None:
    """Return the labels of a record, ``None`` if it has no value."""
    if value is None:
        return None
    if isinstance(value, str):
        return split_labels(value, options)
    if not isinstance(value, list):
        return (_label(value, name),)
    labels = tuple(_label(part, name) for part in value)
    if options.spec.has_token_labels:
        return labels
    if options.spec.label_kind == "single" and len(labels) != 1:
        raise InputError(f"expected one label in {name!r}, got {len(labels)}")
    return tuple(dict.fromkeys(labels))


def split_labels(text: str, options: ReadOptions) -> tuple[str, ...] | None:
    """Return the labels in a text field, ``None`` if it is blank."""
    if options.columns.label_separator is not None:
        parts = (part.strip() for part in text.split(options.columns.label_separator))
        return tuple(dict.fromkeys(part for part in parts if part))
    if options.spec.has_token_labels:
        return tuple(text.split()) or None
    return (text.strip(),) if text.strip() else None


def _label(value: object, name: str) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value).strip()
    if not isinstance(value, str | int | float) or not text:
        raise InputError(f"expected a label in {name!r}, got {excerpt(value)}")
    return text


class Examples(NamedTuple):
    """Examples of a file or dataset, and the counts of what was left out or replaced."""

    examples: list[Example]
    report: ReadReport

    def checked(self) -> Examples:
        """Return the examples.

        :raises InputError: nothing was read.
        """
        if not self.examples:
            reasons = self.report.describe()
            raise InputError(f"{self.report.source}: contains no example{reasons and f'; {reasons}'}")
        return self
