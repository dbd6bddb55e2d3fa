"""Lightning module of fine-tuning, and the callback that keeps the best epoch."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from elmolite.errors import InputError
from elmolite.tasks.config import FinetuningConfig
from elmolite.tasks.data import TaskBatch
from elmolite.tasks.metrics import TaskScores
from elmolite.tasks.model import TaskModel
from elmolite.tasks.specs import TaskDescription
from elmolite.utils.console import ProgressBar

logger = logging.getLogger("elmolite")


class FinetuningModule(LightningModule):
    """Trains any :class:`TaskModel`; logs ``loss``, ``dev`` (the score) and ``dev_loss`` each epoch."""

    def __init__(
        self,
        model: TaskModel,
        description: TaskDescription,
        config: FinetuningConfig,
        dev_labels: Sequence[tuple[str, ...]],
    ) -> None:
        """:param dev_labels: labels of the dev examples, in the order of the batches."""
        super().__init__()
        self.model = model
        self.description = description
        self.config = config
        self.dev_labels = dev_labels
        self.dev_scores: TaskScores | None = None
        self.dev_loss = math.inf
        self._loss_sum: Tensor | float = 0.0
        self._n_batches = 0
        self._predicted: list[tuple[str, ...]] = []
        self._dev_loss_sum = 0.0

    def on_train_epoch_start(self) -> None:
        """Unfreeze one more layer of the language model, if that is gradual."""
        if self.config.encoder_training == "gradual" and self.model.elmo is not None:
            self.model.elmo.unfreeze(n_layers=min(self.current_epoch, self.model.elmo.n_layers))

    def training_step(self, batch: TaskBatch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Return the loss of a batch, with the penalty of the mixes."""
        loss = self.model.loss(batch.sentences, batch.targets)
        self._loss_sum = self._loss_sum + loss.detach()
        self._n_batches += 1
        return loss + self.config.mix_penalty * self.model.inputs.penalty()

    def mean_loss(self) -> float:
        """Return the mean loss of the batches since the last call, or raise if it is not finite."""
        mean = float(self._loss_sum) / self._n_batches
        self._loss_sum, self._n_batches = 0.0, 0
        if not math.isfinite(mean):
            raise InputError(f"training diverged: the loss is {mean}; try a lower `learning_rate`")
        return mean

    def on_validation_epoch_start(self) -> None:
        """Reset the predictions."""
        self._predicted = []
        self._dev_loss_sum = 0.0

    def validation_step(self, batch: TaskBatch, batch_idx: int) -> None:  # noqa: ARG002
        """Predict a batch of dev examples."""
        scores, mask = self.model(batch.sentences), batch.sentences[0].mask
        self._predicted += self.model.objective.decode(scores, mask)
        self._dev_loss_sum += float(self.model.objective.loss(scores, batch.targets, mask)) * len(batch.targets)

    def on_validation_epoch_end(self) -> None:
        """Score the predictions."""
        self.dev_scores = self.description.score(self.dev_labels, self._predicted)
        self.dev_loss = self._dev_loss_sum / len(self.dev_labels)
        self.log_dict({"dev": self.dev_scores.value, "dev_loss": self.dev_loss})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW, with a separate learning rate for the language model."""
        rates = {False: self.config.learning_rate, True: self.config.encoder_learning_rate}
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for name, parameter in _trained_parameters(self).items():
            decay = self.config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rates[name.startswith("elmo.")], decay), []).append(parameter)
        return torch.optim.AdamW(
            [{"params": each, "lr": rate, "weight_decay": decay} for (rate, decay), each in groups.items()]
        )


class BestEpoch(Callback):
    """Early stopping that keeps the weights of the epoch with the best dev score; shows the progress of long epochs.

    While the score is 0, as before any span is found, a lower dev loss is better.

    :ivar epochs: number, loss, dev score, dev loss and seconds of training of each epoch.
    """

    def __init__(self, *, patience: int, show: bool = True) -> None:
        self.patience = patience
        self.log_level = logging.INFO if show else logging.DEBUG
        self._show = None if show else False
        self._bar = ProgressBar("", unit="steps", show=False)
        self.epochs: list[dict[str, float]] = []
        self.epoch = 0
        self.scores: TaskScores | None = None
        self._best = (-math.inf, -math.inf)  # score, negative loss
        self._weights: dict[str, Tensor] = {}
        self._started = self._seconds = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Start the clock and the progress bar."""
        self._started = time.perf_counter()
        title, n_steps = f"epoch {trainer.current_epoch + 1}", int(trainer.num_training_batches)
        self._bar = ProgressBar(title, unit="steps", total=n_steps, show=self._show)

    def on_train_batch_end(self, *_: Any) -> None:
        """Update the progress bar."""
        self._bar.update(1)

    def on_exception(self, *_: Any) -> None:
        """Close the progress bar."""
        self._bar.close()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Stop the clock, and close the progress bar."""
        self._seconds = time.perf_counter() - self._started
        self._bar.close()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the epoch with the best so far."""
        assert isinstance(pl_module, FinetuningModule)
        scores, dev_loss = pl_module.dev_scores, pl_module.dev_loss
        assert scores is not None
        number, loss = trainer.current_epoch + 1, pl_module.mean_loss()
        pl_module.log("loss", loss)
        self.epochs.append(
            {"epoch": number, "loss": loss, "dev": scores.value, "dev_loss": dev_loss, "seconds": self._seconds}
        )
        rank = (scores.value, -dev_loss if scores.value == 0 else 0.0)
        is_best = rank > self._best or self.scores is None
        if is_best:
            self.scores, self.epoch, self._best = scores, number, rank
            self._weights = {name: each.detach().cpu().clone() for name, each in _trained_tensors(pl_module).items()}
        logger.log(
            self.log_level,
            f"epoch {number}: loss {loss:.4f}, dev {scores.name} {scores.value:.4f}{', best' if is_best else ''}, "
            f"{self._seconds:.1f} s",
        )
        if number - self.epoch >= self.patience:
            trainer.should_stop = True

    def restore(self, module: FinetuningModule) -> None:
        """Load the weights of the best epoch."""
        tensors = _trained_tensors(module)
        with torch.no_grad():
            for name, value in self._weights.items():
                tensors[name].copy_(value)


def _trained_tensors(module: FinetuningModule) -> dict[str, Tensor]:
    """Return everything that training changes: parameters and running statistics."""
    return _trained_parameters(module) | dict(module.model.head.named_buffers(prefix="head"))


def _trained_parameters(module: FinetuningModule) -> dict[str, Tensor]:
    """Return the trained parameters, with those of the language model that are unfrozen later."""
    trains_encoder = module.config.encoder_training != "frozen"
    return {
        name: each
        for name, each in module.model.named_parameters()
        if (trains_encoder if name.startswith("elmo.") else each.requires_grad)
    }
