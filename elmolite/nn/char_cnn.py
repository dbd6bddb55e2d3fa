"""Characters of a word -> its vector: character CNN, highway layers, projection (Kim et al. 2016; ELMo section 3.4).

Each distinct word of a batch comes here once. The convolutions of all widths are one matrix product: each position's
window of the widest filter with all filters, the narrower ones filled up with zeros.

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
    Prepared,
    Product,
    TorchProduct,
    min_rows,
    product,
    product_dtype,
    wants_gradients,
)

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "tanh": torch.tanh}
WORDS_AT_ONCE = 128
"""Words whose characters are convolved together: more need more memory, fewer are slower."""
MakeProduct = Callable[[Tensor, Tensor | None], Product]


class Highway(nn.Module):
    """Highway layer (Srivastava et al. 2015): ``g * relu(W x + b) + (1 - g) * x`` with ``g = sigmoid(V x + c)``."""

    def __init__(self, *, size: int) -> None:
        super().__init__()
        self.transform = nn.Linear(size, size)
        self.gate = nn.Linear(size, size)
        nn.init.normal_(self.transform.weight, std=size**-0.5)
        nn.init.normal_(self.gate.weight, std=size**-0.5)
        nn.init.zeros_(self.transform.bias)
        nn.init.constant_(self.gate.bias, -2.0)  # carry the input at first

    def forward(self, x: Tensor) -> Tensor:
        """Map (U, F) to (U, F)."""
        return self.through(self.transform, self.gate, x)

    @staticmethod
    def through(transform: Product, gate: Product, x: Tensor) -> Tensor:
        """Map (U, F) to (U, F) with products in the place of the two linear maps."""
        return torch.lerp(x, torch.relu(transform(x)), torch.sigmoid(gate(x)))


class _Products(NamedTuple):
    """The weights of an encoder, as it computes with them."""

    characters: Tensor
    words: Tensor | None
    convolution: Product  # (windows, W E) -> (windows, F)
    highways: list[tuple[Product, Product]]
    projection: Product | None


class CharacterEncoder(nn.Module):
    """Word vectors from characters."""

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
        """Make the weights.

        :param n_ids: number of different character ids.
        :param filters: (width, number of filters) of each convolution.
        :param projection_size: P; ``None`` for no projection.
        :param n_word_ids: number of different ids of words, with which rows begin; 0 where they do not.
        :param word_embedding_size: of the vector of each of them, which stands before the features of the characters.
        :param padding: the id that fills rows of characters up.
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
        self._prepared: Prepared[_Products] = Prepared()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as bilm-tf does; convolutions and highways have done so themselves."""
        nn.init.uniform_(self.embedding.weight[1:], -1.0, 1.0)
        nn.init.zeros_(self.embedding.weight[:1])  # of a padded token
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

        :param characters: ids, (U, C); or of the word and its characters, (U, 1 + C). Columns that are missing up to
            50 count as padding, so that callers may trim them. On the CPU they are encoded in groups of words of like
            length, wherever the weights are; on a GPU together.
        :returns: (U, P).
        """
        weights = list(self.parameters())
        if wants_gradients(*weights):
            self._prepared.clear()
            products = self._products(TorchProduct, dtype=None)
        else:
            dtype = product_dtype(self.table)
            make = partial(product, dtype=dtype)
            products = self._prepared.get(weights, dtype, lambda: self._products(make, dtype))
        if characters.device.type != "cpu" or not len(characters):
            return self._encode(characters, products)
        lengths = characters.shape[1] - (characters != self.padding).int().flip(1).argmax(dim=1)
        order = lengths.argsort(stable=True)
        groups = [
            self._encode_group(characters[rows, : int(lengths[rows[-1]])], products)
            for rows in order.split(WORDS_AT_ONCE)  # type: ignore[no-untyped-call]
        ]
        return torch.cat(groups).index_select(0, order.argsort().to(self.table.device))

    def _encode_group(self, characters: Tensor, products: _Products) -> Tensor:
        """Encode few words as if they were more, so that a vector does not depend on how many they are."""
        n_words, least = len(characters), min_rows(self.table.device, product_dtype(self.table))
        if n_words < least:
            characters = torch.cat([characters, characters[:1].expand(least - n_words, -1)])
        return self._encode(characters.to(self.table.device), products)[:n_words]

    def _products(self, make: MakeProduct, dtype: torch.dtype | None) -> _Products:
        """Bring the weights into the form of products; the tables into a dtype, or leave them as they are."""
        highways = [cast("Highway", highway) for highway in self.highways]
        projection = self.projection
        words = None if self.word_embedding is None else self.word_embedding.weight.to(dtype=dtype)
        return _Products(
            self.table.to(dtype=dtype),
            words,
            make(*self._widest_convolution()),
            [
                (make(each.transform.weight, each.transform.bias), make(each.gate.weight, each.gate.bias))
                for each in highways
            ],
            make(projection.weight, projection.bias) if isinstance(projection, nn.Linear) else None,
        )

    def _widest_convolution(self) -> tuple[Tensor, Tensor]:
        """Return the filters of all widths, as wide as the widest, (F, W E), and their biases, (F)."""
        # Through a vector, so that each gradient comes back in the layout of its weight, as several processes need it.
        weights = [each.weight.flatten().view(each.weight.shape) for each in self._typed_convolutions()]
        widened = torch.cat([F.pad(weight, (0, self.max_width - weight.shape[2])) for weight in weights])
        biases = [cast("Tensor", convolution.bias) for convolution in self._typed_convolutions()]
        return widened.transpose(1, 2).flatten(1), torch.cat(biases)

    def _typed_convolutions(self) -> list[nn.Conv1d]:
        """Return the convolutions as what they are; a ModuleList has forgotten it."""
        return [cast("nn.Conv1d", convolution) for convolution in self.convolutions]

    def _encode(self, characters: Tensor, products: _Products) -> Tensor:
        if products.words is not None:
            words, characters = characters[:, 0], characters[:, 1:]
        x = self.activation(self._pooled(characters, products))
        for transform, gate in products.highways:
            x = Highway.through(transform, gate, x)
        if products.words is not None:
            x = torch.cat([F.embedding(words, products.words), x], dim=1)
        if products.projection is not None:
            x = products.projection(x)
        return x.to(self.table.dtype)

    def _pooled(self, characters: Tensor, products: _Products) -> Tensor:
        """Return the maximum of each filter over the positions at which it fits into 50 characters, (U, F)."""
        n_words, n_columns = characters.shape
        n_positions = min(n_columns + 1, MAX_CHARACTERS)  # behind the word all windows are alike: one is enough
        n_padding = n_positions + self.max_width - 1 - n_columns
        embedded = F.embedding(F.pad(characters, (0, n_padding), value=self.padding), products.characters)  # (U, C, E)
        size = embedded.shape[2]
        windows = embedded.flatten(1).unfold(1, self.max_width * size, size)  # (U, positions, W E)
        convolved = products.convolution(windows.flatten(0, 1)).view(n_words, n_positions, -1)
        if n_positions > MAX_CHARACTERS - self.max_width + 1:
            convolved = convolved.masked_fill(self._beyond_end(n_positions, convolved.device), -torch.inf)
        in_order_of_memory = convolved.unsqueeze(2).permute(0, 3, 1, 2)  # (U, F, positions, 1)
        return F.max_pool2d(in_order_of_memory, (n_positions, 1)).flatten(1)

    def _beyond_end(self, n_positions: int, device: torch.device) -> Tensor:
        """Tell of each position and filter, (positions, F), whether its window is not within 50 characters."""
        each = [torch.full((each.out_channels,), each.kernel_size[0]) for each in self._typed_convolutions()]
        widths = torch.cat(each).to(device)
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
