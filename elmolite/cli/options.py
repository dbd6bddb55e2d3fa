"""Command-line options of a function, from its signature, its docstring and its dataclass parameters."""

from __future__ import annotations

import inspect
import logging
import re
from argparse import SUPPRESS, ArgumentParser as PlainParser
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

import elmolite
from elmolite.cli import help  # noqa: A004
from elmolite.cli.help import flag
from elmolite.errors import InputError, all_of, closest, nearest, one_of
from elmolite.hub import TASK_MANIFEST, recipes, released_models
from elmolite.nn.config import PRESETS
from elmolite.utils.config import AUTO, RENAMED_FLAGS, RENAMED_SETTINGS, renamed_message

logger = logging.getLogger("elmolite")

_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_HELP_FLAGS = ("-h", "--help", "--help-all")
_MAX_NAMED = 4
"""Maximum number of options that a message names for an unknown one."""


class Option(NamedTuple):
    """Option or argument of a command."""

    hint: Any
    default: Any
    text: str
    is_argument: bool = False
    is_field: bool = False
    """Whether it is a field of a dataclass, whose booleans take a value."""

    @property
    def is_switch(self) -> bool:
        """Whether it has no value."""
        return self.hint is bool and not self.is_field

    @property
    def choices(self) -> tuple[str, ...]:
        """The valid values, if they are few."""
        if get_origin(self.hint) is Literal:
            return get_args(self.hint)
        return ("true", "false") if self.hint is bool else ()


COMMON = {
    "device": Option(str, AUTO, "Device: auto (a CUDA GPU if there is one, else the CPU), cpu, cuda, cuda:N or mps."),
    "config": Option(str, None, "YAML file with any of the options."),
    "print_config": Option(bool, False, "Print the settings as a YAML file for --config, and exit."),
    "json": Option(bool, False, "Print the result as one JSON object."),
    "quiet": Option(bool, False, "Show warnings and errors only, and no progress bars."),
    "verbose": Option(bool, False, "Show debug messages too, with times."),
    "help": Option(bool, False, "Show this help, and exit."),
    "help_all": Option(bool, False, "Show all options, and exit."),
}
"""Options of every command; a function that needs the value of one has a parameter of that name."""


class Invocation(NamedTuple):
    """Command line of a command."""

    arguments: dict[str, Any]
    """Of the command's function."""
    device: str = AUTO
    json: bool = False
    shown: Mapping[str, str] = MappingProxyType({})
    """Options as the user gave them, by name, for messages."""


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
        function: Callable[..., Any],
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
        self.name = command.split()[0]
        self.options: dict[str, Option] = {}  # by name, such as "seed" or "model.dropout"
        self._groups: dict[str, type[Any]] = {}  # dataclasses by parameter
        self._warned: set[str] = set()
        self._renamed = {_name(old): _name(new) for old, new in RENAMED_FLAGS.get(self.name, {}).items()}
        hints, texts = {**_hints_of(function), **(kinds or {})}, _parameter_texts(function)
        for name, parameter in inspect.signature(function).parameters.items():
            if is_dataclass(hints[name]):
                self._groups[name] = hints[name]
            elif name.rstrip("_") not in {*self._fixed, *COMMON}:
                default = MISSING if parameter.default is parameter.empty else parameter.default
                is_argument = parameter.kind is not parameter.KEYWORD_ONLY
                self.options[name.rstrip("_")] = Option(hints[name], default, texts[name.rstrip("_")], is_argument)
        for group, kind in self._groups.items():
            self._add_fields(_prefix(group), kind)
        own = list(self.options)
        self.options |= COMMON
        if recipes(self.name):
            text = "YAML file with any of the options, or the name of a recipe (elmolite info lists them)."
            self.options["config"] = Option(str, None, text)
        self._shown = {name: name.upper() if each.is_argument else flag(name) for name, each in self.options.items()}
        self._flags = [name for name, option in self.options.items() if not option.is_argument]
        self._experts: list[tuple[Any, str]] = []
        self.parser = ArgumentParser(
            prog=f"elmolite {command}",
            usage=self.usage,
            description=_summary(function),
            formatter_class=help.Formatter,
            exit_on_error=False,
            allow_abbrev=False,
            add_help=False,
        )
        for title, shown in help.groups(self.name, own, COMMON):
            section = self.parser.add_argument_group(title)
            for name, for_experts in shown.items():
                action = self._add(section, name, self.options[name])
                if for_experts and action.help != SUPPRESS:
                    self._experts.append((action, action.help))
        self.parser.epilog = help.epilog(command, has_more=bool(self._experts))

    @property
    def usage(self) -> str:
        """The command with its arguments and required options."""
        words = []
        for name, option in self.options.items():
            is_required = option.default is MISSING or name in help.REQUIRED.get(self.name, ())
            if option.is_argument:
                several = " ..." if option.hint == Sequence[str] else ""
                word = f"{name.upper()}{several}"
                words.append(word if is_required else f"[{word}]")
            elif is_required:
                words.append(f"{flag(name)} {metavar(name, option)}")
        return " ".join([f"elmolite {self.command}", *words, "[options]"])

    def _add_fields(self, prefix: str, kind: type[Any]) -> None:
        hints, texts = get_type_hints(kind), _parameter_texts(kind)
        for field in fields(kind):
            default = field.default if field.default_factory is MISSING else field.default_factory()
            self.options[prefix + field.name] = Option(hints[field.name], default, texts[field.name], is_field=True)
        renamed = RENAMED_SETTINGS.get(kind.__name__, {})
        self._renamed |= {prefix + old: prefix + new for old, new in renamed.items()}

    def _add(self, group: Any, name: str, option: Option) -> Any:
        """Add an option to a group of the parser, and return its action."""
        hint, default, text = option.hint, option.default, option.text.removesuffix(".")
        if option.is_argument:
            n_values = "+" if hint == Sequence[str] else None
            if default is not MISSING:
                n_values = "*" if n_values else "?"
            kind = hint if option.choices else str
            return group.add_argument(name, metavar=name.upper(), type=kind, help=text, nargs=n_values)
        settings: dict[str, Any] = {"required": True} if default is MISSING else {"default": default}
        if isinstance(default, tuple):
            settings["default"] = []
        if option.is_switch:
            settings = {"action": "store_true"}
        elif _is_repeatable(hint):
            settings |= {"action": "append"}
        elif hint == Sequence[str]:
            settings |= {"type": str, "nargs": "+"}
        else:
            settings["type"] = str if _is_text(hint) else hint  # str | None would read "~" and "#a" as null
            if isinstance(default, Path):
                settings["default"] = str(default)
        if not option.is_switch and not option.choices:
            settings["metavar"] = metavar(name, option)
        if text.startswith("deprecated"):
            text = SUPPRESS
        elif default is MISSING or name in help.REQUIRED.get(self.name, ()):
            text += " (required)"
        elif settings.get("default") not in (None, []):
            text += " (default: %(default)s)"
        flags = ("-h", "--help") if name == "help" else (flag(name),)
        return group.add_argument(*flags, help=text, **settings)

    def set_defaults(self, values: Mapping[str, Any]) -> None:
        """Change the defaults of options; values of other names are ignored."""
        self.parser.set_defaults({name: value for name, value in values.items() if name in self._flags})

    def format_help(self, *, with_all: bool = False) -> str:
        """Return the help.

        :param with_all: with the options for experts.
        """
        for action, text in self._experts:
            action.help = text if with_all else SUPPRESS
        return str(self.parser.format_help())

    def parse(self, words: Sequence[str]) -> Namespace:
        """Return the values of all options.

        :raises InputError: an option or a key of the file is unknown, or a value is missing or of the wrong type.
        """
        if asked := next((word for word in words if word in _HELP_FLAGS), None):
            print(self.format_help(with_all=asked == "--help-all"), end="")
            raise SystemExit(0)
        words = [self._current_word(word) for word in words]
        plain = PlainParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        plain.add_argument("--config")
        try:
            known, words = plain.parse_known_args(words)
            path = None if known.config is None else recipe_path(known.config, self.name)
            given = {_name(word.partition("=")[0]) for word in words if word.startswith("-")}
            settings = {} if path is None else self._read(path)
            in_file = []
            for name, each in settings.items():
                if name not in given:
                    self._shown[name] = f"{path}: {name}"
                    in_file += self._as_words(name, each, self._shown[name])
            end = [] if path is None else [f"--config={path}"]  # ends the values of an option that takes several
            values = self.parser.parse_args([*in_file, *end, *words])
        except ArgumentError as error:
            raise InputError(self._explain(str(error))) from None
        if empty := [name for name in self.options if values[name] == ""]:
            raise InputError(f"{self._shown[empty[0]]} must not be empty")
        return values

    def invocation(self, values: Namespace) -> Invocation:
        """Return the arguments of the function, and the options of every command."""
        if values.print_config:
            print(self._as_yaml(values), end="")
            raise SystemExit(0)
        found = dict(self._fixed)
        for name in inspect.signature(self._function).parameters:
            if name in self._groups:
                prefix, kind = _prefix(name), self._groups[name]
                settings = {field.name: self._value(prefix + field.name, values) for field in fields(kind)}
                try:
                    found[name] = kind(**settings)
                except InputError as error:
                    raise InputError(help.with_flags(str(error), self._shown)) from None
            elif name not in found:
                found[name] = self._value(name.rstrip("_"), values)
        return Invocation(found, values.device, values.json, self._shown)

    def _as_yaml(self, values: Namespace) -> str:
        """Return the settings as a configuration file."""
        content: dict[str, Any] = {}
        for name in self._flags:
            group, dot, inner = name.partition(".")
            if dot:
                content.setdefault(group, {})[inner] = values[name]
            elif name not in COMMON:
                content[name] = values[name]
        return yaml.safe_dump(content, sort_keys=False)

    def _value(self, name: str, values: Namespace) -> Any:
        value, kinds = values[name], _kinds(self.options[name].hint)
        if value == "null" and NoneType in kinds:
            return None
        return Path(value) if isinstance(value, str) and Path in kinds else value

    def _current_word(self, word: str) -> str:
        """Check the name of an option, and replace a deprecated one."""
        if not word.startswith("--") or word == "--":
            return word
        given, equals, value = word.partition("=")
        return flag(self._current_name(_name(given), "unknown option", flag)) + equals + value

    def _current_name(self, name: str, problem: str, spell: Callable[[str], str]) -> str:
        if name in self._renamed:
            message = renamed_message(spell(name), spell(self._renamed[name]))
            if message not in self._warned:
                logger.warning(message)
            self._warned.add(message)
            return self._renamed[name]
        if name not in self._flags:
            raise InputError(f"{problem} {spell(name)!r}{self._similar(name, spell)}")
        return name

    def _similar(self, name: str, spell: Callable[[str], str]) -> str:
        """Return a hint at the option that was meant: by the name in other tools, as a part of its name, by letters."""
        meant = name.lower().replace("-", "_")
        synonyms = [option for option, names in help.SYNONYMS.items() if meant in names.split()]
        for each in (meant, *synonyms):
            if each in self.options and self.options[each].is_argument:
                return f": {each.upper()} is an argument, as in {self.usage}"
            if each in self._flags:
                return f"; did you mean {spell(each)!r}?"
        inner = [each for each in self._flags if f"_{meant}_" in f"_{each.replace('.', '_')}_"]
        if 1 <= len(inner) <= _MAX_NAMED:
            return f"; did you mean {one_of(repr(spell(each)) for each in inner)}?"
        close = get_close_matches(meant, self._flags, n=1, cutoff=0.75)
        return f"; did you mean {spell(close[0])!r}?" if close else f"; see elmolite {self.command} --help"

    def _read(self, path: str) -> dict[str, Any]:
        """Return the settings of a configuration file by the names of the options."""
        groups = {name.partition(".")[0] for name in self._flags if "." in name}
        settings: dict[str, Any] = {}
        for key, value in read_config(path).items():
            is_group = key in groups and isinstance(value, dict)
            nested = {f"{key}.{inner}": each for inner, each in value.items()} if is_group else {key: value}
            for name, each in nested.items():
                if name in COMMON:
                    raise InputError(f"{path}: {name!r} must be given on the command line")
                current = self._current_name(name, f"{path}: unknown key", str)
                if current in settings:
                    raise InputError(f"{path}: two values of {current!r}, one of them by its deprecated name")
                settings[current] = each
        return settings

    def _as_words(self, name: str, value: Any, where: str) -> list[str]:
        """Return a setting of a configuration file as words of a command line."""
        hint, word = self.options[name].hint, flag(name)
        if value is None and NoneType not in _kinds(hint):
            raise InputError(f"{where}: a value is missing")
        if self.options[name].is_switch:
            if str(value).lower() not in _BOOLEANS:
                raise InputError(f"{where}: expected true or false, got {value!r}")
            return [word] if _BOOLEANS[value.lower()] else []
        if hint == Sequence[str] or _is_repeatable(hint):
            values = value if isinstance(value, list) else [value]
            if not all(isinstance(each, str) for each in values):
                raise InputError(f"{where} must be a text or a list of texts, got {value!r}")
            return [word, *values] if hint == Sequence[str] else [f"{word}={each}" for each in values]
        return [f"{word}={_flow(value)}"]

    def _explain(self, message: str) -> str:
        """Rewrite the message of the parser in one line: the option, what was expected, what was given."""
        if found := re.match(r"""Parser key "([^"]+)":.*(?:Got|Given) value: (.*)""", message, re.DOTALL):
            name, value = found[1], found[2] if len(found[2]) < 60 else f"{found[2][:57]}..."
            hint = self.options[name].hint
            close = closest(value, get_args(hint)) if get_origin(hint) is Literal else ""
            return f"{self._shown[name]} must be {_expected(hint)}, got {value!r}{close}"
        if found := re.search(r"""arguments are required: (.*)|['"](.*?)['"] is required""", message):
            missing = (found[1] or found[2]).split(", ")
            return self.missing([name.replace("-", "_") for name in missing])
        if found := re.match(r"[Uu]nrecognized arguments: (\S*)", message):
            return f"unexpected argument {found[1]!r}; usage: {self.usage}"
        if found := re.match(r"argument (\S+): (expected|ignored)", message):
            return f"{found[1]} {'requires a value' if found[2] == 'expected' else 'takes no value'}"
        return f"{' '.join(message.split())}; see elmolite {self.command} --help"

    def missing(self, names: Sequence[str]) -> str:
        """Return the message that options or arguments are missing."""
        needed = f"{all_of(self._shown[name] for name in names)} {'is' if len(names) == 1 else 'are'} required"
        return f"{needed}: {self.usage}; see elmolite {self.command} --help"


def names() -> dict[str, list[str]]:
    """Return the names that come with the package, by kind."""
    return {
        "presets": list(PRESETS),
        "models": list(released_models()),
        "tasks": list(released_models(TASK_MANIFEST)),
        "pretraining recipes": list(recipes("pretrain")),
        "fine-tuning recipes": list(recipes("finetune")),
    }


def recipe_path(name: str, command: str) -> str:
    """Resolve the value of ``--config``: a file, else the name of a recipe."""
    known = recipes(command)
    if Path(name).exists() or not re.fullmatch(r"[\w-]+", name) or not known:
        return name
    if name not in known:
        raise InputError(f"{name}: no such file or recipe{nearest(name, known)}")
    return str(known[name])


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
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
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


def _hints_of(function: Callable[..., Any]) -> dict[str, Any]:
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
    plain = ((name.rstrip("_"), text.replace("``", "").replace("%", "%%")) for name, text in found)
    return defaultdict(str, {name: " ".join(text.split()) for name, text in plain})


def metavar(name: str, option: Option) -> str:
    """Return the placeholder of an option's value."""
    inner = name.rpartition(".")[2]
    if (option.is_field and not _is_text(option.hint)) or option.hint in (int, int | None, float, float | None):
        kinds = _kinds(option.hint)
        return "N" if int in kinds else "X" if float in kinds else inner.upper()
    return next((shown for shown, names in help.METAVARS.items() if name in names.split()), inner.upper())


def _expected(hint: Any) -> str:
    """Describe the values of a type."""
    if get_origin(hint) is Literal:
        return one_of(get_args(hint))
    names = {int: "an integer", float: "a number", bool: "true or false", NoneType: "null"}
    kinds = (hint,) if get_origin(hint) is list else _kinds(hint)
    return " or ".join(names.get(kind, "a list, such as [[1, 32], [2, 64]]") for kind in kinds)


def _prefix(parameter: str) -> str:
    return "" if parameter == "config" else f"{parameter}."


def _name(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")
