"""Options of a command from its configuration file and its command line, into dataclasses."""

from __future__ import annotations

import re
from argparse import SUPPRESS
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from elmolite.errors import InputError, nearest, types_of

MAX_BYTES = 1 << 16
"""Of a configuration file: twenty times the longest recipe."""


class _PlainLoader(yaml.SafeLoader):
    """Reads no aliases: a few lines of them make more than any memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse an alias; all else is as in YAML.

        :raises yaml.YAMLError: there is one.
        """
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not read", mark)
        return super().compose_node(parent, index)


class Arguments:
    """A command line and the configuration file that it names; all names in both are valid ones."""

    def __init__(self, words: Sequence[str], valid: Collection[str]) -> None:
        """Read the file and hold the names against the valid ones.

        :param valid: names of options, with underscores; ``model.dropout`` may be written below ``model`` in the file.
        :raises InputError: one is unknown; the message names the nearest. Or the file cannot be read.
        """
        self.words = _config_first([_with_underscores(word) for word in words])
        path = self._on_command_line("config")
        self.settings = {} if path is None else read_config_file(path)
        groups = {name.partition(".")[0] for name in valid if "." in name}
        for name in _flatten(self.settings, groups):
            if name not in valid:
                raise InputError(f"{path}: unknown key {name!r}{nearest(name, valid)}")
        for word in self.words:
            name = word.split("=")[0].removeprefix("--")
            if word.startswith("--") and name not in {*valid, "config", "print_config", "help"}:
                wanted = nearest(name, valid).replace("_", "-")
                raise InputError(f"unknown argument --{name.replace('_', '-')}{wanted}")

    def value_of(self, name: str) -> Any:
        """Return the value of an option on the command line, or in the file; ``None`` where neither has it."""
        return self._on_command_line(name) or self.settings.get(name)

    def _on_command_line(self, name: str) -> str | None:
        found = None
        for word, following in zip(self.words, [*self.words[1:], ""], strict=True):
            if word == f"--{name}":
                found = following
            elif word.startswith(f"--{name}="):
                found = word.partition("=")[2]
        return found


class OptionsParser(ArgumentParser):
    """Takes a file with ``--config``, spells options with hyphens in the help, and raises what it finds wrong."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"elmolite {command}", description=description, exit_on_error=False, allow_abbrev=False)
        self.add_argument("--config", action="config", help="a YAML file with any of the options below")

    def add_settings(self, kind: type[Any], group: str | None = None) -> None:
        """Add the fields of a dataclass, below ``group`` where there is one."""
        self.add_class_arguments(kind, group)
        for action in self._actions:
            if action.dest == group:  # a file for the group alone would be a second way
                action.help = SUPPRESS

    def format_help(self, *arguments: Any) -> str:
        """Return the help text; what else is given, and whether, is jsonargparse's affair."""
        text = super().format_help(*arguments)
        return re.sub(r"--[a-z_.]+", lambda match: match[0].replace("_", "-"), text)

    def parse(self, arguments: Arguments) -> Namespace:
        """Return the values.

        :raises InputError: one is of another kind.
        """
        try:
            return self.parse_args(arguments.words)
        except ArgumentError as error:
            raise InputError(" ".join(str(error).split())) from None
        except RecursionError:
            raise InputError("a value of an option is nested too deeply") from None
        except OverflowError:
            raise InputError("a number of an option is too large for floating point") from None


def names_of(kind: type[Any], group: str | None = None) -> set[str]:
    """Return the names of the options of a dataclass."""
    return {field.name if group is None else f"{group}.{field.name}" for field in fields(kind)}


def make(kind: type[Any], values: Namespace, group: str | None = None) -> Any:
    """Make a dataclass of parsed values.

    :param group: below which they were given.
    :raises InputError: a value is missing, as that of a key of a configuration file behind which nothing stands.
    """
    for name, hint in types_of(kind).items():  # type: ignore[arg-type]  # mypy #11470
        if values[name] is None and type(None) not in get_args(hint):
            raise InputError(f"{name if group is None else f'{group}.{name}'}: a value is missing")
    return kind(**{field.name: values[field.name] for field in fields(kind)})


def below(group: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under the names that they have as options of a group."""
    return {f"{group}.{name}": value for name, value in settings.items()}


def read_config_file(path: str) -> dict[str, Any]:
    """Read a YAML file.

    :raises InputError: it cannot be read, or is no mapping.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise InputError(f"{path}: more than {MAX_BYTES:,} bytes are no configuration")
        content = yaml.load(text.decode(), _PlainLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except InputError:
        raise
    except Exception as error:  # of a value that its tag does not fit PyYAML raises anything
        raise InputError(f"{path}: not YAML that can be read: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected 'key: value' lines")
    return content


def _with_underscores(word: str) -> str:
    """Accept ``--valid-tokens`` for ``--valid_tokens``."""
    name, equals, value = word.partition("=")
    return name.replace("-", "_").replace("__", "--", 1) + equals + value if word.startswith("--") else word


def _config_first(words: list[str]) -> list[str]:
    """Move ``--config`` to the front, so that every other option overrides it wherever it stands."""
    at = [i for i, word in enumerate(words) if word == "--config" or word.startswith("--config=")]
    if len(at) > 1:
        raise InputError("--config is given twice; one file is read")
    if not at:
        return words
    end = at[0] + (2 if words[at[0]] == "--config" else 1)
    return words[at[0] : end] + words[: at[0]] + words[end:]


def _flatten(content: Mapping[str, Any], groups: Collection[str]) -> list[str]:
    """Return the keys of a configuration file, those below a group as ``group.key``."""
    names: list[str] = []
    for key, value in content.items():
        nested = value if key in groups and isinstance(value, dict) else None
        names += [str(key)] if nested is None else [f"{key}.{inner}" for inner in nested]
    return names
