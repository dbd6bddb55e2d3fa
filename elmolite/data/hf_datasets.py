"""A Hugging Face dataset by its name -> tables of rows, and what went wrong in one message.

``datasets`` is imported where it is used, so only when a dataset is opened.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from elmolite.errors import InputError, closest

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from pyarrow import Table

_BATCH_ROWS = 100  # a row may be a book


@dataclass(frozen=True)
class DatasetSource:
    """A split of a dataset of the hub, or of a folder of parquet, JSON, CSV or text files.

    :param config: which one, of a dataset that has several.
    :param split: several are ``train+test``; a part, where it is not streamed, is ``train[:10%]``.
    :param streaming: read rows when they are needed and keep none, instead of storing the dataset first.
    """

    name: str
    config: str | None
    split: str
    streaming: bool

    def open(self, *, column: str | None = None) -> tuple[Dataset | IterableDataset, int]:
        """Return the dataset and its number of rows, 0 when unknown.

        :param column: the only one that is needed; where the files can do so, a stream does not read the others.
        :raises InputError: the dataset, config or split cannot be had.
        """
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
            if is_parquet and column in dataset.column_names:
                builder.config.columns = [column]
                dataset = builder.as_streaming_dataset(self.split)
            split = (builder.info.splits or {}).get(self.split)
            return dataset, split.num_examples if split else 0
        except InputError:
            raise
        except Exception as error:  # it raises what its parts raise, of a dozen kinds
            raise self._explain(error) from error

    def tables(self, dataset: Dataset | IterableDataset) -> Iterator[Table]:
        """Yield the rows as Arrow tables of at most 100.

        :raises InputError: they cannot be read.
        """
        try:
            yield from dataset.with_format("arrow").iter(_BATCH_ROWS)
        except Exception as error:
            raise self._unreadable(error) from error

    def missing(self, kind: str, name: str, there: Sequence[str]) -> InputError:
        """Return an error that names what is there and the nearest of it."""
        return InputError(f"dataset {self.name}: no {kind} {name!r} among {', '.join(there)}{closest(name, there)}")

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
                    return self.missing("config", self.config, configs)
                splits = datasets.get_dataset_split_names(path, self.config)
                if self.split not in splits:
                    return self.missing("whole split" if self.streaming else "split", self.split, splits)
        return self._unreadable(error)

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(f"dataset {self.name}: cannot be read: {_reason(error)}")


def _reason(error: BaseException) -> str:
    if type(error).__name__ == "DatasetGenerationError" and error.__cause__ is not None:
        error = error.__cause__  # itself it says only that there was an error
    if isinstance(error, StopIteration):
        return "its first file is empty"
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def quiet(*, show_bars: bool) -> Iterator[None]:
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
