"""Lines of CSV, TSV and JSON lines -> records with named values."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from elmolite.data.text import BLANK_LINES, ReadReport
from elmolite.errors import InputError
from elmolite.tasks.examples.columns import ExampleColumns, excerpt, is_known, is_number, listing
from elmolite.tasks.examples.example import Task
from elmolite.tasks.examples.records import Record
from elmolite.tasks.specs import TASKS

_MAX_FIELD = 2**31 - 1


class Row(NamedTuple):
    """The fields of a row, and the number of the line on which it starts."""

    fields: list[str]
    line: int


def read_csv(lines: Sequence[str], report: ReadReport) -> list[Row]:
    """Split lines at commas; a field in quotes may hold commas and line ends. Blank lines are skipped.

    :param report: takes how many, and the line ends in quotes.
    :raises InputError: a quote is not closed, or something stands behind a closed one.
    """
    rows, start = [], 1
    limit = csv.field_size_limit(_MAX_FIELD)  # it is one for the whole process
    try:
        reader = csv.reader((line + "\n" for line in lines), strict=True)
        for fields in reader:
            if not fields or (len(fields) == 1 and fields[0].isspace()):
                report.add(BLANK_LINES, start)
            else:
                rows.append(Row(fields, start))
            if reader.line_num > start:
                report.add("line ends in quotes, which end no row", start, times=reader.line_num - start)
            start = reader.line_num + 1
    except csv.Error as error:
        reason = "a carriage return outside quotes" if "new-line character" in str(error) else error
        raise InputError(f"{report.source}, line {start}: the row that starts here is broken: {reason}") from None
    finally:
        csv.field_size_limit(limit)
    return rows


def read_tsv(lines: Sequence[str], report: ReadReport) -> list[Row]:
    """Split lines at tabs. Blank lines are skipped.

    :param report: takes how many.

    A quote is a character like others; but a field in quotes whose inner quotes are all doubled is as spreadsheets
    write it, and means what is between them.
    """
    filled = _numbered_filled(lines, report)
    return [Row([_unquoted(field) for field in line.split("\t")], number) for number, line in filled]


def _numbered_filled(lines: Sequence[str], report: ReadReport) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank with their numbers, and count the others."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line
        else:
            report.add(BLANK_LINES, number)


def _unquoted(field: str) -> str:
    inner = field[1:-1].split('""')
    is_quoted = len(inner) > 1 and field[0] == field[-1] == '"' and not any('"' in part for part in inner)
    return '"'.join(inner) if is_quoted else field


def named_columns(
    rows: list[Row], task: Task, columns: ExampleColumns, *, needs_labels: bool, file: str
) -> tuple[list[str], list[Row], ExampleColumns]:
    """Take the header off, or number the columns and recognise which is which from their content.

    :returns: the names of the columns, the rows without a header, and the columns with what was recognised.
    :raises InputError: a row is longer or shorter than the first, or it is not clear which column is which.
    """
    width = len(rows[0].fields)
    for row in rows:
        if len(row.fields) != width:
            there = f"{len(row.fields)} fields where line {rows[0].line} has {width}"
            raise InputError(f"{file}, line {row.line}: {there}: {listing(row.fields)}")
    if _has_header(rows[0], task, columns):
        return rows[0].fields, rows[1:], columns
    columns = _recognise_columns(rows, task, columns, needs_labels=needs_labels, file=file)
    if columns.header == "auto" and _looks_like_header(rows, columns):
        raise InputError(
            f"{file}, line {rows[0].line}: is it a header? It is unlike the rows below, and its names are not known: "
            f"{listing(rows[0].fields)}; name the columns, or say header: no"
        )
    return [str(number) for number in range(1, width + 1)], rows, columns


def _has_header(row: Row, task: Task, columns: ExampleColumns) -> bool:
    if columns.header != "auto":
        return columns.header == "present"
    is_named = any(not is_number(name) for name in columns.named.values())
    return is_named or any(is_known(field, task) for field in row.fields)


def _recognise_columns(
    rows: Sequence[Row], task: Task, columns: ExampleColumns, *, needs_labels: bool, file: str
) -> ExampleColumns:
    """Give numbers to what is not said: labels have no white space in any row, sentences stand in order."""
    width = len(rows[0].fields)
    for option, name in columns.named.items():
        if not is_number(name) or not 1 <= int(name) <= width:
            raise InputError(f"{file}: no column {name!r} ({option}); without a header they are 1 to {width}")
    free = [column for column in range(width) if str(column + 1) not in columns.named.values()]
    options = ("text", "second_text")[: len(TASKS[task].sentences)]
    named = dict(columns.named)
    unsaid = [option for option in options if option not in named]
    if "label" not in named and (needs_labels or len(free) > len(unsaid)):
        plain = [column for column in free if not any(_has_spaces(row.fields[column]) for row in rows)]
        if TASKS[task].has_token_labels or len(plain) != 1:
            raise _unclear(rows[0], file)
        named["label"] = str(plain[0] + 1)
        free.remove(plain[0])
    if unsaid and len(free) != len(unsaid):
        raise _unclear(rows[0], file)
    named.update({option: str(column + 1) for option, column in zip(unsaid, free, strict=False)})
    return replace(columns, text=named["text"], second_text=named.get("second_text"), label=named.get("label"))


def _unclear(row: Row, file: str) -> InputError:
    there = f"{len(row.fields)} columns without names that are known, as line {row.line}: {listing(row.fields)}"
    return InputError(f"{file}: it is not clear which column holds what; there are {there}; give names or numbers")


def _looks_like_header(rows: Sequence[Row], columns: ExampleColumns) -> bool:
    """Return whether the first row has one word where others have sentences, and no label that others have."""
    first, rest = rows[0].fields, [row.fields for row in rows[1:]]
    text = int(columns.text or 1) - 1
    if len(rest) < 2 or _has_spaces(first[text]):
        return False
    if columns.label is None:
        return all(_has_spaces(fields[text]) for fields in rest)
    label = int(columns.label) - 1
    return any(_has_spaces(fields[text]) for fields in rest) and all(fields[label] != first[label] for fields in rest)


def _has_spaces(field: str) -> bool:
    return len(field.split()) > 1


def read_json_lines(lines: Sequence[str], report: ReadReport) -> Iterator[Record]:
    """Yield the JSON object of each line; blank lines are skipped.

    :param report: takes how many.
    :raises InputError: a line holds something else.
    """
    for number, line in _numbered_filled(lines, report):
        place = f"{report.source}, line {number}"
        try:
            content = json.loads(line, object_pairs_hook=_object, parse_constant=_nothing)
        except json.JSONDecodeError as error:
            raise InputError(f"{place}: no JSON: {error.msg} at column {error.colno} of {excerpt(line)}") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: JSON that cannot be read: {error}") from None
        if not isinstance(content, dict):
            raise InputError(f"{place}: expected a JSON object, found {excerpt(line)}")
        yield Record(content, place, number)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object, of which ``json`` itself would keep the last of several values under one key."""
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {excerpt(twice)} stands there twice")
    return values


def _nothing(_: str) -> None:
    """Read NaN and Infinity, which JSON does not have, as null: programs write them where nothing is known."""
