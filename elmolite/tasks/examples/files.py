"""Files of labelled data -> examples of a task: which format a file has, and who reads it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import get_args

from elmolite.data.text import BLANK_LINES, ReadReport, read_lines
from elmolite.errors import InputError
from elmolite.tasks.examples.columns import RECOGNISED, ExampleColumns, Format, choose_columns, excerpt, is_known
from elmolite.tasks.examples.conll import conll_cells, read_conll, read_conllu
from elmolite.tasks.examples.example import Example, Task
from elmolite.tasks.examples.records import Examples, Record, read_records, split_labels
from elmolite.tasks.examples.tables import named_columns, read_csv, read_json_lines, read_tsv
from elmolite.tasks.specs import TASKS, TaskSpec

_SUFFIXES: dict[str, Format] = {
    ".conllu": "conllu",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_IS_FOR: dict[Format, Callable[[TaskSpec], bool]] = {
    "conllu": lambda spec: spec.has_token_labels,
    "conll": lambda spec: spec.has_token_labels,
    "label-text": lambda spec: not (spec.has_token_labels or spec.is_pair),
    "text": lambda spec: not spec.is_pair,
}
"""Formats that not every task can have."""
_FASTTEXT = "__label__"
_N_SAMPLE_LINES = 1000
_FEW_LINES = 20


def read_examples(
    path: str | Path,
    task: Task,
    columns: ExampleColumns = RECOGNISED,
    *,
    needs_labels: bool = True,
    labels: Collection[str] = (),
) -> Examples:
    """Read CoNLL-U, CoNLL columns, CSV, TSV, JSON lines or ``label text`` lines.

    Sentences to tag are tuples of tokens; where a file has a string, it is split at white space, and so are its tags.
    Sentences to classify are strings, or tuples where a file has lists of tokens.

    :param path: a file, compressed if its name ends in ``.gz``; ``-`` is standard input.
    :param columns: the format and the columns, where they should not be recognised.
    :param needs_labels: false for what is to be predicted: labels may be missing, and a file may be plain lines, a
        sentence each, which stay strings; for entailment a premise, a tab and a hypothesis.
    :param labels: those of the task, where they are known: lines that all begin with one are ``label text``.
    :raises InputError: the file cannot be read, its format or columns are not recognised, it is empty, or an example
        is broken; the message names the file and the line.
    """
    columns.check(task)
    is_stdin = str(path) == "-"
    file = "standard input" if is_stdin else str(path)
    report = ReadReport(file)
    try:
        source = None if is_stdin else Path(path)
        lines = list(read_lines(source, encoding=columns.encoding, drops_marks=True, report=report))
    except InputError as error:
        hint = "; if it is of another encoding, say so: encoding latin-1" if "not UTF-8" in str(error) else ""
        raise InputError(f"{error}{hint}") from None
    if not any(map(str.strip, lines)):
        raise InputError(f"{file}: the file is empty (no line with text)")
    form = columns.format
    if form == "auto":
        form = _recognise(lines, file, task, needs_labels=needs_labels)
        if form == "text" and _IS_FOR["label-text"](TASKS[task]) and _all_begin_with(labels, lines):
            form = "label-text"
        is_named = Path(file.removesuffix(".gz")).suffix.lower() in _SUFFIXES
        if form == "conll" and not (
            needs_labels or is_named or _is_between_tabs(lines) or _all_end_with(labels, lines)
        ):
            form = "text"  # prose whose lines happen to have as many words
    _check_format(form, file, task, columns, needs_labels=needs_labels)
    return _read(lines, report, form, task, columns, needs_labels=needs_labels).checked()


def _recognise(lines: Sequence[str], file: str, task: Task, *, needs_labels: bool) -> Format:
    """Tell the format by the name, or by the first lines."""
    number, first = next((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    suffix = Path(file.removesuffix(".gz")).suffix.lower()
    form = _SUFFIXES.get(suffix)
    if form == "tsv" and TASKS[task].has_token_labels and _is_conll(lines):
        return "conll"
    form = form or _recognise_content(lines, first, task, needs_labels=needs_labels)
    if form is not None:
        return form
    raise InputError(
        f"{file}: the format is not recognised from the name or from line {number} ({excerpt(first)}); choose one: "
        f"{', '.join(_formats(task, needs_labels=needs_labels))}"
    )


def _recognise_content(lines: Sequence[str], first: str, task: Task, *, needs_labels: bool) -> Format | None:
    if first.lstrip().startswith("{"):
        return "jsonl"
    if TASKS[task].has_token_labels:
        if _is_conllu(lines):
            return "conllu"
        if _is_conll(lines):
            return "conll"
    cells = first.split("\t")
    if len(cells) > 1 and (TASKS[task].is_pair or any(is_known(cell, task) for cell in cells)):
        return "tsv"
    if " " not in first and "," in first and any(is_known(cell, task) for cell in first.split(",")):
        return "csv"
    if _IS_FOR["label-text"](TASKS[task]) and first.startswith(_FASTTEXT):
        return "label-text"
    if not needs_labels:
        return None if TASKS[task].is_pair else "text"
    return "label-text" if _IS_FOR["label-text"](TASKS[task]) and _has_labels_in_front(lines) else None


def _is_conllu(lines: Sequence[str]) -> bool:
    tokens = (line for line in lines if line.strip() and not line.startswith("#"))
    return bool(re.match(r"[0-9]+([-.][0-9]+)?(\t[^\t]+){9}$", next(tokens, "")))


def _is_conll(lines: Sequence[str]) -> bool:
    """Return whether all lines have as many columns, and there are blank lines between or single words between tabs."""
    sample = lines[:_N_SAMPLE_LINES]
    filled = [line for line in sample if line.strip(" \t")]
    rows = [conll_cells(line) for line in filled if not line.startswith("-DOCSTART-")]
    if not rows or len(rows[0]) == 1 or any(len(row) != len(rows[0]) for row in rows):
        return False
    if len(filled) < len("\n".join(sample).strip().split("\n")):
        return True
    is_of_words = all("\t" in line and " " not in line for line in filled)
    return is_of_words and not all(is_known(cell, "tag") for cell in rows[0])


def _has_labels_in_front(lines: Sequence[str]) -> bool:
    """Return whether most first words recur, as labels do and those of text do not; a few lines tell nothing."""
    counts = Counter(line.split(maxsplit=1)[0] for line in lines if line.strip())
    n_single = sum(count == 1 for count in counts.values())
    return counts.total() < _FEW_LINES or n_single <= len(counts) / 3


def _is_between_tabs(lines: Sequence[str]) -> bool:
    return all("\t" in line for line in lines if line.strip())


def _all_end_with(labels: Collection[str], lines: Sequence[str]) -> bool:
    """Return whether the last column of each line is a label."""
    return all(conll_cells(line)[-1] in labels for line in lines if line.strip(" \t"))


def _all_begin_with(labels: Collection[str], lines: Sequence[str]) -> bool:
    """Return whether the first word of each line is a label, with a sentence behind it."""
    words = [line.split(maxsplit=1) for line in lines if line.strip()]
    return all(len(each) > 1 and each[0] in labels for each in words)


def _formats(task: Task, *, needs_labels: bool) -> list[Format]:
    every = [form for form in get_args(Format) if form != "auto"]
    usable = [form for form in every if form not in _IS_FOR or _IS_FOR[form](TASKS[task])]
    return [form for form in usable if form != "text" or not needs_labels]


def _check_format(form: Format, file: str, task: Task, columns: ExampleColumns, *, needs_labels: bool) -> None:
    """Refuse a format without what the task needs, and options that a format has no use for."""
    usable = _formats(task, needs_labels=needs_labels)
    if form not in usable:
        lack = "has no labels" if form == "text" and needs_labels else f"is not for the task {task}"
        raise InputError(f"{file}: the format {form} {lack}; such are: {', '.join(usable)}")
    if columns.header != "auto" and form not in ("csv", "tsv"):
        raise InputError(f"{file}: header: {columns.header}: the format {form} has none; it is for csv and tsv")
    if form in ("label-text", "text") and columns.named:
        option, name = next(iter(columns.named.items()))
        raise InputError(f"{file}: {option}: {name}: the format {form} has no columns")


def _read(
    lines: Sequence[str], report: ReadReport, form: Format, task: Task, columns: ExampleColumns, *, needs_labels: bool
) -> Examples:
    if form == "conllu":
        return Examples(list(read_conllu(lines, report, columns, needs_labels=needs_labels)), report)
    if form == "conll":
        return Examples(list(read_conll(lines, report, columns, needs_labels=needs_labels)), report)
    if form == "label-text":
        return Examples(list(_read_label_lines(lines, report, columns, needs_labels=needs_labels)), report)
    if form == "text":
        return Examples(list(_read_plain_lines(lines, report)), report)
    if form == "jsonl":
        records = list(read_json_lines(lines, report))
        names, where, numbered = list(records[0].values), records[0].place, False
    else:
        file = report.source
        rows = read_csv(lines, report) if form == "csv" else read_tsv(lines, report)
        where, numbered = f"{file}, line {rows[0].line}", True
        names, rows, columns = named_columns(rows, task, columns, needs_labels=needs_labels, file=file)
        records = [
            Record(dict(zip(names, row.fields, strict=True)), f"{file}, line {row.line}", row.line) for row in rows
        ]
    chosen = choose_columns(names, task, columns, needs_labels=needs_labels, where=where, numbered=numbered)
    return read_records(records, chosen, task, columns, report, needs_labels=needs_labels)


def _read_label_lines(
    lines: Iterable[str], report: ReadReport, columns: ExampleColumns, *, needs_labels: bool
) -> Iterator[Example]:
    is_fasttext = next(line for line in lines if line.strip()).startswith(_FASTTEXT)
    for number, line in enumerate(lines, start=1):
        place = f"{report.source}, line {number}"
        if not line.strip():
            report.add(BLANK_LINES, number)
            continue
        labels, text = _split_fasttext(line) if is_fasttext else _split_label(line, columns)
        if not labels and needs_labels:
            raise InputError(f"{place}: no label: {excerpt(line)}")
        if not text:
            raise InputError(f"{place}: no sentence behind the label: {excerpt(line)}")
        yield Example((text,), labels, place)


def _split_label(line: str, columns: ExampleColumns) -> tuple[tuple[str, ...], str]:
    label, *rest = line.split(maxsplit=1)
    return split_labels(label, "classify", columns) or (), "".join(rest).strip()


def _split_fasttext(line: str) -> tuple[tuple[str, ...], str]:
    labels: list[str] = []
    text = line.strip()
    while text.startswith(_FASTTEXT):
        label, *rest = text.split(maxsplit=1)
        labels.append(label.removeprefix(_FASTTEXT))
        text = "".join(rest)
    return tuple(dict.fromkeys(filter(None, labels))), text


def _read_plain_lines(lines: Iterable[str], report: ReadReport) -> Iterator[Example]:
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text:
            yield Example((text,), (), f"{report.source}, line {number}")
        else:
            report.add(BLANK_LINES, number)
