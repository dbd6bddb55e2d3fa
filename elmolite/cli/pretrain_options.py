"""The options of ``elmolite pretrain``: preset, then configuration file, then command line, into the dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from elmolite.checkpoint import read_config
from elmolite.cli.options import Arguments, OptionsParser, below, make, names_of, read_config_file
from elmolite.errors import InputError, nearest
from elmolite.nn.bilm import PRESETS, BiLMConfig
from elmolite.pretraining.config import RUN_FILE, RUN_VERSION, PretrainingConfig
from elmolite.utils.files import read_manifest

DEFAULT_PRESET = "mini"


@dataclass
class Options:
    """What a command line asks for."""

    corpus: Path
    out: Path | None  # none: --plan needs no folder
    model: BiLMConfig
    config: PretrainingConfig
    init_from: Path | None
    resume: bool
    keep_last: int
    plan: bool


def parse(arguments: Sequence[str]) -> Options:
    """Read the options.

    :raises InputError: an unknown or misspelt key (the message names the nearest), a value of another kind.
    """
    given = Arguments(arguments, _valid_names())
    preset, init_from = given.value_of("preset"), given.value_of("init_from")
    parser = _parser(str(preset or DEFAULT_PRESET))
    if init_from is not None:
        if preset is not None:
            raise InputError("--preset and --init-from exclude each other: a model starts from one of its own sizes")
        parser.set_defaults(below("model", asdict(read_config(Path(init_from)))))
    if "--resume" in given.words and (out := given.value_of("out")) is not None:
        parser.set_defaults(_settings_of_run(Path(out)))
    values = parser.parse(given)
    for name in ("corpus", "out"):
        if values[name] is None and not (name == "out" and values.plan):
            raise InputError(f"--{name} is missing; see elmolite pretrain --help")
    return Options(
        corpus=Path(values.corpus),
        out=None if values.out is None else Path(values.out),
        model=make(BiLMConfig, values.model, "model"),
        config=make(PretrainingConfig, values),
        init_from=None if values.init_from is None else Path(values.init_from),
        resume=values.resume,
        keep_last=values.keep_last,
        plan=values.plan,
    )


def load_recipe(path: str | Path) -> tuple[BiLMConfig, PretrainingConfig]:
    """Read a configuration file as ``elmolite pretrain --config`` does.

    :returns: the sizes and how to train, as :func:`elmolite.pretrain` takes them.
    :raises InputError: it cannot be read, has an unknown key (the message names the nearest), one that is an argument
        of :func:`elmolite.pretrain`, or a wrong value.
    """
    content = read_config_file(str(path))
    for name in ("corpus", "out", "init_from", "resume", "keep_last", "plan"):
        if name in content:
            raise InputError(f"{path}: {name!r} is no setting of a recipe here: give it to pretrain()")
    options = parse(["--config", str(path), "--corpus", ".", "--plan"])
    return options.model, options.config


def _settings_of_run(out: Path) -> dict[str, Any]:
    """Return the settings that a run was started with, so that ``--out`` and ``--resume`` are enough to go on."""
    if not (out / RUN_FILE).is_file():
        return {}
    record = read_manifest(out / RUN_FILE, kind="run", version=RUN_VERSION)
    settings: dict[str, Any] = {"corpus": record.get("corpus_folder"), **record.get("training", {})}
    settings |= below("model", record.get("model", {}))
    valid = _valid_names()
    return {name: value for name, value in settings.items() if name in valid}


def _parser(preset: str) -> OptionsParser:
    if preset not in PRESETS:
        raise InputError(f"unknown preset {preset!r}{nearest(preset, PRESETS)}")
    parser = OptionsParser("pretrain", "Pretrain a bidirectional language model on a prepared corpus.")
    parser.add_argument("--corpus", type=str | None, default=None, help="a folder made by elmolite prepare")
    parser.add_argument(
        "--out", type=str | None, default=None, help="folder for the log, the model and the resume point"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, under its own settings")
    parser.add_argument("--keep_last", type=int, default=2, help="points to resume from that stay")
    parser.add_argument("--plan", action="store_true", help="print what the run will take, from a few steps, and stop")
    parser.add_argument(
        "--init_from",
        type=str | None,
        default=None,
        help="a model folder to start from, on this corpus with its own words; the sizes are that model's",
    )
    parser.add_argument("--preset", default=preset, help=f"sizes of the model: {', '.join(PRESETS)}")
    parser.add_settings(PretrainingConfig)
    parser.add_settings(BiLMConfig, "model")
    parser.set_defaults(below("model", asdict(PRESETS[preset]())))
    return parser


def _valid_names() -> set[str]:
    names = {"corpus", "out", "resume", "keep_last", "plan", "init_from", "preset"}
    return names | names_of(PretrainingConfig) | names_of(BiLMConfig, "model")
