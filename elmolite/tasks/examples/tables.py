"""Readers of CSV, TSV and JSON lines."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from elmolite.data.text import BLANK_LINES, ReadReport
from elmolite.errors import InputError
from elmolite.tasks.examples.records import (
    Example,
    ExampleColumns,
    ReadOptions,
    choose_columns,
    excerpt,
    filled_lines,
    has_usual_name,
    is_number,
    listing,
    read_records,
)

_MAX_FIELD = 2**31 - 1


class Row(NamedTuple):
    """Fields of a row, and the number of its first line."""

    fields: list[str]
    line: int


def read_csv(lines: Sequence[str], report: ReadReport, options: ReadOptions) -> list[Example]:
    """Read comma-separated values; quoted fields may contain commas and line ends.

    :raises InputError: a row is broken, or see :func:`_read_table`.
    """
    rows, start = [], 1
    limit = csv.field_size_limit(_MAX_FIELD)  # global to the process, so it is restored
    try:
        reader = csv.reader((line + "\n" for line in lines), strict=True)
        for fields in reader:
            if not fields or (len(fields) == 1 and fields[0].isspace()):
                report.add(BLANK_LINES, start)
            else:
                rows.append(Row(fields, start))
            if reader.line_num > start:
                report.add("line ends inside quotes, kept as text", start, times=reader.line_num - start)
            start = reader.line_num + 1
    except csv.Error as error:
        reason = "a carriage return outside quotes" if "new-line character" in str(error) else error
        raise InputError(f"{report.source}, line {start}: invalid CSV row: {reason}") from None
    finally:
        csv.field_size_limit(limit)
    return _read_table(rows, report, options)


def read_tsv(lines: Sequence[str], report: ReadReport, options: ReadOptions) -> list[Example]:
    """Read tab-separated values without quoting: each line is a row.

    Only a quoted field whose inner quotes are all doubled, as spreadsheets write it, is unquoted.
    """
    rows = [Row([_unquote(field) for field in line.split("\t")], n) for n, line in filled_lines(lines, report)]
    return _read_table(rows, report, options)


def _unquote(field: str) -> str:
    inner = field[1:-1].split('""')
    is_quoted = len(inner) > 1 and field[0] == field[-1] == '"' and not any('"' in part for part in inner)
    return '"'.join(inner) if is_quoted else field


def has_header(fields: Sequence[str], options: ReadOptions) -> bool:
    """Return whether the first row is a header."""
    columns = options.columns
    if columns.header != "auto":
        return columns.header == "present"
    return not all(map(is_number, columns.given.values())) or has_usual_name(fields, options.task)


def _read_table(rows: list[Row], report: ReadReport, options: ReadOptions) -> list[Example]:
    """Read rows with or without a header.

    :raises InputError: a row is longer or shorter than the first, or the columns are not found.
    """
    first = rows[0]
    location = f"{report.source}, line {first.line}"
    for row in rows:
        if len(row.fields) != len(first.fields):
            counts = f"expected {len(first.fields)} fields as in line {first.line}, got {len(row.fields)}"
            raise InputError(f"{report.source}, line {row.line}: {counts}: {listing(row.fields)}")
    if has_header(first.fields, options):
        names, rows = first.fields, rows[1:]
    else:
        names = [str(number) for number in range(1, len(first.fields) + 1)]
        options = options._replace(columns=_numbered_columns(rows, location, options))
    chosen = choose_columns(names, options, location=location, numbered=True)
    records = ((row.line, dict(zip(names, row.fields, strict=True))) for row in rows)
    return read_records(records, chosen, report, options)


def _numbered_columns(rows: Sequence[Row], location: str, options: ReadOptions) -> ExampleColumns:
    """Return the column numbers of a table without header: those given, or 1, 2 and 3 of pairs.

    :raises InputError: a number is missing.
    """
    columns, first, spec = options.columns, rows[0].fields, options.spec
    if spec.is_pair and not columns.given:
        if len(first) == 2 and not options.needs_labels:
            return replace(columns, text="1", second_text="2")
        may_be_header = len(rows) > 2 and all(row.fields[-1] != first[-1] for row in rows[1:])
        if len(first) == 3 and not may_be_header:
            return replace(columns, text="1", second_text="2", label="3")
    needed = [*("text", "second_text")[: len(spec.sentences)], *(["label"] if options.needs_labels else [])]
    if missing := [option for option in needed if option not in columns.given]:
        flags = " and ".join(f"--columns.{option.replace('_', '-')}" for option in missing)
        raise InputError(f"{location}: no usual column name among {listing(first)}; pass {flags} by name or number")
    return columns


def read_json_lines(lines: Sequence[str], report: ReadReport, options: ReadOptions) -> list[Example]:
    """Read a JSON object per line; the keys of the first give the columns.

    :raises InputError: a line is not a JSON object.
    """
    records = [(n, _parse_json(line, f"{report.source}, line {n}")) for n, line in filled_lines(lines, report)]
    number, first = records[0]
    chosen = choose_columns(list(first), options, location=f"{report.source}, line {number}")
    return read_records(records, chosen, report, options)


def _parse_json(line: str, location: str) -> dict[str, Any]:
    try:
        content = json.loads(line, object_pairs_hook=_object, parse_constant=_null)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{location}: invalid JSON: {error.msg} at column {error.colno} of {excerpt(line)}; expected one object "
            "per line (JSON lines)"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{location}: invalid JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{location}: expected a JSON object per line (JSON lines), got {excerpt(line)}")
    return content


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object, and refuse repeated keys, of which ``json`` would keep the last."""
    values = dict(pairs)
    if len(values) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"duplicate key {excerpt(repeated)}")
    return values


def _null(_: str) -> None:
    """Read NaN and Infinity, which are not JSON but often written for missing values, as null."""
