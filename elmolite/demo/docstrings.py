"""English prose from the docstrings of the standard library and of installed packages."""

from __future__ import annotations

import ast
import os
import re
import sysconfig
import warnings
import zlib
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from elmolite.data.prepare import worker_pool

PACKAGES = ("numpy", "networkx", "huggingface_hub", "lightning")
"""Packages of every installation, those with the most prose for the time that it takes to read them."""

_SKIPPED_FOLDERS = {"test", "tests", "idlelib", "lib2to3", "site-packages", "_vendor", "__pycache__"}
_MIN_WORDS = 6

_ROLE = re.compile(r":([a-zA-Z:+-]+):`~?([^`<]*?)\s*(?:<[^`>]*>)?`")
_PROSE_ROLES = {"ref", "doc", "term", "math", "pep", "rfc", "issue", "abbr", "title", "guilabel", "numref", "eq"}
_QUOTED = re.compile(r"`([^`'\s]+)'(?!\w)")
_LITERAL = re.compile(r"``([^`]*)``|`([^`]*?)\s*(?:<[^`>]*>)?`(_{0,2})")
_OPEN, _CLOSE = "\x02", "\x03"
_EMPHASIS = re.compile(r"\*\*?([^*\s](?:[^*]*[^*\s])?)\*\*?")
_LIST_ITEM = re.compile(r"(?:[-*+•]|\(?\d+[.)]|#\.)\s+")
_FIELD = re.compile(r":(?:param|type|return|returns|rtype|raises|raise|keyword|ivar|var|arg)[^:]*:\s*")
_CODE = re.compile(r">>>|\.\. |[{}=|\\]|\w\(\)?[\w.]*\(|->|\w+_\w+_\w+ ")
_UNDERLINE = re.compile(r"[-=~^]{3,}")
_WORD = re.compile(r"[A-Za-z][a-z'’-]*")


STANDARD_LIBRARY = "python"
"""Package name of the modules of the standard library."""


class Module(NamedTuple):
    """Docstrings of a module, or a topic of ``help()``."""

    package: str
    name: str
    paragraphs: list[str]
    """Paragraphs of prose in their order, names of code between back-ticks."""


def modules(*, max_modules: int | None = None) -> Iterator[Module]:
    """Yield the docstrings of every module, the standard library first; sources are parsed, not imported.

    :param max_modules: maximum number of modules of each package, without the topics of ``help()``; ``None`` for all.
    """
    if max_modules is None:
        for number, paragraphs in enumerate(topics()):
            yield Module(STANDARD_LIBRARY, f"help topic {number}", paragraphs)
    found = []
    for package, root in _roots():
        found += [(package, path.relative_to(root).as_posix(), path) for path in sorted(_sources(root))[:max_modules]]
    pool = worker_pool()
    try:
        yield from pool.map(_module, *zip(*found, strict=True), chunksize=64)
    finally:
        pool.shutdown(kill_workers=True)  # also after a signal


def checksum(module: Module) -> int:
    """Return a number that depends on the name of a module only, to split modules at random."""
    return zlib.crc32(f"{module.package}/{module.name}".encode("utf-8", "replace"))


def distinct_paragraphs(modules: Iterable[Module]) -> Iterator[tuple[Module, list[str]]]:
    """Yield the modules with their paragraphs without back-ticks, except those that occurred before."""
    seen: set[str] = set()
    for module in modules:
        new = [text for text in dict.fromkeys(map(plain, module.paragraphs)) if text not in seen]
        seen.update(new)
        if new:
            yield module, new


def topics() -> Iterator[list[str]]:
    """Yield the prose of the language reference in ``help()``, one topic at a time."""
    try:
        from pydoc_data import topics as reference
    except ImportError:  # some distributions leave it out
        return
    for name in sorted(reference.topics):
        yield [plain(paragraph) for paragraph in prose(reference.topics[name])]


def _roots() -> list[tuple[str, Path]]:
    roots = [(STANDARD_LIBRARY, Path(sysconfig.get_paths()["stdlib"]))]
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            roots.append((name, Path(spec.submodule_search_locations[0])))
    return roots


def _sources(folder: Path) -> Iterator[Path]:
    """Yield the Python files below a folder, without entering skipped ones."""
    for parent, names, file_names in os.walk(folder):
        names[:] = set(names) - _SKIPPED_FOLDERS
        yield from (Path(parent, name) for name in file_names if name.endswith(".py"))


def _module(package: str, name: str, path: Path) -> Module:
    return Module(package, name, [paragraph for text in docstrings(path) for paragraph in prose(text)])


def docstrings(path: Path) -> Iterator[str]:
    """Yield the docstrings of a source file in their order."""
    source = path.read_bytes()
    if b'"""' not in source and b"'''" not in source:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            bodies: list[ast.AST] = [ast.parse(source)]
    except (SyntaxError, ValueError):  # templates and deliberately broken files
        return
    while bodies:
        node = bodies.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if text := ast.get_docstring(node):
                yield text
            bodies += reversed(node.body)


def prose(text: str) -> Iterator[str]:
    """Yield the paragraphs of prose in a docstring, each on one line.

    Lines of the same indentation form a paragraph. Code blocks, tables, signatures, headings and markup are removed;
    names marked as code in any style are put between back-ticks.
    """
    block: list[str] = []
    indentation = -1
    in_code = False
    for line in [*text.expandtabs().split("\n"), ""]:
        stripped = line.strip()
        here = len(line) - len(line.lstrip())
        item = _LIST_ITEM.match(stripped) or _FIELD.match(stripped)
        if not stripped or here != indentation or item:
            yield from _paragraph(block)
            if stripped:
                in_code = ((bool(block) and block[-1].endswith("::")) or in_code) and here > indentation
            elif block and block[-1].endswith("::"):
                in_code = True
            block = []
        if _UNDERLINE.fullmatch(stripped):
            del block[-1:]
        elif stripped and not in_code:
            block.append(stripped[item.end() :] if item else stripped)
        if stripped:
            indentation = here + (item.end() if item and _LIST_ITEM.match(stripped) else 0)


def _paragraph(lines: list[str]) -> Iterator[str]:
    text = " ".join(lines)
    text = _ROLE.sub(lambda match: match[2] if match[1] in _PROSE_ROLES else f"`{match[2]}`", text)
    text = _LITERAL.sub(_literal, _QUOTED.sub(r"`\1`", text))
    text = _EMPHASIS.sub(r"\1", text.replace("`", ""))
    text = text.replace(_OPEN, "`").replace(_CLOSE, "`")
    if _is_prose(plain(text)):
        yield text


def _literal(match: re.Match[str]) -> str:
    """Mark the content of back-ticks as code, unless it is a link."""
    text = match[1] or match[2] or ""
    return text if match[3] or not text.strip() else f"{_OPEN}{text}{_CLOSE}"


def _is_prose(text: str) -> bool:
    if len(text) < 24 or _CODE.search(text) or text[-1] not in ".!?:)":
        return False
    tokens = text.split()
    n_words = sum(bool(_WORD.fullmatch(token.strip(".,;:!?()\"'"))) for token in tokens)
    return n_words >= _MIN_WORDS and n_words >= 0.8 * len(tokens) and (text[0].isupper() or text[0] in "\"'(")


def plain(text: str) -> str:
    """Return a paragraph of :func:`prose` without back-ticks."""
    return text.replace("`", "")
