"""The character encoder of :mod:`elmolite.char_encoder` without gradients, of products with prepared weights alone.

The convolutions of all widths are one product: each position's window of the widest filter with all filters, the
narrower ones filled up with zeros. Shapes: U words, C characters, E size of a character, W widest filter, F filters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.prepared_weights import Product, product
from elmolite.token_indexers import MAX_CHARACTERS

if TYPE_CHECKING:
    from elmolite.char_encoder import CharacterEncoder, Highway


class PreparedCharacterEncoder:
    """Word vectors from characters."""

    def __init__(self, encoder: CharacterEncoder, dtype: torch.dtype) -> None:
        """Prepare.

        :param dtype: of the products, and of what is between them.
        """
        self._padding = encoder.padding
        self._max_width = encoder.max_width
        self._activation = encoder.activation
        self._table = encoder.embedding.weight.detach().to(dtype)
        self._word_table = None if encoder.word_embedding is None else encoder.word_embedding.weight.detach().to(dtype)
        convolutions = encoder.typed_convolutions()
        self._widths = [convolution.kernel_size[0] for convolution in convolutions]
        self._counts = [convolution.out_channels for convolution in convolutions]
        widened = [F.pad(each.weight, (0, self._max_width - each.weight.shape[2])) for each in convolutions]
        weight = torch.cat(widened).transpose(1, 2).flatten(1)  # (F, W E)
        self._convolution = product(
            weight, torch.cat([cast("Tensor", each.bias) for each in convolutions]), dtype=dtype
        )
        self._highways = [_PreparedHighway(highway, dtype) for highway in encoder.typed_highways()]
        projection = encoder.projection
        self._projection: Product | nn.Module = projection
        if isinstance(projection, nn.Linear):
            self._projection = product(projection.weight, projection.bias, dtype=dtype)
        self._dtype = encoder.embedding.weight.dtype

    def __call__(self, characters: Tensor) -> Tensor:
        """Encode words, as :meth:`CharacterEncoder.forward` does."""
        if self._word_table is not None:
            words, characters = characters[:, 0], characters[:, 1:]
        x = self._activation(self._pooled(characters))
        for highway in self._highways:
            x = highway(x)
        if self._word_table is not None:
            x = torch.cat([F.embedding(words, self._word_table), x], dim=1)
        vectors: Tensor = self._projection(x).to(self._dtype)
        return vectors

    def _pooled(self, characters: Tensor) -> Tensor:
        """Return the maximum of each filter over the positions at which it fits into 50 characters, (U, F)."""
        n_words, n_columns = characters.shape
        n_positions = min(n_columns + 1, MAX_CHARACTERS)  # behind the word all windows are alike: one is enough
        n_padding = n_positions + self._max_width - 1 - n_columns
        embedded = F.embedding(F.pad(characters, (0, n_padding), value=self._padding), self._table)  # (U, C, E)
        size = embedded.shape[2]
        windows = embedded.flatten(1).unfold(1, self._max_width * size, size)  # (U, positions, W E)
        convolved = self._convolution(windows.flatten(0, 1)).view(n_words, n_positions, -1)
        for width, filters in zip(self._widths, torch.split(convolved, self._counts, dim=2), strict=True):
            filters[:, MAX_CHARACTERS - width + 1 :] = -torch.inf
        return convolved.amax(dim=1)


class _PreparedHighway:
    """Both products of a highway layer in one."""

    def __init__(self, highway: Highway, dtype: torch.dtype) -> None:
        weight = torch.cat([highway.transform.weight, highway.gate.weight])
        bias = torch.cat([highway.transform.bias, highway.gate.bias])
        self._product = product(weight, bias, dtype=dtype)

    def __call__(self, x: Tensor) -> Tensor:
        transformed, gate = self._product(x).chunk(2, dim=1)
        return torch.lerp(x, transformed.relu_(), gate.sigmoid_())
