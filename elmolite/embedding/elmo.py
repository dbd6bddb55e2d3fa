"""Contextual word vectors from a pretrained language model: :class:`ELMo`.

Shapes: B sentences, T tokens, U distinct words, C characters, L layers (the token layer and each recurrent layer),
P projection.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from elmolite.checkpoint import SOFTMAX_FILE, Checkpoint
from elmolite.data.indexers import ByteIndexer, TokenIndexer, WordIndexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import Vocabulary
from elmolite.embedding.batching import (
    BATCH_TOKENS,
    GPU_BATCH_TOKENS,
    LayerSelection,
    StateCache,
    TokenIds,
    batches_by_length,
    embed_in_windows,
    encode,
    n_recurrent_layers,
    pack,
    select_layers,
)
from elmolite.embedding.pooling import CommonComponent, Pooling, WordWeights, cosine, pool
from elmolite.embedding.word_cache import WordCache
from elmolite.errors import InputError, check_choice
from elmolite.hub import model_folder
from elmolite.nn.bilm import BiLM
from elmolite.nn.config import BiLMConfig
from elmolite.nn.packed_linear import int8_engine, products_in
from elmolite.utils.config import EmbeddingPrecision
from elmolite.utils.console import ProgressBar
from elmolite.utils.files import json_line
from elmolite.utils.torch import available_device, evaluating

logger = logging.getLogger("elmolite")

READ_AHEAD = 8
"""Batches, of at most :data:`BATCH_TOKENS`, that :meth:`ELMo.embed_iter` reads ahead: more are hardly faster."""
PRODUCT_DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "int8": torch.int8}
Sentence = str | Sequence[str]
"""A string, which the model's tokenizer splits, or a sequence of tokens."""


class AlignedVectors(NamedTuple):
    """Tokens of a string with their character offsets and vectors."""

    tokens: list[str]
    offsets: list[tuple[int, int]]
    """Begin and end of each token in the string."""
    vectors: NDArray[np.float32]
    """As :meth:`ELMo.embed` returns them."""


class ELMo(nn.Module):
    """Contextual word vectors of a pretrained bidirectional language model (Peters et al. 2018).

    Frozen initially: no gradients and no dropout, also after ``train()``; see :meth:`unfreeze`.

    >>> elmo = ELMo.from_pretrained("mini-en")
    >>> elmo
    ELMo(3 layers of 256, 2,996,448 parameters, frozen, precision='32-true', device='cpu')
    >>> elmo.embed(["The children play in the garden."])[0].shape  # layers, tokens, width
    (3, 7, 256)

    :ivar word_cache: vectors of words that were encoded before, while the model is frozen; assign
        ``WordCache(max_bytes)`` to change its size, 0 for no cache.
    """

    def __init__(
        self,
        bilm: BiLM,
        tokenizer: SentenceTokenizer | None = None,
        indexer: TokenIndexer | None = None,
        vocabulary: Vocabulary | None = None,
        precision: EmbeddingPrecision = "32-true",
    ) -> None:
        """Initialise from the parts of a model; :meth:`from_pretrained` loads one by its name.

        :param tokenizer: splits strings into tokens; ``None`` for :meth:`SentenceTokenizer.english`.
        :param indexer: converts tokens to ids; bytes by default.
        :param vocabulary: words of the training text with their counts, if known.
        :param precision: of the matrix products, see :attr:`precision`.
        """
        super().__init__()
        if not isinstance(bilm, BiLM):
            raise InputError(f"ELMo() takes a BiLM; to load a model use ELMo.from_pretrained({bilm!r})")
        self.bilm = bilm
        self.tokenizer = tokenizer or SentenceTokenizer.english()
        self.indexer = indexer or ByteIndexer()
        self.vocabulary = vocabulary
        self.storage_dtype = torch.float32
        """Default dtype of :meth:`save_pretrained`."""
        if len(bilm.token_encoder.table) != self.indexer.n_ids:
            raise InputError(
                f"model and indexer do not match: the model has {len(bilm.token_encoder.table)} ids, the indexer "
                f"{self.indexer.n_ids}"
            )
        self.word_cache = WordCache()
        self._source: str | Path | None = None  # where from_pretrained found the model
        self._states = StateCache()
        self._is_frozen = False
        self.freeze()
        self.precision = precision

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        weights: str | Path | None = None,
        *,
        precision: EmbeddingPrecision = "32-true",
        device: str | torch.device | None = None,
    ) -> Self:
        """Load a model of elmolite or of an earlier system.

        >>> elmo = ELMo.from_pretrained("mini-en", device="cpu")
        >>> elmo.config.cell_size
        512

        :param source: a model folder, the name of a model that comes with the package, such as "mini-en", or of one on
            the Hugging Face Hub; or an earlier model: a folder or zip archive with the options and weights of AllenNLP,
            bilm-tf or the NLPL repository, one of these files, or a folder of ELMoForManyLangs.
        :param weights: the HDF5 file, if ``source`` is an options file in another folder.
        :param precision: of the matrix products, see :attr:`precision`.
        :param device: device of the model, such as "cuda"; the CPU by default.
        :raises InputError: there is no such model, or a file is missing, truncated or damaged; the message names it.
        """
        checkpoint = Checkpoint.from_pretrained(source, weights, with_softmax=False)
        parts = (checkpoint.bilm, checkpoint.tokenizer, checkpoint.indexer, checkpoint.vocabulary)
        elmo = cls(*parts, precision=precision).eval()
        elmo.storage_dtype = checkpoint.storage_dtype
        elmo._source = source if weights is None else None
        return elmo if device is None else elmo.to(available_device(device))

    def __repr__(self) -> str:
        state = "frozen" if self._is_frozen else "trainable"
        return (
            f"ELMo({self.n_layers} layers of {self.size}, {self.bilm.n_parameters:,} parameters, {state}, "
            f"precision={self.precision!r}, device={str(self.device)!r})"
        )

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None, overwrite: bool = False) -> None:
        """Write a model folder without a softmax, which embedding does not need.

        >>> elmo.save_pretrained("mine")
        >>> ELMo.from_pretrained("mine").fingerprint() == elmo.fingerprint()
        True

        :param dtype: of the weights on disk; by default that of the folder the model was loaded from, or float32 after
            :meth:`unfreeze`.
        :param overwrite: replace an earlier model folder, which stays as it was if this fails.
        """
        self._checkpoint().save_pretrained(folder, dtype=dtype, overwrite=overwrite)

    def push_to_hub(self, name: str, *, is_private: bool = False, message: str | None = None) -> str:
        """Upload the model and a model card to the Hugging Face Hub; see :meth:`Checkpoint.push_to_hub`.

        The softmax of the folder that the model was loaded from is uploaded too, if the weights have not changed.

        :param name: ``owner/model``.
        :returns: the URL.
        """
        checkpoint = self._checkpoint()
        if (source := self._unchanged_source()) is not None:
            words, record = source.vocabulary, source.training
            checkpoint = replace(checkpoint, softmax=source.softmax, vocabulary=words, training=record)
        return checkpoint.push_to_hub(name, is_private=is_private, message=message)

    def _unchanged_source(self) -> Checkpoint | None:
        """Return the model that this one was loaded from, if it has a softmax and the same weights."""
        if self._source is None or Path(self._source).is_file():
            return None
        folder = model_folder(self._source)
        if not (folder / SOFTMAX_FILE).is_file():
            return None
        checkpoint = Checkpoint.from_pretrained(folder)
        pairs = zip(checkpoint.bilm.parameters(), self.bilm.parameters(), strict=True)
        return checkpoint if all(torch.equal(theirs, ours.cpu()) for theirs, ours in pairs) else None

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            self.bilm, self.tokenizer, self.indexer, vocabulary=self.vocabulary, storage_dtype=self.storage_dtype
        )

    def fingerprint(self) -> str:
        """Return a hash of everything the vectors depend on: weights, sizes, ids and precision."""
        digest = hashlib.sha256(
            json_line([asdict(self.bilm.config), self.indexer.reads, self.indexer.names(), self.precision])
        )
        for name, tensor in self.state_dict().items():
            digest.update(json_line([name, str(tensor.dtype), list(tensor.shape)]))
            digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @property
    def config(self) -> BiLMConfig:
        """Sizes of the language model."""
        return self.bilm.config

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.bilm.device

    @property
    def n_layers(self) -> int:
        """L: the token layer and each recurrent layer."""
        return self.bilm.config.n_layers + 1

    @property
    def size(self) -> int:
        """Width of a vector: 2 P, forward and backward."""
        return 2 * self.bilm.config.projection_size

    @property
    def precision(self) -> EmbeddingPrecision:
        """Precision of the matrix products: ``32-true``, ``bf16-mixed`` or ``int8``.

        ``bf16-mixed`` is up to twice as fast with native bfloat16. A vector has a cosine above 0.9995 with that in
        ``32-true``.

        ``int8`` is for a frozen model on a CPU. Large weights of the highway layers and of the gates are in int8 with a
        scale for each output, inputs with a range for each row, so that other sentences have no part in it. Other
        weights are in float32 or, if they are large, in float16. A vector has a cosine above 0.999 with that in
        ``32-true``, and with that of its sentence alone: the number of sentences selects the products.
        """
        return self._precision

    @precision.setter
    def precision(self, precision: EmbeddingPrecision) -> None:
        check_choice("precision", precision, get_args(EmbeddingPrecision))
        if precision == "int8":
            self._check_int8()
        self._precision = precision
        self.word_cache.clear()

    def freeze(self) -> Self:
        """Disable gradients and dropout."""
        self._is_frozen = True
        self.requires_grad_(False)
        self.bilm.eval()
        self.word_cache.clear()
        return self

    def unfreeze(self, *, n_layers: int | None = None) -> Self:
        """Enable gradients, and dropout in training mode.

        >>> tuned = ELMo.from_pretrained("mini-en").unfreeze(n_layers=1)
        >>> sorted({name.split(".")[-1] for name, weight in tuned.named_parameters() if weight.requires_grad})
        ['bias', 'input_weight', 'projection_weight', 'recurrent_weight']

        :param n_layers: number of layers, from the top, that get gradients; all L by default, 0 to :meth:`freeze`.
        """
        n_layers = self.n_layers if n_layers is None else n_layers
        if not 0 <= n_layers <= self.n_layers:
            raise InputError(f"n_layers must be in [0, {self.n_layers}], got {n_layers}")
        if n_layers and self.precision == "int8":
            raise InputError("a model in precision int8 has no gradients: set precision to 32-true or bf16-mixed first")
        self.freeze()
        if n_layers == 0:
            return self
        self.storage_dtype = torch.float32  # half precision would lose small updates
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
        """Encode sentences on the CPU, for instance in the workers of a ``DataLoader``.

        >>> ids = elmo.to_ids(["Hello there.", "Hi"])
        >>> ids.lengths
        tensor([3, 1])

        :param sentences: strings, or lists of tokens.
        """
        return encode(self.tokenize(sentences), self.indexer)

    def forward(self, ids: TokenIds, *, carry_state: bool = False) -> tuple[Tensor, Tensor]:
        """Compute all layers.

        Each sentence starts from zero state, between ``<S>`` and ``</S>``, whose own vectors are left out.

        >>> layers, mask = elmo(elmo.to_ids(["Hello there.", "Hi"]))
        >>> layers.shape
        torch.Size([3, 2, 3, 256])
        >>> mask.sum(dim=1)
        tensor([3, 1])

        :param ids: from :meth:`to_ids`.
        :param carry_state: start each row from its final state of the previous call, as AllenNLP and bilm-tf do; see
            :meth:`reset_state`. States have no gradients.
        :returns: the layers, (L, B, T, 2 P), zero at padding: the token vector twice, then the forward and backward
            output of each recurrent layer; and a mask (B, T), true at tokens.
        """
        if not isinstance(ids, TokenIds):
            raise InputError(f"expected the result of to_ids(), got {type(ids).__name__}; for vectors use embed()")
        layers, mask = self._layers(ids, "all", carry_state=carry_state)
        return layers * mask.unsqueeze(-1), mask

    def reset_state(self) -> None:
        """Reset the states that calls with ``carry_state`` left."""
        self._states.reset()

    def _check_int8(self) -> None:
        """Refuse int8 where it cannot be computed."""
        if not self._is_frozen:
            raise InputError("precision int8 has no gradients: choose 32-true or bf16-mixed, or freeze() the model")
        if self.bilm.device.type != "cpu":
            advice = "choose bf16-mixed, or the CPU as device"
            raise InputError(f"precision int8 is for a CPU, got a model on {self.bilm.device}: {advice}")
        if int8_engine() is None:
            raise InputError("precision int8 needs fbgemm or QNNPACK, of which this build of torch has none")

    def _autocast(self) -> AbstractContextManager[Any]:
        """Compute products in the module's precision; an outer autocast may ask for a lower one."""
        if self.precision == "int8":
            self._check_int8()
        return nullcontext() if self.precision == "32-true" else self._products()

    def _products(self) -> AbstractContextManager[None]:
        """Compute products in the module's precision, whatever an outer autocast asks for."""
        return products_in(PRODUCT_DTYPES[self.precision], self.bilm.device)

    def _layers(self, ids: TokenIds, selection: LayerSelection, *, carry_state: bool = False) -> tuple[Tensor, Tensor]:
        """Compute the selected layers, with any values at padding, and the mask."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._is_frozen), self._autocast():
            return self._packed_layers(ids, selection, carry_state=carry_state)

    def _packed_layers(self, ids: TokenIds, selection: LayerSelection, *, carry_state: bool) -> tuple[Tensor, Tensor]:
        words = self._encode_words(ids.unique_words)
        packed = pack(ids, reads_both_marks=carry_state).to(self.bilm.device)
        n_rows = len(packed.order)
        state = self._states.get(self.bilm, packed.order) if carry_state else self.bilm.zero_state(n_rows)
        n_recurrent = n_recurrent_layers(selection)
        *directions, final = self.bilm.run(
            words, packed.forward_inputs, packed.backward_inputs, packed.batch_sizes, state, n_layers=n_recurrent
        )
        if carry_state:
            self._states.update(final, packed.order)
        if selection == "all":
            pairs = zip(*directions, strict=True)
            return torch.stack([packed.unpack(*pair) for pair in pairs]), packed.mask
        # Selected before they are unpacked, which copies them.
        return packed.unpack(*(select_layers(layers, selection) for layers in directions)), packed.mask

    def _encode_words(self, unique_words: Tensor) -> Tensor:
        """Return the vectors of distinct words, (U, P), from the cache if possible."""
        uses_cache = self._is_frozen and self.word_cache.max_bytes > 0 and not isinstance(self.indexer, WordIndexer)
        if not uses_cache:
            encoded: Tensor = self.bilm.token_encoder(unique_words)
            return encoded
        with self._products():
            return self.word_cache.encode(unique_words.cpu(), self.bilm.token_encoder, padding=self.indexer.padding)

    def _encode_tokens(self, tokens: Sequence[str]) -> tuple[Tensor, Tensor]:
        ids = encode([tokens], self.indexer)
        return self._encode_words(ids.unique_words), ids.tokens[0].to(self.bilm.device)

    def tokenize(self, sentences: Iterable[Sentence]) -> list[list[str]]:
        """Return the tokens of sentences; strings are split by the model's tokenizer.

        >>> elmo.tokenize(["Don't play here!"])
        [['Do', "n't", 'play', 'here', '!']]
        """
        _check_sentences(sentences)
        return [self._tokens(sentence, number) for number, sentence in enumerate(sentences)]

    def _tokens(self, sentence: Sentence, number: int) -> list[str]:
        """Return the tokens of one sentence; ``number`` is for messages."""
        if isinstance(sentence, str):
            return self.tokenizer.tokens(sentence)
        if not _is_list(sentence):
            kind = type(sentence).__name__
            raise InputError(f"sentence {number}: expected a string or a list of tokens, got {kind}")
        tokens = list(sentence)
        if not all(issubclass(kind, str) for kind in set(map(type, tokens))):
            raise InputError(f"sentence {number}: tokens must be strings")
        return tokens

    @overload
    def embed(
        self,
        sentences: Sequence[Sentence],
        *,
        layers: LayerSelection = ...,
        batch_tokens: int | None = ...,
        output: Literal["numpy"] = ...,
        carry_state: bool = ...,
        show_progress: bool | None = ...,
    ) -> list[NDArray[np.float32]]: ...

    @overload
    def embed(
        self,
        sentences: Sequence[Sentence],
        *,
        layers: LayerSelection = ...,
        batch_tokens: int | None = ...,
        output: Literal["torch"],
        carry_state: bool = ...,
        show_progress: bool | None = ...,
    ) -> list[Tensor]: ...

    def embed(
        self,
        sentences: Sequence[Sentence],
        *,
        layers: LayerSelection = "all",
        batch_tokens: int | None = None,
        output: Literal["numpy", "torch"] = "numpy",
        carry_state: bool = False,
        show_progress: bool | None = None,
    ) -> list[NDArray[np.float32]] | list[Tensor]:
        """Return the word vectors of sentences; those of a sentence do not depend on the other sentences.

        >>> top, = elmo.embed([["The", "play", "was", "long", "."]], layers="top")
        >>> top.shape
        (5, 256)

        :param sentences: strings, which the model's tokenizer splits, or lists of tokens.
        :param layers: ``"all"``, ``"top"``, ``"average"`` or the index of a layer (0 is the token layer).
        :param batch_tokens: maximum tokens of a batch, padding included; by default 4,096, and 16,384 on a GPU. A
            longer sentence is computed in windows of as many tokens, with carried state. If a GPU runs out of memory,
            the number is halved.
        :param output: numpy arrays, or tensors on the model's device.
        :param carry_state: behave as AllenNLP and bilm-tf: the sentences are one batch, whatever ``batch_tokens`` is,
            and each starts from the final state of the sentence with the same index in the previous call; see
            :meth:`reset_state`.
        :param show_progress: show a progress bar; by default if the call takes more than five seconds.
        :returns: for each sentence, in order, (L, tokens, 2 P) for ``"all"`` and (tokens, 2 P) otherwise, float32.
        """
        tokenized = self.tokenize(sentences)
        batch_tokens = self.check_options(layers, batch_tokens)
        if output not in ("numpy", "torch"):
            raise InputError(f"output must be 'numpy' or 'torch', got {output!r}")
        device = torch.device("cpu") if output == "numpy" else self.bilm.device
        results: dict[int, Tensor] = {}
        n_tokens = sum(map(len, tokenized))
        with (
            evaluating(self),
            torch.no_grad(),
            ProgressBar("embedding", unit="tokens", total=n_tokens, show=show_progress) as bar,
        ):
            if carry_state:
                vectors, _ = self(encode(tokenized, self.indexer), carry_state=True)
                results = _rows(select_layers(vectors, layers), tokenized, range(len(tokenized)), device)
            else:
                for found in self._embed_in_batches(tokenized, layers, batch_tokens, device):
                    results |= found
                    bar.update(sum(len(tokenized[i]) for i in found))
        in_order = [results[i] for i in range(len(tokenized))]
        return [tensor.numpy() for tensor in in_order] if output == "numpy" else in_order

    def _embed_in_batches(
        self, tokenized: Sequence[Sequence[str]], layers: LayerSelection, batch_tokens: int, device: torch.device
    ) -> Iterator[dict[int, Tensor]]:
        """Yield the vectors of each batch by sentence index; halve the batches when a GPU runs out of memory."""
        left = set(range(len(tokenized)))
        while left:
            indices = sorted(left)
            try:
                for batch in batches_by_length([len(tokenized[i]) for i in indices], batch_tokens):
                    found = self._embed_batch(tokenized, [indices[i] for i in batch], layers, batch_tokens, device)
                    left -= found.keys()
                    yield found
            except torch.OutOfMemoryError:
                if batch_tokens == 1:
                    raise
                logger.warning("out of memory on %s with batch_tokens=%d; halving it", self.bilm.device, batch_tokens)
                batch_tokens //= 2
                torch.cuda.empty_cache()

    def _embed_batch(
        self,
        tokenized: Sequence[Sequence[str]],
        batch: Sequence[int],
        layers: LayerSelection,
        batch_tokens: int,
        device: torch.device,
    ) -> dict[int, Tensor]:
        sentences = [tokenized[i] for i in batch]
        if len(batch) == 1 and len(sentences[0]) > batch_tokens:
            with self._autocast():
                found = embed_in_windows(self.bilm, sentences[0], layers, batch_tokens, self._encode_tokens, device)
            return {batch[0]: found}
        vectors, _ = self._layers(encode(sentences, self.indexer), layers)
        return _rows(vectors, sentences, batch, device)

    def embed_iter(
        self, sentences: Iterable[Sentence], *, layers: LayerSelection = "all", batch_tokens: int | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the word vectors of a stream of sentences, in the memory of a few batches.

        >>> lines = (f"Sentence {number}." for number in range(1000))
        >>> sum(len(vectors) for vectors in elmo.embed_iter(lines, layers=0))
        3000

        :param sentences: any iterable of strings or lists of tokens, for instance a generator.
        :param layers: as in :meth:`embed`.
        :param batch_tokens: as in :meth:`embed`; more sentences are read ahead, to batch them by length.
        """
        batch_tokens = self.check_options(layers, batch_tokens)
        n_ahead = max(batch_tokens, READ_AHEAD * min(batch_tokens, BATCH_TOKENS))
        _check_sentences(sentences)
        batch: list[list[str]] = []
        n_tokens = 0
        for number, sentence in enumerate(sentences):
            tokens = self._tokens(sentence, number)
            if batch and n_tokens + len(tokens) > n_ahead:
                yield from self.embed(batch, layers=layers, batch_tokens=batch_tokens, show_progress=False)
                batch, n_tokens = [], 0
            batch.append(tokens)
            n_tokens += max(1, len(tokens))
        yield from self.embed(batch, layers=layers, batch_tokens=batch_tokens, show_progress=False)

    def embed_aligned(self, texts: Iterable[str], *, layers: LayerSelection = "all") -> list[AlignedVectors]:
        """Return the tokens of strings with their character offsets and vectors.

        >>> found, = elmo.embed_aligned(["Hi, Ann!"])
        >>> list(zip(found.tokens, found.offsets))
        [('Hi', (0, 2)), (',', (2, 3)), ('Ann', (4, 7)), ('!', (7, 8))]

        :param texts: one sentence each.
        :param layers: as in :meth:`embed`.
        """
        _check_sentences(texts)
        listed = list(texts)
        if not all(isinstance(text, str) for text in listed):
            raise InputError("expected a list of strings, because tokens have no offsets")
        split = [self.tokenizer.tokens_and_offsets(text) for text in listed]
        vectors = self.embed([tokens for tokens, _ in split], layers=layers)
        return [AlignedVectors(*each, found) for each, found in zip(split, vectors, strict=True)]

    def embed_sentences(
        self,
        sentences: Sequence[Sentence],
        *,
        pooling: Pooling = "mean",
        layers: LayerSelection = "average",
        a: float = 1e-3,
        common: CommonComponent | None = None,
        batch_tokens: int | None = None,
        show_progress: bool | None = None,
    ) -> NDArray[np.float32]:
        """Return one vector for each sentence, pooled from those of its tokens.

        >>> elmo.embed_sentences(["The children play.", "It rains."]).shape
        (2, 256)

        :param sentences: as in :meth:`embed`.
        :param pooling: ``mean``, ``max``, or ``weighted``: SIF weights ``a / (a + p(word))`` from the word counts of
            the model (Arora et al. 2017).
        :param layers: as in :meth:`embed`, except ``"all"``.
        :param a: of ``weighted``.
        :param common: component to remove: ``CommonComponent.fit(elmo.embed_sentences(corpus))``.
        :param show_progress: as in :meth:`embed`.
        :returns: (sentences, 2 P), zeros for a sentence without tokens.
        """
        check_choice("pooling", pooling, get_args(Pooling))
        if layers == "all":
            raise InputError("layers must be 'average', 'top' or an index for sentence vectors, got 'all'")
        weights = WordWeights(self.vocabulary, a) if pooling == "weighted" else None
        tokenized = self.tokenize(sentences)
        vectors = self.embed_iter(tokenized, layers=layers, batch_tokens=batch_tokens)
        pooled = np.zeros((len(tokenized), self.size), np.float32)
        n_tokens = sum(map(len, tokenized))
        with ProgressBar("embedding", unit="tokens", total=n_tokens, show=show_progress) as bar:
            for row, tokens, each in zip(pooled, tokenized, vectors, strict=True):
                row[:] = pool(each, pooling, None if weights is None else weights.of(tokens))
                bar.update(len(tokens))
        return pooled if common is None else common.remove(pooled)

    def encode(self, sentences: str | Sequence[Sentence], **options: Any) -> NDArray[np.float32]:
        """Alias of :meth:`embed_sentences`, named as in sentence-transformers.

        >>> elmo.encode("The children play.").shape
        (256,)

        :param options: of :meth:`embed_sentences`.
        :returns: (sentences, 2 P), or (2 P) for a single string.
        """
        if isinstance(sentences, str):
            vector: NDArray[np.float32] = self.embed_sentences([sentences], **options)[0]
            return vector
        return self.embed_sentences(sentences, **options)

    def similarity(self, first: Sentence, second: Sentence, **options: Any) -> float:
        """Return the cosine similarity of two sentences.

        >>> elmo.similarity("The boys play.", "The girls play.") > elmo.similarity("The boys play.", "It rains.")
        True

        :param options: of :meth:`embed_sentences`.
        """
        return cosine(*self.embed_sentences([first, second], **options))

    def check_options(self, layers: LayerSelection, batch_tokens: int | None) -> int:
        """Refuse options that :meth:`embed` does not accept; return the number of tokens of a batch."""
        is_index = isinstance(layers, Integral) and 0 <= layers < self.n_layers
        if not (is_index or layers in ("all", "top", "average")):
            raise InputError(f"layers must be 'all', 'top', 'average' or 0 to {self.n_layers - 1}, got {layers!r}")
        if batch_tokens is None:
            return BATCH_TOKENS if self.device.type == "cpu" else GPU_BATCH_TOKENS
        if batch_tokens < 1:
            raise InputError(f"batch_tokens must be positive, got {batch_tokens}")
        return batch_tokens


def _check_sentences(sentences: Iterable[Sentence]) -> None:
    """Refuse what can be iterated over and is no list of sentences."""
    if isinstance(sentences, str):
        raise InputError("expected a list of sentences, got str; for one sentence: [text]")
    if not _is_list(sentences) or type(sentences).__name__ == "DataFrame":  # iterates over the names of its columns
        raise InputError(f"expected a list of sentences, got {type(sentences).__name__}")


def _is_list(value: Any) -> bool:
    """Tell whether a value is an ordered sequence of items, an iterator included."""
    return isinstance(value, Iterable) and not isinstance(value, Mapping | Set | bytes)


def _rows(
    vectors: Tensor, sentences: Sequence[Sequence[str]], indices: Sequence[int], device: torch.device
) -> dict[int, Tensor]:
    """Return copies of the vectors of sentences by index; a view would keep the whole batch in memory."""
    vectors = vectors.float().to(device)
    rows = zip(indices, sentences, strict=True)
    return {i: vectors[..., row, : len(tokens), :].clone() for row, (i, tokens) in enumerate(rows)}
