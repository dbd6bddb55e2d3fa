"""Configuration of pretraining: the keys of a recipe and the flags of ``elmolite pretrain``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from elmolite.errors import InputError, check_choice, check_choices
from elmolite.utils.config import Precision, accepts_renamed_settings

if TYPE_CHECKING:
    from elmolite.data.bptt import BPTTBatches
    from elmolite.nn.softmax import Softmax

RUN_VERSION = 1
RUN_FILE = "pretraining.json"
"""File in a run folder with the settings that the run was started with."""
SAMPLED = "sampled"
"""Value of ``softmax`` that trains the full softmax on sampled negatives."""
LARGE_VOCABULARY = 30_000
"""Vocabulary size from which ``softmax: auto`` is adaptive, and from which the sampled softmax and a table of input
words have row-sparse updates (:mod:`elmolite.pretraining.sparse_rows`)."""


@accepts_renamed_settings
@dataclass
class PretrainingConfig:
    """Hyper-parameters of pretraining.

    :param n_epochs: passes over the training text.
    :param max_steps: maximum number of optimizer steps; null for no limit.
    :param batch_size: rows of a batch, each a contiguous stream of text; over all devices.
    :param bptt_length: positions of truncated backpropagation through time, the length of a row.
    :param accumulate_steps: batches whose gradients are accumulated before an optimizer step.
    :param reset_probability: probability that a sentence starts from a zero LSTM state: 0 carries the state through
        the text, 1 starts every sentence afresh. With 0 the model never sees the state that evaluation and embedding
        start from, and may predict nonsense from it; a tenth of the sentences is enough to prevent that.
    :param activation_regularization: weight of the mean square of the top output after dropout (Merity et al. 2017,
        "AR").
    :param temporal_activation_regularization: weight of the mean square of the change of the top output from position
        to position ("TAR").
    :param ema_decay: decay per step of an exponential moving average of the weights, which is then validated and
        exported; 0 for no average.
    :param optimizer: Adam, Adagrad with an initial accumulator of 1, or SGD without momentum. From a vocabulary of
        30,000, Adam is lazy for the sampled softmax and for the vectors of input words: a step updates only the rows
        of its words.
    :param learning_rate: maximum learning rate.
    :param schedule: decay of the learning rate after the warm-up: cosine or linear to 0, or constant.
    :param warmup_steps: steps of linear warm-up, at most half the run.
    :param max_grad_norm: maximum global norm of the gradient, for clipping.
    :param softmax: full; sampled, as in bilm-tf; adaptive, which is exact too, at a cost that hardly grows with the
        vocabulary; or auto: full below a vocabulary of 30,000, adaptive from there.
    :param n_negatives: negative samples of the sampled softmax.
    :param n_validations: validations, evenly spaced, the last at the end of the run.
    :param patience: stop after this many validations in a row without improvement; 0 never stops early.
    :param valid_tokens: maximum number of validation tokens.
    :param seed: seed of the weights, the order of the documents, dropout and negative samples.
    :param precision: precision of matrix products in training; validation always computes in fp32.
    :param n_devices: GPUs, or processes on the CPU, per node.
    :param n_nodes: machines; with several, torchrun or SLURM starts the processes (``recipes/distributed``).
    :param log_every_steps: optimizer steps between two lines of the log.
    """

    n_epochs: float = 10.0
    max_steps: int | None = None
    batch_size: int = 32
    bptt_length: int = 20
    accumulate_steps: int = 1
    reset_probability: float = 0.1
    activation_regularization: float = 0.0
    temporal_activation_regularization: float = 0.0
    ema_decay: float = 0.0
    optimizer: Literal["adam", "adagrad", "sgd"] = "adam"
    learning_rate: float = 2e-3
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: int = 200
    max_grad_norm: float = 1.0
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
        if self.softmax != "auto":
            from elmolite.nn.softmax import SOFTMAXES  # imports torch

            check_choice("softmax", self.softmax, ("auto", SAMPLED, *SOFTMAXES))
        positive = ["n_epochs", "batch_size", "bptt_length", "accumulate_steps", "learning_rate", "max_grad_norm"]
        positive += ["n_negatives", "n_validations", "valid_tokens", "n_devices", "n_nodes", "log_every_steps"]
        for name in positive if self.max_steps is None else [*positive, "max_steps"]:
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("activation_regularization", "temporal_activation_regularization", "patience", "warmup_steps"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.reset_probability <= 1:
            raise InputError(f"reset_probability must be between 0 and 1, got {self.reset_probability}")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"ema_decay must be at least 0 and less than 1, got {self.ema_decay}")
        if not 0 <= self.seed < 1 << 32:
            raise InputError(f"seed must be at least 0 and less than 2 ** 32, got {self.seed}")
        if self.batch_size % (self.n_devices * self.n_nodes):
            raise InputError(
                f"batch_size must be a multiple of the {self.n_devices * self.n_nodes} processes, got {self.batch_size}"
            )

    def n_steps(self, streams: BPTTBatches) -> int:
        """Return the number of optimizer steps of the run."""
        n_batches = epoch = 0
        while epoch < self.n_epochs and not (self.max_steps and n_batches >= self.max_steps * self.accumulate_steps):
            share = min(1, self.n_epochs - epoch)
            n_batches += math.ceil(share * streams.epoch_steps(epoch))
            epoch += 1
        n_steps = -(-n_batches // self.accumulate_steps)
        return min(n_steps, self.max_steps or n_steps)

    def learning_rate_at(self, step: int, n_steps: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        n_warm = min(self.warmup_steps, n_steps // 2)  # a short run must decay too
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
        """Return the number of sampled negatives for the training of a softmax; ``None`` for the full loss.

        With ``auto``, a large softmax that can sample does: it comes from a warm start and was trained so.
        """
        is_large = softmax.can_sample and softmax.vocabulary_size >= LARGE_VOCABULARY
        return self.n_negatives if self.softmax == SAMPLED or (self.softmax == "auto" and is_large) else None
