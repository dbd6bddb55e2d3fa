"""How to fine-tune: what a head reads, which head, and how both are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from elmolite.errors import InputError, check_choices
from elmolite.tasks.cache_folder import DEFAULT_LIMIT_BYTES

GIB = 1 << 30
Normalization = Literal["standard", "layer", "none"]


@dataclass
class InputConfig:
    """What a head reads.

    :param layers: of the language model: mix, weighted as the task learns; token, top, average or a number; none.
    :param normalization: of the layers before they are mixed: standard, of each of their numbers over the words of the
        training examples; layer, of each token's vector over its numbers; or none.
    :param mixes_at_output: a second mix beside the output of the head's first network.
    :param static: a file of static word vectors (GloVe or word2vec) to stand beside the layers; null for none.
    :param static_words: words at the beginning of that file that are kept beside those of the examples, for what is
        predicted later.
    :param train_static: train them too.
    :param dropout: of all of it.
    """

    layers: str | int = "mix"
    normalization: Normalization = "standard"
    mixes_at_output: bool = False
    static: str | None = None
    static_words: int = 100_000
    train_static: bool = False
    dropout: float = 0.3

    def __post_init__(self) -> None:
        self.layers = str(self.layers)
        check_choices(self, where="input.")
        _check_share("input.dropout", self.dropout)
        if self.static_words < 0:
            raise InputError(f"input.static_words: {self.static_words} is negative")


@dataclass
class FinetuningConfig:
    """How to train.

    :param n_epochs: at most so many passes over the training examples.
    :param patience: stop after so many epochs without a better value on the dev examples.
    :param batch_size: examples of a step.
    :param learning_rate: of the head and the mixes.
    :param weight_decay: of their matrices (AdamW).
    :param clip_norm: bound of the gradient's global norm.
    :param mix_penalty: weight of the squared scores of the mixes: the paper's lambda, which pulls towards the average.
    :param encoder_training: whether the language model is frozen, trained from the start (all), or layer by layer from
        the top, one more each epoch (gradual).
    :param encoder_learning_rate: of the language model, where it is trained.
    :param seed: of the weights, the order of the examples and dropout.
    :param precision: of the products in training.
    :param cache_precision: of the layers of a frozen language model on disk.
    :param cache_limit: GiB that they may take, those of other runs included; 0 to compute them anew in every epoch.
    """

    n_epochs: int = 40
    patience: int = 5
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clip_norm: float = 5.0
    mix_penalty: float = 1e-3
    encoder_training: Literal["frozen", "all", "gradual"] = "frozen"
    encoder_learning_rate: float = 1e-4
    seed: int = 0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    cache_precision: Literal["float32", "float16"] = "float32"
    cache_limit: float = DEFAULT_LIMIT_BYTES / GIB

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("n_epochs", "patience", "batch_size", "learning_rate", "clip_norm", "encoder_learning_rate"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}: {getattr(self, name)} is not greater than 0")
        for name in ("weight_decay", "mix_penalty", "cache_limit"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name}: {getattr(self, name)} is negative")
        if not 0 <= self.seed < 1 << 32:
            raise InputError(f"seed: {self.seed} is not in [0, 2 ** 32)")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise InputError(f"{name}: {value} is not in [0, 1)")
