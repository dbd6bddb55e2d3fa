"""Rows of a Hugging Face dataset -> documents of lines."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elmolite.data.hf_datasets import DatasetSource, quiet
from elmolite.data.text import Progress, group_lines
from elmolite.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from pyarrow import Schema

_TEXT_TYPES = {"string", "large_string", "string_view", "null"}  # as Arrow writes them


@dataclass(frozen=True)
class DatasetText:
    """Text in a column of a Hugging Face dataset.

    A row of several lines is a document of its own. Rows of one line are lines as in a file: an empty row ends a
    document. In text that is tokenised already a row may also be a list of tokens: a sentence.

    :param name: a dataset of the hub, or a folder of parquet, JSON, CSV or text files.
    :param config: which one, of a dataset that has several.
    :param split: several are ``train+test``; a part, where it is not streamed, is ``train[:10%]``.
    :param column: where the text is.
    :param streaming: read rows when they are needed and keep none, instead of storing the dataset first.
    """

    name: str
    config: str | None = None
    split: str = "train"
    column: str = "text"
    streaming: bool = False

    def read_documents(
        self, progress: Progress, *, pretokenized: bool = False, show_progress: bool = False
    ) -> Iterator[list[str]]:
        """Open the dataset, then yield its documents, each a list of lines that are not blank.

        :param pretokenized: a row may be a list of tokens.
        :param show_progress: of storing the dataset, on a terminal.
        :raises InputError: the dataset, split or column cannot be had (at once), or a row not be read (in its turn).
        """
        with quiet(show_bars=show_progress and sys.stderr.isatty()):
            dataset, progress.n_total = self._source.open(column=self.column)
        progress.unit = " rows"
        if dataset.features is not None:  # a stream may not know them before it is read
            self._check_column(dataset.features.arrow_schema, pretokenized)
        return self._documents(dataset, progress, pretokenized)

    @property
    def _source(self) -> DatasetSource:
        return DatasetSource(self.name, self.config, self.split, self.streaming)

    def _check_column(self, schema: Schema, pretokenized: bool) -> None:
        if self.column not in schema.names:
            raise self._source.missing("column", self.column, schema.names)
        kind = schema.field(self.column).type
        is_tokens = str(getattr(kind, "value_type", None)) in _TEXT_TYPES
        if str(kind) in _TEXT_TYPES or (is_tokens and pretokenized):
            return
        hint = "; with --pretokenized each of its rows is a sentence" if is_tokens else ""
        raise InputError(f"dataset {self.name}: column {self.column!r} holds {kind}, not text{hint}")

    def _documents(
        self, dataset: Dataset | IterableDataset, progress: Progress, pretokenized: bool
    ) -> Iterator[list[str]]:
        has_text = False
        with quiet(show_bars=False):
            for document in group_lines(_lines(self._rows(dataset, progress, pretokenized), progress)):
                has_text = True
                yield document
        if not has_text:
            raise InputError(f"dataset {self.name}, split {self.split}: column {self.column!r} is empty (no text)")

    def _rows(self, dataset: Dataset | IterableDataset, progress: Progress, pretokenized: bool) -> Iterator[str]:
        for table in self._source.tables(dataset):
            self._check_column(table.schema, pretokenized)
            for number, value in enumerate(table[self.column].to_pylist(), start=progress.n_read + 1):
                row = value if isinstance(value, str) else _sentence(value or [])
                if "\0" in row:
                    raise InputError(f"dataset {self.name}, split {self.split}, row {number}: holds a NUL character")
                yield row
            progress.n_read += len(table)


def _sentence(tokens: Iterable[str | None]) -> str:
    """Join tokens to a line; one that holds white space is cut there, as text with spaces between tokens would be."""
    return " ".join(" ".join(token or "" for token in tokens).split())


def _lines(rows: Iterable[str], progress: Progress) -> Iterator[str]:
    """Write rows under one another as lines, with blank ones round a row of several."""
    for row in rows:
        lines = [line.rstrip("\r") for line in row.strip("\r\n").split("\n")]
        progress.n_lines += len(lines)
        progress.n_blank_lines += sum(not line or line.isspace() for line in lines)
        yield from lines if len(lines) == 1 else ("", *lines, "")
