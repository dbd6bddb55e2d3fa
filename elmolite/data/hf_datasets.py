"""Read Hugging Face datasets: as Arrow tables of rows, or a text column as documents of lines.

``datasets`` is an extra (``pip install 'elmolite[datasets]'``), imported only when a dataset is opened.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elmolite.data.text import Progress, group_lines
from elmolite.errors import InputError, closest
from elmolite.utils.console import log_level

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
    config: str | None = None
    split: str = "train"
    streaming: bool = field(default=False, kw_only=True)

    def open(
        self, *, only_column: str | None = None, show_progress: bool = False
    ) -> tuple[Dataset | IterableDataset, int]:
        """Return the dataset and its number of rows (0: unknown).

        :param only_column: the only column needed; streamed parquet files are read without the others.
        :param show_progress: show the download, on a terminal.
        :raises InputError: the dataset, config or split does not exist or cannot be loaded, or ``datasets`` is not
            installed.
        """
        datasets = import_datasets()
        if not self.name:
            raise InputError("a dataset needs a name")
        path = Path(self.name)
        if path.is_file():
            raise InputError(f"{path}: is a file; expected the folder of a dataset, or a name on the hub")
        name = str(path.resolve()) if path.is_dir() else self.name  # a folder may be called json
        try:
            with _quiet(show_bars=show_progress and sys.stderr.isatty()):
                builder = datasets.load_dataset_builder(name, self.config)
                if hasattr(builder.config, "batch_size"):  # parquet: the default, rows of the first group, may be 0
                    builder.config.batch_size = 1000
                if not self.streaming:
                    builder.download_and_prepare()
                    dataset = builder.as_dataset(self.split)
                    return dataset, len(dataset)
                dataset = builder.as_streaming_dataset(self.split)
                if hasattr(builder.config, "columns") and only_column in (dataset.column_names or ()):
                    builder.config.columns = [only_column]
                    dataset = builder.as_streaming_dataset(self.split)
                split = (builder.info.splits or {}).get(self.split)
                return dataset, split.num_examples if split else 0
        except ConnectionError as error:
            problem = "no such folder, and the Hugging Face hub cannot be reached"
            raise InputError(f"dataset {self.name}: {problem}: {_reason(error)}") from error
        except Exception as error:  # datasets raises a dozen kinds; they name the configs or splits that there are
            raise self._unreadable(error) from error

    def tables(self, dataset: Dataset | IterableDataset) -> Iterator[Table]:
        """Yield the rows as Arrow tables of up to 100.

        :raises InputError: the rows cannot be read.
        """
        try:
            with _quiet(show_bars=False):
                yield from dataset.with_format("arrow").iter(_BATCH_ROWS)
        except Exception as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(f"dataset {self.name}: cannot be read: {_reason(error)}")


def _reason(error: BaseException) -> str:
    if type(error).__name__ == "DatasetGenerationError" and error.__cause__ is not None:
        error = error.__cause__  # the message of the outer error has no details
    if isinstance(error, StopIteration):
        return "its first file is empty"
    return " ".join(str(error).split()) or type(error).__name__


def import_datasets() -> Any:
    """Import Hugging Face ``datasets``.

    :raises InputError: it is not installed.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        if error.name != "datasets":
            raise
        problem = "reading a Hugging Face dataset needs the package datasets"
        raise InputError(f"{problem}; install it with: pip install 'elmolite[datasets]'") from None
    return datasets


@contextmanager
def _quiet(*, show_bars: bool) -> Iterator[None]:
    """Let ``datasets`` log nothing and, by choice, show no progress bars; errors are raised anyway."""
    from huggingface_hub import utils

    datasets = import_datasets()

    with_bars = [] if show_bars else [part for part in (datasets, utils) if not part.are_progress_bars_disabled()]
    with log_level(logging.CRITICAL, "datasets", "huggingface_hub"):
        try:
            for part in with_bars:
                part.disable_progress_bars()
            yield
        finally:
            for part in with_bars:
                part.enable_progress_bars()


@dataclass(frozen=True)
class DatasetText(DatasetSource):
    """Text in a column of a Hugging Face dataset.

    A row of several lines is a document. Rows of one line are lines as in a file: an empty row ends a document. With
    a whitespace tokenizer, a row may also be a list of tokens: a sentence.

    >>> text = DatasetText("Salesforce/wikitext", "wikitext-2-raw-v1", "train[:10%]")
    >>> corpus = prepare(text, "wikitext")  # doctest: +SKIP

    :param name: a dataset on the hub, or a folder of parquet, JSON, CSV or text files.
    :param config: the configuration, if the dataset has several.
    :param split: may be a sum, ``train+test``, or a part, ``train[:10%]`` (not when streaming).
    :param column: the name of the text column.
    :param streaming: read rows when they are needed, without storing the dataset on disk.
    """

    column: str = "text"

    def read_documents(
        self, progress: Progress, *, pretokenized: bool = False, show_progress: bool = False
    ) -> Iterator[list[str]]:
        """Open the dataset, then yield its documents, each a list of non-blank lines.

        :param pretokenized: accept rows that are lists of tokens.
        :param show_progress: show the download, on a terminal.
        :raises InputError: the dataset, split or column does not exist (on opening), or a row cannot be read.
        """
        dataset, progress.n_total = self.open(only_column=self.column, show_progress=show_progress)
        progress.unit = "rows"
        if dataset.features is not None:  # a stream may not know them before it is read
            self._check_column(dataset.features.arrow_schema, pretokenized)
        return self._documents(dataset, progress, pretokenized)

    def _check_column(self, schema: Schema, pretokenized: bool) -> None:
        if self.column not in schema.names:
            known = f"{', '.join(schema.names)}{closest(self.column, schema.names)}"
            raise InputError(f"dataset {self.name}: no column {self.column!r} among {known}")
        kind = schema.field(self.column).type
        is_tokens = str(getattr(kind, "value_type", None)) in _TEXT_TYPES
        if str(kind) in _TEXT_TYPES or (is_tokens and pretokenized):
            return
        hint = "; with `pretokenized`, each of its rows is a sentence" if is_tokens else ""
        raise InputError(f"dataset {self.name}: expected text in column {self.column!r}, got {kind}{hint}")

    def _documents(
        self, dataset: Dataset | IterableDataset, progress: Progress, pretokenized: bool
    ) -> Iterator[list[str]]:
        has_text = False
        for document in group_lines(_lines(self._rows(dataset, progress, pretokenized), progress)):
            has_text = True
            yield document
        if not has_text:
            raise InputError(f"dataset {self.name}, split {self.split}: column {self.column!r} is empty (no text)")

    def _rows(self, dataset: Dataset | IterableDataset, progress: Progress, pretokenized: bool) -> Iterator[str]:
        for table in self.tables(dataset):
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
