"""Heads that give a sentence scores for its labels.

Shapes: B sentences, T tokens, D width of a vector, H hidden size, E width of the vectors for the output, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.errors import InputError
from elmolite.tasks.words import BiLSTM, Words, attend, beside, masked_max, masked_mean, masked_softmax

Pooling = Literal["mean", "max", "attention", "final"]


class PoolingClassifier(nn.Module):
    """A BiLSTM, or nothing, then one vector for all words of the sentence, then a linear layer."""

    def __init__(
        self,
        input_size: int,
        n_labels: int,
        *,
        output_vectors_size: int = 0,
        pooling: Pooling = "max",
        hidden_size: int = 200,
        n_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        """Initialise.

        :param input_size: D.
        :param output_vectors_size: E.
        :param pooling: the mean, the maximum, a weighted mean whose weights a learnt vector gives, or the two final
            states of the LSTM: forward after the last word, backward after the first.
        :param n_layers: of the LSTM; with 0 the words themselves are pooled, and nothing is final.
        """
        super().__init__()
        if pooling == "final" and n_layers == 0:
            raise ValueError("pooling 'final' needs an LSTM: n_layers is 0")
        if pooling == "final" and output_vectors_size:
            raise InputError("head.pooling: beside the 'final' states there is no place for a mix at the output")
        self.pooling = pooling
        self.lstm = BiLSTM(input_size, hidden_size, n_layers=n_layers, dropout=dropout) if n_layers else None
        size = self.lstm.output_size if self.lstm else input_size
        size += output_vectors_size if pooling != "final" else 0
        self.attention = nn.Linear(size, 1) if pooling == "attention" else None
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(size, n_labels)

    def forward(self, words: Words) -> Tensor:
        """Return the scores (B, K)."""
        vectors, final = words.vectors, None
        if self.lstm is not None:
            vectors, final = self.lstm(words.vectors, words.mask)
        if self.pooling == "final":
            return self.linear(self.dropout(final))  # type: ignore[no-any-return]
        vectors = beside(vectors, words)
        if self.attention is not None:
            weights = masked_softmax(self.attention(vectors).squeeze(2), words.mask)
            pooled = torch.bmm(weights.unsqueeze(1), vectors).squeeze(1)
        else:
            pool = masked_max if self.pooling == "max" else masked_mean
            pooled = pool(vectors, words.mask)
        return self.linear(self.dropout(pooled))  # type: ignore[no-any-return]


class ConvolutionClassifier(nn.Module):
    """Convolutions over words, the maximum of each filter, a linear layer (Kim 2014)."""

    def __init__(
        self,
        input_size: int,
        n_labels: int,
        *,
        output_vectors_size: int = 0,
        widths: Sequence[int] = (3, 4, 5),
        n_filters: int = 100,
        dropout: float = 0.5,
    ) -> None:
        """Initialise.

        :param output_vectors_size: E; they stand beside the input, for there is no sequence at the output.
        :param widths: of the filters, in words; a shorter sentence is filled up with zeros.
        :param n_filters: of each width.
        """
        super().__init__()
        size = input_size + output_vectors_size
        self.widths = tuple(widths)
        self.convolutions = nn.ModuleList(nn.Conv1d(size, n_filters, width) for width in widths)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(n_filters * len(widths), n_labels)

    def forward(self, words: Words) -> Tensor:
        """Return the scores (B, K)."""
        vectors = beside(words.vectors, words) * words.mask.unsqueeze(2)
        widest = max(self.widths)
        lengths = words.mask.sum(dim=1).clamp(min=widest)
        vectors = F.pad(vectors, (0, 0, 0, max(0, widest - vectors.shape[1]))).transpose(1, 2)  # (B, D, T)
        features = []
        for width, convolution in zip(self.widths, self.convolutions, strict=True):
            found = convolution(vectors).relu().transpose(1, 2)
            places = torch.arange(found.shape[1], device=found.device)
            features.append(masked_max(found, places <= (lengths - width).unsqueeze(1)))  # none reaches over the end
        return self.linear(self.dropout(torch.cat(features, dim=1)))  # type: ignore[no-any-return]


class BiattentiveClassifier(nn.Module):
    """The biattentive classification network (McCann et al. 2017, section 5), in which ELMo's paper trained SST-5.

    The sentence is read, attends to itself, is read again beside what it attended to, and is pooled in four ways.
    """

    def __init__(
        self,
        input_size: int,
        n_labels: int,
        *,
        output_vectors_size: int = 0,
        hidden_size: int = 300,
        n_maxout: int = 4,
        dropout: float = 0.2,
    ) -> None:
        """Initialise.

        :param output_vectors_size: E, of what stands beside the output of the second LSTM, the integrator.
        :param hidden_size: H, of the layer before the first LSTM and of each direction of both.
        :param n_maxout: linear pieces of each unit of the output's hidden layers.
        """
        super().__init__()
        self.before = nn.Sequential(nn.Dropout(dropout), nn.Linear(input_size, hidden_size), nn.ReLU())
        self.encoder = BiLSTM(hidden_size, hidden_size)
        self.integrator = BiLSTM(3 * self.encoder.output_size, hidden_size, dropout=dropout)
        size = self.integrator.output_size + output_vectors_size
        self.attention = nn.Linear(size, 1)
        self.output = nn.Sequential(
            _Maxout(4 * size, size, n_maxout, dropout=dropout),
            _Maxout(size, size // 2, n_maxout, dropout=dropout),
            nn.Dropout(dropout),
            nn.Linear(size // 2, n_labels),
        )

    def forward(self, words: Words) -> Tensor:
        """Return the scores (B, K)."""
        encoded, _ = self.encoder(self.before(words.vectors), words.mask)
        attended = attend(encoded, encoded @ encoded.transpose(1, 2), words.mask)
        compared = torch.cat([encoded, encoded - attended, encoded * attended], dim=2)
        integrated = beside(self.integrator(compared, words.mask)[0], words)
        weights = masked_softmax(self.attention(integrated).squeeze(2), words.mask)
        pooled = [
            masked_max(integrated, words.mask),
            masked_mean(integrated, words.mask),
            -masked_max(-integrated, words.mask),
            torch.bmm(weights.unsqueeze(1), integrated).squeeze(1),
        ]
        return self.output(torch.cat(pooled, dim=1))  # type: ignore[no-any-return]


class _Maxout(nn.Module):
    """Batch normalisation, then the largest of several linear functions for each unit (Goodfellow et al. 2013)."""

    def __init__(self, input_size: int, output_size: int, n_pieces: int, *, dropout: float) -> None:
        super().__init__()
        self.n_pieces = n_pieces
        self.norm = nn.BatchNorm1d(input_size)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(input_size, output_size * n_pieces)

    def forward(self, vectors: Tensor) -> Tensor:
        norm = self.norm
        if len(vectors) > 1:
            vectors = norm(vectors)
        else:  # one alone has no variance
            vectors = F.batch_norm(vectors, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return self.linear(self.dropout(vectors)).unflatten(1, (-1, self.n_pieces)).amax(dim=2)  # type: ignore[no-any-return]
