"""Token encoders: character CNN with highway layers (Kim et al. 2016; ELMo section 3.4), or a table of word vectors.

They encode each distinct word of a batch once. The convolutions of all widths are one matrix product of each position's
window, as wide as the widest filter, with all filters, the narrower ones padded with zeros.

Shapes: U words, C characters, E size of a character, W widest filter, F filters, P projection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.nn import MAX_CHARACTERS
from elmolite.nn.packed_linear import (
    LinearOp,
    TorchLinear,
    WeightCache,
    compute_dtype,
    linear_op,
    min_reproducible_rows,
    needs_grad,
    vector_dtype,
)
from elmolite.nn.threads import in_threads

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "tanh": torch.tanh}
WORDS_AT_ONCE = 128
"""Words whose characters are convolved at once on the CPU: more need more memory, fewer are slower."""
MakeLinear = Callable[[Tensor, Tensor | None], LinearOp]


class Highway(nn.Module):
    """Highway layer (Srivastava et al. 2015): ``g * relu(W x + b) + (1 - g) * x`` with ``g = sigmoid(V x + c)``."""

    def __init__(self, *, size: int) -> None:
        super().__init__()
        self.transform = nn.Linear(size, size)
        self.gate = nn.Linear(size, size)
        nn.init.normal_(self.transform.weight, std=size**-0.5)
        nn.init.normal_(self.gate.weight, std=size**-0.5)
        nn.init.zeros_(self.transform.bias)
        nn.init.constant_(self.gate.bias, -2.0)  # initially carry the input

    def forward(self, x: Tensor) -> Tensor:
        """Map (U, F) to (U, F)."""
        return self.apply_ops(self.transform, self.gate, x)

    @staticmethod
    def apply_ops(transform: LinearOp, gate: LinearOp, x: Tensor) -> Tensor:
        """Map (U, F) to (U, F) with the given linear operations."""
        return torch.lerp(x, torch.relu(transform(x)), torch.sigmoid(gate(x)))


class _Ops(NamedTuple):
    """Embedding tables and linear operations of a character CNN."""

    characters: Tensor
    words: Tensor | None
    convolution: LinearOp  # (windows, W E) -> (windows, F)
    highways: list[tuple[LinearOp, LinearOp]]
    projection: LinearOp | None


class CharacterCNN(nn.Module):
    """Character CNN: embedding, convolutions, max pooling, activation, highway layers, projection."""

    def __init__(
        self,
        *,
        n_ids: int,
        embedding_size: int,
        filters: Sequence[tuple[int, int]],
        activation: str,
        n_highway_layers: int,
        projection_size: int | None,
        n_word_ids: int = 0,
        word_embedding_size: int = 0,
        padding: int,
    ) -> None:
        """Initialise the weights.

        :param n_ids: number of character ids.
        :param filters: (width, number of filters) of each convolution.
        :param projection_size: P; ``None`` for no projection.
        :param n_word_ids: number of word ids if each row begins with one (ELMoForManyLangs), else 0.
        :param word_embedding_size: of each word id; the vector is concatenated before the character features.
        :param padding: character id that pads the rows.
        """
        super().__init__()
        n_filters = sum(count for _, count in filters)
        self.padding = padding
        self.word_embedding = nn.Embedding(n_word_ids, word_embedding_size) if n_word_ids else None
        self.embedding = nn.Embedding(n_ids, embedding_size)
        self.convolutions = nn.ModuleList(_convolution(embedding_size, count, width) for width, count in filters)
        self.max_width = max(width for width, _ in filters)
        self.activation = ACTIVATIONS[activation]
        self.highways = nn.ModuleList(Highway(size=n_filters) for _ in range(n_highway_layers))
        n_features = n_filters + word_embedding_size
        self.projection = nn.Identity() if projection_size is None else nn.Linear(n_features, projection_size)
        self._packed: WeightCache[_Ops] = WeightCache()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise embedding and projection as bilm-tf does."""
        nn.init.uniform_(self.embedding.weight[1:], -1.0, 1.0)
        nn.init.zeros_(self.embedding.weight[:1])  # of padded tokens
        if isinstance(self.projection, nn.Linear):
            nn.init.normal_(self.projection.weight, std=self.projection.in_features**-0.5)
            nn.init.zeros_(self.projection.bias)

    @property
    def table(self) -> Tensor:
        """The embedding of each character id."""
        return self.embedding.weight

    def use_sparse_gradients(self) -> list[str]:
        """Return no names: the table of characters is small, and its gradient stays dense."""
        return []

    def forward(self, characters: Tensor) -> Tensor:
        """Encode words.

        :param characters: ids of the characters, (U, C), or of the word and its characters, (U, 1 + C). Columns that
            are all padding may be trimmed. Words whose ids are on the CPU are encoded in groups of similar length.
        :returns: (U, P).
        """
        weights = list(self.parameters())
        if needs_grad(*weights):
            self._packed.clear()
            ops = self._ops(TorchLinear, TorchLinear, dtype=None)
        else:
            dtype = compute_dtype(self.table)
            make_highway = partial(linear_op, dtype=dtype)
            make = partial(make_highway, is_sensitive=True)
            ops = self._packed.get(weights, dtype, lambda: self._ops(make, make_highway, vector_dtype(dtype)))
        if characters.device.type != "cpu" or not len(characters):
            return self._encode(characters, ops)
        lengths = characters.shape[1] - (characters != self.padding).int().flip(1).argmax(dim=1)
        order = lengths.argsort(stable=True)
        groups = [
            partial(self._encode_group, characters[rows, : int(lengths[rows[-1]])], ops)
            for rows in order.split(WORDS_AT_ONCE)  # type: ignore[no-untyped-call]
        ]
        has_threads = self.table.device.type == "cpu" and not needs_grad(*weights)
        encoded = in_threads(groups) if has_threads else [encode() for encode in groups]
        return torch.cat(encoded).index_select(0, order.argsort().to(self.table.device))

    def _encode_group(self, characters: Tensor, ops: _Ops) -> Tensor:
        """Encode words, repeating one if there are few, so that a vector does not depend on the number of words."""
        n_words, n_min = len(characters), min_reproducible_rows(self.table.device, compute_dtype(self.table))
        if n_words < n_min:
            characters = torch.cat([characters, characters[:1].expand(n_min - n_words, -1)])
        return self._encode(characters.to(self.table.device), ops)[:n_words]

    def _ops(self, make: MakeLinear, make_highway: MakeLinear, dtype: torch.dtype | None) -> _Ops:
        """Make the linear operations; convert the tables to ``dtype`` unless it is ``None``."""
        highways = [cast("Highway", highway) for highway in self.highways]
        projection = self.projection
        words = None if self.word_embedding is None else self.word_embedding.weight.to(dtype=dtype)
        return _Ops(
            self.table.to(dtype=dtype),
            words,
            make(*self._widest_convolution()),
            [
                (
                    make_highway(each.transform.weight, each.transform.bias),
                    make_highway(each.gate.weight, each.gate.bias),
                )
                for each in highways
            ],
            make(projection.weight, projection.bias) if isinstance(projection, nn.Linear) else None,
        )

    def _widest_convolution(self) -> tuple[Tensor, Tensor]:
        """Return all filters padded to the widest, (F, W E), and their biases, (F)."""
        # The view makes each gradient contiguous like its weight, which DDP requires.
        weights = [each.weight.flatten().view(each.weight.shape) for each in self._typed_convolutions()]
        widened = torch.cat([F.pad(weight, (0, self.max_width - weight.shape[2])) for weight in weights])
        biases = [cast("Tensor", convolution.bias) for convolution in self._typed_convolutions()]
        return widened.transpose(1, 2).flatten(1), torch.cat(biases)

    def _typed_convolutions(self) -> list[nn.Conv1d]:
        """Return the convolutions with their type, which ModuleList does not keep."""
        return [cast("nn.Conv1d", convolution) for convolution in self.convolutions]

    def _encode(self, characters: Tensor, ops: _Ops) -> Tensor:
        if ops.words is not None:
            words, characters = characters[:, 0], characters[:, 1:]
        x = self.activation(self._pooled(characters, ops))
        for transform, gate in ops.highways:
            x = Highway.apply_ops(transform, gate, x)
        if ops.words is not None:
            x = torch.cat([F.embedding(words, ops.words), x], dim=1)
        if ops.projection is not None:
            x = ops.projection(x)
        return x.to(self.table.dtype)

    def _pooled(self, characters: Tensor, ops: _Ops) -> Tensor:
        """Return the maximum of each filter over the positions of a full row of characters, (U, F)."""
        n_words, n_columns = characters.shape
        n_positions = min(n_columns + 1, MAX_CHARACTERS)  # after the word all windows are equal: one is enough
        n_padding = n_positions + self.max_width - 1 - n_columns
        embedded = F.embedding(F.pad(characters, (0, n_padding), value=self.padding), ops.characters)  # (U, C, E)
        size = embedded.shape[2]
        windows = embedded.flatten(1).unfold(1, self.max_width * size, size)  # (U, positions, W E)
        convolved = ops.convolution(windows.flatten(0, 1)).view(n_words, n_positions, -1)
        if n_positions > MAX_CHARACTERS - self.max_width + 1:
            convolved = convolved.masked_fill(self._beyond_end(n_positions, convolved.device), -torch.inf)
        channels_last = convolved.unsqueeze(2).permute(0, 3, 1, 2)  # (U, F, positions, 1)
        return F.max_pool2d(channels_last, (n_positions, 1)).flatten(1)

    def _beyond_end(self, n_positions: int, device: torch.device) -> Tensor:
        """Tell for each position and filter, (positions, F), whether its window exceeds a full row of characters."""
        counts = [(each.out_channels, each.kernel_size[0]) for each in self._typed_convolutions()]
        widths = torch.cat([torch.full((count,), width, device=device) for count, width in counts])  # without a copy
        return torch.arange(n_positions, device=device).unsqueeze(1) + widths > MAX_CHARACTERS


def _convolution(n_channels: int, n_filters: int, width: int) -> nn.Conv1d:
    convolution = nn.Conv1d(n_channels, n_filters, width)
    nn.init.uniform_(convolution.weight, -0.05, 0.05)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return convolution


class WordEncoder(nn.Module):
    """Table of word vectors, for models that read words; out-of-vocabulary words share the vector of ``<UNK>``."""

    def __init__(self, *, n_ids: int, projection_size: int) -> None:
        super().__init__()
        self.sparse = False
        """As in ``nn.Embedding``: whether the gradient of the table is sparse."""
        self.weight = nn.Parameter(torch.empty(n_ids, projection_size))
        nn.init.normal_(self.weight, std=projection_size**-0.5)

    @property
    def table(self) -> Tensor:
        """The vector of each id, (V, P)."""
        return self.weight

    def use_sparse_gradients(self) -> list[str]:
        """Give the table sparse gradients; return its name."""
        self.sparse = True
        return ["weight"]

    def forward(self, words: Tensor) -> Tensor:
        """Look up ids (U, 1) as (U, P)."""
        return F.embedding(words.squeeze(1).to(self.weight.device), self.weight, sparse=self.sparse)
