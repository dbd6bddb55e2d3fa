"""Read Hugging Face datasets: as Arrow tables of rows, or a text column as documents of lines.

``datasets`` is imported only when a dataset is opened.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from elmolite.data.text import Progress, group_lines
from elmolite.errors import InputError, closest

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from pyarrow import Schema, Table

_BATCH_ROWS = 100  # a row may be a book
_TEXT_TYPES = {"string", "large_string", "string_view", "null"}  # names of Arrow types


@dataclass(frozen=True)
class DatasetSource:
    """A split of a dataset on the hub, or of a folder of parquet, JSON, CSV or text files.

    :param config: the configuration, if the dataset has several.
    :param split: may be a sum, ``train+test``, or a part, ``train[:10%]`` (not when streaming).
    :param streaming: read rows when they are needed, without storing the dataset on disk.
    """

    name: str
    config: str | None
    split: str
    streaming: bool

    def open(self, *, column: str | None = None) -> tuple[Dataset | IterableDataset, int]:
        """Return the dataset and its number of rows (0: unknown).

        :param column: the only column needed; streamed parquet files are read without the others.
        :raises InputError: the dataset, config or split does not exist or cannot be loaded.
        """
        import datasets

        path = self._path()
        try:
            builder = datasets.load_dataset_builder(path, self.config)
            if hasattr(builder.config, "batch_size"):  # parquet: the default, rows of the first group, may be 0
                builder.config.batch_size = 1000
            if not self.streaming:
                builder.download_and_prepare()
                dataset = builder.as_dataset(self.split)
                return dataset, len(dataset)
            dataset = builder.as_streaming_dataset(self.split)
            if hasattr(builder.config, "columns") and column in (dataset.column_names or ()):
                builder.config.columns = [column]
                dataset = builder.as_streaming_dataset(self.split)
            split = (builder.info.splits or {}).get(self.split)
            return dataset, split.num_examples if split else 0
        except Exception as error:  # datasets raises a dozen kinds
            raise self._explain(error, path) from error

    def tables(self, dataset: Dataset | IterableDataset) -> Iterator[Table]:
        """Yield the rows as Arrow tables of up to 100.

        :raises InputError: the rows cannot be read.
        """
        try:
            yield from dataset.with_format("arrow").iter(_BATCH_ROWS)
        except Exception as error:
            raise self._unreadable(error) from error

    def missing(self, kind: str, name: str, known: Sequence[str]) -> InputError:
        """Return an error that lists the known names and suggests the nearest."""
        return InputError(f"dataset {self.name}: no {kind} {name!r} among {', '.join(known)}{closest(name, known)}")

    def _path(self) -> str:
        """Return the name for ``datasets``; an absolute path for a folder, whose name may be that of a file format."""
        if not self.name:
            raise InputError("a dataset needs a name")
        path = Path(self.name)
        if path.is_file():
            raise InputError(f"{path}: is a file; expected the folder of a dataset, or a name on the hub")
        return str(path.resolve()) if path.is_dir() else self.name

    def _explain(self, error: Exception, path: str) -> InputError:
        """Return an error that names the cause and the alternatives."""
        import datasets

        if isinstance(error, ConnectionError):
            return InputError(
                f"dataset {self.name}: no such folder, and the Hugging Face hub cannot be reached: {_reason(error)}"
            )
        if type(error) is ValueError:  # among others, an unknown config or split
            with suppress(Exception):
                configs = datasets.get_dataset_config_names(path)
                if self.config is None and datasets.get_dataset_default_config_name(path) is None:
                    return InputError(f"dataset {self.name} has several configs; choose one: {', '.join(configs)}")
                if self.config is not None and self.config not in configs:
                    return self.missing("config", self.config, configs)
                splits = datasets.get_dataset_split_names(path, self.config)
                if self.split not in splits:
                    return self.missing("whole split" if self.streaming else "split", self.split, splits)
        return self._unreadable(error)

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(f"dataset {self.name}: cannot be read: {_reason(error)}")


def _reason(error: BaseException) -> str:
    if type(error).__name__ == "DatasetGenerationError" and error.__cause__ is not None:
        error = error.__cause__  # the message of the outer error has no details
    if isinstance(error, StopIteration):
        return "its first file is empty"
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def quiet(*, show_bars: bool) -> Iterator[None]:
    """Context in which ``datasets`` logs nothing and, by choice, shows no progress bars; errors are raised anyway."""
    import datasets
    from huggingface_hub import utils

    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    with_bars = [] if show_bars else [part for part in (datasets, utils) if not part.are_progress_bars_disabled()]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        for part in with_bars:
            part.disable_progress_bars()
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for part in with_bars:
            part.enable_progress_bars()


@dataclass(frozen=True)
class DatasetText:
    """Text in a column of a Hugging Face dataset.

    A row of several lines is a document. Rows of one line are lines as in a file: an empty row ends a document. With
    a whitespace tokenizer, a row may also be a list of tokens: a sentence.

    :param name: a dataset on the hub, or a folder of parquet, JSON, CSV or text files.
    :param config: the configuration, if the dataset has several.
    :param split: may be a sum, ``train+test``, or a part, ``train[:10%]`` (not when streaming).
    :param column: the name of the text column.
    :param streaming: read rows when they are needed, without storing the dataset on disk.
    """

    name: str
    config: str | None = None
    split: str = "train"
    column: str = "text"
    streaming: bool = False

    def read_documents(
        self, progress: Progress, *, pretokenized: bool = False, show_progress: bool = False
    ) -> Iterator[list[str]]:
        """Open the dataset, then yield its documents, each a list of non-blank lines.

        :param pretokenized: accept rows that are lists of tokens.
        :param show_progress: show the download, on a terminal.
        :raises InputError: the dataset, split or column does not exist (on opening), or a row cannot be read.
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
        hint = "; with --pretokenized, each of its rows is read as a sentence" if is_tokens else ""
        raise InputError(f"dataset {self.name}: expected text in column {self.column!r}, got {kind}{hint}")

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
                    raise InputError(f"dataset {self.name}, split {self.split}, row {number}: contains a NUL character")
                yield row
            progress.n_read += len(table)


def _sentence(tokens: Iterable[str | None]) -> str:
    """Join tokens to a line; a token with white space is split there."""
    return " ".join(" ".join(token or "" for token in tokens).split())


def _lines(rows: Iterable[str], progress: Progress) -> Iterator[str]:
    """Yield the lines of rows, with blank lines before and after a row of several."""
    for row in rows:
        lines = [line.rstrip("\r") for line in row.strip("\r\n").split("\n")]
        progress.n_lines += len(lines)
        progress.n_blank_lines += sum(not line or line.isspace() for line in lines)
        yield from lines if len(lines) == 1 else ("", *lines, "")
