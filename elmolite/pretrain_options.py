"""The options of ``elmolite pretrain``: preset, then configuration file, then command line, into the dataclasses."""

from __future__ import annotations

import re
from argparse import SUPPRESS, HelpFormatter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from elmolite.bilm import PRESETS, BiLMConfig
from elmolite.checkpoint import read_config
from elmolite.errors import InputError
from elmolite.files import read_json
from elmolite.pretraining_config import RUN_FILE, PretrainingConfig
from elmolite.suggest import nearest

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
    plan: bool


def parse(arguments: Sequence[str]) -> Options:
    """Read the options.

    :raises InputError: an unknown or misspelt key (the message names the nearest), a value of another kind.
    """
    arguments = _config_first([_with_underscores(argument) for argument in arguments])
    file = _config_file(arguments)
    valid = _valid_names()
    for name in _flatten(file[1]) if file else []:
        if name not in valid:
            raise InputError(f"{file[0] if file else ''}: unknown key {name!r}{nearest(name, valid)}")
    for argument in arguments:
        name = argument.split("=")[0].removeprefix("--")
        if argument.startswith("--") and name not in {*valid, "config", "print_config", "help"}:
            wanted = nearest(name, valid).replace("_", "-")
            raise InputError(f"unknown argument --{name.replace('_', '-')}{wanted}")
    settings = file[1] if file else {}
    preset = _value_of("preset", arguments) or settings.get("preset")
    init_from = _value_of("init_from", arguments) or settings.get("init_from")
    parser = _parser(str(preset or DEFAULT_PRESET))
    if init_from is not None:
        if preset is not None:
            raise InputError("--preset and --init-from exclude each other: a model starts from one of its own sizes")
        parser.set_defaults(_below_model(asdict(read_config(Path(init_from)))))
    if "--resume" in arguments and (out := _value_of("out", arguments)) is not None:
        parser.set_defaults(_settings_of_run(Path(out)))
    try:
        values = parser.parse_args(arguments)
    except ArgumentError as error:
        raise InputError(_readable(str(error))) from None
    for name in ("corpus", "out"):
        if values[name] is None and not (name == "out" and values.plan):
            raise InputError(f"--{name} is missing; see elmolite pretrain --help")
    return Options(
        corpus=Path(values.corpus),
        out=None if values.out is None else Path(values.out),
        model=BiLMConfig(**_fields_of(BiLMConfig, values.model)),
        config=PretrainingConfig(**_fields_of(PretrainingConfig, values)),
        init_from=None if values.init_from is None else Path(values.init_from),
        resume=values.resume,
        plan=values.plan,
    )


def load_recipe(path: str | Path) -> tuple[BiLMConfig, PretrainingConfig]:
    """Read a configuration file as ``elmolite pretrain --config`` does.

    :returns: the sizes and how to train, as :func:`elmolite.pretrain` takes them.
    :raises InputError: it cannot be read, has an unknown key (the message names the nearest), one that is an argument
        of :func:`elmolite.pretrain`, or a wrong value.
    """
    content = _read_config_file(str(path))
    for name in ("corpus", "out", "init_from", "resume", "plan"):
        if name in content:
            raise InputError(f"{path}: {name!r} is no setting of a recipe here: give it to pretrain()")
    options = parse(["--config", str(path), "--corpus", ".", "--plan"])
    return options.model, options.config


def _settings_of_run(out: Path) -> dict[str, Any]:
    """Return the settings that a run was started with, so that ``--out`` and ``--resume`` are enough to go on."""
    if not (out / RUN_FILE).is_file():
        return {}
    record = read_json(out / RUN_FILE, kind="run")
    settings: dict[str, Any] = {"corpus": record.get("corpus_folder"), **record.get("training", {})}
    settings |= _below_model(record.get("model", {}))
    valid = _valid_names()
    return {name: value for name, value in settings.items() if name in valid}


def _below_model(settings: dict[str, Any]) -> dict[str, Any]:
    return {f"model.{name}": value for name, value in settings.items()}


class _Parser(ArgumentParser):
    """Spells options with hyphens in the help."""

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """Return the help text."""
        text = super().format_help(formatter)
        return re.sub(r"--[a-z_.]+", lambda match: match[0].replace("_", "-"), text)


def _parser(preset: str) -> ArgumentParser:
    if preset not in PRESETS:
        raise InputError(f"unknown preset {preset!r}{nearest(preset, PRESETS)}")
    parser = _Parser(
        prog="elmolite pretrain",
        description="Pretrain a bidirectional language model on a prepared corpus.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="a YAML file with any of the options below")
    parser.add_argument("--corpus", type=str | None, default=None, help="a folder made by elmolite prepare")
    parser.add_argument(
        "--out", type=str | None, default=None, help="folder for the log, the model and the resume point"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, under its own settings")
    parser.add_argument("--plan", action="store_true", help="print what the run will take, from a few steps, and stop")
    parser.add_argument(
        "--init_from",
        type=str | None,
        default=None,
        help="a model folder to start from, on this corpus with its own words; the sizes are that model's",
    )
    parser.add_argument("--preset", default=preset, help=f"sizes of the model: {', '.join(PRESETS)}")
    parser.add_class_arguments(PretrainingConfig)
    parser.add_class_arguments(BiLMConfig, "model")
    for action in parser._actions:
        if action.dest == "model":  # a file for the model alone would be a second way
            action.help = SUPPRESS
    config = PRESETS[preset]()
    parser.set_defaults(_below_model(asdict(config)))
    return parser


def _valid_names() -> set[str]:
    names = {"corpus", "out", "resume", "plan", "init_from", "preset"}
    names |= {field.name for field in fields(PretrainingConfig)}
    return names | {f"model.{field.name}" for field in fields(BiLMConfig)}


def _with_underscores(argument: str) -> str:
    """Accept ``--valid-tokens`` for ``--valid_tokens``."""
    name, equals, value = argument.partition("=")
    return name.replace("-", "_").replace("__", "--", 1) + equals + value if argument.startswith("--") else argument


def _config_first(arguments: list[str]) -> list[str]:
    """Move ``--config`` to the front, so that every other option overrides it wherever it stands."""
    at = [i for i, argument in enumerate(arguments) if argument == "--config" or argument.startswith("--config=")]
    if len(at) > 1:
        raise InputError("--config is given twice; one file is read")
    if not at:
        return arguments
    end = at[0] + (2 if arguments[at[0]] == "--config" else 1)
    return arguments[at[0] : end] + arguments[: at[0]] + arguments[end:]


def _value_of(name: str, arguments: Sequence[str]) -> str | None:
    """Return the last value of an option on the command line."""
    found = None
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == f"--{name}":
            found = following
        elif argument.startswith(f"--{name}="):
            found = argument.partition("=")[2]
    return found


def _config_file(arguments: Sequence[str]) -> tuple[str, dict[str, Any]] | None:
    path = _value_of("config", arguments)
    return None if path is None else (path, _read_config_file(path))


def _read_config_file(path: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected 'key: value' lines")
    return content


def _flatten(content: dict[str, Any]) -> list[str]:
    """Return the keys of a configuration file, those below ``model`` as ``model.key``."""
    names: list[str] = []
    for key, value in content.items():
        nested = value if key == "model" and isinstance(value, dict) else None
        names += [str(key)] if nested is None else [f"model.{inner}" for inner in nested]
    return names


def _fields_of(kind: type[Any], values: Namespace) -> dict[str, Any]:
    return {field.name: values[field.name] for field in fields(kind)}


def _readable(message: str) -> str:
    """Put the parser's message on one line."""
    return " ".join(message.split())
