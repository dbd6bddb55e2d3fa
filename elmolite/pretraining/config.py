"""Configuration of pretraining: the keys of a recipe and the flags of ``elmolite pretrain``."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from elmolite.errors import InputError, check_choice, check_choices
from elmolite.hub import RUN_FILE as RUN_FILE
from elmolite.utils import files
from elmolite.utils.config import Precision, accepts_renamed_settings, rename_keys

if TYPE_CHECKING:
    from elmolite.data.bptt import BPTTBatches
    from elmolite.nn.softmax import Softmax

RunConfig = dict[str, dict[str, Any]]
"""Plain values that a run resumes under: settings of the model, the training and the softmax; the corpus's checksum."""
RUN_VERSION = 1
SAMPLED = "sampled"
"""Value of ``softmax`` that trains the full softmax on sampled negatives."""
LARGE_VOCABULARY = 30_000
"""Vocabulary size from which ``softmax: auto`` is adaptive, and from which the sampled softmax and a table of input
words have row-sparse updates (:mod:`elmolite.pretraining.sparse_rows`)."""


@accepts_renamed_settings
@dataclass
class PretrainingConfig:
    """Hyper-parameters of pretraining.

    >>> PretrainingConfig(max_steps=1000, learning_rate=0.001).batch_size
    32

    :param n_epochs: Passes over the training text.
    :param max_steps: Maximum number of optimizer steps; null for no limit.
    :param batch_size: Batch size: parallel text streams per step, summed over devices.
    :param bptt_length: Tokens per window of truncated backpropagation through time (BPTT).
    :param accumulate_steps: Gradient accumulation: batches per optimizer step.
    :param reset_probability: Probability that a sentence starts from a zero LSTM state. 0 always carries the state
        through the text, but evaluation by sentence and embedding start from a zero state, which the model must
        have seen.
    :param activation_regularization: Weight of the L2 penalty on the top output after dropout ("AR", Merity et al.
        2017).
    :param temporal_activation_regularization: Weight of the L2 penalty on the change of the top output between
        positions ("TAR", Merity et al. 2017).
    :param ema_decay: Decay of the weight average (EMA) used for validation and the saved model; 0 disables it.
    :param optimizer: Optimizer. Adagrad starts with an accumulator of 1; SGD has no momentum; from 30,000 words,
        Adam is lazy for the sampled softmax and input word vectors.
    :param learning_rate: Peak learning rate, reached after warm-up.
    :param schedule: Decay of the learning rate after warm-up: to 0 (cosine, linear), or none (constant).
    :param warmup_steps: Steps of linear warm-up, at most half of the run.
    :param max_grad_norm: Maximum global norm of the gradient, for clipping.
    :param softmax: Softmax: full; sampled, as in bilm-tf; adaptive, exact and fast for large vocabularies; or auto:
        adaptive from 30,000 words, else full.
    :param n_negatives: Negative samples per step of the sampled softmax.
    :param n_validations: Number of validations, evenly spaced, the last at the end of the run.
    :param patience: Stop early after this many validations without improvement; 0 never stops early.
    :param valid_tokens: Maximum number of validation tokens.
    :param seed: Random seed of weights, document order, dropout and negative samples.
    :param precision: Precision of matrix products in training. Validation always computes in float32.
    :param n_devices: Number of GPUs, or of processes on the CPU, per machine.
    :param n_nodes: Number of machines, whose processes torchrun or SLURM starts.
    :param log_every_steps: Optimizer steps between two lines of the log.
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
        kinds: tuple[str, ...] = ("full", "adaptive")
        if "torch" in sys.modules and self.softmax not in ("auto", SAMPLED, *kinds):
            from elmolite.nn.softmax import SOFTMAXES  # to which a kind may have been added

            kinds = tuple(SOFTMAXES)
        check_choice("softmax", self.softmax, ("auto", SAMPLED, *kinds))
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


def read_run_config(out: Path) -> RunConfig:
    """Read the configuration of the run in a folder; settings that version 0.1 wrote have their current names."""
    content = files.read_manifest(out / RUN_FILE, kind="run", version=RUN_VERSION)
    if not isinstance(content.get("softmax"), dict) or not isinstance(content.get("training"), dict):
        raise InputError(f"{out / RUN_FILE}: 'softmax' and 'training' must be objects")
    return {**content, "training": rename_keys(PretrainingConfig, content["training"], warn=False)}
