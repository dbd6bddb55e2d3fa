"""Sentence splitting and tokenization, stored as a Hugging Face ``tokenizer.json``.

The normalizer of that file puts a newline at each sentence boundary, its pre-tokenizer finds the tokens. So the file
defines the tokenization of a model completely, and ``tokenizers.Tokenizer.from_file`` reads it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain, islice
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from elmolite.errors import InputError

FILE_NAME = "tokenizer.json"

_TITLES = "Mr|Mrs|Ms|Messrs|Dr|Prof|Rev|Hon|Gen|Col|Capt|Lt|Maj|Sgt|Cmdr|Gov|Sen|Rep|Pres|Jr|Sr|Esq"
_PLACES = "St|Mt|Ft|Ave|Blvd|Rd|Inc|Ltd|Co|Corp"
_MONTHS = "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec"
_OTHERS = r"vs|viz|cf|al|approx|dept|est|fig|vol|ed|pp|p|Nos|i\.e|e\.g|U\.S|U\.K|U\.N|a\.m|p\.m"
_ABBREVIATIONS = f"{_TITLES}|{_PLACES}|{_MONTHS}|{_OTHERS}".split("|")

_CLOSING = r"""["'’”»)\]]"""
_OPENING = r"""["'‘“«(\[]"""

SENTENCE_BOUNDARY = (
    # a terminator with its closing quotes and brackets, white space, then the start of a sentence
    rf"(?<=[.!?…。！？]|[.!?…]{_CLOSING}|[.!?…]{_CLOSING}{_CLOSING})"
    + "".join(rf"(?<!\b{word}\.)" for word in _ABBREVIATIONS)
    + r"(?<!\b\p{Lu}\.)"  # initials: "J. Smith"
    + rf"\s+(?={_OPENING}{{0,2}}[\p{{Lu}}\p{{Lo}}\p{{N}}])"
    + r"(?!\p{N}(?<=\bNo\.\s.))"  # "No. 5", but not "No. He"
    + r"|(?<=\p{Ll}{4}\.)(?<!\b(?:dept|prox|cent)\.)\s+(?=\p{Ll})"  # careless writing: no capital after a full stop
)

TOKEN = "|".join(
    [
        r"\n",  # the sentence boundary
        r"(?:https?://|www\.)[^\s<>\"]*[^\s<>\".,;:!?)'\]]",
        r"[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+",
        r"[:;=8][-o*']?[)\](\[dDpP/\\|](?!\w)",  # faces
        r"(?i:can(?=not\b))",
        r"(?i:(?:gon|wan|got)(?=(?:na|ta)\b))",
        r"(?:\p{Lu}\.){2,}",  # U.S.
        r"(?:" + "|".join(_ABBREVIATIONS) + r")\.|etc\.|\p{Lu}\.(?=\s+\p{Lu})",
        r"[$£€¥#]",
        r"\d+(?:[.,:/-]\d+)+|\d+(?=(?:st|nd|rd|th|am|pm|[a-zA-Z])\b)(?:st|nd|rd|th)?|\.\d+",
        r"(?i:n['’]t\b)",  # do n't
        r"(?i:['’](?:s|m|d|ll|re|ve)\b)",
        r"[\p{L}\p{M}\p{N}_](?:(?!(?i:n['’]t\b))[\p{L}\p{M}\p{N}_])*(?:['’](?!(?i:s|m|d|ll|re|ve|t)\b)\p{L}+)*",
        r"\.{2,}|-{2,}|[!?]+|<+|>+|\*+|=+|_+|~+",
        r"\S",
    ]
)


TOKEN_0_1 = TOKEN.replace("{1,64}@", "+@")
"""The rules of version 0.1, which mini-en has: the local part of an e-mail address may have any length."""
_NO_WHITE_SPACE = re.compile(r"\S+")

_TERMINATORS = frozenset(".!?…。！？")
_LAST_CHARACTERS = _TERMINATORS.union("\"'’”»)]")
_ALIKE = str.maketrans({"\n": ","} | dict.fromkeys(ascii_lowercase, "a") | dict.fromkeys(ascii_uppercase, "A"))
_NUMBER = re.compile(r"No\.\s\s")
_SEPARATOR = re.compile(r"[\x1c-\x1f]")  # white space in Python, not in Rust
_MAX_CACHED = 1 << 17  # pieces, of two such caches
_MAX_CACHED_CHARACTERS = 40


class _EnglishRules:
    """The rules above, several times as fast: each distinct piece of text is cut into tokens once.

    No rule looks beyond white space, except those of sentence boundaries and initials: after a word that ends like a
    sentence, they look at up to three characters of the next word. So a piece is a word, if it ends so with these
    characters after a space; its last token is then a line end if there is a boundary. Only the rule of "No. 5"
    depends on the amount of white space: such a line is one piece, with its line end.
    """

    def __init__(self, token: str = TOKEN) -> None:
        self.normalizer = normalizers.Replace(Regex(SENTENCE_BOUNDARY), "\n")
        self.pre_tokenizer = pre_tokenizers.Split(Regex(token), behavior="removed", invert=True)
        self._state = self.normalizer.__getstate__(), self.pre_tokenizer.__getstate__()
        self._recent: dict[str, tuple[str, ...]] = {}
        self._older: dict[str, tuple[str, ...]] = {}

    def are_of(self, tokenizer: Tokenizer) -> bool:
        """Tell whether a tokenizer has these rules, not those of a downloaded model."""
        parts = tokenizer.normalizer, tokenizer.pre_tokenizer
        return None not in parts and self._state == tuple(part.__getstate__() for part in parts)

    def pieces(self, lines: Iterable[str]) -> list[str]:
        """Return the pieces of lines, with a line end after each line."""
        words: list[str] = []
        for line in lines:
            if _NUMBER.search(line) or _SEPARATOR.search(line):
                words.append(f"{line}\n")
            else:
                words += line.split()
                words.append("\n")
        return [
            f"{word} {_start(after)}"
            if word[-1] in _LAST_CHARACTERS and not _TERMINATORS.isdisjoint(word[-3:])
            else word
            for word, after in zip(words, chain(islice(words, 1, None), "\n"), strict=False)
        ]

    def tokens_of(self, pieces: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the tokens of each piece."""
        recent, older = self._recent, self._older
        tokens = {piece: recent.get(piece) or older.get(piece, ()) for piece in pieces}
        tokens.update(self._cut([piece for piece, found in tokens.items() if not found]))
        if len(recent) > _MAX_CACHED:
            self._recent, self._older = recent, older = {}, recent
        recent.update(item for item in tokens.items() if len(item[0]) <= _MAX_CACHED_CHARACTERS)
        return [tokens[piece] for piece in pieces]

    def _cut(self, pieces: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield each piece with its tokens; those without line ends are cut in one text, which is faster."""
        words = []
        for piece in pieces:
            if piece.endswith("\n"):
                yield piece, (*(token for token, _ in _cut(piece[:-1], self.pre_tokenizer, self.normalizer)), "\n")
            else:
                words.append(piece)
        found = _cut("\t".join(words), self.pre_tokenizer, self.normalizer)
        tokens, offsets = [token for token, _ in found], [begin for _, (begin, _) in found]
        begin = 0
        for word in words:
            end = begin + (word.find(" ") + 1 or len(word))
            yield word, tuple(tokens[bisect_left(offsets, begin) : bisect_left(offsets, end)])
            begin += len(word) + 1


def _start(word: str) -> str:
    """Return what the rules see of the next word: ASCII letters of a case are alike, a line end is like a comma."""
    start = word[:3].translate(_ALIKE)
    return start[0] if start[0] in "Aa" else start


_english_rules = cache(_EnglishRules)


class SentenceTokenizer:
    """Splits text into sentences and sentences into tokens.

    Create one with :meth:`english` (rules for raw text in scripts with spaces), :meth:`whitespace` (tokenized text,
    one sentence per line) or :meth:`load`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._normalizer = tokenizer.normalizer
        self._pre_tokenizer = tokenizer.pre_tokenizer
        known = (_english_rules(token) for token in (TOKEN, TOKEN_0_1))
        self._rules = next((rules for rules in known if rules.are_of(tokenizer)), None)

    @classmethod
    def english(cls) -> SentenceTokenizer:
        """Return a rule-based tokenizer in the style of the Penn Treebank (``do n't``, ``'s``)."""
        tokenizer = _empty_tokenizer()
        rules = _english_rules(TOKEN)
        tokenizer.normalizer, tokenizer.pre_tokenizer = rules.normalizer, rules.pre_tokenizer
        return cls(tokenizer)

    @classmethod
    def whitespace(cls) -> SentenceTokenizer:
        """Return a tokenizer for text with one sentence per line and white space between tokens."""
        tokenizer = _empty_tokenizer()
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return cls(tokenizer)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as the content of the file, since the Rust objects refuse."""
        return SentenceTokenizer.from_bytes, (self.to_bytes(),)

    @property
    def is_whitespace(self) -> bool:
        """Whether text must be tokenized already, one sentence per line."""
        return isinstance(self._pre_tokenizer, pre_tokenizers.WhitespaceSplit)

    def sentences(self, line: str) -> list[list[str]]:
        """Return the sentences of a line as lists of tokens; a blank line has no sentence."""
        sentences: list[list[str]] = [[]]
        for token in chain.from_iterable(self.tokens_of(self.pieces([line]))):
            if token == "\n":
                sentences.append([])
            else:
                sentences[-1].append(token)
        return [sentence for sentence in sentences if sentence]

    def pieces(self, lines: Iterable[str]) -> list[str]:
        """Return the pieces of lines: strings of which each determines its tokens (see :meth:`tokens_of`)."""
        if self.is_whitespace:
            return [word for line in lines for word in (*line.split(), "\n")]
        texts = map(_one_line, lines)
        if self._rules is not None:
            return self._rules.pieces(texts)
        cut = (_cut(text, self._pre_tokenizer, self._normalizer) for text in texts)
        return [token for found in cut for token in (*(token for token, _ in found), "\n")]

    def tokens_of(self, pieces: Sequence[str]) -> Sequence[Sequence[str]]:
        """Return the tokens of each piece; a line end stands for the end of a sentence."""
        return self._rules.tokens_of(pieces) if self._rules is not None else [(piece,) for piece in pieces]

    def tokens(self, sentence: str) -> list[str]:
        """Return the tokens of one sentence, without splitting it."""
        if self._rules is None:
            return self.tokens_and_offsets(sentence)[0]
        tokens = chain.from_iterable(self.tokens_of(self.pieces([sentence])))
        return [token for token in tokens if token != "\n"]

    def tokens_and_offsets(self, sentence: str) -> tuple[list[str], list[tuple[int, int]]]:
        """Return the tokens of one sentence and their character offsets (start, end)."""
        if self.is_whitespace:
            found = [(match[0], match.span()) for match in _NO_WHITE_SPACE.finditer(sentence)]
        else:
            found = _cut(_one_line(sentence), self._pre_tokenizer)
        return [token for token, _ in found], [offsets for _, offsets in found]

    def to_bytes(self) -> bytes:
        """Return the content of ``tokenizer.json``."""
        return self._tokenizer.to_str(pretty=True).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> SentenceTokenizer:
        """Create a tokenizer from the content of ``tokenizer.json``."""
        return cls(Tokenizer.from_str(content.decode()))

    @classmethod
    def load(cls, path: Path) -> SentenceTokenizer:
        """Read a ``tokenizer.json``."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
        with _wrap_rust_errors(f"{path}: not a readable tokenizer.json"):
            found = cls.from_bytes(content)
        if found._pre_tokenizer is None:
            raise InputError(f"{path}: not a readable tokenizer.json: it has no pre_tokenizer")
        return found


@contextmanager
def _wrap_rust_errors(problem: str) -> Iterator[None]:
    """Turn errors of ``tokenizers`` into an InputError; its panics do not derive from Exception."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{problem}: {error}") from None


def _cut(
    text: str, pre_tokenizer: pre_tokenizers.PreTokenizer, normalizer: normalizers.Normalizer | None = None
) -> list[tuple[str, tuple[int, int]]]:
    """Return the tokens of a text with their offsets; the rules of a downloaded model may fail on it."""
    with _wrap_rust_errors(f"the rules of the tokenizer fail on {text[:60]!r}"):
        if normalizer is not None:
            text = normalizer.normalize_str(text)
        return pre_tokenizer.pre_tokenize_str(text)


def _empty_tokenizer() -> Tokenizer:
    """Return a tokenizer without a vocabulary, which is in ``vocab.txt``."""
    return Tokenizer(models.WordLevel({"<UNK>": 0}, unk_token="<UNK>"))


def _one_line(text: str) -> str:
    """Replace lone surrogates, which ``tokenizers`` refuses, and line ends, which would mark sentence boundaries."""
    line = text.replace("\n", " ")
    return line if line.isascii() else line.encode("utf-8", "replace").decode("utf-8")
