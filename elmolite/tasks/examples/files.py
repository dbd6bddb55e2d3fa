"""Files of labelled data -> examples: one reader per format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from elmolite.data.text import ReadReport, read_lines
from elmolite.errors import InputError
from elmolite.tasks.examples.conll import conll_cells, is_conllu, read_conll, read_conllu
from elmolite.tasks.examples.records import (
    DEFAULT_COLUMNS,
    Example,
    ExampleColumns,
    Examples,
    Format,
    ReadOptions,
    excerpt,
    filled_lines,
    split_labels,
)
from elmolite.tasks.examples.tables import has_header, read_csv, read_json_lines, read_tsv

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
    ".json": "jsonl",
}
_FASTTEXT = "__label__"
_FEW_LINES = 20


def read_examples(
    path: str | Path,
    task: str,
    columns: ExampleColumns = DEFAULT_COLUMNS,
    *,
    needs_labels: bool = True,
    labels: Collection[str] = (),
) -> Examples:
    """Read a file of labelled data.

    Sentences to tag are tuples of tokens; a string in a table is split at white space, as are its tags. Sentences to
    classify are strings, or tuples if the file has lists of tokens.

    :param path: a file, compressed if its name ends in ``.gz``; ``-`` is standard input.
    :param columns: format and columns; see :class:`ExampleColumns` for the defaults.
    :param needs_labels: false for prediction: labels may be missing, and files may be plain text.
    :param labels: known labels: plain text whose lines all begin with one, or end with one of a tagger, is labelled.
    :raises InputError: the file cannot be read, its columns are not found, it contains no example, or an example is
        invalid; the message names file and line.
    """
    columns.check(task)
    options = ReadOptions(task, columns, needs_labels)
    is_stdin = str(path) == "-"
    report = ReadReport("standard input" if is_stdin else str(path))
    try:
        source = None if is_stdin else Path(path)
        lines = list(read_lines(source, encoding=columns.encoding, drops_marks=True, report=report))
    except InputError as error:
        hint = "; if it has another encoding, pass --columns.encoding latin-1" if "not UTF-8" in str(error) else ""
        raise InputError(f"{error}{hint}") from None
    if not any(map(str.strip, lines)):
        raise InputError(f"{report.source}: the file is empty (no line with text)")
    form = columns.format if columns.format != "auto" else _format_of(report.source, lines, options, labels)
    _check_format(form, report.source, options)
    return Examples(_READERS[form](lines, report, options), report).checked()


def _format_of(name: str, lines: Sequence[str], options: ReadOptions, labels: Collection[str]) -> Format:
    """Return the format by the suffix, or the default of the task."""
    form = _SUFFIXES.get(Path(name.removesuffix(".gz")).suffix.lower())
    cells = next(line for line in lines if line.strip()).split("\t")
    is_table = len(cells) > 1 and has_header(cells, options)
    if options.spec.has_token_labels and form in (None, "conll") and is_conllu(lines):
        return "conllu"
    if options.spec.has_token_labels and form == "tsv" and not is_table and _has_blocks(lines):
        return "conll"
    if form is None and cells[0].lstrip().startswith("{"):
        return "jsonl"
    if form is None and (is_table or options.spec.is_pair):
        return "tsv"
    return form or _line_format(name, lines, options, labels)


def _line_format(name: str, lines: Sequence[str], options: ReadOptions, labels: Collection[str]) -> Format:
    """Return the format of a file without a known suffix: labelled lines, or to be predicted a sentence per line.

    :raises InputError: the lines cannot be labelled ones.
    """
    if options.spec.has_token_labels:
        if options.needs_labels and not _has_blocks(lines):
            raise InputError(f"{name}: expected columns, with blank lines between sentences; pass --columns.format")
        return "conll" if options.needs_labels or _are_tagged(lines, labels) else "text"
    if options.needs_labels:
        _check_labels_recur(name, lines)
    return "label-text" if options.needs_labels or _begin_with_labels(lines, labels) else "text"


def _has_blocks(lines: Sequence[str]) -> bool:
    """Return whether there are blank lines between others, or only single words between tabs."""
    filled = [line for line in lines if line.strip(" \t")]
    has_blank_lines = len(filled) < len("\n".join(lines).strip().split("\n"))
    return has_blank_lines or all("\t" in line and " " not in line for line in filled)


def _are_tagged(lines: Sequence[str], labels: Collection[str]) -> bool:
    """Return whether the columns of every line are separated by tabs, or the last one is a known tag."""
    filled = [line for line in lines if line.strip(" \t")]
    return all("\t" in line for line in filled) or all(conll_cells(line)[-1] in labels for line in filled)


def _begin_with_labels(lines: Sequence[str], labels: Collection[str]) -> bool:
    """Return whether every line is a known label and a sentence, or the first is in fastText's format."""
    words = [line.split(maxsplit=1) for line in lines if line.strip()]
    return words[0][0].startswith(_FASTTEXT) or all(len(each) > 1 and each[0] in labels for each in words)


def _check_labels_recur(name: str, lines: Sequence[str]) -> None:
    """Refuse running text: most of its first words are different, and labels are not.

    :raises InputError: a third of the first words or more occur once.
    """
    counts = Counter(line.split(maxsplit=1)[0] for line in lines if line.strip())
    n_single = sum(count == 1 for count in counts.values())
    if counts.total() >= _FEW_LINES and n_single > len(counts) / 3:
        raise InputError(
            f"{name}: expected lines of label and text, but {n_single:,} of {len(counts):,} first words occur once; "
            "pass --columns.format: label-text if they are labels, else the file's format"
        )


def _check_format(form: Format, source: str, options: ReadOptions) -> None:
    """Refuse a format that cannot hold the examples, and options that do not apply to it."""
    spec, columns = options.spec, options.columns
    usable: list[Format] = ["csv", "tsv", "jsonl"]
    if spec.has_token_labels:
        usable += ["conllu", "conll"]
    elif not spec.is_pair:
        usable += ["label-text"]
    if not spec.is_pair and not options.needs_labels:
        usable += ["text"]
    if form not in usable:
        task = f"{options.task}{' with labels' * options.needs_labels}"
        raise InputError(f"{source}: the format {form} is not for {task}; expected one of {', '.join(usable)}")
    if columns.header != "auto" and form not in ("csv", "tsv"):
        raise InputError(f"{source}: header: {columns.header}: applies to csv and tsv, not to {form}")
    if form in ("label-text", "text") and columns.given:
        option, name = next(iter(columns.given.items()))
        raise InputError(f"{source}: {option}: {name}: the format {form} has no columns")


def _read_label_text(lines: Sequence[str], report: ReadReport, options: ReadOptions) -> list[Example]:
    """Read lines of a label and a sentence, or of fastText's ``__label__`` prefixes."""
    is_fasttext = next(line for line in lines if line.strip()).startswith(_FASTTEXT)
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


def _split_label(line: str, options: ReadOptions) -> tuple[tuple[str, ...], str]:
    label, *rest = line.split(maxsplit=1)
    return split_labels(label, options) or (), "".join(rest).strip()


def _split_fasttext(line: str) -> tuple[tuple[str, ...], str]:
    labels: list[str] = []
    text = line.strip()
    while text.startswith(_FASTTEXT):
        label, *rest = text.split(maxsplit=1)
        labels.append(label.removeprefix(_FASTTEXT))
        text = "".join(rest)
    return tuple(dict.fromkeys(filter(None, labels))), text


def _read_text(lines: Sequence[str], report: ReadReport, _: ReadOptions) -> list[Example]:
    """Read a sentence per line."""
    filled = filled_lines(lines, report)
    return [Example((line.strip(),), (), f"{report.source}, line {number}") for number, line in filled]


Reader = Callable[[Sequence[str], ReadReport, ReadOptions], list[Example]]
_READERS: dict[Format, Reader] = {
    "conllu": read_conllu,
    "conll": read_conll,
    "csv": read_csv,
    "tsv": read_tsv,
    "jsonl": read_json_lines,
    "label-text": _read_label_text,
    "text": _read_text,
}
