"""Which columns, or keys, of labelled data hold the sentences and the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

from elmolite.errors import InputError, check_choices, closest
from elmolite.tasks.examples.example import Task
from elmolite.tasks.specs import TASKS, ColumnNames

Format = Literal["auto", "text", "conllu", "conll", "csv", "tsv", "jsonl", "label-text"]


@dataclass(frozen=True, kw_only=True)
class ExampleColumns:
    """How labelled data is laid out; what is not said is recognised.

    A column is named as the header or the keys name it, or by its number, from 1, in files with columns.

    :param format: text is plain lines without labels. TSV has no quotes: a row is a line.
    :param encoding: of the file; older ones may be in latin-1.
    :param header: of CSV and TSV: whether the first row names the columns.
    :param text: the column of the sentence, the tokens, or the premise.
    :param second_text: the column of the hypothesis.
    :param label: the column of the label or labels, or the tags.
    :param label_separator: in classification, the string between several labels of a field; an empty field says that
        none holds.
    """

    format: Format = "auto"
    encoding: str = "utf-8"
    header: Literal["auto", "present", "absent"] = "auto"
    text: str | None = None
    second_text: str | None = None
    label: str | None = None
    label_separator: str | None = None

    def check(self, task: Task) -> None:
        """Hold the fields against their values and the task.

        :raises InputError: one has an unknown value or has no meaning for the task.
        """
        check_choices(self)
        if not TASKS[task].is_pair and self.second_text is not None:
            raise InputError(f"second_text: the task {task} has one sentence; this is for entail")
        if TASKS[task].label_kind != "set" and self.label_separator is not None:
            raise InputError(f"label_separator: the task {task} has one label each; this is for classify")
        for field in fields(self):
            if getattr(self, field.name) == "":
                raise InputError(f"{field.name}: is empty")
        try:
            keeps_ascii = "\n a".encode(self.encoding) == b"\n a"
        except UnicodeError:
            keeps_ascii = False
        except (LookupError, ValueError):
            raise InputError(f"encoding: unknown {self.encoding!r}; such as utf-8 or latin-1 was expected") from None
        if not keeps_ascii:
            raise InputError(f"encoding: {self.encoding!r} does not contain ASCII: convert the file to UTF-8 first")

    @property
    def named(self) -> dict[str, str]:
        """The columns that are given, by the name of the option."""
        given = {"text": self.text, "second_text": self.second_text, "label": self.label}
        return {option: column for option, column in given.items() if column is not None}


RECOGNISED = ExampleColumns()
"""Everything is recognised."""


class ChosenColumns(NamedTuple):
    """Names of columns that are there."""

    sentences: tuple[str, ...]
    label: str | None


def choose_columns(
    there: Sequence[str], task: Task, columns: ExampleColumns, *, needs_labels: bool, where: str, numbered: bool = False
) -> ChosenColumns:
    """Find the columns that are given, and recognise the others by their names.

    :param there: the names of the columns.
    :param where: file and line, or dataset, for the message.
    :param numbered: a column may also be given by its number.
    :raises InputError: one is not there, or several could be it.
    """
    found = {
        option: _find(name, there, option=option, where=where, numbered=numbered)
        for option, name in columns.named.items()
    }

    def choose(option: str, groups: ColumnNames, *, required: bool = True) -> str | None:
        if option in found:
            return found[option]
        free = [name for name in there if name not in found.values()]
        several = _known(groups, free)
        if len(several) == 1:
            return found.setdefault(option, several[0])
        if not required:
            return None
        if several:
            raise InputError(f"{where}: the {option} may be {' or '.join(map(repr, several))}: choose one")
        raise InputError(f"{where}: no column of a known name for the {option} among {listing(there)}: name it")

    spec = TASKS[task]
    sentences = [
        choose(option, names) for option, names in zip(("text", "second_text"), spec.text_columns, strict=False)
    ]
    label = choose("label", spec.label_columns, required=needs_labels)
    chosen = ChosenColumns(tuple(name for name in sentences if name is not None), label)
    for name in (*chosen.sentences, chosen.label):
        if name is not None and there.count(name) > 1:
            raise InputError(f"{where}: there are {there.count(name)} columns {name!r}")
    return chosen


def is_known(name: str, task: Task) -> bool:
    """Return whether published data has a column of this name for the task."""
    spec = TASKS[task]
    groups = (*(group for names in spec.text_columns for group in names), *spec.label_columns)
    return any(name.strip().casefold() in group for group in groups)


def is_number(column: str) -> bool:
    """Return whether a column is given by its number."""
    return column.isascii() and column.isdigit()


def _find(name: str, there: Sequence[str], *, option: str, where: str, numbered: bool) -> str:
    if name in there:
        return name
    if numbered and is_number(name):
        if 1 <= int(name) <= len(there):
            return there[int(name) - 1]
        raise InputError(f"{where}: no column {name} ({option}); there are {len(there)}")
    raise InputError(f"{where}: no column {name!r} ({option}) among {listing(there)}{closest(name, there)}")


def _known(groups: ColumnNames, names: Sequence[str]) -> list[str]:
    """Return the names that are of the first group of which there is one."""
    found = ([name for name in names if name.strip().casefold() in group] for group in groups)
    return next(filter(None, found), [])


def listing(names: Sequence[str]) -> str:
    """Write names behind one another, shortened where they are many or long."""
    shown = [excerpt(name) for name in names[:12]]
    return ", ".join([*shown, f"and {len(names) - 12} more"] if len(names) > 12 else shown)


def excerpt(text: str, *, length: int = 40) -> str:
    """Quote a text, shortened where it is long."""
    return repr(text if len(text) <= length else text[: length - 3] + "...")
