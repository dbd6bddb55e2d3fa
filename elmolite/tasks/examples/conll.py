"""Readers of CoNLL-U and of CoNLL columns: one token per line, blank lines between sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from elmolite.data.text import ReadReport
from elmolite.errors import InputError, nearest
from elmolite.tasks.examples.records import Example, ReadOptions, excerpt, is_number

CONLLU_COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")

_EMPTY = "_"  # in CoNLL-U
_SKIPPED_ID = re.compile(r"[0-9]+(-|\.)[0-9]+")  # a multiword token or an empty node
_CONLLU_LINE = re.compile(r"[0-9]+([-.][0-9]+)?(\t[^\t]+){9}")


@dataclass
class _Sentence:
    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    location: str = ""
    has_comments: bool = False

    def add(self, token: str, tag: str, location: str) -> None:
        if not token or not tag:
            raise InputError(f"{location}: the {'tag' if token else 'token'} is empty")
        self.location = self.location or location
        self.tokens.append(token)
        self.tags.append(tag)

    def example(self, *, has_tags: bool) -> Example:
        return Example((tuple(self.tokens),), tuple(self.tags) if has_tags else (), self.location)


def is_conllu(lines: Iterable[str]) -> bool:
    """Return whether the first line that is neither blank nor a comment has the ten columns of CoNLL-U."""
    first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    return _CONLLU_LINE.fullmatch(first) is not None


def read_conllu(lines: Sequence[str], report: ReadReport, options: ReadOptions) -> list[Example]:
    """Read CoNLL-U; the columns are FORM and UPOS unless others of the ten are given.

    :param report: counts multiword tokens, empty nodes and sentences without words, which are left out.
    :raises InputError: a line is invalid, or a sentence has no tags.
    """
    columns = (options.columns.text or "FORM", options.columns.label or "UPOS")
    token_column, tag_column = (_conllu_column(name, report.source) for name in columns)
    examples, sentence = [], _Sentence()
    for number, line in enumerate((*lines, ""), start=1):
        location = f"{report.source}, line {number}"
        if not line.strip(" \t"):
            if sentence.tokens:
                examples.append(_conllu_example(sentence, CONLLU_COLUMNS[tag_column], options))
            elif sentence.has_comments:
                report.add("sentences without words left out", number)
            sentence = _Sentence()
            continue
        if line.startswith("#"):
            sentence.has_comments = True
            continue
        cells = line.split("\t")
        if len(cells) != len(CONLLU_COLUMNS):
            raise InputError(f"{location}: expected the 10 columns of CoNLL-U, got {len(cells)}: {excerpt(line)}")
        expected = str(len(sentence.tokens) + 1)
        if cells[0] == expected:
            sentence.add(cells[token_column], cells[tag_column], location)
        elif skipped := _SKIPPED_ID.fullmatch(cells[0]):
            report.add("multiword tokens left out" if skipped[1] == "-" else "empty nodes left out", number)
        else:
            raise InputError(f"{location}: expected the ID {expected}, got {excerpt(cells[0])}")
    return examples


def _conllu_column(name: str, source: str) -> int:
    if is_number(name) and 1 <= int(name) <= len(CONLLU_COLUMNS):
        return int(name) - 1
    if name.upper() not in CONLLU_COLUMNS:
        raise InputError(f"{source}: CoNLL-U has no column {name!r}{nearest(name.upper(), CONLLU_COLUMNS)}")
    return CONLLU_COLUMNS.index(name.upper())


def _conllu_example(sentence: _Sentence, tag_column: str, options: ReadOptions) -> Example:
    has_tags = tag_column not in ("UPOS", "XPOS") or set(sentence.tags) != {_EMPTY}
    if options.needs_labels and not has_tags:
        raise InputError(f"{sentence.location}: a sentence without tags: every {tag_column} is {_EMPTY!r}")
    return sentence.example(has_tags=has_tags)


def read_conll(lines: Sequence[str], report: ReadReport, options: ReadOptions) -> list[Example]:
    """Read columns between tabs or spaces: the first is the token and the last the tag, unless numbers are given.

    :param report: counts the ``-DOCSTART-`` lines, which are left out.
    :raises InputError: a line has another number of columns than the first, or labels are needed and there is only one.
    """
    source, width, examples, sentence = report.source, 0, [], _Sentence()
    token_column, tag_column = 0, -1
    for number, line in enumerate((*lines, ""), start=1):
        is_document_start = line.startswith("-DOCSTART-")
        if is_document_start:
            report.add("-DOCSTART- lines left out", number)
        if is_document_start or not line.strip(" \t"):
            if sentence.tokens:
                examples.append(sentence.example(has_tags=width > 1))
            sentence = _Sentence()
            continue
        location = f"{source}, line {number}"
        cells = conll_cells(line)
        if not width:
            width = len(cells)
            if width == 1 and options.needs_labels:
                raise InputError(f"{location}: expected a token and its tag, got {excerpt(line)}")
            token_column = _conll_column(options.columns.text or "1", width, source)
            tag_column = _conll_column(options.columns.label or str(width), width, source)
        if len(cells) != width:
            raise InputError(
                f"{location}: expected {width} columns as in the lines above, got {len(cells)}: {excerpt(line)}"
            )
        sentence.add(cells[token_column], cells[tag_column], location)
    return examples


def conll_cells(line: str) -> list[str]:
    """Split a line at tabs or, if it has none, at runs of spaces."""
    if "\t" in line:
        return [cell.strip(" ") for cell in line.split("\t")]
    return [cell for cell in line.split(" ") if cell]


def _conll_column(number: str, width: int, source: str) -> int:
    if not is_number(number) or not 1 <= int(number) <= width:
        raise InputError(f"{source}: no column {number!r}; CoNLL columns are given by number, here 1 to {width}")
    return int(number) - 1
