"""Lines of CoNLL-U and of CoNLL columns, a token each -> tagged sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from elmolite.data.text import ReadReport
from elmolite.errors import InputError, nearest
from elmolite.tasks.examples.columns import ExampleColumns, excerpt, is_number
from elmolite.tasks.examples.example import Example

CONLLU_COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")

_EMPTY = "_"  # in CoNLL-U
_SKIPPED_ID = re.compile(r"[0-9]+(-|\.)[0-9]+")  # a multiword token or an empty node


@dataclass
class _Sentence:
    line: int = 0
    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    has_comments: bool = False

    def example(self, file: str, *, has_tags: bool) -> Example:
        return Example((tuple(self.tokens),), tuple(self.tags) if has_tags else (), f"{file}, line {self.line}")


def read_conllu(
    lines: Sequence[str], report: ReadReport, columns: ExampleColumns, *, needs_labels: bool
) -> Iterator[Example]:
    """Yield the sentences of a CoNLL-U file; multiword tokens, empty nodes and comments are skipped.

    :param report: takes how many words and sentences are skipped.
    :param columns: FORM and UPOS, unless others of the ten are named.
    :raises InputError: a line is broken or a sentence has no tags.
    """
    token_column, tag_column = (
        _conllu_column(name, report.source) for name in (columns.text or "FORM", columns.label or "UPOS")
    )
    file, sentence = report.source, _Sentence()
    for number, line in enumerate((*lines, ""), start=1):
        if not line.strip(" \t"):
            if sentence.tokens:
                yield _finish(sentence, file, CONLLU_COLUMNS[tag_column], needs_labels=needs_labels)
            elif sentence.has_comments:
                report.add("sentences without words left out", number)
            sentence = _Sentence()
            continue
        if line.startswith("#"):
            sentence.has_comments = True
            continue
        cells = line.split("\t")
        if len(cells) != len(CONLLU_COLUMNS):
            raise InputError(f"{file}, line {number}: {len(cells)} columns where CoNLL-U has 10: {excerpt(line)}")
        if cells[0] != str(len(sentence.tokens) + 1):
            if skipped := _SKIPPED_ID.fullmatch(cells[0]):
                report.add("multiword tokens left out" if skipped[1] == "-" else "empty nodes left out", number)
                continue
            expected = f"expected token {len(sentence.tokens) + 1} of the sentence"
            raise InputError(f"{file}, line {number}: {expected}, found the ID {excerpt(cells[0])}")
        _add(sentence, cells[token_column], cells[tag_column], number, file)


def _conllu_column(name: str, file: str) -> int:
    if is_number(name) and 1 <= int(name) <= len(CONLLU_COLUMNS):
        return int(name) - 1
    if name.upper() not in CONLLU_COLUMNS:
        raise InputError(f"{file}: CoNLL-U has no column {name!r}{nearest(name.upper(), CONLLU_COLUMNS)}")
    return CONLLU_COLUMNS.index(name.upper())


def _finish(sentence: _Sentence, file: str, tag_column: str, *, needs_labels: bool) -> Example:
    has_tags = tag_column not in ("UPOS", "XPOS") or set(sentence.tags) != {_EMPTY}
    if needs_labels and not has_tags:
        raise InputError(f"{file}, line {sentence.line}: a sentence without tags: all {tag_column} are {_EMPTY!r}")
    return sentence.example(file, has_tags=has_tags)


def read_conll(
    lines: Sequence[str], report: ReadReport, columns: ExampleColumns, *, needs_labels: bool
) -> Iterator[Example]:
    """Yield the sentences of a file of columns, with a blank line between; ``-DOCSTART-`` lines are skipped.

    :param report: takes how many such lines.
    :param columns: the first is the token and the last the tag, unless other numbers are given. Without need for
        labels there may be no more than tokens.
    :raises InputError: a line has fewer or more columns than the first, or there are no tags.
    """
    file, sentence, width = report.source, _Sentence(), 0
    token_column, tag_column = 0, -1
    for number, line in enumerate((*lines, ""), start=1):
        is_document_start = line.startswith("-DOCSTART-")
        if is_document_start:
            report.add("-DOCSTART- lines left out", number)
        if is_document_start or not line.strip(" \t"):
            if sentence.tokens:
                yield sentence.example(file, has_tags=width > 1)
            sentence = _Sentence()
            continue
        cells = conll_cells(line)
        if not width:
            width = len(cells)
            if width == 1 and needs_labels:
                raise InputError(f"{file}, line {number}: a token without a tag: {excerpt(line)}")
            token_column = _conll_column(columns.text or "1", width, file)
            tag_column = _conll_column(columns.label or str(width), width, file)
        if len(cells) != width:
            there = f"{len(cells)} columns where the lines above have {width}"
            raise InputError(f"{file}, line {number}: {there}: {excerpt(line)}")
        _add(sentence, cells[token_column], cells[tag_column], number, file)


def conll_cells(line: str) -> list[str]:
    """Split a line at tabs or, where it has none, at runs of spaces."""
    if "\t" in line:
        return [cell.strip(" ") for cell in line.split("\t")]
    return [cell for cell in line.split(" ") if cell]


def _conll_column(number: str, width: int, file: str) -> int:
    if not is_number(number) or not 1 <= int(number) <= width:
        raise InputError(f"{file}: no column {number!r}; the columns have no names but the numbers 1 to {width}")
    return int(number) - 1


def _add(sentence: _Sentence, token: str, tag: str, number: int, file: str) -> None:
    if not token or not tag:
        raise InputError(f"{file}, line {number}: the {'tag' if token else 'token'} is empty")
    if not sentence.tokens:
        sentence.line = number
    sentence.tokens.append(token)
    sentence.tags.append(tag)
