"""Scalar mix: learnt weighted sum of the layers of the language model.

Shapes: L layers, B sentences, T tokens, D width of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.errors import InputError


class ScalarMix(nn.Module):
    """``gamma * sum_j softmax(scores)_j * layer_j`` (Peters et al. 2018, equation 1).

    Initially the layers have equal weights and gamma is 1.

    >>> mix = ScalarMix(3)
    >>> mix.weights
    tensor([0.3333, 0.3333, 0.3333], grad_fn=<SoftmaxBackward0>)
    >>> mix(torch.randn(3, 2, 7, 256)).shape
    torch.Size([2, 7, 256])
    """

    def __init__(
        self,
        n_layers: int,
        *,
        use_layer_norm: bool = False,
        dropout: float = 0.0,
        fixed_weights: Sequence[float] | None = None,
    ) -> None:
        """Initialise the weights.

        :param n_layers: L.
        :param use_layer_norm: normalise each layer of each token over its D numbers first. (AllenNLP's option of this
            name normalises over the whole batch, so that a token's vector depends on the other sentences.)
        :param dropout: of the result, in training.
        :param fixed_weights: L weights to use instead of learnt ones, with gamma 1.
        """
        super().__init__()
        if fixed_weights is not None and len(fixed_weights) != n_layers:
            raise InputError(f"fixed_weights must be one for each of {n_layers} layers, got {len(fixed_weights)}")
        self.use_layer_norm = use_layer_norm
        self.dropout = dropout
        is_learnt = fixed_weights is None
        self.scores = nn.Parameter(torch.zeros(n_layers)) if is_learnt else None
        self.gamma = nn.Parameter(torch.ones(())) if is_learnt else None
        self.fixed: Tensor
        self.register_buffer("fixed", None if is_learnt else torch.tensor(fixed_weights, dtype=torch.float32))

    @property
    def weights(self) -> Tensor:
        """Weights of the layers without gamma, (L); learnt ones sum to 1."""
        return self.fixed if self.scores is None else self.scores.softmax(dim=0)

    def forward(self, layers: Tensor) -> Tensor:
        """Mix layers (L, B, T, D) to (B, T, D)."""
        if self.use_layer_norm:
            layers = F.layer_norm(layers, layers.shape[-1:])
        weights = self.weights if self.gamma is None else self.gamma * self.weights
        mixed = torch.einsum("l,lbtd->btd", weights.to(layers.dtype), layers)
        return F.dropout(mixed, self.dropout, self.training)

    def penalty(self) -> Tensor:
        """Return the sum of the squared scores, a regulariser towards equal weights (section 3.3)."""
        return self.weights.new_zeros(()) if self.scores is None else self.scores.square().sum()
