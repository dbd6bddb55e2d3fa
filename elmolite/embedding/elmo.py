"""Sentences -> contextual word vectors: :class:`ELMo`, which is all that most users need.

Shapes: B sentences, T tokens, L layers (the token layer and each LSTM layer), P projection.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elmolite.checkpoint import Checkpoint
from elmolite.embedding import layer_choice
from elmolite.embedding.batching import BATCH_TOKENS, batches_by_length, encode
from elmolite.embedding.elmo_module import ELMoModule, Sentence
from elmolite.embedding.layer_choice import LayerChoice
from elmolite.embedding.long_sentences import embed_long
from elmolite.embedding.pooling import POOLINGS, CommonComponent, SentencePooling, WordWeights, cosine, pool
from elmolite.errors import InputError
from elmolite.utils.config import Precision
from elmolite.utils.torch import evaluating

READ_AHEAD = 8
"""Batches that :meth:`ELMo.embed_iter` reads at once: from more, speed gains little and memory grows."""


class AlignedVectors(NamedTuple):
    """The vectors of a string, and where in it their tokens stand."""

    tokens: list[str]
    offsets: list[tuple[int, int]]
    """Of each token the place of its first character, and that behind its last."""
    vectors: NDArray[np.float32]
    """As :meth:`ELMo.embed` gives them."""


class ELMo(ELMoModule):
    """Contextual word vectors of a pretrained bidirectional language model (Peters et al. 2018).

    An ``nn.Module``, see :class:`ELMoModule`; frozen at first.
    """

    @classmethod
    def from_pretrained(
        cls, source: str | Path, weights: str | Path | None = None, *, precision: Precision = "32-true"
    ) -> Self:
        """Read a model, of elmolite or of an earlier system.

        :param source: a model folder, the name of a model that comes with the package, as "mini-en", or of one on the
            Hugging Face Hub; or an earlier model: a folder or zip archive with the options and weights of AllenNLP,
            bilm-tf or the NLPL repository, one of these files, or a folder of ELMoForManyLangs.
        :param weights: the HDF5 file, where ``source`` is the file with the options and it does not lie beside it.
        :param precision: of the matrix products: see :attr:`ELMoModule.precision`.
        :raises InputError: there is no such model, or a file is missing, cut short or damaged; the message names it.
        """
        checkpoint = Checkpoint.from_pretrained(source, weights, with_softmax=False)
        parts = (checkpoint.bilm, checkpoint.tokenizer, checkpoint.indexer, checkpoint.vocabulary)
        elmo = cls(*parts, precision=precision).eval()
        elmo.storage_dtype = checkpoint.storage_dtype
        return elmo

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write a new model folder, without a softmax.

        :param dtype: dtype of the weights on disk; ``None`` for that of the folder the model was read from, or float32
            once :meth:`unfreeze` was called.
        """
        self._checkpoint().save_pretrained(folder, dtype=dtype)

    def push_to_hub(self, name: str, *, is_private: bool = False, message: str | None = None) -> str:
        """Write the model to the Hugging Face Hub, without a softmax; see :meth:`Checkpoint.push_to_hub`.

        :param name: ``owner/model``.
        :returns: its address.
        :raises InputError: the hub refuses, or cannot be reached.
        """
        return self._checkpoint().push_to_hub(name, is_private=is_private, message=message)

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            self.bilm, self.tokenizer, self.indexer, vocabulary=self.vocabulary, storage_dtype=self.storage_dtype
        )

    @overload
    def embed(
        self,
        sentences: Sequence[Sentence],
        *,
        layers: LayerChoice = ...,
        batch_tokens: int = ...,
        output: Literal["numpy"] = ...,
        carry_state: bool = ...,
    ) -> list[NDArray[np.float32]]: ...

    @overload
    def embed(
        self,
        sentences: Sequence[Sentence],
        *,
        layers: LayerChoice = ...,
        batch_tokens: int = ...,
        output: Literal["torch"],
        carry_state: bool = ...,
    ) -> list[Tensor]: ...

    def embed(
        self,
        sentences: Sequence[Sentence],
        *,
        layers: LayerChoice = "all",
        batch_tokens: int = BATCH_TOKENS,
        output: Literal["numpy", "torch"] = "numpy",
        carry_state: bool = False,
    ) -> list[NDArray[np.float32]] | list[Tensor]:
        """Embed sentences; the vectors of a sentence do not depend on the others.

        :param sentences: lists of tokens, or strings, which are cut as the text of the model was.
        :param layers: ``"all"``, ``"top"``, ``"average"`` or the number of a layer (0 is the token layer).
        :param batch_tokens: at most so many tokens, with padding, are computed at once; a longer sentence is computed
            in windows of so many, each direction from its own end, with the state carried from one to the next. On a
            GPU without memory for so many, half of them are taken.
        :param output: arrays of numpy, or tensors on the model's device.
        :param carry_state: the behaviour of AllenNLP and bilm-tf: the call is one batch, whatever ``batch_tokens`` is,
            and a sentence starts from the state in which that of the same place ended in the call before; see
            :meth:`reset_state`.
        :returns: for each sentence, in order, (L, tokens, 2 P) for ``"all"`` and (tokens, 2 P) otherwise, float32.
        :raises InputError: ``sentences`` is one string, or there is no such layer.
        """
        tokenised = self.tokenise(sentences)
        self.check_options(layers, batch_tokens)
        if output not in ("numpy", "torch"):
            raise InputError(f"output={output!r}: expected 'numpy' or 'torch'")
        device = torch.device("cpu") if output == "numpy" else self.bilm.device
        results: dict[int, Tensor] = {}
        with evaluating(self), torch.no_grad():
            if carry_state:
                vectors, _ = self(encode(tokenised, self.indexer), carry_state=True)
                results = _rows(vectors, layers, tokenised, range(len(tokenised)), device)
            else:
                for found in self._embed_in_batches(tokenised, layers, batch_tokens, device):
                    results |= found
        in_order = [results[i] for i in range(len(tokenised))]
        return [tensor.numpy() for tensor in in_order] if output == "numpy" else in_order

    def _embed_in_batches(
        self, tokenised: Sequence[Sequence[str]], layers: LayerChoice, batch_tokens: int, device: torch.device
    ) -> Iterator[dict[int, Tensor]]:
        """Yield the vectors of the sentences of each batch, by their numbers; smaller batches where memory is short."""
        left = set(range(len(tokenised)))
        while left:
            numbers = sorted(left)
            try:
                for batch in batches_by_length([len(tokenised[i]) for i in numbers], batch_tokens):
                    found = self._embed_batch(tokenised, [numbers[at] for at in batch], layers, batch_tokens, device)
                    left -= found.keys()
                    yield found
            except torch.OutOfMemoryError:
                if batch_tokens == 1:
                    raise
                print(
                    f"no memory on {self.bilm.device} for {batch_tokens:,} tokens at once; going on with half of them",
                    file=sys.stderr,
                )
                batch_tokens //= 2
                torch.cuda.empty_cache()

    def _embed_batch(
        self,
        tokenised: Sequence[Sequence[str]],
        batch: Sequence[int],
        layers: LayerChoice,
        batch_tokens: int,
        device: torch.device,
    ) -> dict[int, Tensor]:
        sentences = [tokenised[i] for i in batch]
        if len(batch) == 1 and len(sentences[0]) > batch_tokens:
            with self._products():
                found = embed_long(self.bilm, sentences[0], layers, batch_tokens, self.encode_forms, device)
            return {batch[0]: found}
        vectors, _ = self(encode(sentences, self.indexer))
        return _rows(vectors, layers, sentences, batch, device)

    def embed_iter(
        self, sentences: Iterable[Sentence], *, layers: LayerChoice = "all", batch_tokens: int = BATCH_TOKENS
    ) -> Iterator[NDArray[np.float32]]:
        """Embed sentences as they come, in the memory of a few batches, however many there are.

        :param sentences: any iterable of what :meth:`embed` takes, a generator for instance.
        :param layers: as there.
        :param batch_tokens: as there; eight times as many are read ahead, so that a batch has sentences of like length.
        :raises InputError: as there.
        :returns: for each sentence what :meth:`embed` gives, in order.
        """
        self.check_options(layers, batch_tokens)
        if isinstance(sentences, str) or not isinstance(sentences, Iterable):
            raise InputError("sentences were expected, one after the other; for one sentence: [text]")
        return self._embed_as_they_come(sentences, layers, batch_tokens)

    def _embed_as_they_come(
        self, sentences: Iterable[Sentence], layers: LayerChoice, batch_tokens: int
    ) -> Iterator[NDArray[np.float32]]:
        batch: list[list[str]] = []
        n_tokens = 0
        for number, sentence in enumerate(sentences):
            tokens = self.tokens_of(sentence, number)
            if batch and n_tokens + len(tokens) > READ_AHEAD * batch_tokens:
                yield from self.embed(batch, layers=layers, batch_tokens=batch_tokens)
                batch, n_tokens = [], 0
            batch.append(tokens)
            n_tokens += max(1, len(tokens))
        yield from self.embed(batch, layers=layers, batch_tokens=batch_tokens)

    def embed_aligned(self, texts: Iterable[str], *, layers: LayerChoice = "all") -> list[AlignedVectors]:
        """Embed strings, and say where in them the tokens stand.

        :param texts: a sentence each.
        :param layers: as in :meth:`embed`.
        :raises InputError: as there, or one is no string.
        """
        listed = list(texts) if isinstance(texts, Iterable) and not isinstance(texts, str) else None
        if listed is None or not all(isinstance(text, str) for text in listed):
            raise InputError("a list of strings was expected: tokens have no place in a text")
        cut = [self.tokenizer.tokens_and_offsets(text) for text in listed]
        vectors = self.embed([tokens for tokens, _ in cut], layers=layers)
        return [AlignedVectors(*each, found) for each, found in zip(cut, vectors, strict=True)]

    def embed_sentences(
        self,
        sentences: Sequence[Sentence],
        *,
        pooling: SentencePooling = "mean",
        layers: LayerChoice = "average",
        a: float = 1e-3,
        common: CommonComponent | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> NDArray[np.float32]:
        """Embed sentences as one vector each, from those of their tokens; ``<S>`` and ``</S>`` have no part in it.

        :param sentences: as :meth:`embed` takes them.
        :param pooling: ``mean``, ``max``, or ``weighted``: frequent words count less, ``a / (a + p(word))``, by the
            counts in the model (Arora et al. 2017).
        :param layers: as in :meth:`embed`, but one vector a token: not ``all``.
        :param a: of ``weighted``.
        :param common: what to take out: ``CommonComponent.fit(elmo.embed_sentences(corpus))``.
        :raises InputError: as :meth:`embed`; or the model has no counts.
        :returns: (sentences, 2 P), zeros for one without tokens.
        """
        if pooling not in POOLINGS:
            raise InputError(f"pooling={pooling!r}: expected one of {', '.join(POOLINGS)}")
        if layers == "all":
            raise InputError("layers='all': a sentence vector is of one vector a token: 'average', 'top' or a number")
        weights = WordWeights(self.vocabulary, a) if pooling == "weighted" else None
        tokenised = self.tokenise(sentences)
        vectors = self.embed_iter(tokenised, layers=layers, batch_tokens=batch_tokens)
        pooled = np.zeros((len(tokenised), self.size), np.float32)
        for row, tokens, each in zip(pooled, tokenised, vectors, strict=True):
            row[:] = pool(each, pooling, None if weights is None else weights.of(tokens))
        return pooled if common is None else common.remove(pooled)

    def similarity(self, first: Sentence, second: Sentence, **options: Any) -> float:
        """Return the cosine of two sentences' vectors.

        :param options: of :meth:`embed_sentences`.
        """
        return cosine(*self.embed_sentences([first, second], **options))

    def check_options(self, layers: LayerChoice, batch_tokens: int) -> None:
        """Refuse options that :meth:`embed` cannot work with.

        :raises InputError: there is no such layer, or ``batch_tokens`` is no number of tokens.
        """
        layer_choice.check(layers, self.n_layers)
        if not isinstance(batch_tokens, int) or batch_tokens < 1:
            raise InputError(f"batch_tokens={batch_tokens}: a whole number of at least 1 is needed")


def _rows(
    vectors: Tensor,
    layers: LayerChoice,
    sentences: Sequence[Sequence[str]],
    numbers: Sequence[int],
    device: torch.device,
) -> dict[int, Tensor]:
    """Return copies of the vectors of sentences, by their numbers: a view would keep the whole batch in memory."""
    chosen = layer_choice.choose(vectors, layers).float().to(device)
    rows = zip(numbers, sentences, strict=True)
    return {i: chosen[..., row, : len(tokens), :].clone() for row, (i, tokens) in enumerate(rows)}
