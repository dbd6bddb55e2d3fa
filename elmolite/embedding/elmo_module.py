"""The language model as a module: sentences -> ids -> all layers, frozen or trained.

Shapes: B sentences, T tokens, U distinct words, C characters, N positions of packed sequences, L layers (the token
layer and each LSTM layer), P projection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.data.indexers import ByteIndexer, TokenIndexer, WordIndexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import Vocabulary
from elmolite.embedding.batching import TokenIds, encode, pack
from elmolite.embedding.carried_state import CarriedState
from elmolite.embedding.word_cache import WordCache
from elmolite.errors import InputError
from elmolite.nn.bilm import BiLM
from elmolite.utils.config import Precision, check_precision
from elmolite.utils.torch import products_in

Sentence = str | Sequence[str]
"""A string, which is cut into tokens, or the tokens."""


class ELMoModule(nn.Module):
    """A pretrained language model that tasks and embedding build on (Peters et al. 2018).

    Frozen at first: no gradients, no dropout, also after ``train()``; see :meth:`unfreeze`.

    :ivar word_cache: vectors of words that were seen before, while the model is frozen; its size and hit rate can be
        read, and ``elmo.word_cache = WordCache(max_bytes)`` makes it larger, smaller or, with 0, none.
    """

    def __init__(
        self,
        bilm: BiLM,
        tokenizer: SentenceTokenizer,
        indexer: TokenIndexer | None = None,
        vocabulary: Vocabulary | None = None,
        precision: Precision = "32-true",
    ) -> None:
        """Initialise.

        :param indexer: how the model reads tokens; ``None`` for bytes.
        :param vocabulary: words of its text with their counts, where they are known.
        :param precision: of the matrix products.
        :raises InputError: the model and the indexer do not belong together, or there is no such precision.
        """
        super().__init__()
        self.bilm = bilm
        self.tokenizer = tokenizer
        self.indexer = indexer or ByteIndexer()
        self.vocabulary = vocabulary
        self.storage_dtype = torch.float32
        """Dtype of the weights in a model folder that is written."""
        if len(bilm.token_encoder.table) != self.indexer.n_ids:
            raise InputError(
                f"the model knows {len(bilm.token_encoder.table)} ids and its indexer gives {self.indexer.n_ids}: they "
                "do not belong together"
            )
        self.word_cache = WordCache()
        self.precision = precision
        self._carried = CarriedState()
        self._is_frozen = False
        self.freeze()

    @property
    def n_layers(self) -> int:
        """L: the token layer and each LSTM layer."""
        return self.bilm.config.n_layers + 1

    @property
    def size(self) -> int:
        """Width of a vector: 2 P, forward and backward."""
        return 2 * self.bilm.config.projection_size

    @property
    def precision(self) -> Precision:
        """Of the matrix products: ``32-true``, or ``bf16-mixed``, up to twice as fast where the machine has bfloat16.

        A vector in ``bf16-mixed`` has a cosine above 0.9995 with that in ``32-true``.
        """
        return self._precision

    @precision.setter
    def precision(self, precision: Precision) -> None:
        check_precision(precision)
        self._precision = precision
        self.word_cache.clear()

    def freeze(self) -> Self:
        """Keep the weights as they are: no gradients and no dropout."""
        self._is_frozen = True
        self.requires_grad_(False)
        self.bilm.eval()
        self.word_cache.clear()
        return self

    def unfreeze(self, *, n_layers: int | None = None) -> Self:
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
        self.storage_dtype = torch.float32  # half precision would lose what training adds
        self._is_frozen = False
        stacks = (self.bilm.forward_stack, self.bilm.backward_stack)
        for layer in [layer for stack in stacks for layer in stack.layers[-n_layers:]]:
            layer.requires_grad_(True)
        if n_layers == self.n_layers:
            self.requires_grad_(True)
        self.bilm.train(self.training)
        return self

    def train(self, mode: bool = True) -> Self:
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
        return encode(self.tokenise(sentences), self.indexer)

    def forward(self, ids: TokenIds, *, carry_state: bool = False) -> tuple[Tensor, Tensor]:
        """Compute all layers.

        Each sentence starts from zero state and is read between ``<S>`` and ``</S>``, whose own vectors are left out.

        :param ids: what :meth:`to_ids` gives.
        :param carry_state: start each sentence from the state in which that of the same row ended in the call before,
            as AllenNLP and bilm-tf do; see :meth:`reset_state`. States have no gradients.
        :raises InputError: it is something else.
        :returns: the layers, (L, B, T, 2 P), zero behind the end of a sentence: the token vector twice, then the
            forward and backward output of each LSTM layer; and a mask (B, T), true where there is a token.
        """
        if not isinstance(ids, TokenIds):
            raise InputError(f"ELMo takes what its to_ids() gives, not {type(ids).__name__}; for vectors see embed()")
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._is_frozen), self._products():
            return self._layers(ids, carry_state=carry_state)

    def _products(self) -> AbstractContextManager[Any]:
        """Compute the products of a block in the module's precision; an autocast around it may ask for a lower one."""
        return nullcontext() if self.precision == "32-true" else products_in(self.precision, self.bilm.device)

    def reset_state(self) -> None:
        """Forget the states of the rows that calls with ``carry_state`` left."""
        self._carried.reset()

    def _layers(self, ids: TokenIds, *, carry_state: bool) -> tuple[Tensor, Tensor]:
        words = self._encode_words(ids.unique_words)
        ids = TokenIds(*(part.to(self.bilm.device) for part in ids))
        packed = pack(ids, reads_both_marks=carry_state)
        n_rows = len(packed.order)
        state = self._carried.before(self.bilm, packed.order) if carry_state else self.bilm.zero_state(n_rows)
        forward_layers, backward_layers, after = self.bilm.run(
            words, packed.forward_inputs, packed.backward_inputs, packed.batch_sizes, state
        )
        if carry_state:
            self._carried.keep(after, packed.order)
        layers = torch.stack(
            [
                torch.cat([F.embedding(packed.forward_places, f), F.embedding(packed.backward_places, b)], dim=-1)
                for f, b in zip(forward_layers, backward_layers, strict=True)
            ]
        )
        return layers * packed.mask.unsqueeze(-1), packed.mask

    def _encode_words(self, unique_words: Tensor) -> Tensor:
        """Return the vectors of distinct words, (U, P), those seen before from the cache."""
        uses_cache = self._is_frozen and self.word_cache.max_bytes > 0 and not isinstance(self.indexer, WordIndexer)
        if not uses_cache:
            encoded: Tensor = self.bilm.token_encoder(unique_words)
            return encoded
        with products_in(self.precision, self.bilm.device):  # the same vector, whoever asks for it first
            return self.word_cache.encode(unique_words.cpu(), self.bilm.token_encoder, padding=self.indexer.padding)

    def encode_forms(self, tokens: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the vectors of the marks and the distinct words of some tokens, and the index of each token."""
        ids = encode([tokens], self.indexer)
        return self._encode_words(ids.unique_words), ids.tokens[0].to(self.bilm.device)

    def tokenise(self, sentences: Iterable[Sentence]) -> list[list[str]]:
        """Return the tokens of sentences; strings are cut as the text of the model was.

        :raises InputError: ``sentences`` is one string, or a sentence is neither a string nor tokens.
        """
        if isinstance(sentences, str):
            raise InputError("one string was given where a list of sentences was expected; for one sentence: [text]")
        if not isinstance(sentences, Iterable):
            raise InputError(f"a list of sentences was expected, not {type(sentences).__name__}")
        return [self.tokens_of(sentence, number) for number, sentence in enumerate(sentences)]

    def tokens_of(self, sentence: Sentence, number: int) -> list[str]:
        """Return the tokens of one sentence.

        :param number: what a message calls it.
        :raises InputError: it is neither a string nor tokens.
        """
        if not isinstance(sentence, Iterable):
            raise InputError(f"sentence {number}: expected a string or tokens, not {type(sentence).__name__}")
        tokens = self.tokenizer.tokens(sentence) if isinstance(sentence, str) else list(sentence)
        if not all(isinstance(token, str) for token in tokens):
            raise InputError(f"sentence {number}: tokens must be strings, or the sentence a string")
        return tokens
