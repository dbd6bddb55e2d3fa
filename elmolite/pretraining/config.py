"""How to train: the fields of a recipe and of the command line of ``elmolite pretrain``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from elmolite.errors import InputError, check_choices, nearest
from elmolite.nn.softmax import SOFTMAXES, Softmax
from elmolite.utils.config import Precision

if TYPE_CHECKING:
    from elmolite.data.bptt import BPTTBatches

RUN_VERSION = 1
RUN_FILE = "pretraining.json"
"""In the folder of a run: the settings that it was started with."""
SAMPLED = "sampled"
"""Value of ``softmax`` that trains the full softmax on sampled negatives."""
LARGE_VOCABULARY = 30_000
"""From this vocabulary on ``softmax: auto`` is the adaptive one, and of the sampled one, and of a table of words that
are read, a step trains only the rows that it touches (:mod:`elmolite.pretraining.sparse_rows`)."""


@dataclass
class PretrainingConfig:
    """How to train.

    :param n_epochs: passes over the training text.
    :param max_steps: stop earlier, after so many optimizer steps; null for no such bound.
    :param n_rows: streams side by side, over all devices.
    :param window: positions of truncated backpropagation through time.
    :param n_accumulated: windows whose gradients a step adds up: a larger batch in the memory of a small one.
    :param reset_probability: of starting a sentence from zero state: 0 carries the state through the text, 1 starts
        each afresh. With 0 the model never sees the state that evaluation and embedding start from, and may
        predict nonsense from it; a tenth of the sentences is enough to prevent that.
    :param activation_regularization: weight of the mean square of the top output as it goes, dropout applied, into the
        softmax (Merity et al. 2017, "AR").
    :param temporal_activation_regularization: weight of the mean square of its change from step to step ("TAR").
    :param ema_decay: keep an exponential moving average of the weights, of which a step leaves so much, and
        validate and export that; 0 for none.
    :param optimizer: Adam, Adagrad with its accumulator starting at 1, or plain SGD without momentum. From a
        vocabulary of 30,000 on Adam is lazy for the sampled softmax and for the vectors of words that a model reads:
        a word stands still in the steps that do not have it.
    :param learning_rate: the highest.
    :param schedule: of the learning rate after the warm-up: down to 0 along a cosine or a line, or constant.
    :param warmup_steps: steps over which the learning rate rises, at most half the run.
    :param clip_norm: bound of the gradient's global norm.
    :param softmax: full; sampled, as in bilm-tf; adaptive, which is exact too, at a cost that hardly grows with the
        vocabulary; or auto: full up to a vocabulary of 30,000 and adaptive from there.
    :param n_negatives: draws of the sampled softmax.
    :param n_validations: evaluations of the held-out text, evenly over the run, the last at its end.
    :param patience: end the run after so many evaluations in a row that are no better than the best; 0 for no such end.
    :param valid_tokens: at most so many tokens of it are evaluated.
    :param seed: of the weights, the order of the documents, dropout and negatives.
    :param precision: of the products in training; validation always computes in fp32.
    :param n_devices: GPUs, or processes on the CPU, of each node.
    :param n_nodes: machines; on several, torchrun or SLURM starts the processes (``recipes/distributed``).
    :param log_every_steps: between two lines of the log.
    """

    n_epochs: float = 10.0
    max_steps: int | None = None
    n_rows: int = 32
    window: int = 20
    n_accumulated: int = 1
    reset_probability: float = 0.1
    activation_regularization: float = 0.0
    temporal_activation_regularization: float = 0.0
    ema_decay: float = 0.0
    optimizer: Literal["adam", "adagrad", "sgd"] = "adam"
    learning_rate: float = 2e-3
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: int = 200
    clip_norm: float = 1.0
    softmax: str = "auto"
    n_negatives: int = 1024
    n_validations: int = 10
    patience: int = 0
    valid_tokens: int = 200_000
    seed: int = 0
    precision: Precision = "32-true"
    n_devices: int = 1
    n_nodes: int = 1
    log_every_steps: int = 20

    def __post_init__(self) -> None:
        check_choices(self)
        if self.softmax not in (choices := ("auto", SAMPLED, *SOFTMAXES)):
            raise InputError(f"softmax: unknown {self.softmax!r}{nearest(self.softmax, choices)}")
        positive = ("n_epochs", "n_rows", "window", "learning_rate", "clip_norm", "n_negatives", "n_validations")
        for name in (*positive, "n_accumulated", "valid_tokens", "n_devices", "n_nodes", "log_every_steps"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}: {getattr(self, name)} is not greater than 0")
        if self.max_steps is not None and self.max_steps < 1:
            raise InputError(f"max_steps: {self.max_steps} is not greater than 0")
        if self.activation_regularization < 0 or self.temporal_activation_regularization < 0:
            raise InputError("activation_regularization and temporal_activation_regularization must be at least 0")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"ema_decay: {self.ema_decay} is not in [0, 1)")
        if not 0 <= self.seed < 1 << 32:
            raise InputError(f"seed: {self.seed} is not in [0, 2 ** 32)")
        if self.patience < 0:
            raise InputError(f"patience: {self.patience} is not at least 0")
        if self.warmup_steps < 0 or not 0 <= self.reset_probability <= 1:
            raise InputError("warmup_steps must be at least 0 and reset_probability in [0, 1]")
        if self.n_rows % (self.n_devices * self.n_nodes):
            raise InputError(
                f"n_rows: {self.n_rows} cannot be dealt evenly to {self.n_devices * self.n_nodes} processes"
            )

    def n_steps(self, streams: BPTTBatches) -> int:
        """Return the number of optimizer steps of the run."""
        n_windows = epoch = 0
        while epoch < self.n_epochs and not (self.max_steps and n_windows >= self.max_steps * self.n_accumulated):
            share = min(1, self.n_epochs - epoch)
            n_windows += math.ceil(share * streams.epoch_steps(epoch))
            epoch += 1
        n_steps = -(-n_windows // self.n_accumulated)
        return min(n_steps, self.max_steps or n_steps)

    def learning_rate_at(self, step: int, n_steps: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        n_warm = min(self.warmup_steps, n_steps // 2)  # a short run must come down again
        if step < n_warm:
            return self.learning_rate * (step + 1) / n_warm
        left = 1 - (step - n_warm) / (n_steps - n_warm)
        decay = {"cosine": 0.5 - 0.5 * math.cos(math.pi * left), "linear": left, "constant": 1.0}[self.schedule]
        return self.learning_rate * decay

    def softmax_kind(self, vocabulary_size: int) -> str:
        """Return the kind of a new softmax, a key of :data:`elmolite.nn.softmax.SOFTMAXES`."""
        if self.softmax == "auto":
            return "adaptive" if vocabulary_size >= LARGE_VOCABULARY else "full"
        return "full" if self.softmax == SAMPLED else self.softmax

    def negatives_of(self, softmax: Softmax) -> int | None:
        """Return the number of sampled negatives a softmax is trained on; ``None`` for the full loss.

        With ``auto``, a large softmax that can sample does: only a model to start from has one, and it was trained so.
        """
        is_large = softmax.can_sample and softmax.vocabulary_size >= LARGE_VOCABULARY
        return self.n_negatives if self.softmax == SAMPLED or (self.softmax == "auto" and is_large) else None
