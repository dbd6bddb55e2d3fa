"""Word id -> its vector: the table that a language model over words begins with, in place of the character CNN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class WordEncoder(nn.Module):
    """A vector for each word of the vocabulary; those outside it share that of ``<UNK>``."""

    def __init__(self, *, n_ids: int, projection_size: int) -> None:
        super().__init__()
        self.sparse = False
        """As that of ``nn.Embedding``: whether the gradient of the table is a sparse one, of the rows looked up."""
        self.weight = nn.Parameter(torch.empty(n_ids, projection_size))
        nn.init.normal_(self.weight, std=projection_size**-0.5)

    @property
    def table(self) -> Tensor:
        """The vector of each id, (V, P)."""
        return self.weight

    def forward(self, words: Tensor) -> Tensor:
        """Look up ids (U, 1) as (U, P)."""
        return F.embedding(words.squeeze(1).to(self.weight.device), self.weight, sparse=self.sparse)
