"""Lightning data module of pretraining: batches by step, rows by rank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Dataset, Sampler

from elmolite.data.bptt import Batch, BPTTBatches


def rows_of_rank(trainer: Trainer, batch_size: int) -> slice:
    """Return the rows of the whole batch that this rank trains."""
    n_own = batch_size // trainer.world_size
    return slice(trainer.global_rank * n_own, (trainer.global_rank + 1) * n_own)


class _StepDataset(Dataset[list[Batch]]):
    """Map from an optimizer step to its batches, several with gradient accumulation."""

    def __init__(
        self, batches: BPTTBatches, n_steps: int, *, rows: slice = slice(None), accumulate_steps: int = 1
    ) -> None:
        self.batches, self.n_steps, self.rows, self.accumulate_steps = batches, n_steps, rows, accumulate_steps

    def __len__(self) -> int:
        return self.n_steps

    def __getitem__(self, step: int) -> list[Batch]:
        first = step * self.accumulate_steps
        return [self.batches.batch(number, rows=self.rows) for number in range(first, first + self.accumulate_steps)]


class _ResumingSampler(Sampler[int]):
    """Steps from the resumed one to the end; its length stays that of the whole run, as Lightning's counters expect."""

    def __init__(self, first: int, n_steps: int) -> None:
        self.first, self.n_steps = first, n_steps

    def __len__(self) -> int:
        return self.n_steps

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.n_steps))


class PretrainingData(LightningDataModule):
    """Training batches of this rank's rows, and the validation text."""

    def __init__(
        self, train: BPTTBatches, valid: BPTTBatches | None, n_steps: int, *, accumulate_steps: int = 1
    ) -> None:
        super().__init__()
        self.train, self.valid, self.n_steps, self.accumulate_steps = train, valid, n_steps, accumulate_steps

    def train_dataloader(self) -> DataLoader[list[Batch]]:
        """Return the steps that remain."""
        assert self.trainer is not None
        rows = rows_of_rank(self.trainer, self.train.batch_size)
        steps = _StepDataset(self.train, self.n_steps, rows=rows, accumulate_steps=self.accumulate_steps)
        return DataLoader(steps, batch_size=None, sampler=_ResumingSampler(self.trainer.global_step, self.n_steps))

    def val_dataloader(self) -> DataLoader[list[Batch]] | list[Any]:
        """Return the batches of the validation text; an empty list if there is no validation text."""
        if self.valid is None:
            return []
        return DataLoader(_StepDataset(self.valid, self.valid.epoch_steps(0)), batch_size=None)
