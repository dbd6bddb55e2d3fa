"""Lightning's wiring of fine-tuning: loss, optimizer, dev examples after each epoch, and the best weights kept."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from elmolite.errors import InputError
from elmolite.finetuning_config import FinetuningConfig
from elmolite.task_data import TaskBatch
from elmolite.task_model import TaskDescription, TaskModel
from elmolite.task_scores import TaskScores, score
from elmolite.tasks.objectives import Prediction


class FinetuningModule(LightningModule):
    """Trains any :class:`TaskModel`."""

    def __init__(
        self,
        model: TaskModel,
        description: TaskDescription,
        config: FinetuningConfig,
        dev_labels: Sequence[tuple[str, ...]],
    ) -> None:
        """:param dev_labels: of the dev examples, in their order."""
        super().__init__()
        self.model = model
        self.description = description
        self.config = config
        self.dev_labels = dev_labels
        self.dev_scores: TaskScores | None = None
        self._loss_sum: Tensor | float = 0.0
        self._n_batches = 0
        self._predictions: list[Prediction] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make AdamW, with a learning rate of its own for the language model."""
        decay = {"weight_decay": self.config.weight_decay}
        encoder = [] if self.model.elmo is None else list(self.model.elmo.parameters())
        of_encoder = set(map(id, encoder))
        rest = [each for each in self.model.parameters() if id(each) not in of_encoder and each.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [each for each in rest if each.ndim > 1], **decay},
            {"params": [each for each in rest if each.ndim <= 1], "weight_decay": 0.0},
        ]
        if self.config.encoder_training != "frozen":
            groups.append({"params": encoder, "lr": self.config.encoder_learning_rate, **decay})
        return torch.optim.AdamW(groups, lr=self.config.learning_rate)

    def on_train_epoch_start(self) -> None:
        """Let one layer more of the language model learn."""
        if self.config.encoder_training == "gradual" and self.model.elmo is not None:
            self.model.elmo.unfreeze(n_layers=min(self.current_epoch, self.model.elmo.n_layers))

    def training_step(self, batch: TaskBatch, number: int) -> Tensor:  # noqa: ARG002
        """Return the loss of a batch, the penalty of the mixes included."""
        loss = self.model.loss(batch.sentences, batch.targets)
        self._loss_sum = self._loss_sum + loss.detach()
        self._n_batches += 1
        return loss + self.config.mix_penalty * self.model.inputs.penalty()

    def mean_loss(self) -> float:
        """Return the mean of the batches since the last call.

        :raises InputError: it is no number.
        """
        mean = float(self._loss_sum) / self._n_batches
        self._loss_sum, self._n_batches = 0.0, 0
        if not math.isfinite(mean):
            raise InputError(f"training diverged: the loss is {mean}; try a lower --learning-rate")
        return mean

    def on_validation_epoch_start(self) -> None:
        """Start collecting."""
        self._predictions = []

    def validation_step(self, batch: TaskBatch, number: int) -> None:  # noqa: ARG002
        """Predict a batch of the dev examples."""
        self._predictions += self.model.predict(batch.sentences)

    def on_validation_epoch_end(self) -> None:
        """Measure the predictions of the dev examples."""
        self.dev_scores = score(self.description, self.dev_labels, self._predictions)


class BestEpoch(Callback):
    """Keeps the weights of the epoch that is best on the dev examples, and stops when none was better for long.

    :ivar epochs: for each epoch its loss, its value on the dev examples and its seconds of training.
    """

    def __init__(self, *, patience: int, show: bool) -> None:
        self.patience = patience
        self.show = show
        self.epochs: list[dict[str, float]] = []
        self.epoch = 0
        self.scores: TaskScores | None = None
        self._weights: dict[str, Tensor] = {}
        self._began = self._seconds = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Take the time."""
        self._began = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Take the time of training alone."""
        self._seconds = time.perf_counter() - self._began

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the epoch with the best before it."""
        assert isinstance(pl_module, FinetuningModule)
        result = pl_module.dev_scores
        assert result is not None
        number = trainer.current_epoch + 1
        loss = pl_module.mean_loss()
        self.epochs.append({"epoch": number, "loss": loss, "dev": result.value, "seconds": self._seconds})
        is_best = self.scores is None or result.value > self.scores.value
        if is_best:
            self.scores, self.epoch = result, number
            self._weights = {name: each.detach().cpu().clone() for name, each in _learnt(pl_module).items()}
        if self.show:
            mark = ", the best" if is_best else ""
            print(
                f"epoch {number}: loss {loss:.4f}, dev {result.name} {result.value:.4f}{mark}, {self._seconds:.1f} s",
                flush=True,
            )
        if number - self.epoch >= self.patience:
            trainer.should_stop = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Go back to the best epoch."""
        assert isinstance(pl_module, FinetuningModule)
        learnt = _learnt(pl_module)
        with torch.no_grad():
            for name, value in self._weights.items():
                learnt[name].copy_(value)


def _learnt(module: FinetuningModule) -> dict[str, Tensor]:
    """Return what training changes: weights and running statistics, of the language model too unless it is frozen."""
    is_frozen = (
        module.config.encoder_training == "frozen"
    )  # of a gradually trained one all counts, also what learns later
    parameters = {
        name: each
        for name, each in module.model.named_parameters()
        if (each.requires_grad or not is_frozen) and not (is_frozen and name.startswith("elmo."))
    }
    return parameters | dict(module.model.head.named_buffers(prefix="head"))
