"""English prose that every installation has: the documentation of Python's standard library and installed packages."""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

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

_ROLE = re.compile(r":[a-zA-Z:+-]+:`~?([^`<]*?)\s*(?:<[^`>]*>)?`")
_LITERAL = re.compile(r"``([^`]*)``|`([^`]*?)\s*(?:<[^`>]*>)?`_{0,2}")
_EMPHASIS = re.compile(r"\*\*?([^*\s](?:[^*]*[^*\s])?)\*\*?")
_LIST_ITEM = re.compile(r"(?:[-*+•]|\(?\d+[.)]|#\.)\s+")
_FIELD = re.compile(r":(?:param|type|return|returns|rtype|raises|raise|keyword|ivar|var|arg)[^:]*:\s*")
_CODE = re.compile(r">>>|\.\. |[{}=|\\]|\w\(\)?[\w.]*\(|->|\w+_\w+_\w+ ")
_WORD = re.compile(r"[A-Za-z][a-z'’-]*")


def documents(*, n_workers: int | None = None) -> Iterator[list[str]]:
    """Yield documents, one a module or help topic, as lists of distinct paragraphs of prose.

    Nothing is imported from the packages: their sources are parsed.

    :param n_workers: processes that parse; ``None`` for one a core.
    """
    paths = [str(path) for root in _roots() for path in sorted(root.rglob("*.py")) if _is_wanted(path, root)]
    seen: set[str] = set()
    with ProcessPoolExecutor(n_workers, get_context("spawn")) as pool:
        for paragraphs in chain(topics(), pool.map(module_prose, paths, chunksize=64)):
            new = [paragraph for paragraph in dict.fromkeys(paragraphs) if paragraph not in seen]
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
        yield list(prose(reference.topics[name]))


def _roots() -> list[Path]:
    roots = [Path(sysconfig.get_paths()["stdlib"])]
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            roots.append(Path(spec.submodule_search_locations[0]))
    return roots


def _is_wanted(path: Path, root: Path) -> bool:
    return not _SKIPPED_FOLDERS & set(path.relative_to(root).parts)


def module_prose(path: str) -> list[str]:
    """Return the paragraphs of prose in the documentation strings of a source file."""
    return [paragraph for text in _docstrings(Path(path)) for paragraph in prose(text)]


def _docstrings(path: Path) -> list[str]:
    source = path.read_bytes()
    if b'"""' not in source and b"'''" not in source:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(source)
    except (SyntaxError, ValueError):  # templates and deliberately broken files
        return []
    found: list[str] = []
    bodies: list[ast.AST] = [tree]
    while bodies:
        node = bodies.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                found.append(text)
            bodies += reversed(node.body)
    return found


def prose(text: str) -> Iterator[str]:
    """Yield the paragraphs of a documentation string that are prose, each on one line, without markup.

    Lines of the same indentation belong together; code, tables, signatures and headings are left out.
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
        if stripped and not in_code:
            block.append(stripped[item.end() :] if item else stripped)
        if stripped:
            indentation = here + (item.end() if item and _LIST_ITEM.match(stripped) else 0)


def _paragraph(lines: list[str]) -> Iterator[str]:
    text = " ".join(lines)
    text = _ROLE.sub(r"\1", text)
    text = _LITERAL.sub(lambda match: match[1] or match[2] or "", text)
    text = _EMPHASIS.sub(r"\1", text)
    if len(text) < 24 or _CODE.search(text) or text[-1] not in ".!?:)":
        return
    tokens = text.split()
    n_words = sum(bool(_WORD.fullmatch(token.strip(".,;:!?()\"'"))) for token in tokens)
    if n_words >= _MIN_WORDS and n_words >= 0.8 * len(tokens) and (text[0].isupper() or text[0] in "\"'("):
        yield text
