"""Nearest neighbours of a word in context, among the tokens of a text: what a model's vectors hold, seen by eye."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elmolite.embedding.elmo import ELMo
from elmolite.embedding.layer_choice import LayerChoice
from elmolite.errors import InputError

_MARKED = re.compile(r"\[([^\[\]\s]+)\]")


@dataclass(frozen=True)
class Place:
    """A token of a sentence."""

    sentence: Sequence[str]
    index: int

    def in_context(self, *, width: int = 5) -> str:
        """Return the token in brackets between its neighbours."""
        before = self.sentence[max(0, self.index - width) : self.index]
        after = self.sentence[self.index + 1 : self.index + 1 + width]
        return f"{' '.join(before):>40} [{self.sentence[self.index]}] {' '.join(after)}"


class NeighbourIndex:
    """The tokens of a text by their vectors."""

    def __init__(self, elmo: ELMo, sentences: Sequence[Sequence[str]], *, layers: LayerChoice = "top") -> None:
        """:param layers: which vectors are compared, as :meth:`ELMo.embed` takes it; not ``"all"``."""
        if layers == "all":
            raise InputError("layers='all': one vector a token is compared; choose 'top', 'average' or a number")
        self.elmo = elmo
        self.layers = layers
        self.places = [Place(sentence, index) for sentence in sentences for index in range(len(sentence))]
        if not self.places:
            raise InputError("there is no text to find neighbours in")
        self._vectors = unit(np.concatenate(elmo.embed(sentences, layers=layers)))

    def occurrence(self, word: str) -> Place | None:
        """Return a place in the middle of those where a word stands, whatever its case; ``None`` where it does not."""
        found = [place for place in self.places if place.sentence[place.index].lower() == word.lower()]
        return found[len(found) // 2] if found else None

    def nearest(self, query: Place, n: int) -> Iterator[tuple[float, Place]]:
        """Yield the cosine and place of the nearest tokens of other sentences, no context twice."""
        vector = unit(self.elmo.embed([query.sentence], layers=self.layers)[0][query.index])
        similarity = self._vectors @ vector
        shown = {query.in_context()}
        for at in np.argsort(-similarity, kind="stable"):
            place = self.places[at]
            if list(place.sentence) == list(query.sentence) or place.in_context() in shown:
                continue
            shown.add(place.in_context())
            yield float(similarity[at]), place
            if len(shown) > n:
                return

    def describe(self, query: Place, n: int) -> str:
        """Return the query and its nearest tokens, each in its context, for a person."""
        lines = [f"        {query.in_context()}"]
        lines += [f"  {similarity:.3f} {place.in_context()}" for similarity, place in self.nearest(query, n)]
        return "\n".join(lines)


def marked_place(query: str, elmo: ELMo) -> Place:
    """Read a sentence with one word in brackets: ``"they robbed a [bank] last night"``.

    :raises InputError: there is no such word, or more than one, or the model's tokenizer cuts it.
    """
    marked = _MARKED.findall(query)
    if len(marked) != 1:
        raise InputError(f"{query!r}: one word in [brackets] is needed, as in 'they robbed a [bank]'")
    before, after = _MARKED.split(query)[0], _MARKED.split(query)[2]
    index = len(elmo.tokenizer.tokens(before)) if before.strip() else 0
    tokens = elmo.tokenizer.tokens(f"{before}{marked[0]}{after}")
    if index >= len(tokens) or tokens[index] != marked[0]:
        raise InputError(f"{query!r}: the model's tokens are {' '.join(tokens)}, and [{marked[0]}] is not one of them")
    return Place(tokens, index)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale vectors to length 1."""
    scaled: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-9)
    return scaled
