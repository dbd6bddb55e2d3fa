"""Lightning's wiring of pretraining: loss, optimizer step, validation, and what a point to resume from holds.

The mathematics is in :mod:`elmolite.nn.bilm` and the softmaxes, the data in :mod:`elmolite.data.corpus`.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from elmolite.data.bptt import Batch
from elmolite.nn.bilm import BiLM, BiLMState
from elmolite.nn.lstm.reference import State
from elmolite.nn.softmax import Softmax
from elmolite.pretraining import distributed
from elmolite.pretraining.config import LARGE_VOCABULARY, PretrainingConfig
from elmolite.pretraining.consumed_text import ConsumedText
from elmolite.pretraining.data import rows_of
from elmolite.pretraining.ema import WeightAverage
from elmolite.pretraining.lightning_progress import loops_at
from elmolite.pretraining.perplexity import Perplexity, PerplexityMeter, run_batch, time_major
from elmolite.pretraining.sound_steps import SkippedSteps, finite_rows, is_finite
from elmolite.pretraining.sparse_rows import as_parameters, touched_rows


class PretrainingModule(LightningModule):
    """Loss, optimizer step and validation of a BiLM over streams, with the state carried from step to step."""

    def __init__(self, bilm: BiLM, softmax: Softmax, config: PretrainingConfig, n_steps: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.bilm = bilm
        self.softmax = softmax
        self.config = config
        self.n_steps = n_steps
        self.n_negatives = config.negatives_of(softmax)
        self.last_perplexity: Perplexity | None = None
        self.tables = self._mark_tables()
        self.average = WeightAverage(self, config.ema_decay, self.tables) if config.ema_decay else None
        self.skipped = SkippedSteps()
        self.text = ConsumedText()
        self._state: BiLMState | None = None
        self._meter: PerplexityMeter | None = None

    def _mark_tables(self) -> list[nn.Parameter]:
        """Return the weights of which a step touches few rows; their gradients are sparse, and no business of DDP."""
        names = []
        if self.n_negatives is not None and self.softmax.vocabulary_size >= LARGE_VOCABULARY:
            names += [f"softmax.{name}" for name in self.softmax.use_sparse_gradients()]
        encoder = self.bilm.token_encoder
        if len(encoder.table) >= LARGE_VOCABULARY:
            names += [f"bilm.token_encoder.{name}" for name in encoder.use_sparse_gradients()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, names)  # type: ignore[no-untyped-call]
        return [self.get_parameter(name) for name in names]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimizer; :meth:`training_step` sets its learning rate."""
        optimizer = self._make_optimizer()
        optimizer.register_state_dict_post_hook(_without_settings)
        optimizer.register_load_state_dict_pre_hook(_with_settings)
        return optimizer

    def _make_optimizer(self) -> torch.optim.Optimizer:
        if self.config.optimizer == "adagrad":
            return torch.optim.Adagrad(self.parameters(), lr=self.config.learning_rate, initial_accumulator_value=1.0)
        if self.config.optimizer == "sgd":
            return torch.optim.SGD(self.parameters(), lr=self.config.learning_rate)
        return torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, fused=True)

    def training_step(self, batches: list[Batch], step: int) -> dict[str, Any]:
        """Take one optimizer step; everything random in it is a function of (seed, number of the batch, rank).

        :returns: the loss summed over the targets of this process, their number, the learning rate and the gradient's
            norm; loss and number are 0 where the step was skipped.
        """
        n_targets = sum(batch.n_targets for batch in batches)
        share = self.trainer.world_size / (2 * self._of_all_ranks(n_targets))  # DDP divides by the world size
        total = torch.zeros((), device=self.device)
        for number, batch in enumerate(batches, step * len(batches)):
            torch.manual_seed(hash((self.config.seed, number, self.global_rank)) & 0x7FFF_FFFF)
            loss, penalty = self._loss(batch, number)
            self.manual_backward(loss * share + penalty / len(batches))
            total += loss.detach()
        learning_rate = self.config.learning_rate_at(step, self.n_steps)
        is_taken, norm = self._optimize(step, total, learning_rate)
        return {
            "loss_sum": total if is_taken else 0.0,
            "n_targets": n_targets if is_taken else 0,
            "learning_rate": learning_rate,
            "gradient_norm": norm,
        }

    def _optimize(self, step: int, loss: Tensor, learning_rate: float) -> tuple[bool, Tensor]:
        """Change the weights, unless a number of any process is none; return whether, and the norm of the gradient."""
        assert self._state is not None
        touched = [touched_rows(table) for table in self.tables]
        if self.average is not None:
            self.average.take_in(touched)
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)  # there is one
        with as_parameters(optimizer.optimizer, touched) as parameters:
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
            is_taken = distributed.all_true(loss.isfinite() & norm.isfinite() & is_finite(self._state))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            if not is_taken:
                optimizer.zero_grad()  # and without gradients the optimizer does nothing but count
            optimizer.step()
            optimizer.zero_grad()
        if not is_taken:
            self._state = finite_rows(self._state)
            self.skipped.skip(self, step, loss=float(loss), gradient_norm=float(norm))
            return False, norm
        self.skipped.take()
        if self.average is not None:
            self.average.update(step)
        return True, norm

    def _loss(self, batch: Batch, number: int) -> tuple[Tensor, Tensor | float]:
        """Return the loss of both directions summed over this rank's targets, and what the regularisers add."""
        if self._state is None:
            self._state = self.bilm.zero_state(len(batch.forward_inputs))
        forward, backward, state = run_batch(self.bilm, batch, self._state)
        self._state = state.detach()
        n_rows, n_steps = batch.forward_inputs.shape
        raw = torch.cat([forward, backward])
        hidden = torch.cat([self.bilm.dropout(part, [n_rows] * n_steps) for part in (forward, backward)])
        targets = torch.cat([time_major(batch.forward_targets), time_major(batch.backward_targets)])
        seed = hash((self.config.seed, number)) & 0x7FFF_FFFF
        loss = self.softmax.training_loss(hidden, targets, n_negatives=self.n_negatives, seed=seed)
        return loss, self._penalty(raw.view(2, n_steps, n_rows, -1), hidden)

    def _penalty(self, raw: Tensor, dropped: Tensor) -> Tensor | float:
        """Return what the activation regularisers add, from the top outputs (2, T, B, P) before and after dropout."""
        penalty: Tensor | float = 0.0
        if self.config.activation_regularization:
            penalty = penalty + self.config.activation_regularization * dropped.pow(2).mean()
        if self.config.temporal_activation_regularization and raw.shape[1] > 1:
            penalty = penalty + self.config.temporal_activation_regularization * raw.diff(dim=1).pow(2).mean()
        return penalty

    def _of_all_ranks(self, n_targets: int) -> int:
        """Return the targets of one direction of all ranks, at least 1."""
        if self.trainer.world_size > 1:
            counts = self.trainer.strategy.reduce(torch.tensor(n_targets, device=self.device), reduce_op="sum")
            n_targets = int(counts)
        return max(1, n_targets)

    def on_validation_epoch_start(self) -> None:
        """Start counting, with the averaged weights where there are any; the training state is not touched."""
        if self.average is not None:
            self.average.swap()
        self._meter = PerplexityMeter(self.bilm, self.softmax)

    def validation_step(self, batches: list[Batch], step: int) -> None:  # noqa: ARG002
        """Count a batch; every process evaluates the whole held-out text."""
        assert self._meter is not None
        for batch in batches:
            self._meter.update(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the perplexities."""
        assert self._meter is not None
        if self.average is not None:
            self.average.swap()
        self.last_perplexity = result = self._meter.result()
        values = {"forward": result.forward, "backward": result.backward, "average": result.average}
        with distributed.raising_together():
            for logger in self.loggers:
                logger.log_metrics({f"valid_{name}": value for name, value in values.items()}, self.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the average, what was read and skipped, and the LSTM state of every row, of all processes."""
        del checkpoint["loops"], checkpoint["epoch"]  # they follow from the step
        checkpoint["skipped"] = self.skipped.state()
        checkpoint["text"] = self.text.state()
        if self.average is not None:
            checkpoint["average"] = self.average.state()
        if self._state is None:
            checkpoint["lstm_state"] = None
            return
        checkpoint["lstm_state"] = [[self._of_all_rows(part) for part in state] for state in self._state]

    def _of_all_rows(self, part: Tensor) -> Tensor:
        """Join (L, rows of a process, size) over the processes."""
        return torch.cat(distributed.gather_tensor(part), dim=1)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back the average, what was read and skipped, and the LSTM state of the rows of this process."""
        checkpoint["loops"] = loops_at(self.trainer, checkpoint["global_step"])
        self.skipped.load_state(checkpoint["skipped"])
        self.text.load_state(checkpoint["text"], self.trainer.global_rank)
        if self.average is not None:
            self.average.load_state(checkpoint["average"])
        states = checkpoint["lstm_state"]
        if states is not None:
            rows = rows_of(self.trainer, self.config.n_rows)
            self._state = BiLMState(*(State(*(part[:, rows] for part in state)) for state in states))

    def on_train_start(self) -> None:
        """Bring a state that was loaded to the device: Lightning loads before it moves the model there.

        Tables begin in all processes as in the first; DDP sees to the other weights.
        """
        for table in self.tables:
            distributed.copy_from_first(table.detach())
        if self._state is not None:
            self._state = BiLMState(*(State(*(part.to(self.device) for part in state)) for state in self._state))


def _without_settings(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """Leave out of a point what the configuration says of the optimizer: betas, learning rate and so on."""
    return {**state, "param_groups": [{"params": group["params"]} for group in state["param_groups"]]}


def _with_settings(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Put in again what :func:`_without_settings` left out."""
    groups = zip(optimizer.param_groups, state["param_groups"], strict=True)
    return {**state, "param_groups": [{**ours, "params": theirs["params"]} for ours, theirs in groups]}
