"""Examples from Hugging Face datasets."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from elmolite.data.hf_datasets import DatasetSource, quiet
from elmolite.data.text import ReadReport
from elmolite.errors import InputError
from elmolite.tasks.examples.records import (
    DEFAULT_COLUMNS,
    ChosenColumns,
    ExampleColumns,
    Examples,
    ReadOptions,
    Record,
    choose_columns,
    read_records,
)

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from pyarrow import Table


@dataclass(frozen=True)
class DatasetExamples:
    """Labelled data in a split of a Hugging Face dataset.

    :param name: a dataset on the hub, or a folder of parquet, JSON, CSV or text files.
    :param config: configuration, for datasets with several.
    :param split: such as ``train``, ``train+test`` or, unless streaming, ``train[:10%]``.
    :param streaming: do not store the dataset.
    """

    name: str
    config: str | None = None
    split: str = "train"
    streaming: bool = False

    def read(
        self,
        task: str,
        columns: ExampleColumns = DEFAULT_COLUMNS,
        *,
        needs_labels: bool = True,
        show_progress: bool = False,
    ) -> Examples:
        """Read the examples of all rows; ``ClassLabel`` ids become names.

        :param columns: column names, for those without a usual name.
        :param needs_labels: false for prediction: labels may be missing.
        :param show_progress: show the progress of storing the dataset.
        :raises InputError: the dataset, split or columns are not found, it is empty, or a row has no sentence or label.
        """
        columns.check(task)
        options = ReadOptions(task, columns, needs_labels)
        for option in ("format", "encoding", "header"):
            if getattr(columns, option) != getattr(DEFAULT_COLUMNS, option):
                raise InputError(f"{option}: applies to files, not to datasets")
        source = DatasetSource(self.name, self.config, self.split, self.streaming)
        report = ReadReport(f"dataset {self.name}, split {self.split}", unit="row")
        with quiet(show_bars=show_progress and sys.stderr.isatty()):
            dataset, _ = source.open()
        with quiet(show_bars=False):
            tables = source.tables(dataset)
            first = next(tables, None)
            if first is None:
                raise InputError(f"{report.source}: is empty (no row)")
            chosen = choose_columns(first.schema.names, options, location=report.source)
            records = _records(chain([first], tables), chosen, _class_names(dataset, chosen.label), report, options)
            return Examples(read_records(records, chosen, report, options), report).checked()


def _class_names(dataset: Dataset | IterableDataset, label: str | None) -> Sequence[str]:
    """Return the class names of a label column of ``ClassLabel``, or of lists of ``ClassLabel``."""
    from datasets import ClassLabel

    feature = (dataset.features or {}).get(label)
    feature = getattr(feature, "feature", feature)
    return feature.names if isinstance(feature, ClassLabel) else ()


def _records(
    tables: Iterable[Table], chosen: ChosenColumns, class_names: Sequence[str], report: ReadReport, options: ReadOptions
) -> Iterator[Record]:
    used = {*chosen.sentences, *([chosen.label] if chosen.label else [])}
    rows = (row for table in tables for row in table.select(sorted(used.intersection(table.schema.names))).to_pylist())

    def name_of(value: Any, number: int) -> Any:
        """Replace class ids by names; -1 is the id of missing labels."""
        if isinstance(value, list):
            return [name_of(part, number) for part in value]
        if value is None or value == -1:
            return options.spec.no_label
        if not 0 <= value < len(class_names):
            raise InputError(f"{report.source}, row {number}: class {value} out of range [0, {len(class_names) - 1}]")
        return class_names[value]

    for number, row in enumerate(rows, start=1):
        if class_names:
            row[chosen.label] = name_of(row[chosen.label], number)
        yield number, row
