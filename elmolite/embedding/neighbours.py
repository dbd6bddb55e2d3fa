"""Nearest neighbours of a word in context among the tokens of a text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elmolite.embedding.batching import LayerSelection
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.utils.console import n_of

_BRACKETED = re.compile(r"\[([^\[\]\s]+)\]")


@dataclass(frozen=True)
class Occurrence:
    """Token of a sentence."""

    sentence: Sequence[str]
    index: int

    def in_context(self, *, width: int = 5) -> str:
        """Return the token in brackets with up to ``width`` tokens on each side."""
        before = self.sentence[max(0, self.index - width) : self.index]
        after = self.sentence[self.index + 1 : self.index + 1 + width]
        return f"{' '.join(before):>40} [{self.sentence[self.index]}] {' '.join(after)}"


class NeighbourIndex:
    """Index of the tokens of a text by their vectors.

    >>> index = NeighbourIndex(elmo, elmo.tokenize(["The children play.", "The play was long.", "Boys play here."]))
    >>> index
    NeighbourIndex(13 tokens, layers='top')
    >>> cosine, token = next(index.nearest(parse_query("girls [play] there .", elmo), n=1))
    >>> token.in_context().strip()
    'Boys [play] here .'
    """

    def __init__(
        self,
        elmo: ELMo,
        sentences: Sequence[Sequence[str]],
        *,
        layers: LayerSelection = "top",
        show_progress: bool | None = None,
    ) -> None:
        """Embed the sentences.

        :param layers: as in :meth:`ELMo.embed`, except ``"all"``.
        :param show_progress: as in :meth:`ELMo.embed`.
        """
        if layers == "all":
            raise InputError("layers must be 'top', 'average' or an index for neighbours, got 'all'")
        self.elmo = elmo
        self.layers = layers
        self.occurrences = [Occurrence(sentence, index) for sentence in sentences for index in range(len(sentence))]
        if not self.occurrences:
            raise InputError("the text for the neighbours is empty")
        self._vectors = unit(np.concatenate(elmo.embed(sentences, layers=layers, show_progress=show_progress)))

    def __repr__(self) -> str:
        return f"NeighbourIndex({n_of(len(self.occurrences), 'token')}, layers={self.layers!r})"

    def nearest(self, query: Occurrence, n: int) -> Iterator[tuple[float, Occurrence]]:
        """Yield cosine and occurrence of the ``n`` nearest tokens of other sentences, each context once."""
        vector = unit(self.elmo.embed([query.sentence], layers=self.layers)[0][query.index])
        similarity = self._vectors @ vector
        shown = {query.in_context()}
        for index in np.argsort(-similarity, kind="stable"):
            occurrence = self.occurrences[index]
            if list(occurrence.sentence) == list(query.sentence) or occurrence.in_context() in shown:
                continue
            shown.add(occurrence.in_context())
            yield float(similarity[index]), occurrence
            if len(shown) > n:
                return

    def describe(self, query: Occurrence, n: int) -> str:
        """Return the query and its nearest tokens in context, one per line."""
        lines = [f"        {query.in_context()}"]
        lines += [f"  {similarity:.3f} {each.in_context()}" for similarity, each in self.nearest(query, n)]
        return "\n".join(lines)


def parse_query(query: str, elmo: ELMo) -> Occurrence:
    """Parse a sentence with one word in brackets: ``"they robbed a [bank] last night"``."""
    bracketed = _BRACKETED.findall(query)
    if len(bracketed) != 1:
        raise InputError(f"{query!r}: expected one word in [brackets], as in 'they robbed a [bank]'")
    before, after = _BRACKETED.split(query)[0], _BRACKETED.split(query)[2]
    index = len(elmo.tokenizer.tokens(before)) if before.strip() else 0
    tokens = elmo.tokenizer.tokens(f"{before}{bracketed[0]}{after}")
    if index >= len(tokens) or tokens[index] != bracketed[0]:
        raise InputError(f"{query!r}: [{bracketed[0]}] must be one of the model's tokens: {' '.join(tokens)}")
    return Occurrence(tokens, index)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale vectors to length 1."""
    scaled: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-9)
    return scaled
