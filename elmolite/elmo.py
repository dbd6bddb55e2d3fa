"""Sentences -> contextual word vectors: the embedder, and the module that tasks build on.

Shapes: B sentences, T tokens, U distinct words, C characters, N positions of packed sequences, L layers (the token
layer and each LSTM layer), P projection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.bilm import BiLM
from elmolite.checkpoint import Checkpoint
from elmolite.errors import InputError
from elmolite.modules import evaluating
from elmolite.token_indexers import ByteIndexer, TokenIndexer
from elmolite.tokenization import SentenceTokenizer

Sentence = str | Sequence[str]
LayerChoice = Literal["all", "top", "average"] | int

MIN_ROWS = 12
"""Rows of the smallest matrix product. Below, MKL takes other kernels, and a sentence's vectors would depend on how
many others stand beside it."""

BATCH_TOKENS = 4096
"""Tokens, with padding, that are embedded at once."""


class TokenIds(NamedTuple):
    """Sentences as ids, with each distinct word once; what :meth:`ELMo.to_ids` makes and :meth:`ELMo.forward` takes."""

    forms: Tensor  # (U, C): <S>, </S> and the distinct words as rows of ids
    tokens: Tensor  # (B, T): index into forms; 0 behind the end of a sentence
    lengths: Tensor  # (B): tokens of each sentence


class ELMo(nn.Module):
    """Contextual word vectors of a pretrained bidirectional language model (Peters et al. 2018).

    Frozen at first: no gradients, no dropout, also after ``train()``; see :meth:`unfreeze`.
    """

    def __init__(self, bilm: BiLM, tokenizer: SentenceTokenizer, indexer: TokenIndexer | None = None) -> None:
        """:param indexer: how the model reads tokens; ``None`` for bytes."""
        super().__init__()
        self.bilm = bilm
        self.tokenizer = tokenizer
        self.indexer = indexer or ByteIndexer()
        if len(bilm.token_encoder.table) != self.indexer.n_ids:
            raise InputError(
                f"the model knows {len(bilm.token_encoder.table)} ids and its indexer gives {self.indexer.n_ids}: they "
                "do not belong together"
            )
        self._is_frozen = False
        self.freeze()

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> ELMo:
        """Read a model.

        :param folder: a model folder, or the name of a model that comes with the package, as "mini-en".
        :raises InputError: there is no such model, or a file is missing, cut short or damaged; the message names it.
        """
        checkpoint = Checkpoint.from_pretrained(folder)
        return cls(checkpoint.bilm, checkpoint.tokenizer, checkpoint.indexer).eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a model folder, without a softmax: what embedding needs.

        :raises InputError: it exists, or cannot be written.
        """
        Checkpoint(self.bilm, self.tokenizer, self.indexer).save_pretrained(folder)

    @property
    def n_layers(self) -> int:
        """L: the token layer and each LSTM layer."""
        return self.bilm.config.n_layers + 1

    @property
    def size(self) -> int:
        """Width of a vector: 2 P, forward and backward."""
        return 2 * self.bilm.config.projection_size

    def freeze(self) -> ELMo:
        """Keep the weights as they are: no gradients and no dropout."""
        self._is_frozen = True
        self.requires_grad_(False)
        self.bilm.eval()
        return self

    def unfreeze(self, *, n_layers: int | None = None) -> ELMo:
        """Let gradients through, and dropout in training mode.

        :param n_layers: to so many of the L layers, from the top; ``None`` for all of them, and 0 to :meth:`freeze`.
        :raises InputError: there are not so many.
        """
        n_layers = self.n_layers if n_layers is None else n_layers
        if not 0 <= n_layers <= self.n_layers:
            raise InputError(f"n_layers={n_layers}: the model has {self.n_layers} layers")
        self.freeze()
        if n_layers == 0:
            return self
        self._is_frozen = False
        stacks = (self.bilm.forward_stack, self.bilm.backward_stack)
        for layer in [layer for stack in stacks for layer in stack.layers[-n_layers:]]:
            layer.requires_grad_(True)
        if n_layers == self.n_layers:
            self.requires_grad_(True)
        self.bilm.train(self.training)
        return self

    def train(self, mode: bool = True) -> ELMo:
        """Set training mode; a frozen language model stays in evaluation mode."""
        super().train(mode)
        if self._is_frozen:
            self.bilm.eval()
        return self

    def to_ids(self, sentences: Sequence[Sentence]) -> TokenIds:
        """Encode sentences on the CPU, for instance in a ``DataLoader``'s workers.

        :param sentences: lists of tokens, or strings, which are cut as the text of the model was.
        :raises InputError: ``sentences`` is one string.
        """
        return _encode(self.tokenise(sentences), self.indexer)

    def forward(self, ids: TokenIds) -> tuple[Tensor, Tensor]:
        """Compute all layers.

        Each sentence starts from zero state and is read between ``<S>`` and ``</S>``, whose own vectors are left out.

        :param ids: what :meth:`to_ids` gives.
        :raises InputError: it is something else.
        :returns: the layers, (L, B, T, 2 P), zero behind the end of a sentence: the token vector twice, then the
            forward and backward output of each LSTM layer; and a mask (B, T), true where there is a token.
        """
        if not isinstance(ids, TokenIds):
            raise InputError(f"ELMo takes what its to_ids() gives, not {type(ids).__name__}; for vectors see embed()")
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._is_frozen):
            return self._layers(TokenIds(*(part.to(self.bilm.device) for part in ids)))

    def _layers(self, ids: TokenIds) -> tuple[Tensor, Tensor]:
        packed = _pack(ids)
        forms = F.pad(ids.forms, (0, 0, 0, max(0, MIN_ROWS - len(ids.forms))), value=self.indexer.padding)
        forward_layers, backward_layers, _ = self.bilm(
            forms,
            packed.forward_inputs,
            packed.backward_inputs,
            packed.batch_sizes,
            self.bilm.zero_state(packed.batch_sizes[0]),
        )
        layers = torch.stack(
            [
                torch.cat([F.embedding(packed.forward_places, f), F.embedding(packed.backward_places, b)], dim=-1)
                for f, b in zip(forward_layers, backward_layers, strict=True)
            ]
        )
        return layers * packed.mask.unsqueeze(-1), packed.mask

    @overload
    def embed(
        self,
        sentences: Sequence[Sentence],
        *,
        layers: LayerChoice = ...,
        batch_tokens: int = ...,
        output: Literal["numpy"] = ...,
    ) -> list[NDArray[np.float32]]: ...

    @overload
    def embed(
        self,
        sentences: Sequence[Sentence],
        *,
        layers: LayerChoice = ...,
        batch_tokens: int = ...,
        output: Literal["torch"],
    ) -> list[Tensor]: ...

    def embed(
        self,
        sentences: Sequence[Sentence],
        *,
        layers: LayerChoice = "all",
        batch_tokens: int = BATCH_TOKENS,
        output: Literal["numpy", "torch"] = "numpy",
    ) -> list[NDArray[np.float32]] | list[Tensor]:
        """Embed sentences; the vectors of a sentence do not depend on the others.

        :param sentences: lists of tokens, or strings, which are cut as the text of the model was.
        :param layers: ``"all"``, ``"top"``, ``"average"`` or the number of a layer (0 is the token layer).
        :param batch_tokens: at most so many tokens, with padding, are computed at once; a longer sentence is alone.
        :param output: arrays of numpy, or tensors on the model's device.
        :returns: for each sentence, in order, (L, tokens, 2 P) for ``"all"`` and (tokens, 2 P) otherwise, float32.
        :raises InputError: ``sentences`` is one string, or there is no such layer.
        """
        tokenised = self.tokenise(sentences)
        if not (layers in ("all", "top", "average") or (isinstance(layers, int) and 0 <= layers < self.n_layers)):
            raise InputError(f"layers={layers!r}: expected 'all', 'top', 'average' or 0 to {self.n_layers - 1}")
        if batch_tokens < 1:
            raise InputError(f"batch_tokens={batch_tokens}: at least 1 is needed")
        if output not in ("numpy", "torch"):
            raise InputError(f"output={output!r}: expected 'numpy' or 'torch'")
        results: dict[int, Tensor] = {}
        with evaluating(self), torch.no_grad():
            for batch in batches_by_length([len(sentence) for sentence in tokenised], batch_tokens):
                vectors, _ = self(_encode([tokenised[i] for i in batch], self.indexer))
                vectors = _choose(vectors, layers).float()
                if output == "numpy":
                    vectors = vectors.cpu()
                for row, i in enumerate(batch):  # a copy: a view would keep the whole batch in memory
                    results[i] = vectors[..., row, : len(tokenised[i]), :].clone()
        in_order = [results[i] for i in range(len(tokenised))]
        return [tensor.numpy() for tensor in in_order] if output == "numpy" else in_order

    def tokenise(self, sentences: Iterable[Sentence]) -> list[list[str]]:
        """Return the tokens of sentences; strings are cut as the text of the model was.

        :raises InputError: ``sentences`` is one string, or a sentence is neither a string nor tokens.
        """
        if isinstance(sentences, str):
            raise InputError("one string was given where a list of sentences was expected; for one sentence: [text]")
        if not isinstance(sentences, Iterable):
            raise InputError(f"a list of sentences was expected, not {type(sentences).__name__}")
        tokenised: list[list[str]] = []
        for number, sentence in enumerate(sentences):
            if not isinstance(sentence, Iterable):
                raise InputError(f"sentence {number}: expected a string or tokens, not {type(sentence).__name__}")
            tokens = self.tokenizer.tokens(sentence) if isinstance(sentence, str) else list(sentence)
            if not all(isinstance(token, str) for token in tokens):
                raise InputError(f"sentence {number}: tokens must be strings, or the sentence a string")
            tokenised.append(tokens)
        return tokenised


def _encode(tokenised: Sequence[Sequence[str]], indexer: TokenIndexer) -> TokenIds:
    """Encode each distinct word of sentences once."""
    index: dict[str, int] = {}
    lengths = [len(sentence) for sentence in tokenised]
    tokens = np.zeros((len(tokenised), max(lengths, default=0)), np.int64)
    for row, sentence in zip(tokens, tokenised, strict=True):
        row[: len(sentence)] = [index.setdefault(token, len(index) + 2) for token in sentence]
    forms = np.concatenate([indexer.sentence_marks(), indexer.rows(list(index))])
    return TokenIds(
        torch.from_numpy(indexer.trim(forms)),
        torch.from_numpy(tokens),
        torch.tensor(lengths, dtype=torch.int64),
    )


class _Packed(NamedTuple):
    """Sentences between their marks as packed sequences, and where their tokens' vectors will be."""

    forward_inputs: Tensor  # (N)
    backward_inputs: Tensor  # (N)
    batch_sizes: list[int]
    forward_places: Tensor  # (B, T): index into the N positions
    backward_places: Tensor  # (B, T)
    mask: Tensor  # (B, T)


def _pack(ids: TokenIds) -> _Packed:
    """Pack sentences, longest first: ``<S> w1 .. wn`` forward and ``</S> wn .. w1`` backward.

    At least :data:`MIN_ROWS` rows run to the end: rows that have no token left, or never had one, fill up.
    """
    begin_mark, end_mark = 0, 1
    device = ids.tokens.device
    n_sentences, n_tokens = ids.tokens.shape
    n_rows = max(n_sentences, MIN_ROWS)
    lengths = F.pad(ids.lengths, (0, n_rows - n_sentences))
    tokens = F.pad(ids.tokens, (0, 0, 0, n_rows - n_sentences))
    order = lengths.argsort(descending=True, stable=True)
    rank = order.argsort()[:n_sentences]

    step = torch.arange(n_tokens + 1, device=device)
    before = lengths[order, None] - step  # (rows, T + 1): tokens that the backward direction has yet to read, and one
    forward = F.pad(tokens[order], (1, 0), value=begin_mark)
    backward = tokens[order].gather(1, before.clamp(0, max(0, n_tokens - 1))) if n_tokens else forward
    backward = torch.where(step == 0, end_mark, backward)
    runs = (before >= 0).T  # (T + 1, rows)
    runs[:, :MIN_ROWS] = True
    batch_sizes = runs.sum(dim=1)
    offsets = batch_sizes.cumsum(0) - batch_sizes

    at = torch.arange(n_tokens, device=device)
    mask = at < ids.lengths[:, None]
    backward_step = (ids.lengths[:, None] - at).clamp(min=0)
    return _Packed(
        forward.T[runs],
        backward.T[runs],
        batch_sizes.tolist(),
        torch.where(mask, offsets[1:] + rank[:, None], 0),
        torch.where(mask, offsets[backward_step] + rank[:, None], 0),
        mask,
    )


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Group sentences of about the same length, longest first, under a number of tokens with padding."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) + 1) * (lengths[batch[0]] + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _choose(layers: Tensor, choice: LayerChoice) -> Tensor:
    """Select from (L, B, T, 2 P)."""
    if choice == "all":
        return layers
    if choice == "average":
        return layers.mean(dim=0)
    return layers[-1 if choice == "top" else int(choice)]
