"""What a head reads, and the recurrent network that most of them begin with.

Shapes: B sentences, T tokens, D width of a vector, H hidden size, E width of the vectors for the output.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Words(NamedTuple):
    """The words of sentences, as vectors."""

    vectors: Tensor  # (B, T, D)
    mask: Tensor  # (B, T), true where there is a word; each sentence begins at the left
    output_vectors: Tensor | None = None  # (B, T, E): what stands beside the output of the head's first network


class BiLSTM(nn.Module):
    """LSTMs in both directions over sentences of different lengths, with dropout before each layer.

    Each direction reads padded rows, the backward one with every sentence turned round in its row: on a CPU that is
    nearly twice as fast as ``nn.LSTM`` over packed sequences, for which it has no fused kernel.
    """

    def __init__(self, input_size: int, hidden_size: int, *, n_layers: int = 1, dropout: float = 0.0) -> None:
        """:param hidden_size: H, of each direction."""
        super().__init__()
        self.output_size = 2 * hidden_size
        self.dropout = nn.Dropout(dropout)
        sizes = [input_size] + [self.output_size] * (n_layers - 1)
        self.forward_layers = nn.ModuleList(nn.LSTM(size, hidden_size, batch_first=True) for size in sizes)
        self.backward_layers = nn.ModuleList(nn.LSTM(size, hidden_size, batch_first=True) for size in sizes)

    def forward(self, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Read (B, T, D) where ``mask`` (B, T) is true.

        :returns: (B, T, 2 H), zero behind the end of a sentence; and (B, 2 H), the output of the last word forward
            beside that of the first word backward.
        """
        last = (mask.sum(dim=1, keepdim=True) - 1).clamp(min=0)  # (B, 1)
        turned = (last - torch.arange(mask.shape[1], device=mask.device)).clamp(min=0)  # (B, T)
        for forward_layer, backward_layer in zip(self.forward_layers, self.backward_layers, strict=True):
            vectors = self.dropout(vectors)
            forward, _ = forward_layer(vectors)
            backward, _ = backward_layer(_take(vectors, turned))
            vectors = torch.cat([forward, _take(backward, turned)], dim=2) * mask.unsqueeze(2)
        hidden_size = self.output_size // 2
        final = [_take(vectors, last)[:, 0, :hidden_size], vectors[:, 0, hidden_size:]]
        return vectors, torch.cat(final, dim=1)


def _take(vectors: Tensor, places: Tensor) -> Tensor:
    """Return (B, S, D): of each row of (B, T, D) the vectors at the places (B, S)."""
    return vectors.gather(1, places.unsqueeze(2).expand(-1, -1, vectors.shape[2]))


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax over the last dimension where the mask is true, and 0 elsewhere; all 0 where it nowhere is."""
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1) * mask


def masked_mean(vectors: Tensor, mask: Tensor) -> Tensor:
    """Return (B, D), the mean of (B, T, D) over the words."""
    weights = mask.unsqueeze(2).to(vectors.dtype)
    return (vectors * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def masked_max(vectors: Tensor, mask: Tensor) -> Tensor:
    """Return (B, D), the maximum of (B, T, D) over the words, 0 where there are none."""
    lowest = torch.finfo(vectors.dtype).min
    best = vectors.masked_fill(~mask.unsqueeze(2), lowest).amax(dim=1)
    return best * mask.any(dim=1, keepdim=True)


def beside(vectors: Tensor, words: Words) -> Tensor:
    """Put the vectors for the output beside (B, T, H), where there are any."""
    return vectors if words.output_vectors is None else torch.cat([vectors, words.output_vectors], dim=2)


def attend(values: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Return (B, S, D): for each of S places the mean of (B, T, D), weighted by the softmax of (B, S, T)."""
    return torch.bmm(masked_softmax(scores, mask.unsqueeze(1)), values)
