"""The options of ``elmolite finetune``, from its configuration file and its command line, into the dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from elmolite.cli.options import Arguments, OptionsParser, make, names_of
from elmolite.errors import InputError
from elmolite.tasks.config import FinetuningConfig, InputConfig
from elmolite.tasks.examples.columns import ExampleColumns
from elmolite.tasks.examples.example import Task
from elmolite.tasks.examples.hf_datasets import DatasetExamples
from elmolite.tasks.heads import HeadConfig, HeadFactory
from elmolite.tasks.own_heads import load_head
from elmolite.tasks.setup import Source
from elmolite.tasks.specs import TASKS, task_spec

_OVERVIEW = "\n".join(f"  {name:<10} {spec.summary}" for name, spec in TASKS.items())
_PATHS = {
    "encoder": "the language model: a model folder, or the name of a released model",
    "train": "examples to learn from: a file, or with --dataset a split (default: train)",
    "dev": "examples that choose the epoch (default: every tenth training example; with --dataset: validation)",
    "test": "examples to measure at the end (optional)",
    "out": "folder for the model, its scores and pictures",
    "dataset": "a Hugging Face dataset, on the hub or a folder, in place of files",
    "dataset_config": "which one, of a dataset that has several",
    "own_head": "a head of yours, as FILE.py:NAME: what makes it from the width of its input and its number of labels",
    "cache": "folder for the layers of a frozen language model (default: the user's cache)",
}
_SWITCHES = {
    "untrained": "use the language model with weights at random, to see what pretraining brings",
    "baselines": "train the same with less too (untrained, single layers, static vectors), and compare; "
    "predict and test of these runs need --encoder",
    "probe": "train a linear classifier on each layer and on the mix, of the model and of the untrained one",
    "pretokenized": "cut sentences at white space, whatever the language model's text was",
    "refer_to_encoder": "do not copy the language model into --out; predict and test then need --encoder",
    "overwrite": "replace what an earlier run left in --out",
}


@dataclass(frozen=True)
class Options:
    """What a command line asks for."""

    task: Task
    encoder: str
    train: Source
    dev: Source | None
    test: Source | None
    out: Path
    cache: Path | None
    n_seeds: int
    untrained: bool
    baselines: bool
    probe: bool
    pretokenized: bool
    refer_to_encoder: bool
    overwrite: bool
    config: FinetuningConfig
    inputs: InputConfig
    head: HeadConfig | HeadFactory
    columns: ExampleColumns


def parse(arguments: Sequence[str]) -> Options:
    """Read the options.

    :param arguments: the task, then the options.
    :raises InputError: an unknown task or key (the message names the nearest), a value of another kind, or one missing.
    """
    task = _task(arguments)
    kinds: dict[str | None, type[Any]] = {
        None: FinetuningConfig,
        "input": InputConfig,
        "head": TASKS[task].config,
        "columns": ExampleColumns,
    }
    valid = {*_PATHS, *_SWITCHES, "seeds"}.union(*(names_of(kind, group) for group, kind in kinds.items()))
    values = _parser(task, kinds).parse(Arguments(arguments[1:], valid))
    train, dev, test = _sources(values)
    for name in ("encoder", "out"):
        if values[name] is None:
            raise InputError(f"--{name} is missing; see elmolite finetune {task} --help")
    if values.seeds < 1:
        raise InputError(f"--seeds {values.seeds}: at least 1 is needed")
    if values.baselines and values.probe:
        raise InputError("--baselines and --probe exclude each other: they are two comparisons")
    if values.probe and values.own_head is not None:
        raise InputError("--probe has linear heads of its own: leave --own-head to it")
    if values.probe and values.encoder_training != "frozen":
        raise InputError("--probe asks what the layers know as they are: it goes with --encoder-training frozen alone")
    return Options(
        task=task,
        encoder=values.encoder,
        train=train,
        dev=dev,
        test=test,
        out=Path(values.out),
        cache=None if values.cache is None else Path(values.cache),
        n_seeds=values.seeds,
        **{name: values[name] for name in _SWITCHES},
        config=make(FinetuningConfig, values),
        inputs=make(InputConfig, values.input, "input"),
        head=_head(task, values),
        columns=make(ExampleColumns, values.columns, "columns"),
    )


def _task(arguments: Sequence[str]) -> Task:
    """Return the task, which comes first."""
    name = arguments[0] if arguments else "--"
    if name in ("-h", "--help"):
        print(f"usage: elmolite finetune TASK ...\n\n{_OVERVIEW}\n\nelmolite finetune TASK --help tells more.")
        raise SystemExit(0)
    if name.startswith("-"):
        raise InputError(f"name the task first: {', '.join(TASKS)}; elmolite finetune --help tells more")
    task_spec(name)
    return name


def _parser(task: str, kinds: dict[str | None, type[Any]]) -> OptionsParser:
    parser = OptionsParser(f"finetune {task}", f"Train a model for the task '{task}' on a language model's layers.")
    for name, text in _PATHS.items():
        parser.add_argument(f"--{name}", type=str | None, default=None, help=text)
    parser.add_argument("--seeds", type=int, default=1, help="train with so many seeds, and give mean and deviation")
    for name, text in _SWITCHES.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    for group, kind in kinds.items():
        parser.add_settings(kind, group)
    return parser


def _head(task: Task, values: Namespace) -> HeadConfig | HeadFactory:
    """Return the settings of one of the task's heads, or what makes one of the user's."""
    head: HeadConfig = make(TASKS[task].config, values.head, "head")
    if values.own_head is None:
        return head
    if head != TASKS[task].config():
        raise InputError("--own-head: it has no settings; --head.* are those of elmolite's heads")
    return load_head(values.own_head)


def _sources(values: Namespace) -> tuple[Source, Source | None, Source | None]:
    """Return the files, or the splits of a dataset, of train, dev and test."""
    train, dev, test = values.train, values.dev, values.test
    if values.dataset is not None:

        def split(name: str) -> DatasetExamples:
            return DatasetExamples(values.dataset, values.dataset_config, name)

        return split(train or "train"), split(dev or "validation"), None if test is None else split(test)
    if values.dataset_config is not None:
        raise InputError("--dataset-config: has a meaning only beside --dataset")
    if train is None:
        raise InputError("--train is missing: a file, or with --dataset a split")
    return train, dev, test
