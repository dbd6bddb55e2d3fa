"""English prose that every installation has: the documentation of Python's standard library and installed packages."""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

PACKAGES = (
    "torch",
    "numpy",
    "lightning",
    "datasets",
    "pandas",
    "pyarrow",
    "sympy",
    "networkx",
    "huggingface_hub",
    "matplotlib",
    "aiohttp",
    "fsspec",
    "jsonargparse",
    "setuptools",
    "tensorboard",
    "jinja2",
    "pip",
)
"""Packages that come with elmolite or with what it depends on; those that are not there are left out."""

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
"""Stands for a package where a module is of the standard library."""


class Docstring(NamedTuple):
    """A documentation string: its paragraphs of prose, in which names of code are between back-ticks."""

    paragraphs: list[str]
    has_summary: bool
    """Whether its first paragraph is prose, and so the first of these."""
    is_function: bool


class Module(NamedTuple):
    """What a module, or a topic of ``help()``, says about itself."""

    package: str
    name: str
    docstrings: list[Docstring]

    def paragraphs(self) -> list[str]:
        """Return the distinct paragraphs, without markup."""
        return list(dict.fromkeys(plain(each) for docstring in self.docstrings for each in docstring.paragraphs))


def modules(*, n_workers: int | None = None, max_modules: int | None = None) -> Iterator[Module]:
    """Yield the documentation of every module; of the standard library first.

    Nothing is imported from the packages: their sources are parsed.

    :param n_workers: processes that parse; ``None`` for one a core.
    :param max_modules: of each package, the topics left out; ``None`` for all.
    """
    if max_modules is None:
        for number, paragraphs in enumerate(topics()):
            docstring = Docstring(paragraphs, has_summary=False, is_function=False)
            yield Module(STANDARD_LIBRARY, f"help topic {number}", [docstring])
    found = []
    for package, root in _roots():
        paths = [path for path in sorted(root.rglob("*.py")) if _is_wanted(path, root)]
        found += [(package, path.relative_to(root).as_posix(), str(path)) for path in paths[:max_modules]]
    from loky import ProcessPoolExecutor

    with ProcessPoolExecutor(n_workers) as pool:
        yield from pool.map(_module, *zip(*found, strict=True), chunksize=64)


def distinct_paragraphs(modules: Iterable[Module]) -> Iterator[list[str]]:
    """Yield documents, one a module, as lists of paragraphs of prose that no module before had."""
    seen: set[str] = set()
    for module in modules:
        new = [paragraph for paragraph in module.paragraphs() if paragraph not in seen]
        seen.update(new)
        if new:
            yield new


def topics() -> Iterator[list[str]]:
    """Yield the language reference behind ``help()``, a topic at a time, as paragraphs of prose."""
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


def _is_wanted(path: Path, root: Path) -> bool:
    return not _SKIPPED_FOLDERS & set(path.relative_to(root).parts)


def _module(package: str, name: str, path: str) -> Module:
    return Module(package, name, module_docstrings(Path(path)))


def module_docstrings(path: Path) -> list[Docstring]:
    """Return those documentation strings of a source file in which there is prose, in their order."""
    found = []
    for text, is_function in _docstrings(path):
        paragraphs = list(prose(text))
        if paragraphs:
            summary = list(prose(text.partition("\n\n")[0]))
            found.append(Docstring(paragraphs, summary == paragraphs[:1], is_function))
    return found


def _docstrings(path: Path) -> list[tuple[str, bool]]:
    """Return documentation strings, and whether each is of a function."""
    source = path.read_bytes()
    if b'"""' not in source and b"'''" not in source:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(source)
    except (SyntaxError, ValueError):  # templates and deliberately broken files
        return []
    found: list[tuple[str, bool]] = []
    bodies: list[ast.AST] = [tree]
    while bodies:
        node = bodies.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                found.append((text, isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)))
            bodies += reversed(node.body)
    return found


def prose(text: str) -> Iterator[str]:
    """Yield the paragraphs of a documentation string that are prose, each on one line.

    Lines of the same indentation belong together; code, tables, signatures and headings are left out, and so is all
    markup but back-ticks: what the author wrote as code stands between two of them, in whatever way that was marked.
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
    """Return what was between back-ticks, as code unless it is a link."""
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
