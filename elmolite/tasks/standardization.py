"""Vectors of any scale -> vectors whose numbers each have mean 0 and standard deviation 1 over the words of training.

The layers of a language model differ in scale, and in each all words share a large part: without pretraining nearly
all of it, so that any two words look alike. A head would have to learn to take that away before it learns its task.

Shapes: L layers, B sentences, T tokens, D width of a layer.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Standardization(nn.Module):
    """``(vector - mean) / deviation`` for each of the D numbers of each layer, which :meth:`fit` measures.

    Before that it changes nothing.
    """

    def __init__(self, n_layers: int, size: int) -> None:
        """:param size: D."""
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(n_layers, size))
        self.register_buffer("deviation", torch.ones(n_layers, size))

    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Measure the layers of sentences.

        A number that is the same for all words keeps the deviation 1.

        :param batches: layers (L, B, T, D), and masks (B, T), true where there is a token.
        """
        n_words = 0
        sums = torch.zeros(2, *self.mean.shape, dtype=torch.float64)
        for layers, mask in batches:
            words = layers[:, mask].double().cpu()  # (L, N, D)
            sums += torch.stack([words.sum(dim=1), words.square().sum(dim=1)])
            n_words += words.shape[1]
        if n_words == 0:
            raise ValueError("there are no words to measure")
        mean, square = sums / n_words
        deviation = (square - mean.square()).clamp(min=0).sqrt()
        is_constant = deviation <= 1e-6 * square.sqrt()
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.masked_fill(is_constant, 1.0))

    def forward(self, layers: Tensor) -> Tensor:
        """Return (L, B, T, D), standardised."""
        return (layers - self.mean[:, None, None]) / self.deviation[:, None, None]
