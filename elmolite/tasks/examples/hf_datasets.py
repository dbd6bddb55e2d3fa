"""Rows of a Hugging Face dataset -> examples of a task."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from elmolite.data.hf_datasets import DatasetSource, quiet
from elmolite.data.text import ReadReport
from elmolite.errors import InputError
from elmolite.tasks.examples.columns import RECOGNISED, ChosenColumns, ExampleColumns, choose_columns
from elmolite.tasks.examples.example import Task
from elmolite.tasks.examples.records import Examples, Record, read_records
from elmolite.tasks.specs import TASKS

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from pyarrow import Table


@dataclass(frozen=True)
class DatasetExamples:
    """Labelled data in columns of a Hugging Face dataset.

    :param name: a dataset of the hub, or a folder of parquet, JSON, CSV or text files.
    :param config: which one, of a dataset that has several.
    :param split: several are ``train+test``; a part, where it is not streamed, is ``train[:10%]``.
    :param streaming: do not store the dataset.
    """

    name: str
    config: str | None = None
    split: str = "train"
    streaming: bool = False

    def read(
        self,
        task: Task,
        columns: ExampleColumns = RECOGNISED,
        *,
        needs_labels: bool = True,
        show_progress: bool = False,
    ) -> Examples:
        """Return the examples of all rows; numbers that stand for labels become their names.

        :param columns: names of columns, where they should not be recognised.
        :param needs_labels: false for what is to be predicted: labels may be missing.
        :param show_progress: of storing the dataset, on a terminal.
        :raises InputError: the dataset, split or columns cannot be had, it is empty, or a row has no sentence or label.
        """
        columns.check(task)
        for option in ("format", "encoding", "header"):
            if getattr(columns, option) != getattr(RECOGNISED, option):
                raise InputError(f"{option}: a dataset has its own; this is for files")
        source = DatasetSource(self.name, self.config, self.split, self.streaming)
        where = f"dataset {self.name}, split {self.split}"
        with quiet(show_bars=show_progress and sys.stderr.isatty()):
            dataset, _ = source.open()
        with quiet(show_bars=False):
            tables = source.tables(dataset)
            first = next(tables, None)
            if first is None:
                raise InputError(f"{where}: is empty (no row)")
            names = first.schema.names
            chosen = choose_columns(names, task, columns, needs_labels=needs_labels, where=where)
            class_names = _class_names(dataset, chosen.label)
            records = _records(chain([first], tables), chosen, class_names, task, where)
            report = ReadReport(where, unit="row")
            found = read_records(records, chosen, task, columns, report, needs_labels=needs_labels)
        return found.checked()


def _class_names(dataset: Dataset | IterableDataset, label: str | None) -> Sequence[str]:
    """Return the names of the classes, where the labels, or each of several, are the numbers of such."""
    from datasets import ClassLabel

    feature = (dataset.features or {}).get(label)
    if isinstance(feature, list):  # a list of a feature, in datasets before 4.0
        feature = feature[0]
    feature = getattr(feature, "feature", feature)
    return feature.names if isinstance(feature, ClassLabel) else ()


def _records(
    tables: Iterable[Table], chosen: ChosenColumns, class_names: Sequence[str], task: Task, where: str
) -> Iterator[Record]:
    used = {*chosen.sentences, *([chosen.label] if chosen.label else [])}
    rows = (row for table in tables for row in table.select(sorted(used.intersection(table.schema.names))).to_pylist())
    for number, row in enumerate(rows, start=1):
        place = f"{where}, row {number}"
        if class_names:
            row[chosen.label] = _named(row[chosen.label], class_names, task, place)
        yield Record(row, place, number)


def _named(value: Any, class_names: Sequence[str], task: Task, place: str) -> Any:
    """Put names in the place of the numbers of classes; -1 is the class of what has none."""
    if isinstance(value, list):
        return [_named(part, class_names, task, place) for part in value]
    if value is None or value == -1:
        return TASKS[task].no_label
    if not 0 <= value < len(class_names):
        raise InputError(f"{place}: no class {value} among the {len(class_names)} of the dataset")
    return class_names[value]
