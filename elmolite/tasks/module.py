"""Lightning's wiring of fine-tuning: loss, optimizer, dev examples after each epoch, and the best weights kept."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from elmolite.errors import InputError
from elmolite.tasks.config import FinetuningConfig
from elmolite.tasks.data import TaskBatch
from elmolite.tasks.metrics import TaskScores
from elmolite.tasks.model import TaskModel
from elmolite.tasks.specs import TaskDescription


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
        self.dev_loss = math.inf
        self._loss_sum: Tensor | float = 0.0
        self._n_batches = 0
        self._predicted: list[tuple[str, ...]] = []
        self._dev_loss = 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make AdamW, with a learning rate of its own for the language model."""
        rates = {False: self.config.learning_rate, True: self.config.encoder_learning_rate}
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for name, parameter in _learnt_parameters(self).items():
            decay = self.config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rates[name.startswith("elmo.")], decay), []).append(parameter)
        return torch.optim.AdamW(
            [{"params": each, "lr": rate, "weight_decay": decay} for (rate, decay), each in groups.items()]
        )

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
        self._predicted = []
        self._dev_loss = 0.0

    def validation_step(self, batch: TaskBatch, number: int) -> None:  # noqa: ARG002
        """Predict a batch of the dev examples."""
        scores, mask = self.model(batch.sentences), batch.sentences[0].mask
        self._predicted += self.model.objective.decode(scores, mask)
        self._dev_loss += float(self.model.objective.loss(scores, batch.targets, mask)) * len(batch.targets)

    def on_validation_epoch_end(self) -> None:
        """Measure the predictions of the dev examples."""
        self.dev_scores = self.description.score(self.dev_labels, self._predicted)
        self.dev_loss = self._dev_loss / len(self.dev_labels)


class BestEpoch(Callback):
    """Keeps the weights of the epoch that is best on the dev examples, and stops when none was better for long.

    As long as the value is 0, as when no span is found yet, an epoch with a lower loss on the dev examples is better.

    :ivar epochs: for each epoch its loss, its value and loss on the dev examples, and its seconds of training.
    """

    def __init__(self, *, patience: int, show: bool) -> None:
        self.patience = patience
        self.show = show
        self.epochs: list[dict[str, float]] = []
        self.epoch = 0
        self.scores: TaskScores | None = None
        self._best = (-math.inf, -math.inf)  # value, and loss with the other sign
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
        dev_loss = pl_module.dev_loss
        self.epochs.append(
            {"epoch": number, "loss": loss, "dev": result.value, "dev_loss": dev_loss, "seconds": self._seconds}
        )
        value = (result.value, -dev_loss if result.value == 0 else 0.0)
        is_best = value > self._best or self.scores is None
        if is_best:
            self.scores, self.epoch, self._best = result, number, value
            self._weights = {name: each.detach().cpu().clone() for name, each in _learnt(pl_module).items()}
        if self.show:
            mark = ", the best" if is_best else ""
            print(
                f"epoch {number}: loss {loss:.4f}, dev {result.name} {result.value:.4f}{mark}, {self._seconds:.1f} s",
                flush=True,
            )
        if number - self.epoch >= self.patience:
            trainer.should_stop = True

    def restore(self, module: FinetuningModule) -> None:
        """Go back to the best epoch."""
        learnt = _learnt(module)
        with torch.no_grad():
            for name, value in self._weights.items():
                learnt[name].copy_(value)


def _learnt(module: FinetuningModule) -> dict[str, Tensor]:
    """Return what training changes: weights and running statistics."""
    return _learnt_parameters(module) | dict(module.model.head.named_buffers(prefix="head"))


def _learnt_parameters(module: FinetuningModule) -> dict[str, Tensor]:
    """Return the weights that training changes: of a language model that learns all, also those that learn later."""
    learns = module.config.encoder_training != "frozen"
    return {
        name: each
        for name, each in module.model.named_parameters()
        if (learns if name.startswith("elmo.") else each.requires_grad)
    }
