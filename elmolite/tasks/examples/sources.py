"""Sources of labelled examples: files, splits of Hugging Face datasets, and the parts of a task."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elmolite.data.hf_datasets import DatasetSource
from elmolite.data.text import ReadReport, read_lines
from elmolite.errors import InputError
from elmolite.tasks.config import DEFAULT_COLUMNS, ExampleColumns, Format
from elmolite.tasks.examples.formats import READERS, begin_with_labels
from elmolite.tasks.examples.records import (
    ChosenColumns,
    Example,
    Examples,
    ReadOptions,
    Record,
    choose_columns,
    excerpt,
    read_records,
)
from elmolite.tasks.metrics import warn_unknown_labels
from elmolite.tasks.specs import TASKS, TaskSpec, task_spec
from elmolite.utils.console import n_of

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from pyarrow import Table

logger = logging.getLogger("elmolite")

DEV_EVERY = 10
"""Without dev examples every tenth training example is set aside as one."""

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
    :param labels: known labels: sentences to classify that all begin with one are lines of label and text.
    :raises InputError: the file cannot be read, its columns are not found, it contains no example, or an example is
        invalid; the message names file and line.
    """
    columns.check(task)
    options = ReadOptions(task, columns, needs_labels)
    source = None if str(path) == "-" else Path(path)
    report = ReadReport("standard input" if source is None else str(path))
    try:
        lines = list(read_lines(source, encoding=columns.encoding, drops_marks=True, report=report))
    except InputError as error:
        hint = "; if it has another encoding, pass `columns.encoding='latin-1'`" if "not UTF-8" in str(error) else ""
        raise InputError(f"{error}{hint}") from None
    if not any(map(str.strip, lines)):
        raise InputError(f"{report.source}: the file is empty (no line with text)")
    form = _format_of(report.source, options)
    if form == "text" and columns.format == "auto" and not options.spec.has_token_labels:
        form = "label-text" if begin_with_labels(lines, labels) else "text"
    return Examples(READERS[form](lines, report, options), report).checked()


def _format_of(name: str, options: ReadOptions) -> Format:
    """Return the given format, or that of the suffix, or the default of the task.

    :raises InputError: the format cannot hold the examples, or options do not apply to it.
    """
    spec, columns = options.spec, options.columns
    usable: list[Format] = ["csv", "tsv", "jsonl"]
    if spec.has_token_labels:
        usable += ["conll", "conllu"]
    elif not spec.is_pair:
        usable += ["label-text"]
    if not spec.is_pair and not options.needs_labels:
        usable += ["text"]
    form = columns.format
    if form == "auto":
        default: Format = "tsv" if spec.is_pair else "conll" if spec.has_token_labels else "label-text"
        default = default if spec.is_pair or options.needs_labels else "text"
        form = _SUFFIXES.get(Path(name.removesuffix(".gz")).suffix.lower(), default)
    if form not in usable:
        task = f"{options.task}{' with labels' * options.needs_labels}"
        raise InputError(f"{name}: the format {form} is not for {task}; expected one of {', '.join(usable)}")
    if columns.header != "auto" and form not in ("csv", "tsv"):
        raise InputError(f"{name}: `columns.header` is for csv and tsv, not for {form}")
    if form in ("label-text", "text") and columns.given:
        option = next(iter(columns.given))
        problem = f"`columns.{option}` cannot be used with {form}, which has no columns"
        raise InputError(f"{name}: {problem}: pass `columns.format='csv'`")
    return form


@dataclass(frozen=True)
class DatasetExamples(DatasetSource):
    """Labelled data in a split of a Hugging Face dataset.

    >>> train = DatasetExamples("stanfordnlp/sst2", split="train[:1000]")
    >>> examples = train.read("classify", ExampleColumns(text="sentence"))  # doctest: +SKIP

    :param name: a dataset on the hub, or a folder of parquet, JSON, CSV or text files.
    :param config: configuration, for datasets with several.
    :param split: such as ``train``, ``train+test`` or, unless streaming, ``train[:10%]``.
    :param streaming: do not store the dataset.
    """

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
                raise InputError(f"columns.{option} cannot be used with datasets, only with files")
        report = ReadReport(f"dataset {self.name}, split {self.split}", unit="row")
        dataset, _ = self.open(show_progress=show_progress)
        tables = self.tables(dataset)
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


def _warn_if_texts(name: str, examples: Sequence[Example]) -> None:
    """Warn if most labels occur once, as the first words of running text, or the texts of a wrong column, do."""
    counts = Counter(label for example in examples for label in example.labels)
    once = [label for label, count in counts.items() if count == 1]
    if len(once) > max(len(counts) / 2, 10):
        logger.warning(
            f"{name}: {len(once):,} of {len(counts):,} labels occur once, such as {excerpt(once[0])}: if they are not "
            "labels, pass `columns.format` or `columns.label`"
        )


Source = str | Path | DatasetExamples
"""A file, or a split of a Hugging Face dataset."""


@dataclass(frozen=True)
class TaskExamples:
    """Training, dev and test examples of a task."""

    task: str
    train: list[Example]
    dev: list[Example]
    test: list[Example] | None = None
    sources: dict[str, str] = field(default_factory=dict)
    """Name of each part -> where it was read from."""
    columns: ExampleColumns = DEFAULT_COLUMNS

    @classmethod
    def read(
        cls,
        task: str,
        *,
        train: Source,
        dev: Source | None = None,
        test: Source | None = None,
        columns: ExampleColumns = DEFAULT_COLUMNS,
    ) -> TaskExamples:
        """Read files or splits of a dataset, and warn of labels unseen in training.

        :param task: a key of :data:`elmolite.tasks.specs.TASKS`.
        :param dev: ``None`` sets every tenth training example aside.
        :raises InputError: an example is broken (the message names file and line), or no training example has a label.
        """
        task_spec(task)
        sources = {name: source for name, source in (("train", train), ("dev", dev), ("test", test)) if source}
        parts: dict[str, list[Example]] = {}
        for name, source in sources.items():
            if isinstance(source, DatasetExamples):
                read = source.read(task, columns)
            else:
                read = read_examples(source, task, columns)
            read.report.log()
            parts[name] = read.examples
        if dev is None:
            parts["dev"] = parts["train"][DEV_EVERY - 1 :: DEV_EVERY]
            del parts["train"][DEV_EVERY - 1 :: DEV_EVERY]
            if not parts["dev"]:
                n_examples = n_of(len(parts["train"]), "example")
                raise InputError(f"{train}: {n_examples}, too few to set some aside; give dev examples")
        names = {name: str(source) for name, source in sources.items()}
        examples = cls(task, **parts, sources=names, columns=columns)
        if not examples.labels:
            raise InputError(f"{train}: none of the {len(examples.train)} training examples has a label")
        if len(examples.labels) == 1 and not examples.is_multi_label:
            logger.warning(
                f"{train}: all labels are {excerpt(examples.labels[0])}, so that there is nothing to learn: if this is "
                "not the label, pass `columns.format` or `columns.label`"
            )
        if not examples.spec.has_token_labels:
            _warn_if_texts(str(train), examples.train)
        for name in ("dev", "test"):
            warn_unknown_labels(examples.labels, parts.get(name, []), name)
        return examples

    @property
    def spec(self) -> TaskSpec:
        """The entry of the task in :data:`TASKS`."""
        return TASKS[self.task]

    @property
    def labels(self) -> list[str]:
        """The labels of the training examples, sorted."""
        return sorted({label for example in self.train for label in example.labels})

    @property
    def is_multi_label(self) -> bool:
        """Whether examples have sets of labels: one has several labels, or none."""
        return self.spec.label_kind == "set" and any(len(example.labels) != 1 for example in self.train)
