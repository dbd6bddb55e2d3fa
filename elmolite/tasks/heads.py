"""Task heads: token features -> label scores; :mod:`elmolite.tasks.config` has their settings.

Shapes: B sentences or pairs, T tokens (S of the second sentence of a pair), D input size, H hidden size, E size of the
output features, K labels.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.errors import InputError
from elmolite.tasks.config import HeadConfig, Pooling


class TokenFeatures(NamedTuple):
    """Vectors of the tokens of a batch of sentences: the input of a head.

    >>> features = TokenFeatures(torch.randn(2, 7, 256), torch.ones(2, 7, dtype=torch.bool))
    >>> features.vectors.shape
    torch.Size([2, 7, 256])
    """

    vectors: Tensor  # (B, T, D)
    mask: Tensor  # (B, T), true for tokens, false for the padding on the right
    output_vectors: Tensor | None = None  # (B, T, E), a second mix, concatenated to the output of the head's encoder


class BiLSTM(nn.Module):
    """Bidirectional LSTM over padded sentences of different lengths, with dropout before each layer.

    The backward direction reads each sentence reversed within its row. On a CPU this is nearly twice as fast as
    ``nn.LSTM`` over packed sequences, for which there is no fused kernel.
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
        """Encode (B, T, D).

        :returns: the outputs (B, T, 2 H), zero for padding; and the final states (B, 2 H): forward after the last
            token, backward after the first.
        """
        last = (mask.sum(dim=1, keepdim=True) - 1).clamp(min=0)  # (B, 1)
        reversed_positions = (last - torch.arange(mask.shape[1], device=mask.device)).clamp(min=0)  # (B, T)
        for forward_layer, backward_layer in zip(self.forward_layers, self.backward_layers, strict=True):
            vectors = self.dropout(vectors)
            forward, _ = forward_layer(vectors)
            backward, _ = backward_layer(_gather(vectors, reversed_positions))
            vectors = torch.cat([forward, _gather(backward, reversed_positions)], dim=2) * mask.unsqueeze(2)
        hidden_size = self.output_size // 2
        final = [_gather(vectors, last)[:, 0, :hidden_size], vectors[:, 0, hidden_size:]]
        return vectors, torch.cat(final, dim=1)


def _gather(vectors: Tensor, positions: Tensor) -> Tensor:
    """Return (B, S, D): the vectors of (B, T, D) at positions (B, S) of each row."""
    return vectors.gather(1, positions.unsqueeze(2).expand(-1, -1, vectors.shape[2]))


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax over the unmasked part of the last dimension, 0 elsewhere; all 0 if everything is masked."""
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1) * mask


def masked_mean(vectors: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over tokens, (B, T, D) -> (B, D); 0 for a sentence without tokens."""
    weights = mask.unsqueeze(2).to(vectors.dtype)
    return (vectors * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def masked_max(vectors: Tensor, mask: Tensor) -> Tensor:
    """Return the maximum over tokens, (B, T, D) -> (B, D); 0 for a sentence without tokens."""
    lowest = torch.finfo(vectors.dtype).min
    best = vectors.masked_fill(~mask.unsqueeze(2), lowest).amax(dim=1)
    return best * mask.any(dim=1, keepdim=True)


def attend(values: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Return attention-weighted sums (B, S, D) of values (B, T, D), with scores (B, S, T) before the softmax."""
    return torch.bmm(masked_softmax(scores, mask.unsqueeze(1)), values)


def concat_output_mix(vectors: Tensor, features: TokenFeatures) -> Tensor:
    """Concatenate the output features, if there are any, to encoder outputs (B, T, H)."""
    return vectors if features.output_vectors is None else torch.cat([vectors, features.output_vectors], dim=2)


class PoolingClassifier(nn.Module):
    """Sentence classifier: BiLSTM, pooling over tokens, linear layer."""

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
        :param pooling: ``mean``, ``max``, ``attention`` (mean weighted by a learnt query), or ``final``: the final
            states of the LSTM.
        :param n_layers: of the LSTM; 0 pools the input features, but not by ``final``.
        """
        super().__init__()
        if pooling == "final" and output_vectors_size:
            raise InputError("head.pooling: 'final' cannot be combined with input.output_mix")
        self.pooling = pooling
        self.lstm = BiLSTM(input_size, hidden_size, n_layers=n_layers, dropout=dropout) if n_layers else None
        size = self.lstm.output_size if self.lstm else input_size
        size += output_vectors_size if pooling != "final" else 0
        self.attention = nn.Linear(size, 1) if pooling == "attention" else None
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(size, n_labels)

    def forward(self, features: TokenFeatures) -> Tensor:
        """Return the scores (B, K)."""
        vectors, final = features.vectors, None
        if self.lstm is not None:
            vectors, final = self.lstm(features.vectors, features.mask)
        if self.pooling == "final":
            return self.linear(self.dropout(final))  # type: ignore[no-any-return]
        vectors = concat_output_mix(vectors, features)
        if self.attention is not None:
            weights = masked_softmax(self.attention(vectors).squeeze(2), features.mask)
            pooled = torch.bmm(weights.unsqueeze(1), vectors).squeeze(1)
        else:
            pool = masked_max if self.pooling == "max" else masked_mean
            pooled = pool(vectors, features.mask)
        return self.linear(self.dropout(pooled))  # type: ignore[no-any-return]


class ConvolutionClassifier(nn.Module):
    """Sentence classifier: convolutions over tokens, max pooling, linear layer (Kim 2014)."""

    def __init__(
        self,
        input_size: int,
        n_labels: int,
        *,
        output_vectors_size: int = 0,
        widths: Sequence[int] = (3, 4, 5),
        hidden_size: int = 100,
        dropout: float = 0.5,
    ) -> None:
        """Initialise.

        :param output_vectors_size: E; concatenated to the input, as there is no encoder output with one vector a token.
        :param widths: filter widths in tokens; shorter sentences are zero-padded.
        :param hidden_size: number of filters of each width.
        """
        super().__init__()
        size = input_size + output_vectors_size
        self.widths = tuple(widths)
        self.convolutions = nn.ModuleList(nn.Conv1d(size, hidden_size, width) for width in widths)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden_size * len(widths), n_labels)

    def forward(self, features: TokenFeatures) -> Tensor:
        """Return the scores (B, K)."""
        vectors = concat_output_mix(features.vectors, features) * features.mask.unsqueeze(2)
        widest = max(self.widths)
        lengths = features.mask.sum(dim=1).clamp(min=widest)
        vectors = F.pad(vectors, (0, 0, 0, max(0, widest - vectors.shape[1]))).transpose(1, 2)  # (B, D, T)
        pooled = []
        for width, convolution in zip(self.widths, self.convolutions, strict=True):
            activations = convolution(vectors).relu().transpose(1, 2)
            positions = torch.arange(activations.shape[1], device=activations.device)
            pooled.append(masked_max(activations, positions <= (lengths - width).unsqueeze(1)))  # within the sentence
        return self.linear(self.dropout(torch.cat(pooled, dim=1)))  # type: ignore[no-any-return]


class BiattentiveClassifier(nn.Module):
    """Biattentive classification network (McCann et al. 2017, section 5); the ELMo paper uses it for SST-5.

    BiLSTM, self-attention, a second BiLSTM over the encoded and attended vectors, four kinds of pooling, maxout layers.
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

        :param output_vectors_size: E, concatenated to the output of the second LSTM, the integrator.
        :param hidden_size: H, of the layer before the first LSTM and of each direction of both.
        :param n_maxout: linear pieces of each maxout unit.
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

    def forward(self, features: TokenFeatures) -> Tensor:
        """Return the scores (B, K)."""
        mask = features.mask
        encoded, _ = self.encoder(self.before(features.vectors), mask)
        attended = attend(encoded, encoded @ encoded.transpose(1, 2), mask)
        compared = torch.cat([encoded, encoded - attended, encoded * attended], dim=2)
        integrated = concat_output_mix(self.integrator(compared, mask)[0], features)
        weights = masked_softmax(self.attention(integrated).squeeze(2), mask)
        pooled = [
            masked_max(integrated, mask),
            masked_mean(integrated, mask),
            -masked_max(-integrated, mask),
            torch.bmm(weights.unsqueeze(1), integrated).squeeze(1),
        ]
        return self.output(torch.cat(pooled, dim=1))  # type: ignore[no-any-return]


class _Maxout(nn.Module):
    """Batch normalisation, dropout and a maxout layer (Goodfellow et al. 2013)."""

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
        else:  # a single example has no variance
            vectors = F.batch_norm(vectors, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return self.linear(self.dropout(vectors)).unflatten(1, (-1, self.n_pieces)).amax(dim=2)  # type: ignore[no-any-return]


class Tagger(nn.Module):
    """Sequence tagger: BiLSTM, linear layer for each token."""

    def __init__(
        self,
        input_size: int,
        n_labels: int,
        *,
        output_vectors_size: int = 0,
        hidden_size: int = 200,
        n_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        """Initialise.

        :param output_vectors_size: E, concatenated to the output of the LSTM.
        :param n_layers: of the LSTM; 0 applies the linear layer to the input features.
        """
        super().__init__()
        self.lstm = BiLSTM(input_size, hidden_size, n_layers=n_layers, dropout=dropout) if n_layers else None
        size = (self.lstm.output_size if self.lstm else input_size) + output_vectors_size
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(size, n_labels)

    def forward(self, features: TokenFeatures) -> Tensor:
        """Return the scores (B, T, K)."""
        vectors = features.vectors if self.lstm is None else self.lstm(features.vectors, features.mask)[0]
        return self.linear(self.dropout(concat_output_mix(vectors, features)))  # type: ignore[no-any-return]


class ESIM(nn.Module):
    """Enhanced sequential inference model (Chen et al. 2017); the ELMo paper uses it for SNLI.

    BiLSTM over both sentences, cross-attention, a second BiLSTM over the encoded and attended vectors, mean and max
    pooling, tanh layer. Premise and hypothesis share all weights.
    """

    def __init__(
        self,
        input_size: int,
        n_labels: int,
        *,
        output_vectors_size: int = 0,
        hidden_size: int = 300,
        dropout: float = 0.5,
    ) -> None:
        """Initialise.

        :param output_vectors_size: E, concatenated to the output of the first LSTM.
        :param hidden_size: H, of each direction of both LSTMs and of the feed-forward layers.
        """
        super().__init__()
        self.encoder = BiLSTM(input_size, hidden_size, dropout=dropout)
        size = self.encoder.output_size + output_vectors_size
        self.projection = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * size, hidden_size), nn.ReLU())
        self.composition = BiLSTM(hidden_size, hidden_size, dropout=dropout)
        self.output = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(4 * self.composition.output_size, hidden_size),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, n_labels),
        )

    def forward(self, premise: TokenFeatures, hypothesis: TokenFeatures) -> Tensor:
        """Return the scores (B, K)."""
        a = concat_output_mix(self.encoder(premise.vectors, premise.mask)[0], premise)
        b = concat_output_mix(self.encoder(hypothesis.vectors, hypothesis.mask)[0], hypothesis)
        similarity = a @ b.transpose(1, 2)  # (B, T, S)
        pooled = [
            *self._compose(a, attend(b, similarity, hypothesis.mask), premise.mask),
            *self._compose(b, attend(a, similarity.transpose(1, 2), premise.mask), hypothesis.mask),
        ]
        return self.output(torch.cat(pooled, dim=1))  # type: ignore[no-any-return]

    def _compose(self, encoded: Tensor, attended: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        compared = torch.cat([encoded, attended, encoded - attended, encoded * attended], dim=2)
        composed, _ = self.composition(self.projection(compared), mask)
        return masked_mean(composed, mask), masked_max(composed, mask)


class LinearPairClassifier(nn.Module):
    """Pair classifier without an encoder: linear layer on ``[u; v; |u - v|; u * v]`` of both means (Conneau 2017)."""

    def __init__(self, input_size: int, n_labels: int, *, output_vectors_size: int = 0) -> None:
        """:param output_vectors_size: must be 0: there is no encoder output."""
        super().__init__()
        if output_vectors_size:
            raise InputError("input.output_mix: needs a head with an encoder; the linear head has none")
        self.linear = nn.Linear(4 * input_size, n_labels)

    def forward(self, premise: TokenFeatures, hypothesis: TokenFeatures) -> Tensor:
        """Return the scores (B, K)."""
        u, v = (masked_mean(side.vectors, side.mask) for side in (premise, hypothesis))
        return self.linear(torch.cat([u, v, (u - v).abs(), u * v], dim=1))  # type: ignore[no-any-return]


Head = Callable[..., nn.Module]

HEADS: dict[str, dict[str, Head]] = {
    "classify": {
        "lstm": PoolingClassifier,
        "cnn": ConvolutionClassifier,
        "biattentive": BiattentiveClassifier,
        "linear": partial(PoolingClassifier, n_layers=0),
    },
    "tag": {"lstm": Tagger, "linear": partial(Tagger, n_layers=0)},
    "entail": {"esim": ESIM, "linear": LinearPairClassifier},
}
"""Task -> kind of head -> class. A head gets the settings of the task's config that its constructor names."""

HeadFactory = Callable[[int, int], nn.Module]
"""Makes a custom head from the size of its input and its number of labels."""


def build_head(
    kinds: Mapping[str, Head], config: HeadConfig, *, input_size: int, n_labels: int, output_vectors_size: int = 0
) -> nn.Module:
    """Build the head that a config describes, with random weights.

    :param kinds: the heads of the task.
    """
    kind = kinds[config.kind]
    accepted = inspect.signature(kind).parameters.keys() - getattr(kind, "keywords", {}).keys()
    settings = {name: value for name, value in vars(config).items() if name in accepted}
    return kind(input_size, n_labels, output_vectors_size=output_vectors_size, **settings)
