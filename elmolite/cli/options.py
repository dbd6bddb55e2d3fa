"""Command-line options of a function, from its signature, its docstring and its dataclass parameters."""

from __future__ import annotations

import inspect
import logging
import re
from argparse import SUPPRESS, ArgumentParser as PlainParser, HelpFormatter
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

import elmolite
from elmolite.errors import InputError, nearest
from elmolite.utils.config import RENAMED_FLAGS, RENAMED_SETTINGS, renamed_message

logger = logging.getLogger("elmolite")

COMMON = {
    "config": "YAML file with any of the options",
    "print_config": "print the settings as a YAML file for --config, and exit",
    "quiet": "show warnings and errors only, and no progress bars",
    "verbose": "show debug messages too, with times",
}
"""Options of every command; a function that needs the value of ``quiet`` has a parameter of that name."""
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class CommandParser:
    """Parser of a command's options.

    Positional parameters of the function are arguments, keyword-only ones are ``--options``; a ``bool`` is a switch,
    a ``Sequence[str]`` takes several values, or one each time if it is annotated as ``repeatable``, and a parameter
    without default is required. The fields of a dataclass are options prefixed by the parameter's name
    (``--model.dropout``), without prefix for the parameter ``config``. A trailing underscore of a name is dropped.
    Any option can be set in a YAML file, ``--config FILE``; the command line takes precedence.
    """

    def __init__(
        self,
        command: str,
        function: Callable[..., None],
        *,
        fixed: Mapping[str, Any] | None = None,
        kinds: Mapping[str, type[Any]] | None = None,
    ) -> None:
        """Read the signature.

        :param command: the command's name, for messages.
        :param fixed: arguments of the function that are not options.
        :param kinds: dataclasses of parameters, in place of their annotations.
        """
        self.command, self._function, self._fixed = command, function, dict(fixed or {})
        self._parser = ArgumentParser(
            prog=f"elmolite {command}",
            description=_summary(function),
            formatter_class=HelpFormatter,
            exit_on_error=False,
            allow_abbrev=False,
        )
        self._hints: dict[str, Any] = {}  # types of the options by name, such as "seed" or "model.dropout"
        self._argument_hints: dict[str, Any] = {}
        self._switches: set[str] = set()
        self._groups: dict[str, type[Any]] = {}  # dataclasses by parameter
        self._warned: set[str] = set()
        self._renamed = {_name(old): _name(new) for old, new in RENAMED_FLAGS.get(command.split()[0], {}).items()}
        hints, texts = {**_hints_of(function), **(kinds or {})}, _parameter_texts(function)
        for name, parameter in inspect.signature(function).parameters.items():
            if is_dataclass(hints[name]):
                self._groups[name] = hints[name]
            elif name not in {*self._fixed, *COMMON}:
                default = MISSING if parameter.default is parameter.empty else parameter.default
                is_argument = parameter.kind is not parameter.KEYWORD_ONLY
                add = self._add_argument if is_argument else self._add_option
                add(self._parser, name.rstrip("_"), hints[name], default, texts[name])
        for name, text in COMMON.items():
            self._add_option(self._parser, name, str if name == "config" else bool, None, text)
        for group, kind in self._groups.items():
            self._add_fields(_prefix(group), kind)

    def _add_argument(self, parser: Any, name: str, hint: Any, default: Any, text: str) -> None:
        self._argument_hints[name] = hint
        n_values = "+" if hint == Sequence[str] else None
        if default is not MISSING:
            n_values = "*" if n_values else "?"
        parser.add_argument(name, metavar=name.upper(), type=str, help=text, nargs=n_values)

    def _add_option(self, parser: Any, name: str, hint: Any, default: Any, text: str) -> None:
        self._hints[name] = hint
        settings: dict[str, Any] = {"required": True} if default is MISSING else {"default": default}
        if isinstance(default, tuple):
            settings["default"] = []
        if hint is bool and parser is self._parser:
            self._switches.add(name)
            settings = {"action": "store_true"}
        elif _is_repeatable(hint):
            settings |= {"action": "append"}
        elif hint == Sequence[str]:
            settings |= {"type": str, "nargs": "+"}
        else:
            settings["type"] = str if _is_text(hint) else hint  # str | None would read "~" and "#a" as null
            if isinstance(default, Path):
                settings["default"] = str(default)
        text = SUPPRESS if text.startswith("deprecated") else text.removesuffix(".")
        if text is not SUPPRESS and settings.get("default") not in (None, []):
            text += " (default: %(default)s)"
        if "." in name and hint is not bool and get_origin(hint) is not Literal:
            settings["metavar"] = name.rpartition(".")[2].upper()
        parser.add_argument(_flag(name), help=text, **settings)

    def _add_fields(self, prefix: str, kind: type[Any]) -> None:
        group = self._parser.add_argument_group(_summary(kind).removesuffix("."))
        hints, texts = get_type_hints(kind), _parameter_texts(kind)
        for field in fields(kind):
            default = field.default if field.default_factory is MISSING else field.default_factory()
            self._add_option(group, prefix + field.name, hints[field.name], default, texts[field.name])
        renamed = RENAMED_SETTINGS.get(kind.__name__, {})
        self._renamed |= {prefix + old: prefix + new for old, new in renamed.items()}

    def set_defaults(self, values: Mapping[str, Any]) -> None:
        """Change the defaults of options; values of other names are ignored."""
        self._parser.set_defaults({name: value for name, value in values.items() if name in self._hints})

    def parse(self, words: Sequence[str]) -> Namespace:
        """Return the values of all options.

        :raises InputError: an option or a key of the file is unknown, or a value is missing or of the wrong type.
        """
        words = [self._current_word(word) for word in words]
        path, settings = None, {}
        plain = PlainParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        plain.add_argument("--config")
        try:
            known, words = plain.parse_known_args(words)
            path = known.config
            settings = {} if path is None else self._read(path)
            in_file = [
                word for name, each in settings.items() for word in self._as_words(name, each, f"{path}: {name}")
            ]
            end = [] if path is None else [f"--config={path}"]  # ends the values of an option that takes several
            return self._parser.parse_args([*in_file, *end, *words])
        except ArgumentError as error:
            given = {_name(word.partition("=")[0]) for word in words}
            where = {name: f"{path}: {name}" for name in settings.keys() - given}
            raise InputError(self._explain(str(error), where)) from None

    def arguments(self, values: Namespace) -> dict[str, Any]:
        """Return the arguments of the function."""
        if values.print_config:
            print(self._as_yaml(values), end="")
            raise SystemExit(0)
        found = dict(self._fixed)
        for name in inspect.signature(self._function).parameters:
            if name in self._groups:
                prefix, kind = _prefix(name), self._groups[name]
                found[name] = kind(**{field.name: self._value(prefix + field.name, values) for field in fields(kind)})
            elif name not in found:
                found[name] = self._value(name.rstrip("_"), values)
        return found

    def _as_yaml(self, values: Namespace) -> str:
        """Return the settings as a configuration file."""
        content: dict[str, Any] = {}
        for name in self._hints:
            group, dot, inner = name.partition(".")
            if dot:
                content.setdefault(group, {})[inner] = values[name]
            elif name not in COMMON:
                content[name] = values[name]
        return yaml.safe_dump(content, sort_keys=False)

    def _value(self, name: str, values: Namespace) -> Any:
        value, kinds = values[name], _kinds(self._hints.get(name) or self._argument_hints[name])
        if value == "null" and NoneType in kinds:
            return None
        return Path(value) if isinstance(value, str) and Path in kinds else value

    def _current_word(self, word: str) -> str:
        """Check the name of an option, and replace a deprecated one."""
        if not word.startswith("--") or word == "--":
            return word
        flag, equals, value = word.partition("=")
        return _flag(self._current_name(_name(flag), "unknown option", _flag)) + equals + value

    def _current_name(self, name: str, problem: str, spell: Callable[[str], str]) -> str:
        if name in self._renamed:
            message = renamed_message(spell(name), spell(self._renamed[name]))
            if message not in self._warned:
                logger.warning(message)
            self._warned.add(message)
            return self._renamed[name]
        if name not in self._hints and name != "help":
            raise InputError(f"{problem} {spell(name)!r}{nearest(spell(name), map(spell, self._hints))}")
        return name

    def _read(self, path: str) -> dict[str, Any]:
        """Return the settings of a configuration file by the names of the options."""
        groups = {name.partition(".")[0] for name in self._hints if "." in name}
        settings: dict[str, Any] = {}
        for key, value in read_config(path).items():
            is_group = key in groups and isinstance(value, dict)
            nested = {f"{key}.{inner}": each for inner, each in value.items()} if is_group else {key: value}
            for name, each in nested.items():
                if name in COMMON:
                    raise InputError(f"{path}: {name!r} must be given on the command line")
                settings[self._current_name(name, f"{path}: unknown key", str)] = each
        return settings

    def _as_words(self, name: str, value: Any, where: str) -> list[str]:
        """Return a setting of a configuration file as words of a command line."""
        hint, flag = self._hints[name], _flag(name)
        if value is None and NoneType not in _kinds(hint):
            raise InputError(f"{where}: a value is missing")
        if name in self._switches:
            if str(value).lower() not in _BOOLEANS:
                raise InputError(f"{where}: expected true or false, got {value!r}")
            return [flag] if _BOOLEANS[value.lower()] else []
        if hint == Sequence[str] or _is_repeatable(hint):
            values = value if isinstance(value, list) else [value]
            return [flag, *values] if hint == Sequence[str] else [f"{flag}={each}" for each in values]
        return [f"{flag}={_flow(value)}"]

    def _explain(self, message: str, where: Mapping[str, str]) -> str:
        """Rewrite the message of the parser in one line: the option, what was expected, what was given."""
        if found := re.match(r"""Parser key "([^"]+)":.*(?:Got|Given) value: (.*)""", message, re.DOTALL):
            name, value = found[1], found[2] if len(found[2]) < 60 else f"{found[2][:57]}..."
            hint = self._hints[name]
            if get_origin(hint) is Literal:
                return f"{where.get(name, _flag(name))}: unknown {value!r}{nearest(value, get_args(hint))}"
            expected = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
            return f"{where.get(name, _flag(name))}: expected {expected.replace('None', 'null')}, got {value!r}"
        help_ = f"see elmolite {self.command} --help"
        if found := re.search(r"""arguments are required: (.*)|['"](.*?)['"] is required""", message):
            missing = (found[1] or found[2]).split(", ")
            names = [_flag(name) if name in self._hints else name.upper() for name in missing]
            return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} required; {help_}"
        if found := re.match(r"[Uu]nrecognized arguments: (\S*)", message):
            return f"unexpected argument {found[1]!r}; {help_}"
        return f"{' '.join(message.split())}; {help_}"


class _Loader(yaml.BaseLoader):
    """Reads scalars as text, except null: ``no`` and ``1.50`` in a text option stay what they are."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(~|null|)$"), ["~", "n", ""])
_Loader.add_constructor("tag:yaml.org,2002:null", lambda *_: None)


def read_config(path: str) -> dict[str, Any]:
    """Read a YAML file of settings: text, null, lists, and mappings of these.

    :raises InputError: it cannot be read or is not a mapping.
    """
    try:
        settings = yaml.load(Path(path).read_bytes().decode(), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path}: invalid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise InputError(f"{path}: expected 'key: value' lines")
    return settings


def _flow(value: Any) -> str:
    """Return a value of a configuration file as text."""
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    return "null" if value is None else str(value)


def _hints_of(function: Callable[..., None]) -> dict[str, Any]:
    """Return the types of a function's parameters; public names of ``elmolite`` need no import at run time."""
    words = {word for hint in function.__annotations__.values() for word in re.findall(r"\w+", str(hint))}
    public = {name: getattr(elmolite, name) for name in words.intersection(elmolite.__all__)}
    return get_type_hints(function, localns=public, include_extras=True)


def _is_repeatable(hint: Any) -> bool:
    return "repeatable" in getattr(hint, "__metadata__", ())


def _kinds(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type."""
    return get_args(hint) or (hint,)


def _is_text(hint: Any) -> bool:
    return str in _kinds(hint) or Path in _kinds(hint)


def _summary(documented: Any) -> str:
    """Return the first paragraph of a docstring."""
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())


def _parameter_texts(documented: Any) -> dict[str, str]:
    """Return the descriptions of parameters in a docstring."""
    found = re.findall(r":param (\w+):(.*?)(?=\n\s*:|\n\s*\n|\Z)", inspect.getdoc(documented) or "", re.DOTALL)
    return defaultdict(str, {name: " ".join(text.replace("%", "%%").split()) for name, text in found})


def _prefix(parameter: str) -> str:
    return "" if parameter == "config" else f"{parameter}."


def _name(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


def _flag(name: str) -> str:
    return f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
