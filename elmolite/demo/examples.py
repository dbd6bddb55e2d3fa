"""Documentation strings -> labelled examples of three tasks, for the demonstration.

- *package*: from which package is this summary line?
- *code*: which words are names of code? Those that their author put between back-ticks.
- *pair*: are these two sentences about the same function?

A module, and so a function, is in one part only (train, dev or test), as its name decides. Of sentences that are much
like one another only one is used, in whatever part.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple, get_args

from elmolite.data.tokenization import SentenceTokenizer
from elmolite.demo.docstrings import STANDARD_LIBRARY, Docstring, Module
from elmolite.tasks.examples.records import Example, Task
from elmolite.tasks.setup import TaskExamples

Part = Literal["train", "dev", "test"]
SAME, OTHER = "same function", "another function"

_DEV_TENTHS, _TEST_TENTHS = 1, 2
"""Of the modules; the others are to learn from."""
_MIN_TOKENS, _MAX_TOKENS = 5, 40
"""Of a sentence that is used."""
_MAX_OF_MODULE = 12
"""Sentences, or functions, so that a large module is not half of the examples."""
_MAX_CODE = 0.4
"""Share of the tokens that may be code; with more, it is hardly a sentence."""
_MAX_SHARED = 0.5
"""Share of its trigrams of words that a sentence may have in common with another."""

_OTHER_NAMES = {
    "torch": ("pytorch",),
    "numpy": ("np", "scipy"),
    "pandas": ("pd",),
    "pyarrow": ("arrow",),
    "networkx": ("nx",),
    "matplotlib": ("mpl", "pyplot"),
    "huggingface_hub": ("hf", "hugging"),
    "jinja2": ("jinja",),
}
_LONG_NAME = 5
"""Characters of a name of which any word that contains it tells the package."""

_SIGNED = re.compile(r"(?<!\S)\w+(?: \. \w+)*(?: \( \)| \[ [^]]* \])?(?!\S)")


@dataclass(frozen=True)
class Amounts:
    """How many examples the parts of a task get at most, and how many packages are told apart at most."""

    train: int
    dev: int
    test: int
    n_packages: int = 8


class Sentence(NamedTuple):
    """Tokens and their tags: ``B-CODE`` and ``I-CODE`` where the author marked code, else ``O``."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]


def package_examples(modules: Iterable[Module], tokenizer: SentenceTokenizer, amounts: Amounts) -> TaskExamples:
    """Return summary lines, each with its package as label, as many of one package as of another.

    The packages are those of which the smallest part is largest; a line that names any package is left out.
    """
    shuffled = _shuffled(modules)
    chosen = _largest(shuffled, amounts.n_packages)
    given_away = _Names({module.package for module in shuffled})
    unlike = _Unlike()
    parts: dict[Part, dict[str, list[Example]]] = {part: {name: [] for name in chosen} for part in get_args(Part)}
    for module in shuffled:
        part = _part(module)
        found = parts[part].get(module.package)
        if found is not None:
            room = min(_MAX_OF_MODULE, getattr(amounts, part) // len(chosen) - len(found))
            lines = (line for line in _summaries(module, tokenizer) if not given_away.are_in(line) and unlike.add(line))
            found += (_example((line,), (module.package,), module) for line in islice(lines, room))
    return _task("classify", {part: _balanced(by_package) for part, by_package in parts.items()})


def _largest(modules: Sequence[Module], n_packages: int) -> list[str]:
    """Return the packages that have the most lines in the part in which they have the fewest."""
    n_lines = Counter(
        (module.package, _part(module)) for module in modules for each in module.docstrings if each.has_summary
    )
    fewest = {module.package: min(n_lines[module.package, part] for part in get_args(Part)) for module in modules}
    return sorted(sorted(fewest, key=lambda name: (-fewest[name], name))[:n_packages])


def code_examples(modules: Iterable[Module], tokenizer: SentenceTokenizer, amounts: Amounts) -> TaskExamples:
    """Return sentences in which some words are marked as code, and tags that say which."""
    unlike = _Unlike()
    parts: dict[Part, list[Example]] = {part: [] for part in get_args(Part)}
    for module in _shuffled(modules):
        part = _part(module)
        room = min(_MAX_OF_MODULE, getattr(amounts, part) - len(parts[part]))
        sentences = (
            sentence
            for docstring in module.docstrings
            for sentence in _sentences(docstring, tokenizer, only_with="`")
            if _has_some_code(sentence) and unlike.add(sentence.tokens)
        )
        parts[part] += (_example((each.tokens,), each.tags, module) for each in islice(sentences, room))
    return _task("tag", parts)


def pair_examples(modules: Iterable[Module], tokenizer: SentenceTokenizer, amounts: Amounts) -> TaskExamples:
    """Return pairs of a summary and a later sentence: of one function, and of two functions of the same module.

    Each sentence is in one pair of each kind, so that no sentence by itself says which kind it is.
    """
    unlike = _Unlike()
    parts: dict[Part, list[Example]] = {part: [] for part in get_args(Part)}
    for module in _shuffled(modules):
        part = _part(module)
        room = min(_MAX_OF_MODULE, (getattr(amounts, part) - len(parts[part])) // 2)
        functions = list(islice(_functions(module, tokenizer, unlike), room)) if room > 1 else []
        if len(functions) > 1:
            for at, (summary, later) in enumerate(functions):
                parts[part].append(_example((summary, later), (SAME,), module))
                parts[part].append(_example((summary, functions[at - 1][1]), (OTHER,), module))
    return _task("entail", parts)


def tags_by_rule(tokens: Sequence[str]) -> tuple[str, ...]:
    """Tag what looks like code to anyone: words with an underscore, a dot inside, or brackets behind them."""
    text = " ".join(tokens)
    tags = ["O"] * len(tokens)
    for match in _SIGNED.finditer(text):
        if any(sign in match[0] for sign in ("_", " . ", " ( ", " [ ")):
            begin = text.count(" ", 0, match.start())
            n_more = match[0].count(" ")
            tags[begin : begin + n_more + 1] = ["B-CODE"] + ["I-CODE"] * n_more
    return tuple(tags)


def _task(task: Task, parts: Mapping[Part, list[Example]]) -> TaskExamples:
    return TaskExamples(task, parts["train"], parts["dev"], parts["test"])


def _example(sentences: tuple[str | tuple[str, ...], ...], labels: tuple[str, ...], module: Module) -> Example:
    return Example(sentences, labels, f"{module.package}, {module.name}")


def _shuffled(modules: Iterable[Module]) -> list[Module]:
    """Return modules in an order that only depends on their names."""
    return sorted(modules, key=lambda module: (_number(module), module.package, module.name))


def _part(module: Module) -> Part:
    tenth = _number(module) % 10
    return "dev" if tenth < _DEV_TENTHS else "test" if tenth < _DEV_TENTHS + _TEST_TENTHS else "train"


def _number(module: Module) -> int:
    return zlib.crc32(f"{module.package}/{module.name}".encode("utf-8", "replace"))


def _balanced(by_label: Mapping[str, Sequence[Example]]) -> list[Example]:
    """Return equally many of each label, in turn."""
    return [example for same in zip(*by_label.values(), strict=False) for example in same]


def _summaries(module: Module, tokenizer: SentenceTokenizer) -> Iterator[tuple[str, ...]]:
    for docstring in module.docstrings:
        if docstring.has_summary:
            first = next(cut(docstring.paragraphs[0], tokenizer))
            if _is_usable(first):
                yield first.tokens


def _sentences(docstring: Docstring, tokenizer: SentenceTokenizer, *, only_with: str = "") -> Iterator[Sentence]:
    for paragraph in docstring.paragraphs:
        if only_with in paragraph:
            yield from filter(_is_usable, cut(paragraph, tokenizer))


def _functions(
    module: Module, tokenizer: SentenceTokenizer, unlike: _Unlike
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield the summary of each function that has one, and the sentence after it."""
    for docstring in module.docstrings:
        if docstring.is_function and docstring.has_summary:
            two = [sentence.tokens for sentence in islice(_sentences(docstring, tokenizer), 2)]
            if len(two) == 2 and all(map(unlike.add, two)):
                yield two[0], two[1]


def _is_usable(sentence: Sentence) -> bool:
    return _MIN_TOKENS <= len(sentence.tokens) <= _MAX_TOKENS


def _has_some_code(sentence: Sentence) -> bool:
    n_code = len(sentence.tags) - sentence.tags.count("O")
    return 0 < n_code <= _MAX_CODE * len(sentence.tags)


def cut(paragraph: str, tokenizer: SentenceTokenizer) -> Iterator[Sentence]:
    """Yield the sentences of a paragraph in which code stands between back-ticks."""
    pieces = paragraph.split("`")
    spans = []
    text = ""
    for number, piece in enumerate(pieces):
        if number % 2:
            spans.append((len(text), len(text) + len(piece)))
        text += piece
    at = 0
    last_span = -1
    for tokens in tokenizer.sentences(text):
        tags = []
        for token in tokens:
            begin = text.find(token, at)
            if begin < 0:  # a character that the tokenizer replaced
                return
            at = begin + len(token)
            span = next((n for n, (a, b) in enumerate(spans) if a < at and begin < b), -1)
            tags.append("O" if span < 0 else "I-CODE" if span == last_span else "B-CODE")
            last_span = span
        yield Sentence(tuple(tokens), tuple(tags))


class _Names:
    """The names of packages, as they are written in sentences."""

    def __init__(self, packages: Collection[str]) -> None:
        names = {STANDARD_LIBRARY, *packages}
        names |= {part for name in names for part in name.split("_")}
        names |= {other for name in packages for other in _OTHER_NAMES.get(name, ())}
        self._words = names
        self._within = [name for name in names if len(name) >= _LONG_NAME]

    def are_in(self, tokens: Sequence[str]) -> bool:
        """Return whether one of them is a word of a sentence, or a part of a word."""
        words = [token.casefold() for token in tokens]
        return not self._words.isdisjoint(words) or any(name in word for name in self._within for word in words)


class _Unlike:
    """A collection of sentences of which no two are much alike: in capitals, in numbers, in a few words."""

    def __init__(self) -> None:
        self._where: dict[tuple[str, ...], list[int]] = defaultdict(list)
        self._sizes: list[int] = []

    def add(self, tokens: Sequence[str]) -> bool:
        """Take a sentence, unless it is much like one that is there."""
        words = ["0" if token.isdecimal() else token.casefold() for token in tokens]
        trigrams = set(zip(words, words[1:], words[2:], strict=False))
        shared = Counter(number for trigram in trigrams for number in self._where.get(trigram, ()))
        if any(n > _MAX_SHARED * min(self._sizes[number], len(trigrams)) for number, n in shared.items()):
            return False
        for trigram in trigrams:
            self._where[trigram].append(len(self._sizes))
        self._sizes.append(len(trigrams))
        return True
