"""LightningModule and data of pretraining: batches, loss, optimizer step, validation, checkpoint content.

The mathematics is in :mod:`elmolite.nn.bilm` and the softmaxes, the batches come from :mod:`elmolite.data.bptt`.
"""

from __future__ import annotations

import copy
import itertools
import logging
import math
import signal
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from elmolite.data.bptt import Batch, BPTTBatches
from elmolite.nn.bilm import BiLM, BiLMState
from elmolite.nn.char_cnn import CharacterCNN, WordEncoder
from elmolite.nn.lstm.reference import State
from elmolite.nn.softmax import Softmax, TargetGroups
from elmolite.pretraining import distributed
from elmolite.pretraining.config import LARGE_VOCABULARY, PretrainingConfig
from elmolite.pretraining.cuda_graph import TrainingWindow
from elmolite.pretraining.ema import EMA
from elmolite.pretraining.evaluation import Perplexity, PerplexityMeter, time_major
from elmolite.pretraining.setup import PretrainingRun
from elmolite.pretraining.sparse_rows import row_sparse_update, take_row_gradients
from elmolite.utils.cpu import n_cores

MAX_SKIPPED_IN_A_ROW = 10
MAX_BATCH_WORKERS = 4
_DROPOUT, _NEGATIVES = 0, 1  # purposes of random numbers, so that no two streams are equal


def rows_of_rank(trainer: Trainer, batch_size: int) -> slice:
    """Return the rows of the whole batch that this rank trains or evaluates; none if there are more ranks than rows."""
    rank, n_ranks = trainer.global_rank, trainer.world_size
    return slice(rank * batch_size // n_ranks, (rank + 1) * batch_size // n_ranks)


class _ResumingSampler(Sampler[int]):
    """Steps from the resumed one to the end; its length stays that of the whole run, as Lightning's counters expect."""

    def __init__(self, first: int, n_steps: int) -> None:
        self.first, self.n_steps = first, n_steps

    def __len__(self) -> int:
        return self.n_steps

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.n_steps))


class _BatchesOfSteps(Dataset[list[Batch]]):
    """Batches of an optimizer step, of some rows, by step.

    :param bounds: of the clusters by which the targets are grouped, as :attr:`Softmax.bounds`.
    """

    def __init__(self, streams: BPTTBatches, rows: slice, n_batches: int, bounds: Sequence[int] = ()) -> None:
        self.streams, self.rows, self.n_batches, self.bounds = streams, rows, n_batches, bounds

    def __getitem__(self, step: int) -> list[Batch]:
        first = step * self.n_batches
        return [self._batch(number) for number in range(first, first + self.n_batches)]

    def _batch(self, number: int) -> Batch:
        batch = self.streams.batch(number, rows=self.rows)
        return batch._replace(groups=TargetGroups.of(_targets(batch), self.bounds)) if self.bounds else batch


def _targets(batch: Batch) -> Tensor:
    """Return the targets of both directions, (2 * T * B), in the order of the training loss."""
    return torch.cat([time_major(batch.forward_targets), time_major(batch.backward_targets)])


def n_batch_workers(device: torch.device) -> int:
    """Return the number of processes that make batches ahead.

    A GPU would wait while the main process makes a batch: at 512 x 20 for 7 ms, where it computes for 14. On a CPU a
    batch takes a fiftieth of a step or less, and another process would take a core from training.
    """
    if device.type != "cuda":
        return 0
    return max(1, min(MAX_BATCH_WORKERS, n_cores() // max(1, torch.cuda.device_count()) - 1))


def _ignore_signals(_: int) -> None:
    """Leave SIGTERM and SIGINT, sent to all processes of a group, to the main process, which ends its workers."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)


class PretrainingData(LightningDataModule):
    """Training batches of this rank's rows, and the validation text."""

    def __init__(self, run: PretrainingRun) -> None:
        super().__init__()
        self.run = run

    def train_dataloader(self) -> DataLoader[list[Batch]]:
        """Return the steps that remain: lists of batches, several with gradient accumulation."""
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        n_workers = n_batch_workers(device)
        rows = rows_of_rank(self.trainer, self.run.train.batch_size)
        return DataLoader(
            _BatchesOfSteps(self.run.train, rows, self.run.config.accumulate_steps, self.run.softmax.bounds),
            batch_size=None,
            sampler=_ResumingSampler(self.trainer.global_step, self.run.n_steps),
            num_workers=n_workers,
            worker_init_fn=_ignore_signals,
            persistent_workers=n_workers > 0,
            pin_memory=device.type == "cuda",
        )

    def val_dataloader(self) -> DataLoader[list[Batch]] | list[Any]:
        """Return the batches of this rank's rows of the validation text."""
        if (valid := self.run.valid) is None:
            return []
        assert self.trainer is not None
        rows = rows_of_rank(self.trainer, valid.batch_size)
        n_batches = int(rows.start < rows.stop)
        return DataLoader(_BatchesOfSteps(valid, rows, n_batches), batch_size=None, sampler=range(valid.epoch_steps(0)))


class PretrainingModule(LightningModule):
    """Truncated backpropagation through time of a BiLM over streams of text."""

    def __init__(self, bilm: BiLM, softmax: Softmax, config: PretrainingConfig, n_steps: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.bilm = bilm
        self.softmax = softmax
        self.config = config
        self.n_steps = n_steps
        self.n_negatives = config.negatives_of(softmax)
        self.last_perplexity: Perplexity | None = None
        self.tables_of = self._sparse_tables()
        self.tables = list(itertools.chain(*self.tables_of.values()))
        is_table = set(self.tables)
        dense = {name: part.numel() for name, part in self.named_parameters() if part not in is_table}
        self._smallest = min(dense, key=dense.__getitem__)  # name of a parameter that DDP reduces
        self.ema = EMA(self, config.ema_decay, self.tables) if config.ema_decay else None
        self.guard = NonFiniteGuard()
        self._restored_step = 0
        self._window = TrainingWindow(bilm)
        self._state: BiLMState | None = None
        self._meter: PerplexityMeter | None = None

    def _sparse_tables(self) -> dict[nn.Module, list[nn.Parameter]]:
        """Return the parameters with row-sparse updates, hidden from DDP, by the layer that looks up their rows.

        DDP reduces the gradients of the parameters that require one when it is constructed, and refuses sparse ones;
        :meth:`on_train_start`, after the construction, lets the tables have gradients.
        """
        owners: list[Softmax | CharacterCNN | WordEncoder] = []
        if self.n_negatives is not None and self.softmax.vocabulary_size >= LARGE_VOCABULARY:
            owners.append(self.softmax)
        if len(self.bilm.token_encoder.table) >= LARGE_VOCABULARY:
            owners.append(self.bilm.token_encoder)
        tables_of: dict[nn.Module, list[nn.Parameter]] = {}
        for owner in owners:
            if names := owner.use_sparse_gradients():
                tables_of[owner] = [owner.get_parameter(name) for name in names]
        for table in itertools.chain(*tables_of.values()):
            table.requires_grad_(False)
        return tables_of

    @property
    def step(self) -> int:
        """Optimizer steps of the run, those before a resumption included."""
        return max(self.trainer.global_step, self._restored_step)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Create the optimizer; :meth:`training_step` sets its learning rate."""
        rate = self.config.learning_rate
        optimizer: torch.optim.Optimizer
        if self.config.optimizer == "adagrad":
            optimizer = torch.optim.Adagrad(self.parameters(), lr=rate, initial_accumulator_value=1.0)
        elif self.config.optimizer == "sgd":
            optimizer = torch.optim.SGD(self.parameters(), lr=rate)
        else:
            optimizer = torch.optim.Adam(self.parameters(), lr=rate, fused=True)
        optimizer.register_state_dict_post_hook(_without_settings)
        optimizer.register_load_state_dict_pre_hook(_with_settings)
        return optimizer

    def on_train_start(self) -> None:
        """Enable the gradients of sparse tables, and move a restored LSTM state to the device of the model."""
        for table in self.tables:
            table.requires_grad_(True)
        if self._state is not None:
            self._state = BiLMState(*(State(*(part.to(self.device) for part in state)) for state in self._state))

    def training_step(self, batches: list[Batch], step: int) -> dict[str, Any]:
        """Take one optimizer step; its random numbers are a function of (seed, batch number, rank).

        :returns: ``loss_sum``, over the targets of this rank, ``n_targets``, both 0 if the step was skipped,
            ``learning_rate`` and ``gradient_norm``.
        """
        n_targets = sum(batch.n_targets for batch in batches)
        n_of_all_ranks = max(1, sum(batch.n_targets_of_all_rows for batch in batches))
        scale = self.trainer.world_size / (2 * n_of_all_ranks)  # DDP divides by the world size
        total = torch.zeros((), device=self.device)
        for index, batch in enumerate(batches):
            number = step * len(batches) + index
            torch.manual_seed(_seed(_DROPOUT, self.config.seed, number, self.global_rank))
            loss, penalty = self._loss(batch, number)
            assert self._state is not None
            is_finite, self._state = reset_nonfinite_rows(self._state)
            # NaN in a gradient spreads to all ranks, also from a rank without targets.
            poison = torch.where(is_finite & loss.isfinite(), 0.0, math.nan) * self.get_parameter(self._smallest).sum()
            with self._gradients_kept_local(index < len(batches) - 1):
                self.manual_backward(loss * scale + penalty / len(batches) + poison)
            total += loss.detach()
        learning_rate = self.config.learning_rate_at(step, self.n_steps)
        is_taken, norm = self._optimize(step, learning_rate)
        self.guard.record(step, is_taken, loss=total, gradient_norm=norm)
        return {
            "loss_sum": total.where(is_taken, 0),
            "n_targets": n_targets * is_taken,
            "learning_rate": learning_rate,
            "gradient_norm": norm,
        }

    def _gradients_kept_local(self, is_local: bool) -> AbstractContextManager[Any]:
        """Leave the gradients of a backward pass that others follow to the reduction of the last one."""
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if is_local and isinstance(strategy, DDPStrategy) else nullcontext()

    def _loss(self, batch: Batch, number: int) -> tuple[Tensor, Tensor | float]:
        """Return the loss of both directions summed over this rank's targets, and the activation penalty."""
        if self._state is None:
            self._state = self.bilm.zero_state(len(batch.forward_inputs))
        n_rows, n_steps = batch.forward_inputs.shape
        words = self.bilm.encode(batch.unique_words)
        tokens = torch.stack([time_major(batch.forward_inputs), time_major(batch.backward_inputs)])
        reset_mask = None if batch.reset_mask is None else time_major(batch.reset_mask)
        raw, self._state = self._window(F.embedding(tokens, words), self._state, reset_mask)  # (2, N, P)
        hidden = torch.cat([self.bilm.dropout(part, [n_rows] * n_steps) for part in raw])
        seed = _seed(_NEGATIVES, self.config.seed, number)  # the same on all ranks
        loss = self.softmax.training_loss(
            hidden, _targets(batch), n_negatives=self.n_negatives, seed=seed, groups=batch.groups
        )
        return loss, self._penalty(raw.view(2, n_steps, n_rows, -1), hidden)

    def _penalty(self, raw: Tensor, dropped: Tensor) -> Tensor | float:
        """Return the activation regularization of the top outputs (2, T, B, P) before and after dropout."""
        penalty: Tensor | float = 0.0
        if self.config.activation_regularization:
            penalty = penalty + self.config.activation_regularization * dropped.pow(2).mean()
        if self.config.temporal_activation_regularization and raw.shape[1] > 1:
            penalty = penalty + self.config.temporal_activation_regularization * raw.diff(dim=1).pow(2).mean()
        return penalty

    def _optimize(self, step: int, learning_rate: float) -> tuple[Tensor, Tensor]:
        """Clip and apply the gradients if they are finite, without a wait for the device.

        :returns: whether they were, a boolean scalar on the device that is equal on all ranks, and their norm.
        """
        row_gradients = [each for tables in self.tables_of.values() for each in take_row_gradients(tables)]
        if self.ema is not None:
            self.ema.update_rows(row_gradients)
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)  # there is one
        with row_sparse_update(optimizer.optimizer, row_gradients) as parameters:
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)
            is_taken = norm.isfinite()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            if isinstance(optimizer.optimizer, torch.optim.Adam):
                # As GradScaler does: the fused step reads it on the device, and then does nothing.
                optimizer.optimizer.found_inf = (~is_taken).float()  # type: ignore[attr-defined]
            else:
                for parameter in parameters:  # a zero gradient changes nothing without momentum
                    if parameter.grad is not None:
                        parameter.grad.masked_fill_(~is_taken, 0)
            optimizer.step()
            optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(step, is_taken)
        return is_taken, norm

    def on_validation_epoch_start(self) -> None:
        """Start a perplexity, of the averaged weights if there is an average."""
        if self.ema is not None:
            self.ema.swap()
        self._meter = PerplexityMeter(self.bilm, self.softmax)

    def validation_step(self, batches: list[Batch], step: int) -> None:  # noqa: ARG002
        """Add a batch."""
        assert self._meter is not None
        for batch in batches:
            self._meter.update(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the perplexities."""
        assert self._meter is not None
        if self.ema is not None:
            self.ema.swap()
        self.last_perplexity = result = self._meter.result()
        values = {name: getattr(result, name) for name in ("forward", "backward", "average")}
        self.log_metrics({f"valid_{name}": value for name, value in values.items()})

    def log_metrics(self, metrics: dict[str, float]) -> None:
        """Write metrics to all loggers at the step of the run, and give them to callbacks as ``callback_metrics``."""
        with distributed.reraise_on_all_ranks():
            for each in self.loggers:
                each.log_metrics(metrics, self.step)
        self.log_dict(metrics, logger=False, sync_dist=self.trainer.validating)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the average, the skipped steps and the LSTM state of all ranks' rows."""
        del checkpoint["loops"], checkpoint["epoch"]  # functions of the step
        checkpoint["skipped"] = self.guard.state_dict()
        if self.ema is not None:
            checkpoint["average"] = self.ema.state_dict()
        if self._state is None:
            checkpoint["lstm_state"] = None
            return
        checkpoint["lstm_state"] = [
            [torch.cat(distributed.all_gather(part), dim=1) for part in state]  # (L, rows of a rank, size)
            for state in self._state
        ]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the average, the skipped steps and the LSTM state of this rank's rows."""
        self._restored_step = checkpoint["global_step"]
        if not self.trainer.validating:
            checkpoint["loops"] = _loops_at(self.trainer, self._restored_step)
        self.guard.load_state_dict(checkpoint["skipped"])
        if self.ema is not None:
            self.ema.load_state_dict(checkpoint["average"])
        states = checkpoint["lstm_state"]
        if states is not None:
            rows = rows_of_rank(self.trainer, self.config.batch_size)
            self._state = BiLMState(*(State(*(part[:, rows] for part in state)) for state in states))


def _seed(*numbers: int) -> int:
    """Return a seed that is a function of numbers, in all versions of Python and numpy."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class NonFiniteGuard:
    """Counts optimizer steps skipped for a non-finite loss, gradient or LSTM state, and ends a run of ten in a row.

    The counts stay on the device, so that no step waits for it; :meth:`check` reads them.
    """

    def __init__(self) -> None:
        self.n_skipped = 0
        """Skipped steps up to the last :meth:`check`."""
        self._counts = torch.zeros(4, dtype=torch.int64)  # skipped, in a row, most in a row, step of the last
        self._seen = torch.zeros(2)  # loss of this rank and gradient norm at the last skipped step

    def record(self, step: int, is_taken: Tensor, *, loss: Tensor, gradient_norm: Tensor) -> None:
        """Record a step, on the device.

        :param step: counted from 0.
        :param is_taken: boolean scalar.
        :param loss: of this rank.
        """
        n_skipped, in_a_row, most, last = self._counts.to(is_taken.device)
        in_a_row = (in_a_row + 1) * ~is_taken
        counts = (n_skipped + ~is_taken, in_a_row, most.maximum(in_a_row), last.where(is_taken, step))
        self._counts = torch.stack(counts)
        self._seen = self._seen.to(loss.device).where(is_taken, torch.stack([loss, gradient_norm]))

    def check(self, module: nn.Module) -> None:
        """Log the steps skipped since the last call.

        :raises InputError: too many in a row were skipped, or a weight is not finite.
        """
        n_skipped, _, most, last = self._counts.tolist()
        if n_skipped == self.n_skipped:
            return
        loss, gradient_norm = self._seen.tolist()
        seen = f"loss {loss:.4g}, gradient norm {gradient_norm:.4g}"
        n_new = n_skipped - self.n_skipped
        steps = f"step {last + 1:,}" if n_new == 1 else f"{n_new:,} steps up to step {last + 1:,}"
        distributed.log_once(
            f"skipped {steps} ({n_skipped:,} skipped so far): non-finite values, {seen}", level=logging.WARNING
        )
        self.n_skipped = n_skipped
        check_finite_weights(module, last)
        if most >= MAX_SKIPPED_IN_A_ROW:
            raise distributed.shared_error(
                f"training diverged: non-finite loss, gradient or state in {most} consecutive steps (last: "
                f"{last + 1:,}; {seen}); the last checkpoint is intact; try a lower `learning_rate`"
            )

    def state_dict(self) -> dict[str, int]:
        """Return the counts."""
        n_skipped, in_a_row, *_ = self._counts.tolist()
        return {"n": n_skipped, "in_a_row": in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore the counts."""
        self.n_skipped = state["n"]
        self._counts = torch.tensor([state["n"], state["in_a_row"], state["in_a_row"], 0])


def check_finite_weights(module: nn.Module, step: int) -> None:
    """Raise InputError on all ranks if a weight is infinite or NaN, before it is trained or saved."""
    bad = [name for name, weight in module.named_parameters() if not bool(weight.isfinite().all())]
    if bad:
        raise distributed.shared_error(
            f"training diverged: weights are not finite at step {step:,} ({bad[0]}); the last checkpoint is intact; "
            "try a lower `learning_rate`"
        )


def reset_nonfinite_rows(state: BiLMState) -> tuple[Tensor, BiLMState]:
    """Set each layer of a row that has a non-finite value to zero.

    :param state: (L, B, size).
    :returns: whether all values were finite, a boolean scalar on the device, and the new state.
    """
    parts = [part for direction in state for part in direction]
    rows = [part.isfinite().all(dim=2, keepdim=True) for part in parts]
    kept = iter(torch.where(of_part, part, 0.0) for of_part, part in zip(rows, parts, strict=True))
    return torch.stack(rows).all(), BiLMState(*(State(*(next(kept) for _ in direction)) for direction in state))


def _loops_at(trainer: Trainer, step: int) -> dict[str, Any]:
    """Return the state of Lightning's loops after a number of steps, in the middle of the only epoch of a run.

    Lightning saves its loop state, but no public interface sets the step that a run resumes from, and its own state
    depends on whether the checkpoint was saved before or after the validation of a step; such a checkpoint skips or
    repeats the validation. This function alone knows the keys of that state (tested with lightning 2.6).
    """
    state = copy.deepcopy(trainer.fit_loop.state_dict())
    for name in ("batch_progress", "manual_optimization.optim_step_progress"):
        for counts in (state[f"epoch_loop.{name}"]["total"], state[f"epoch_loop.{name}"]["current"]):
            counts.update(dict.fromkeys(counts, step))
    for counts in (state["epoch_progress"]["total"], state["epoch_progress"]["current"]):
        counts.update(ready=1, started=1)
    return {"fit_loop": state}


def _without_settings(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """Drop the optimizer settings from its state: the configuration has them."""
    return {**state, "param_groups": [{"params": group["params"]} for group in state["param_groups"]]}


def _with_settings(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Restore the settings that :func:`_without_settings` dropped."""
    groups = zip(optimizer.param_groups, state["param_groups"], strict=True)
    return {**state, "param_groups": [{**ours, "params": theirs["params"]} for ours, theirs in groups]}
