"""Sentence splitting and tokenization, stored as a Hugging Face ``tokenizer.json``.

The normalizer of that file puts a newline at each sentence boundary, its pre-tokenizer finds the tokens. So the file
defines the tokenization of a model completely, and ``tokenizers.Tokenizer.from_file`` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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


_NO_WHITE_SPACE = re.compile(r"\S+")


class SentenceTokenizer:
    """Splits text into sentences and sentences into tokens.

    Create one with :meth:`english` (rules for raw text in scripts with spaces), :meth:`whitespace` (tokenized text,
    one sentence per line) or :meth:`load`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._normalizer = tokenizer.normalizer
        self._pre_tokenizer = tokenizer.pre_tokenizer

    @classmethod
    def english(cls) -> SentenceTokenizer:
        """Return a rule-based tokenizer in the style of the Penn Treebank (``do n't``, ``'s``)."""
        tokenizer = _empty_tokenizer()
        tokenizer.normalizer = normalizers.Replace(Regex(SENTENCE_BOUNDARY), "\n")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(TOKEN), behavior="removed", invert=True)
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
        if self.is_whitespace:
            tokens = line.split()
            return [tokens] if tokens else []
        sentences: list[list[str]] = [[]]
        for token, _ in self._cut(_one_line(line), finds_sentences=True):
            if token == "\n":
                sentences.append([])
            else:
                sentences[-1].append(token)
        return [sentence for sentence in sentences if sentence]

    def tokens(self, sentence: str) -> list[str]:
        """Return the tokens of one sentence, without splitting it."""
        return self.tokens_and_offsets(sentence)[0]

    def tokens_and_offsets(self, sentence: str) -> tuple[list[str], list[tuple[int, int]]]:
        """Return the tokens of one sentence and their character offsets (start, end)."""
        if self.is_whitespace:
            found = [(match[0], match.span()) for match in _NO_WHITE_SPACE.finditer(sentence)]
        else:
            found = self._cut(_one_line(sentence))
        return [token for token, _ in found], [offsets for _, offsets in found]

    def _cut(self, text: str, *, finds_sentences: bool = False) -> list[tuple[str, tuple[int, int]]]:
        """Return the tokens of a text with their offsets; the rules of a downloaded model may fail on it."""
        with _wrap_rust_errors(f"the rules of the tokenizer fail on {text[:60]!r}"):
            if finds_sentences and self._normalizer is not None:
                text = self._normalizer.normalize_str(text)
            return self._pre_tokenizer.pre_tokenize_str(text)  # type: ignore[no-any-return]

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


def _empty_tokenizer() -> Tokenizer:
    """Return a tokenizer without a vocabulary, which is in ``vocab.txt``."""
    return Tokenizer(models.WordLevel({"<UNK>": 0}, unk_token="<UNK>"))


def _one_line(text: str) -> str:
    """Replace lone surrogates, which ``tokenizers`` refuses, and line ends, which would mark sentence boundaries."""
    return text.replace("\n", " ").encode("utf-8", "replace").decode("utf-8")
