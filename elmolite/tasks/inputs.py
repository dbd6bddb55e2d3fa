"""Feature mixer: layers of the language model and static vectors -> the input features of a head.

Shapes: L layers, B sentences, T tokens, D size of a layer, S size of a static vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.errors import InputError, check_choice
from elmolite.nn.scalar_mix import ScalarMix
from elmolite.tasks.config import Normalization
from elmolite.tasks.heads import TokenFeatures
from elmolite.tasks.static_vectors import StaticEmbedding

MIX, NO_LAYERS = "mix", "none"


class LayerStandardizer(nn.Module):
    """Standardize each dimension of each layer to zero mean and unit variance over the training words.

    The layers of a language model differ in scale, and in each all words share a large component: without pretraining
    nearly all of it, so that any two words look alike. Without this a head has to learn to remove it first.

    Before :meth:`fit` it is the identity.
    """

    def __init__(self, n_layers: int, size: int) -> None:
        """:param size: D."""
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(n_layers, size))
        self.register_buffer("deviation", torch.ones(n_layers, size))

    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Measure mean and standard deviation; a constant dimension gets deviation 1.

        :param batches: layers (L, B, T, D) and masks (B, T), true for tokens.
        """
        n_words = 0
        sums = torch.zeros(2, *self.mean.shape, dtype=torch.float64)
        for layers, mask in batches:
            words = layers[:, mask].double().cpu()  # (L, N, D)
            sums += torch.stack([words.sum(dim=1), words.square().sum(dim=1)])
            n_words += words.shape[1]
        if n_words == 0:
            raise ValueError("cannot standardize the layers of no words")
        mean, square = sums / n_words
        deviation = (square - mean.square()).clamp(min=0).sqrt()
        is_constant = deviation <= 1e-6 * square.sqrt()
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.masked_fill(is_constant, 1.0))

    def forward(self, layers: Tensor) -> Tensor:
        """Return standardized layers (L, B, T, D)."""
        return (layers - self.mean[:, None, None]) / self.deviation[:, None, None]


class LearntMix(NamedTuple):
    """Weights that a scalar mix has learnt."""

    weights: list[float]
    gamma: float


class FeatureMixer(nn.Module):
    """Scalar mix of the layers and static vectors, concatenated, with dropout."""

    def __init__(
        self,
        *,
        n_layers: int,
        layer_size: int,
        layers: str = MIX,
        normalization: Normalization = "standard",
        output_mix: bool = False,
        static: StaticEmbedding | None = None,
        dropout: float = 0.0,
    ) -> None:
        """Initialise; see :class:`InputConfig` for ``layers``, ``normalization`` and ``output_mix``.

        :param n_layers: L.
        :param layer_size: D.
        :param static: vectors that are concatenated to the mix.
        """
        super().__init__()
        if layers == NO_LAYERS and static is None:
            raise InputError("input.layers is 'none' and there are no static vectors: give input.static")
        if layers == NO_LAYERS and output_mix:
            raise InputError("input.output_mix needs layers, but input.layers is 'none'")
        fixed = None if layers in (MIX, NO_LAYERS) else fixed_weights(layers, n_layers)

        def mix() -> ScalarMix:
            use_layer_norm = normalization == "layer"
            return ScalarMix(n_layers, use_layer_norm=use_layer_norm, dropout=dropout, fixed_weights=fixed)

        self.mix = None if layers == NO_LAYERS else mix()
        self.output_mix = mix() if output_mix else None
        is_standardized = normalization == "standard" and layers != NO_LAYERS
        self.standardization = LayerStandardizer(n_layers, layer_size) if is_standardized else None
        self.static = static
        self.dropout = dropout
        self.size = (layer_size if self.mix else 0) + (static.size if static else 0)
        self.output_size = layer_size if output_mix else 0

    def forward(self, mask: Tensor, layers: Tensor | None, static_ids: Tensor | None) -> TokenFeatures:
        """Return the features of sentences.

        :param mask: (B, T).
        :param layers: (L, B, T, D), or ``None`` if they are not used.
        :param static_ids: (B, T), ids of static vectors, or ``None`` without static vectors.
        """
        if self.standardization is not None and layers is not None:
            layers = self.standardization(layers)
        parts = []
        if self.mix is not None:
            assert layers is not None
            parts.append(self.mix(layers))
        if self.static is not None:
            assert static_ids is not None
            parts.append(F.dropout(self.static(static_ids), self.dropout, self.training))
        output = None if self.output_mix is None else self.output_mix(layers)
        return TokenFeatures(torch.cat(parts, dim=2) * mask.unsqueeze(2), mask, output)

    def penalty(self) -> Tensor:
        """Return the sum of the penalties of the mixes, which pull their weights towards the average."""
        return torch.stack([mix.penalty() for mix in self._mixes().values()] or [torch.zeros(())]).sum()

    def learnt_mixes(self) -> dict[str, LearntMix]:
        """Return the learnt weights, by the name of the mix: ``input`` or ``output``."""
        return {
            name: LearntMix(mix.weights.tolist(), mix.gamma.item())
            for name, mix in self._mixes().items()
            if mix.gamma is not None
        }

    def _mixes(self) -> dict[str, ScalarMix]:
        mixes = {"input": self.mix, "output": self.output_mix}
        return {name: mix for name, mix in mixes.items() if mix is not None}


def fixed_weights(layers: str, n_layers: int) -> Sequence[float]:
    """Return the L weights of a mix that selects one layer, or averages all."""
    if layers == "average":
        return [1 / n_layers] * n_layers
    number = {"token": 0, "top": n_layers - 1}.get(layers, int(layers) if layers.isdecimal() else n_layers)
    if number >= n_layers:
        check_choice("input.layers", layers, (MIX, NO_LAYERS, "token", "top", "average", *map(str, range(n_layers))))
    return [float(layer == number) for layer in range(n_layers)]
