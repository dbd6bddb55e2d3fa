"""Layers of the language model and static vectors -> the vectors that a head reads.

Shapes: L layers, B sentences, T tokens, D width of a layer, S width of a static vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.errors import InputError, nearest
from elmolite.nn.scalar_mix import ScalarMix
from elmolite.tasks.config import Normalization
from elmolite.tasks.heads import TokenFeatures
from elmolite.tasks.standardization import Standardization
from elmolite.tasks.static_vectors import StaticEmbedding

MIX, NO_LAYERS = "mix", "none"


class LearntMix(NamedTuple):
    """What a mix has learnt."""

    weights: list[float]
    gamma: float


class WordInputs(nn.Module):
    """Mixes of the layers, beside static vectors or alone, with dropout."""

    def __init__(
        self,
        *,
        n_layers: int,
        layer_size: int,
        layers: str = MIX,
        normalization: Normalization = "standard",
        mixes_at_output: bool = False,
        static: StaticEmbedding | None = None,
        dropout: float = 0.0,
    ) -> None:
        """Initialise.

        :param n_layers: L.
        :param layer_size: D.
        :param layers: ``mix``, learnt; ``token``, ``top``, ``average``, or the number of a layer; ``none`` for static
            vectors alone.
        :param normalization: of the layers, before they are mixed: ``standard``, see :class:`Standardization`, after
            its ``fit``; ``layer``, see :class:`ScalarMix`; or ``none``.
        :param mixes_at_output: whether a second mix, with weights of its own, stands beside the output of the head's
            first network.
        :param static: vectors that stand beside the mix.
        :param dropout: of all of them.
        :raises InputError: there is no such layer, or nothing at all to read.
        """
        super().__init__()
        if layers == NO_LAYERS and static is None:
            raise InputError("layers 'none' leaves nothing to read: give static vectors")
        if layers == NO_LAYERS and mixes_at_output:
            raise InputError("a mix at the output needs layers, and they are 'none'")
        fixed = None if layers in (MIX, NO_LAYERS) else fixed_weights(layers, n_layers)

        def mix() -> ScalarMix:
            use_layer_norm = normalization == "layer"
            return ScalarMix(n_layers, use_layer_norm=use_layer_norm, dropout=dropout, fixed_weights=fixed)

        self.mix = None if layers == NO_LAYERS else mix()
        self.output_mix = mix() if mixes_at_output else None
        is_standardised = normalization == "standard" and layers != NO_LAYERS
        self.standardization = Standardization(n_layers, layer_size) if is_standardised else None
        self.static = static
        self.dropout = dropout
        self.size = (layer_size if self.mix else 0) + (static.size if static else 0)
        self.output_size = layer_size if mixes_at_output else 0

    def forward(self, mask: Tensor, layers: Tensor | None, static_ids: Tensor | None) -> TokenFeatures:
        """Return the words of sentences.

        :param mask: (B, T).
        :param layers: (L, B, T, D); ``None`` where they are not read.
        :param static_ids: (B, T), into the static vectors; ``None`` where there are none.
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
        """Return the penalties of the mixes, which pull their weights towards the average."""
        return torch.stack([mix.penalty() for mix in self._mixes().values()] or [torch.zeros(())]).sum()

    def learnt_mixes(self) -> dict[str, LearntMix]:
        """Return what each mix that learns has learnt, by its place: ``input`` or ``output``."""
        return {
            place: LearntMix(mix.weights.tolist(), mix.gamma.item())
            for place, mix in self._mixes().items()
            if mix.gamma is not None
        }

    def _mixes(self) -> dict[str, ScalarMix]:
        mixes = {"input": self.mix, "output": self.output_mix}
        return {place: mix for place, mix in mixes.items() if mix is not None}


def fixed_weights(layers: str, n_layers: int) -> Sequence[float]:
    """Return L weights that choose a layer or the average of all.

    :raises InputError: there is no such layer.
    """
    if layers == "average":
        return [1 / n_layers] * n_layers
    number = {"token": 0, "top": n_layers - 1}.get(layers, int(layers) if layers.isdecimal() else n_layers)
    if number >= n_layers:
        valid = (MIX, NO_LAYERS, "token", "top", "average", *map(str, range(n_layers)))
        raise InputError(f"layers: unknown {layers!r}{nearest(layers, valid)}")
    return [float(layer == number) for layer in range(n_layers)]
