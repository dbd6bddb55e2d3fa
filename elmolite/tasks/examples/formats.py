"""Readers of CoNLL-U, CoNLL columns, CSV, TSV, JSON lines, lines of label and text, and plain text."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from elmolite.data.text import BLANK_LINES, ReadReport
from elmolite.errors import InputError, nearest
from elmolite.tasks.config import ExampleColumns, Format
from elmolite.tasks.examples.records import (
    Example,
    ReadOptions,
    choose_columns,
    excerpt,
    filled_lines,
    has_usual_name,
    is_number,
    listing,
    read_records,
    split_labels,
)
from elmolite.utils.console import n_of

CONLLU_COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")

_SKIPPED_ID = re.compile(r"[0-9]+[-.][0-9]+")  # a multiword token or an empty node
_FASTTEXT = "__label__"
_FASTTEXT_LINE = re.compile(rf"((?:{_FASTTEXT}\S*(?:\s+|$))*)(.*)", re.DOTALL)

Row = tuple[int, list[str]]
"""Number of the first line of a row, and its fields."""


def read_conllu(lines: Sequence[str], report: ReadReport, options: ReadOptions) -> list[Example]:
    """Read CoNLL-U; the columns are FORM and UPOS unless others of the ten are given.

    Comments, multiword tokens and empty nodes are left out.

    :raises InputError: a line is invalid, or a sentence has no tags.
    """
    names = (options.columns.text or "FORM", options.columns.label or "UPOS")
    token_column, tag_column = (_conllu_column(name, report.source) for name in names)
    examples = []
    for block in _blocks(lines):
        rows: list[Row] = []
        for number, line in block:
            location, cells = f"{report.source}, line {number}", line.split("\t")
            if line.startswith("#"):
                continue
            if len(cells) != len(CONLLU_COLUMNS):
                raise InputError(f"{location}: expected the 10 columns of CoNLL-U, got {len(cells)}: {excerpt(line)}")
            if cells[0] == str(len(rows) + 1):
                rows.append((number, cells))
            elif not _SKIPPED_ID.fullmatch(cells[0]):
                raise InputError(f"{location}: expected the ID {len(rows) + 1}, got {excerpt(cells[0])}")
        if not rows:
            continue
        example = _tagged(rows, token_column, tag_column, report.source)
        if CONLLU_COLUMNS[tag_column] in ("UPOS", "XPOS") and set(example.labels) == {"_"}:
            if options.needs_labels:
                raise InputError(f"{example.location}: a sentence without tags: every {names[1]} is '_'")
            example = example._replace(labels=())
        examples.append(example)
    return examples


def _blocks(lines: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
    """Yield the numbered lines of each sentence, which blank and ``-DOCSTART-`` lines separate."""

    def separates(numbered: tuple[int, str]) -> bool:
        return not numbered[1].strip(" \t") or numbered[1].startswith("-DOCSTART-")

    for is_separator, block in groupby(enumerate(lines, start=1), separates):
        if not is_separator:
            yield list(block)


def _tagged(rows: Sequence[Row], token_column: int, tag_column: int, source: str) -> Example:
    tokens, tags = (tuple(cells[column] for _, cells in rows) for column in (token_column, tag_column))
    for (number, _), token, tag in zip(rows, tokens, tags, strict=True):
        if not token or not tag:
            raise InputError(f"{source}, line {number}: the {'tag' if token else 'token'} is empty")
    return Example((tokens,), tags, f"{source}, line {rows[0][0]}")


def _conllu_column(name: str, source: str) -> int:
    if is_number(name) and 1 <= int(name) <= len(CONLLU_COLUMNS):
        return int(name) - 1
    if name.upper() not in CONLLU_COLUMNS:
        raise InputError(f"{source}: CoNLL-U has no column {name!r}{nearest(name.upper(), CONLLU_COLUMNS)}")
    return CONLLU_COLUMNS.index(name.upper())


def read_conll(lines: Sequence[str], report: ReadReport, options: ReadOptions) -> list[Example]:
    """Read columns between tabs or spaces: the first is the token and the last the tag, unless numbers are given.

    :raises InputError: a line has another number of columns than the first, or labels are needed and there is only one.
    """
    blocks = [[(number, _conll_cells(line)) for number, line in block] for block in _blocks(lines)]
    rows = [row for block in blocks for row in block]
    width = len(rows[0][1]) if rows else 0
    for number, cells in rows:
        location = f"{report.source}, line {number}"
        if width == 1 and options.needs_labels:
            raise InputError(f"{location}: expected a token and its tag, got {excerpt(cells[0])}")
        if len(cells) != width:
            counts = f"expected {n_of(width, 'column')} as in the lines above, got {len(cells)}"
            raise InputError(f"{location}: {counts}: {listing(cells)}")
    numbers = (options.columns.text or "1", options.columns.label or str(width))
    token_column, tag_column = (_conll_column(number, width, report.source) for number in numbers)
    examples = [_tagged(block, token_column, tag_column, report.source) for block in blocks]
    return examples if width > 1 else [example._replace(labels=()) for example in examples]


def _conll_cells(line: str) -> list[str]:
    if "\t" in line:
        return [cell.strip(" ") for cell in line.split("\t")]
    return [cell for cell in line.split(" ") if cell]


def _conll_column(number: str, width: int, source: str) -> int:
    if width and not (is_number(number) and 1 <= int(number) <= width):
        raise InputError(f"{source}: no column {number!r}; CoNLL columns are given by number, here 1 to {width}")
    return int(number) - 1


def read_csv(lines: Sequence[str], report: ReadReport, options: ReadOptions) -> list[Example]:
    """Read comma-separated values; quoted fields may contain commas and line ends.

    :raises InputError: a row is broken, or see :func:`_read_table`.
    """
    rows: list[Row] = []
    reader = csv.reader((line + "\n" for line in lines), strict=True)
    start = 1
    try:
        for fields in reader:
            if not fields or (len(fields) == 1 and fields[0].isspace()):
                report.add(BLANK_LINES, start)
            else:
                rows.append((start, fields))
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{report.source}, line {start}: invalid CSV row: {error}") from None
    return _read_table(rows, report, options)


def read_tsv(lines: Sequence[str], report: ReadReport, options: ReadOptions) -> list[Example]:
    """Read tab-separated values without quoting: each line is a row.

    Only a quoted field whose inner quotes are all doubled, as spreadsheets write it, is unquoted.
    """
    rows = [(n, [_unquote(field) for field in line.split("\t")]) for n, line in filled_lines(lines, report)]
    return _read_table(rows, report, options)


def _unquote(field: str) -> str:
    inner = field[1:-1].split('""')
    is_quoted = len(inner) > 1 and field[0] == field[-1] == '"' and not any('"' in part for part in inner)
    return '"'.join(inner) if is_quoted else field


def _read_table(rows: Sequence[Row], report: ReadReport, options: ReadOptions) -> list[Example]:
    """Read rows with or without a header.

    :raises InputError: a row is longer or shorter than the first, or the columns are not found.
    """
    first_line, names = rows[0]
    for number, fields in rows:
        if len(fields) != len(names):
            counts = f"expected {n_of(len(names), 'field')} as in line {first_line}, got {len(fields)}"
            raise InputError(f"{report.source}, line {number}: {counts}: {listing(fields)}")
    location = f"{report.source}, line {first_line}"
    if _has_header(names, options):
        rows = rows[1:]
    elif _may_be_header(rows, options):
        raise InputError(
            f"{location}: no usual column name among {listing(names)}; give the columns of a header by name, as "
            "`columns.label='NAME'`, or pass `columns.header='absent'`"
        )
    else:
        options = options._replace(columns=_numbered_columns(names, options, location))
        names = [str(number) for number in range(1, len(names) + 1)]
    chosen = choose_columns(names, options, location=location, numbered=True)
    records = ((number, dict(zip(names, fields, strict=True))) for number, fields in rows)
    return read_records(records, chosen, report, options)


def _has_header(fields: Sequence[str], options: ReadOptions) -> bool:
    columns = options.columns
    if columns.header != "auto":
        return columns.header == "present"
    return not all(map(is_number, columns.given.values())) or has_usual_name(fields, options.task)


def _may_be_header(rows: Sequence[Row], options: ReadOptions) -> bool:
    """Return whether the first row looks like a header without a usual name: its last field occurs nowhere else."""
    columns = options.columns
    is_undescribed = options.spec.is_pair and options.needs_labels and not columns.given and columns.header == "auto"
    return is_undescribed and len(rows) > 2 and all(fields[-1] != rows[0][1][-1] for _, fields in rows[1:])


def _numbered_columns(first: Sequence[str], options: ReadOptions, location: str) -> ExampleColumns:
    """Return the column numbers of a table without header: those given, or 1, 2 and 3 of pairs."""
    columns, spec = options.columns, options.spec
    needed = [*("text", "second_text")[: len(spec.sentences)], *(["label"] if options.needs_labels else [])]
    if spec.is_pair and not columns.given and len(needed) <= len(first) <= 3:
        return replace(columns, text="1", second_text="2", label="3" if len(first) == 3 else None)
    if missing := [option for option in needed if option not in columns.given]:
        arguments = " and ".join(f"`columns.{option}`" for option in missing)
        conll = "; or `columns.format='conll'` if each line is a token" if spec.has_token_labels else ""
        raise InputError(
            f"{location}: no usual column name among {listing(first)}; pass {arguments} by name or number{conll}"
        )
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
    try:  # NaN is no JSON, but often written for missing values
        content = json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{location}: invalid JSON: {error}; expected one object per line (JSON lines)") from None
    if not isinstance(content, dict):
        raise InputError(f"{location}: expected a JSON object per line (JSON lines), got {excerpt(line)}")
    return content


def read_label_text(lines: Sequence[str], report: ReadReport, options: ReadOptions) -> list[Example]:
    """Read lines of a label and a sentence, or of fastText's ``__label__`` prefixes."""
    is_fasttext = next(line for line in lines if line.strip()).lstrip().startswith(_FASTTEXT)
    examples = []
    for number, line in filled_lines(lines, report):
        location = f"{report.source}, line {number}"
        labels, text = _split_fasttext(line) if is_fasttext else _split_label(line, options)
        if not labels and options.needs_labels:
            raise InputError(f"{location}: no label: {excerpt(line)}")
        if not text:
            raise InputError(f"{location}: no sentence after the label: {excerpt(line)}")
        examples.append(Example((text,), labels, location))
    return examples


def begin_with_labels(lines: Sequence[str], labels: Collection[str]) -> bool:
    """Return whether every line is a known label, or fastText's, and a sentence."""
    words = [line.split(maxsplit=1) for line in lines if line.strip()]
    return all(len(each) == 2 and (each[0] in labels or each[0].startswith(_FASTTEXT)) for each in words)


def _split_label(line: str, options: ReadOptions) -> tuple[tuple[str, ...], str]:
    label, *rest = line.split(maxsplit=1)
    return split_labels(label, options) or (), "".join(rest).strip()


def _split_fasttext(line: str) -> tuple[tuple[str, ...], str]:
    prefixes, text = _FASTTEXT_LINE.fullmatch(line.strip()).groups()  # type: ignore[union-attr]  # matches any line
    labels = (prefix.removeprefix(_FASTTEXT) for prefix in prefixes.split())
    return tuple(dict.fromkeys(filter(None, labels))), text


def read_text(lines: Sequence[str], report: ReadReport, _: ReadOptions) -> list[Example]:
    """Read a sentence per line."""
    filled = filled_lines(lines, report)
    return [Example((line.strip(),), (), f"{report.source}, line {number}") for number, line in filled]


READERS: dict[Format, Callable[[Sequence[str], ReadReport, ReadOptions], list[Example]]] = {
    "conllu": read_conllu,
    "conll": read_conll,
    "csv": read_csv,
    "tsv": read_tsv,
    "jsonl": read_json_lines,
    "label-text": read_label_text,
    "text": read_text,
}
