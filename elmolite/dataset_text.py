"""Rows of a Hugging Face dataset -> documents of lines.

``datasets`` is imported here and nowhere else, and only when a dataset is opened.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from elmolite.errors import InputError
from elmolite.suggest import closest
from elmolite.text import Progress, group_lines

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from pyarrow import Schema, Table

_BATCH_ROWS = 100  # a row may be a book
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
        with _quiet(show_bars=show_progress and sys.stderr.isatty()):
            dataset, progress.n_total = self._open()
        progress.unit = " rows"
        if dataset.features is not None:  # a stream may not know them before it is read
            self._check_column(dataset.features.arrow_schema, pretokenized)
        return self._documents(dataset, progress, pretokenized)

    def _open(self) -> tuple[Dataset | IterableDataset, int]:
        """Return the dataset and its number of rows, 0 when unknown."""
        import datasets
        from datasets.packaged_modules.parquet.parquet import ParquetConfig

        try:
            builder = datasets.load_dataset_builder(self._path(), self.config)
            is_parquet = isinstance(builder.config, ParquetConfig)
            if is_parquet:
                builder.config.batch_size = 1000  # the default, rows of the first group, fails where there are none
            if not self.streaming:
                builder.download_and_prepare()
                dataset = builder.as_dataset(self.split)
                return dataset, len(dataset)
            dataset = builder.as_streaming_dataset(self.split)
            if is_parquet and self.column in dataset.column_names:
                builder.config.columns = [self.column]  # the others need not be read
                dataset = builder.as_streaming_dataset(self.split)
            split = (builder.info.splits or {}).get(self.split)
            return dataset, split.num_examples if split else 0
        except InputError:
            raise
        except Exception as error:  # it raises what its parts raise, of a dozen kinds
            raise self._explain(error) from error

    def _path(self) -> str:
        """Return what ``datasets`` shall look for: a folder is meant before a file format of the same name."""
        from datasets import packaged_modules

        if not self.name:
            raise InputError("a dataset needs a name")
        path = Path(self.name)
        if path.is_dir():
            return str(path.resolve())
        if path.is_file():
            raise InputError(f"{path}: is a file; a dataset is a folder, or on the hub")
        if self.name in getattr(packaged_modules, "_PACKAGED_DATASETS_MODULES", ()):
            raise InputError(f"{self.name}: is a file format; a dataset is a folder, or on the hub")
        return self.name

    def _explain(self, error: Exception) -> InputError:
        """Return an error that says what was wrong, and what is there."""
        import datasets

        if isinstance(error, ConnectionError):
            return InputError(
                f"dataset {self.name}: no such folder, and the Hugging Face hub cannot be reached: {_reason(error)}"
            )
        if type(error) is ValueError:  # a config or a split that is not there, among others
            with suppress(Exception):
                path = self._path()
                configs = datasets.get_dataset_config_names(path)
                if self.config is None and datasets.get_dataset_default_config_name(path) is None:
                    return InputError(f"dataset {self.name} has several configs; choose one: {', '.join(configs)}")
                if self.config is not None and self.config not in configs:
                    return self._missing("config", self.config, configs)
                splits = datasets.get_dataset_split_names(path, self.config)
                if self.split not in splits:
                    return self._missing("whole split" if self.streaming else "split", self.split, splits)
        return self._unreadable(error)

    def _missing(self, kind: str, name: str, there: Sequence[str]) -> InputError:
        return InputError(f"dataset {self.name}: no {kind} {name!r} among {', '.join(there)}{closest(name, there)}")

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(f"dataset {self.name}: cannot be read: {_reason(error)}")

    def _check_column(self, schema: Schema, pretokenized: bool) -> None:
        if self.column not in schema.names:
            raise self._missing("column", self.column, schema.names)
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
        with _quiet(show_bars=False):
            for document in group_lines(_lines(self._rows(dataset, progress, pretokenized))):
                has_text = True
                yield document
        if not has_text:
            raise InputError(f"dataset {self.name}, split {self.split}: column {self.column!r} is empty (no text)")

    def _rows(self, dataset: Dataset | IterableDataset, progress: Progress, pretokenized: bool) -> Iterator[str]:
        for table in self._tables(dataset):
            self._check_column(table.schema, pretokenized)
            for value in table[self.column].to_pylist():
                yield value if isinstance(value, str) else _sentence(value or [])
            progress.n_read += len(table)

    def _tables(self, dataset: Dataset | IterableDataset) -> Iterator[Table]:
        try:
            yield from dataset.with_format("arrow").iter(_BATCH_ROWS)
        except Exception as error:
            raise self._unreadable(error) from error


def _sentence(tokens: Iterable[str | None]) -> str:
    """Join tokens to a line; one that holds white space is cut there, as text with spaces between tokens would be."""
    return " ".join(" ".join(token or "" for token in tokens).split())


def _lines(rows: Iterable[str]) -> Iterator[str]:
    """Write rows under one another as lines, with blank ones round a row of several."""
    for row in rows:
        lines = [line.rstrip("\r") for line in row.strip("\r\n").split("\n")]
        yield from lines if len(lines) == 1 else ("", *lines, "")


def _reason(error: BaseException) -> str:
    if type(error).__name__ == "DatasetGenerationError" and error.__cause__ is not None:
        error = error.__cause__  # itself it says only that there was an error
    if isinstance(error, StopIteration):
        return "its first file is empty"
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _quiet(*, show_bars: bool) -> Iterator[None]:
    """Keep ``datasets`` from writing between our own lines; what went wrong comes as an exception."""
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
