"""Fine-tuning settings: the input features of a head, and the training."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

from elmolite.errors import InputError, check_choices
from elmolite.utils.config import Precision, accepts_renamed_settings

Normalization = Literal["standard", "layer", "none"]
CacheDtype = Literal["float32", "float16"]


@accepts_renamed_settings
@dataclass
class InputConfig:
    """Input features of a head.

    :param layers: of the language model: mix, a scalar mix whose weights are learnt; token, top, average, or the number
        of a layer; none for static vectors only.
    :param normalization: of the layers before they are mixed: standard, zero mean and unit variance of each dimension
        over the training words; layer, layer normalization of each vector; none.
    :param output_mix: also concatenate a second scalar mix to the output of the head's encoder, as in the ELMo paper.
    :param static: file of static word vectors (GloVe or word2vec text format) that are concatenated to the layers.
    :param static_words: keep the vectors of this many words from the beginning of the file, besides those of the
        examples, for later predictions.
    :param train_static: train the static vectors too.
    :param dropout: of the input features.
    """

    layers: str | int = "mix"
    normalization: Normalization = "standard"
    output_mix: bool = False
    static: str | None = None
    static_words: int = 100_000
    train_static: bool = False
    dropout: float = 0.3

    def __post_init__(self) -> None:
        self.layers = str(self.layers)
        check_choices(self, where="input.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"input.dropout must be at least 0 and less than 1, got {self.dropout}")
        if self.static_words < 0:
            raise InputError(f"input.static_words must not be negative, got {self.static_words}")


@accepts_renamed_settings
@dataclass
class FinetuningConfig:
    """Training settings.

    :param n_epochs: maximum number of passes over the training examples.
    :param patience: stop after this many epochs without a better score on the dev examples.
    :param batch_size: examples a step.
    :param learning_rate: of the head and the scalar mixes.
    :param weight_decay: of their matrices (AdamW).
    :param max_grad_norm: clip the global norm of the gradient to this value.
    :param mix_penalty: weight of the squared scores of the mixes (the paper's lambda), which pulls towards the average.
    :param encoder_training: of the language model: frozen; all, train it from the start; gradual, unfreeze one more
        layer each epoch, from the top.
    :param encoder_learning_rate: of the language model, if it is trained.
    :param seed: of the weights, the order of the examples and dropout.
    :param precision: of matrix products in training.
    :param cache_dtype: of the layers of a frozen language model on disk.
    :param cache_limit: deprecated: 0 means --no-cache, other values are ignored.
    """

    n_epochs: int = 40
    patience: int = 5
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    max_grad_norm: float = 5.0
    mix_penalty: float = 1e-3
    encoder_training: Literal["frozen", "all", "gradual"] = "frozen"
    encoder_learning_rate: float = 1e-4
    seed: int = 0
    precision: Precision = "32-true"
    cache_dtype: CacheDtype = "float32"
    cache_limit: float | None = None

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("n_epochs", "patience", "batch_size", "learning_rate", "max_grad_norm", "encoder_learning_rate"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("weight_decay", "mix_penalty"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.seed < 1 << 32:
            raise InputError(f"seed must be between 0 and 2 ** 32 - 1, got {self.seed}")
        if self.cache_limit is not None:
            warnings.warn(
                "cache_limit is deprecated and will be removed in the next release: use --no-cache instead of 0",
                FutureWarning,
                stacklevel=3,
            )
