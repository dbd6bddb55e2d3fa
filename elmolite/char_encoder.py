"""Characters of a word -> its vector: character CNN, highway layers, projection (Kim et al. 2016; ELMo section 3.4).

Each distinct word of a batch comes here once. Shapes: U words, C characters, F filters, P projection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.char_encoder_inference import PreparedCharacterEncoder
from elmolite.prepared_weights import Prepared, product_dtype, wants_gradients
from elmolite.token_indexers import MAX_CHARACTERS, PADDING

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "tanh": torch.tanh}


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
        return torch.lerp(x, torch.relu(self.transform(x)), torch.sigmoid(self.gate(x)))


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
        padding: int = PADDING,
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
        self._prepared: Prepared[PreparedCharacterEncoder] = Prepared()
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

    def typed_convolutions(self) -> list[nn.Conv1d]:
        """Return the convolutions as what they are; a ModuleList has forgotten it."""
        return [cast("nn.Conv1d", convolution) for convolution in self.convolutions]

    def typed_highways(self) -> list[Highway]:
        """Return the highway layers likewise."""
        return [cast("Highway", highway) for highway in self.highways]

    def forward(self, characters: Tensor) -> Tensor:
        """Encode words.

        :param characters: ids, (U, C); or of the word and its characters, (U, 1 + C). Columns that are missing up to
            50 count as padding, so that callers may trim them: beyond the longest word, one window of padding gives
            all that the others would.
        :returns: (U, P).
        """
        weights = list(self.parameters())
        if not wants_gradients(*weights):
            dtype = product_dtype(self.embedding.weight)
            return self._prepared.get(weights, dtype, lambda: PreparedCharacterEncoder(self, dtype))(characters)
        if self.word_embedding is not None:
            words, characters = characters[:, 0], characters[:, 1:]
        n_columns = characters.shape[1]
        n_padding = min(self.max_width, MAX_CHARACTERS - n_columns)
        embedded = self.embedding(F.pad(characters, (0, n_padding), value=self.padding))  # (U, C, E)
        embedded = embedded.transpose(1, 2).contiguous()  # (U, E, C)
        pooled = [_max_over_positions(convolution(embedded)) for convolution in self.convolutions]
        x = self.activation(torch.cat(pooled, dim=1))
        for highway in self.highways:
            x = highway(x)
        if self.word_embedding is not None:
            x = torch.cat([self.word_embedding(words), x], dim=1)
        return self.projection(x)  # type: ignore[no-any-return]


def _convolution(n_channels: int, n_filters: int, width: int) -> nn.Conv1d:
    convolution = nn.Conv1d(n_channels, n_filters, width)
    nn.init.uniform_(convolution.weight, -0.05, 0.05)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return convolution


def _max_over_positions(x: Tensor) -> Tensor:
    """Reduce (U, filters, C) to (U, filters)."""
    return F.max_pool1d(x, x.shape[2]).squeeze(2)
