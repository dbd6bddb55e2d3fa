r"""Batches for truncated backpropagation through time (BPTT), a pure function of (corpus, seed, step).

A sentence of n tokens takes n + 1 positions. At position j the forward model reads ``<S> w1 .. wn``\ [j] and predicts
``w1 .. wn </S>``\ [j]; the backward model reads ``</S> wn .. w1``\ [j] and predicts ``wn .. w1 <S>``\ [j]. So a
window of positions covers the same sentences in both directions.

Shapes: B batch size, T positions of a window, U distinct word types of the batch, C characters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elmolite.data.corpus import Corpus, Split
from elmolite.data.indexers import TokenIndexer
from elmolite.errors import InputError
from elmolite.nn.cross_entropy import IGNORE_INDEX
from elmolite.nn.softmax import TargetGroups

_BEGIN_SENTENCE, _END_SENTENCE = 0, 1  # word types
_ORDER, _RESETS = 0, 1  # first part of the seed, so that the two random streams differ


class Batch(NamedTuple):
    """One window of every row, for both directions."""

    unique_words: Tensor  # (U, C): the distinct word types as rows of ids, then some rows of padding
    forward_inputs: Tensor  # (B, T): index into unique_words
    backward_inputs: Tensor  # (B, T)
    forward_targets: Tensor  # (B, T): ids in the vocabulary, or IGNORE_INDEX
    backward_targets: Tensor  # (B, T)
    reset_mask: Tensor | None  # (B, T): whether the state is set to zero before a position; None: nowhere
    n_targets: int  # of one direction, in these rows
    n_targets_of_all_rows: int
    groups: TargetGroups | None = None  # of the targets of both directions, for the training loss

    def to(self, device: torch.device) -> Batch:
        """Copy the tensors to a device; from pinned memory to a GPU without waiting."""
        is_gpu = device.type == "cuda"
        moved: dict[str, Any] = {
            name: part.to(device, non_blocking=is_gpu)
            for name, part in self._asdict().items()
            if isinstance(part, Tensor | TargetGroups)
        }
        return self._replace(**moved)


def _rounded_up(rows: NDArray[np.int32], indexer: TokenIndexer) -> Tensor:
    """Pad (U, C) to one of few shapes, since kernels on the CPU are compiled for each new shape."""
    n_words, n_columns = rows.shape
    shape = -(-n_words // 64) * 64, min(-(-n_columns // 4) * 4, indexer.width)
    padded = np.full(shape, indexer.padding, np.int32)
    padded[:n_words, :n_columns] = rows
    return torch.from_numpy(padded)


@dataclass
class _Epoch:
    """The document order of an epoch, and its division into rows of whole sentences."""

    documents: NDArray[np.int32]  # in the order of this epoch
    ends: NDArray[np.int64]  # position, in this order, at the end of each document
    row_bounds: NDArray[np.int64]  # (B + 1): positions, in this order, between which the rows lie
    n_steps: int


@dataclass
class BPTTBatches:
    """Batches of a split for truncated backpropagation through time.

    The documents are permuted in each epoch and divided into B rows, each a contiguous stream of sentences.

    :param corpus: the corpus with the word types and vocabulary.
    :param split: its training or validation text.
    :param batch_size: B, number of rows.
    :param bptt_length: T, number of positions in a batch.
    :param seed: determines the order of the documents in each epoch; ``None`` keeps the order of the corpus.
    :param reset_probability: probability that a sentence starts from zero state; 0 carries the state through the whole
        row, 1 starts every sentence from zero.
    :param model_input: the ``input`` of the model, "characters" or "words".
    :raises InputError: the split has fewer sentences than rows.
    """

    corpus: Corpus
    split: Split
    batch_size: int
    bptt_length: int
    seed: int | None = None
    reset_probability: float = 0.0
    model_input: str = "characters"
    _ends: list[int] = field(default_factory=list, init=False, repr=False)  # of the epochs computed so far
    _planned: tuple[int, _Epoch] | None = field(default=None, init=False, repr=False)  # the latest epoch
    _bounds: NDArray[np.int64] = field(init=False, repr=False)  # of the documents in split.tokens
    _lengths: NDArray[np.unsignedinteger] = field(init=False, repr=False)  # of the documents

    def __post_init__(self) -> None:
        if self.split.n_sentences < self.batch_size:
            raise InputError(
                f"{self.corpus.folder}: {self.split.n_sentences} sentences are too few for batch_size "
                f"{self.batch_size}: give more text, or reduce it"
            )
        self._bounds = self.split.sentences[self.split.documents]
        lengths = np.diff(self._bounds)
        self._lengths = lengths.astype(np.min_scalar_type(lengths.max()))  # small items are permuted faster

    def epoch_steps(self, epoch: int) -> int:
        """Return the number of steps of an epoch; the last may be partly empty, and epochs differ by a few."""
        return self.end_of_epoch(epoch) - (self.end_of_epoch(epoch - 1) if epoch else 0)

    def end_of_epoch(self, epoch: int) -> int:
        """Return the first step of the next epoch."""
        while len(self._ends) <= epoch:
            n_steps = self._plan(len(self._ends)).n_steps
            self._ends.append((self._ends[-1] if self._ends else 0) + n_steps)
        return self._ends[epoch]

    def batch(self, step: int, *, rows: slice = slice(None)) -> Batch:
        """Return the batch of a step, or only some rows of it."""
        epoch = 0
        while step >= self.end_of_epoch(epoch):
            epoch += 1
        plan = self._plan(epoch)
        step_of_epoch = step - (self.end_of_epoch(epoch) - plan.n_steps)
        column = step_of_epoch * self.bptt_length + np.arange(self.bptt_length)
        at = plan.row_bounds[:-1, None] + column  # (B, T)
        inside = at < plan.row_bounds[1:, None]
        at = np.minimum(at[rows], plan.row_bounds[-1] - 1)
        index = np.searchsorted(plan.ends, at, side="right")
        at = at + self._shift(plan, index)
        batch = self._read(at, inside[rows], self._may_reset(column, step)[rows])
        return batch._replace(n_targets_of_all_rows=int(inside.sum()))

    def _read(self, at: NDArray[np.int64], inside: NDArray[np.bool_], may_reset: NDArray[np.bool_]) -> Batch:
        """Read positions of the split; every argument is (B, T)."""
        tokens, sentences = self.split.tokens, self.split.sentences
        sentence = sentences.searchsorted(at, side="right") - 1
        begin, end = sentences[sentence], sentences[sentence + 1]
        offset = at - begin
        forward = tokens[at]
        forward_next = np.where(at + 1 < end, tokens[np.minimum(at + 1, len(tokens) - 1)], _END_SENTENCE)
        backward = np.where(offset > 0, tokens[np.minimum(end - offset, len(tokens) - 1)], _END_SENTENCE)
        backward_next = tokens[end - 1 - offset]
        types, index = np.unique(np.stack([forward, backward]), return_inverse=True)
        index = index.reshape(2, *at.shape)
        indexer = self.corpus.indexer(self.model_input)
        reset_mask = may_reset & (offset == 0)
        return Batch(
            _rounded_up(indexer.trim(self.corpus.rows(types, self.model_input)), indexer),
            torch.from_numpy(index[0]),
            torch.from_numpy(index[1]),
            torch.from_numpy(np.where(inside, self.corpus.targets(forward_next), IGNORE_INDEX).astype(np.int64)),
            torch.from_numpy(np.where(inside, self.corpus.targets(backward_next), IGNORE_INDEX).astype(np.int64)),
            torch.from_numpy(reset_mask) if reset_mask.any() else None,
            n_targets := int(inside.sum()),
            n_targets,
        )

    def _may_reset(self, column: NDArray[np.int64], step: int) -> NDArray[np.bool_]:
        """Return a mask (B, T) of the positions where a new sentence starts from zero state."""
        shape = self.batch_size, self.bptt_length
        if 0 < self.reset_probability < 1:
            may_reset = np.random.default_rng((_RESETS, self.seed or 0, step)).random(shape) < self.reset_probability
        else:
            may_reset = np.full(shape, self.reset_probability == 1)
        may_reset[:, column == 0] = True  # an epoch begins
        return may_reset

    def _plan(self, epoch: int) -> _Epoch:
        if self._planned is None or self._planned[0] != epoch:
            self._planned = epoch, self._make_plan(epoch)
        return self._planned[1]

    def _make_plan(self, epoch: int) -> _Epoch:
        """Order the documents; a run plans all its epochs before the first step, so this must be fast."""
        split = self.split
        order = np.arange(split.n_documents, dtype=np.int32)
        if self.seed is not None:
            order = np.random.default_rng((_ORDER, self.seed, epoch)).permutation(order)
        plan = _Epoch(order, np.cumsum(self._lengths[order], dtype=np.int64), np.empty(0, np.int64), 0)
        # Rows are split at the first sentence boundary at or after an equal share of the positions.
        shares = len(split.tokens) * np.arange(self.batch_size + 1) // self.batch_size
        shift = self._shift(plan, np.minimum(np.searchsorted(plan.ends, shares, side="right"), len(order) - 1))
        plan.row_bounds = split.sentences[split.sentences.searchsorted(shares + shift)] - shift
        plan.n_steps = -(-int((plan.row_bounds[1:] - plan.row_bounds[:-1]).max()) // self.bptt_length)
        return plan

    def _shift(self, plan: _Epoch, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the difference between a position in ``split.tokens`` and that in the order of an epoch.

        :param index: of the document of each position, in the order of the epoch.
        """
        return self._bounds[plan.documents[index]] - np.where(index > 0, plan.ends[index - 1], 0)
