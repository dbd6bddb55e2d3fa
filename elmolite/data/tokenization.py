"""Lines of text -> sentences -> tokens, recorded as a Hugging Face ``tokenizer.json``.

The normalizer of that file puts a newline at each sentence boundary, its pre-tokenizer finds the tokens; so the file
alone says how the text of a model was cut, and ``tokenizers.Tokenizer.from_file`` reads it.
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
_MAX_BYTES = 1 << 28
"""Of that file: many times the largest, whose rules and words are read into memory."""

_TITLES = "Mr|Mrs|Ms|Messrs|Dr|Prof|Rev|Hon|Gen|Col|Capt|Lt|Maj|Sgt|Cmdr|Gov|Sen|Rep|Pres|Jr|Sr|Esq"
_PLACES = "St|Mt|Ft|Ave|Blvd|Rd|Inc|Ltd|Co|Corp"
_MONTHS = "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec"
_OTHERS = r"vs|viz|cf|al|approx|dept|est|fig|vol|ed|pp|p|Nos|i\.e|e\.g|U\.S|U\.K|U\.N|a\.m|p\.m"
_ABBREVIATIONS = f"{_TITLES}|{_PLACES}|{_MONTHS}|{_OTHERS}".split("|")

_CLOSING = r"""["'’”»)\]]"""
_OPENING = r"""["'‘“«(\[]"""

SENTENCE_BOUNDARY = (
    # a terminator (closing quotes and brackets belong to it), white space, then what can open a sentence
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
    """Cuts text into sentences and sentences into tokens.

    Make one with :meth:`english` (rules for raw text in scripts with spaces), :meth:`whitespace` (text that is
    tokenised already, one sentence a line) or :meth:`load`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._normalizer = tokenizer.normalizer
        self._pre_tokenizer = tokenizer.pre_tokenizer

    @classmethod
    def english(cls) -> SentenceTokenizer:
        """Sentence boundaries and tokens by rules in the manner of the Penn Treebank (``do n't``, ``'s``)."""
        tokenizer = _empty_tokenizer()
        tokenizer.normalizer = normalizers.Replace(Regex(SENTENCE_BOUNDARY), "\n")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(TOKEN), behavior="removed", invert=True)
        return cls(tokenizer)

    @classmethod
    def whitespace(cls) -> SentenceTokenizer:
        """One sentence a line, white space between tokens."""
        tokenizer = _empty_tokenizer()
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return cls(tokenizer)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as the file: the Rust objects themselves refuse."""
        return SentenceTokenizer.from_bytes, (self.to_bytes(),)

    @property
    def is_whitespace(self) -> bool:
        """Whether text must be tokenised already, one sentence a line."""
        return isinstance(self._pre_tokenizer, pre_tokenizers.WhitespaceSplit)

    def sentences(self, line: str) -> list[list[str]]:
        """Return the tokens of each sentence of a line; a blank line has none."""
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
        """Return the tokens of one sentence, without looking for sentence boundaries inside it."""
        return self.tokens_and_offsets(sentence)[0]

    def tokens_and_offsets(self, sentence: str) -> tuple[list[str], list[tuple[int, int]]]:
        """Return the tokens of one sentence, and of each the place of its first character and that behind its last."""
        if self.is_whitespace:
            found = [(match[0], match.span()) for match in _NO_WHITE_SPACE.finditer(sentence)]
        else:
            found = self._cut(_one_line(sentence))
        return [token for token, _ in found], [offsets for _, offsets in found]

    def _cut(self, text: str, *, finds_sentences: bool = False) -> list[tuple[str, tuple[int, int]]]:
        """Return the tokens of a text and their places.

        :raises InputError: the rules of the tokenizer, which came with a model, take no end on it.
        """
        with _explaining(f"the rules of the tokenizer fail on {text[:60]!r}"):
            if finds_sentences and self._normalizer is not None:
                text = self._normalizer.normalize_str(text)
            return self._pre_tokenizer.pre_tokenize_str(text)  # type: ignore[no-any-return]

    def to_bytes(self) -> bytes:
        """Serialise as the content of ``tokenizer.json``."""
        return self._tokenizer.to_str(pretty=True).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> SentenceTokenizer:
        """Read what :meth:`to_bytes` gave."""
        return cls(Tokenizer.from_str(content.decode()))

    @classmethod
    def load(cls, path: Path) -> SentenceTokenizer:
        """Read a ``tokenizer.json``.

        :raises InputError: the file is missing or not of that format.
        """
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise InputError(f"{path}: {path.stat().st_size:,} bytes are too many for a tokenizer")
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
        with _explaining(f"{path}: not a tokenizer.json that can be read"):
            found = cls.from_bytes(content)
        if found._pre_tokenizer is None:
            raise InputError(f"{path}: not a tokenizer.json that can be read: it has no pre_tokenizer")
        return found


@contextmanager
def _explaining(problem: str) -> Iterator[None]:
    """Turn what the Rust side raises, Exception itself or a panic that is none, into the error of a user."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{problem}: {error}") from None


def _empty_tokenizer() -> Tokenizer:
    """Return a tokenizer without a vocabulary: the words are owned by ``vocab.txt``."""
    return Tokenizer(models.WordLevel({"<UNK>": 0}, unk_token="<UNK>"))


def _one_line(text: str) -> str:
    """Replace what the Rust side refuses (lone surrogates) and what would read as a sentence boundary."""
    return text.replace("\n", " ").encode("utf-8", "replace").decode("utf-8")
