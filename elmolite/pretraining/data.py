"""The batches of pretraining as Lightning wants them: which rows and steps a process reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Dataset, Sampler

from elmolite.data.bptt import Batch, BPTTBatches
from elmolite.pretraining.consumed_text import ConsumedText


def rows_of(trainer: Trainer, n_rows: int) -> slice:
    """Return which of all rows are those of this process."""
    n_own = n_rows // trainer.world_size
    return slice(trainer.global_rank * n_own, (trainer.global_rank + 1) * n_own)


class _Steps(Dataset[list[Batch]]):
    """The batches of streams, as a map from the step; a step may have several."""

    def __init__(self, streams: BPTTBatches, n_steps: int, *, rows: slice = slice(None), n_batches: int = 1) -> None:
        self.streams, self.n_steps, self.rows, self.n_batches = streams, n_steps, rows, n_batches

    def __len__(self) -> int:
        return self.n_steps

    def __getitem__(self, step: int) -> list[Batch]:
        first = step * self.n_batches
        return [self.streams.batch(at, rows=self.rows) for at in range(first, first + self.n_batches)]


class _FromStep(Sampler[int]):
    """Steps from the one at which a run resumes; Lightning counts on with the length of the whole run."""

    def __init__(self, first: int, n_steps: int) -> None:
        self.first, self.n_steps = first, n_steps

    def __len__(self) -> int:
        return self.n_steps

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.n_steps))


class PretrainingData(LightningDataModule):
    """The rows of this process of the training streams, and the held-out text."""

    def __init__(
        self,
        train: BPTTBatches,
        valid: BPTTBatches | None,
        n_steps: int,
        *,
        n_accumulated: int = 1,
        text: ConsumedText | None = None,
    ) -> None:
        """Bring it together.

        :param n_accumulated: batches of a step of training.
        :param text: notes what training reads.
        """
        super().__init__()
        self.train, self.valid, self.n_steps, self.n_accumulated = train, valid, n_steps, n_accumulated
        self.text = text or ConsumedText()

    def on_before_batch_transfer(self, batch: list[Batch], dataloader_idx: int) -> list[Batch]:  # noqa: ARG002
        """Note what training reads, while it is on the CPU."""
        assert self.trainer is not None
        if self.trainer.training:
            for each in batch:
                self.text.add(each)
        return batch

    def train_dataloader(self) -> DataLoader[list[Batch]]:
        """Return the steps that are left."""
        assert self.trainer is not None
        rows = rows_of(self.trainer, self.train.batch_size)
        steps = _Steps(self.train, self.n_steps, rows=rows, n_batches=self.n_accumulated)
        return DataLoader(steps, batch_size=None, sampler=_FromStep(self.trainer.global_step, self.n_steps))

    def val_dataloader(self) -> DataLoader[list[Batch]] | list[Any]:
        """Return the evaluation batches of the held-out text, or none."""
        if self.valid is None:
            return []
        return DataLoader(_Steps(self.valid, self.valid.epoch_steps(0)), batch_size=None)
