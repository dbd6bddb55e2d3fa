r"""The batches that training and evaluation read from a corpus: a function of (corpus, seed, step) alone.

A sentence of n tokens takes n + 1 positions. At position j the forward model reads ``<S> w1 .. wn``\ [j] and predicts
``w1 .. wn </S>``\ [j], the backward model reads ``</S> wn .. w1``\ [j] and predicts ``wn .. w1 <S>``\ [j]; so a
window of positions covers the same sentences for both.

Shapes: B rows, T positions, U distinct word forms of the batch, C characters.
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
from elmolite.nn.softmax import IGNORE_INDEX

_BEGIN_SENTENCE, _END_SENTENCE = 0, 1  # word forms
_ORDER, _RESETS = 0, 1  # what a random stream is for, so that no two are alike


class Batch(NamedTuple):
    """A window of every row, for both directions."""

    forms: Tensor  # (U, C): the distinct word forms as rows of ids, and some rows of padding
    forward_inputs: Tensor  # (B, T): index into forms
    backward_inputs: Tensor  # (B, T)
    forward_targets: Tensor  # (B, T): ids in the vocabulary, or IGNORE_INDEX
    backward_targets: Tensor  # (B, T)
    starts: Tensor | None  # (B, T): whether the state is set to zero before this position; none: nowhere
    n_targets: int  # of one direction

    def to(self, device: torch.device) -> Batch:
        """Copy the tensors to a device."""
        moved: dict[str, Any] = {k: part.to(device) for k, part in self._asdict().items() if isinstance(part, Tensor)}
        return self._replace(**moved)


def _rounded_up(rows: NDArray[np.int32], indexer: TokenIndexer) -> Tensor:
    """Pad (U, C) to one of few shapes: the CPU's kernels are made anew for each shape that they meet."""
    n_words, n_columns = rows.shape
    shape = -(-n_words // 64) * 64, min(-(-n_columns // 4) * 4, indexer.width)
    padded = np.full(shape, indexer.padding, np.int32)
    padded[:n_words, :n_columns] = rows
    return torch.from_numpy(padded)


@dataclass
class _Epoch:
    """The order of the documents of an epoch, dealt to the rows as contiguous streams of whole sentences."""

    documents: NDArray[np.int32]  # in the order of this epoch
    passed: NDArray[np.int64]  # positions passed at the end of each document in this order
    row_bounds: NDArray[np.int64]  # (B + 1): the positions, in this order, at which the rows begin and end
    n_steps: int


@dataclass
class Streams:
    """The batches of a split: a pure function of the step.

    :param corpus: whose word forms and vocabulary are read.
    :param split: its training or held-out text.
    :param n_rows: B, the number of streams side by side.
    :param window: T, positions of a batch.
    :param seed: orders the documents of each epoch; ``None`` leaves them as they are.
    :param reset_probability: of starting a sentence from zero state; 0 carries the state through the whole stream,
        1 starts every sentence afresh.
    :param model_input: what the model reads, "characters" or "words".
    :raises InputError: there are fewer sentences than rows.
    """

    corpus: Corpus
    split: Split
    n_rows: int
    window: int
    seed: int | None = None
    reset_probability: float = 0.0
    model_input: str = "characters"
    _ends: list[int] = field(default_factory=list, repr=False)  # the step behind each epoch that was looked at
    _planned: tuple[int, _Epoch] | None = field(default=None, repr=False)  # the latest, which serves thousands of steps
    _bounds: NDArray[np.int64] = field(init=False, repr=False)  # of the documents in split.tokens
    _lengths: NDArray[np.unsignedinteger] = field(init=False, repr=False)  # of the documents

    def __post_init__(self) -> None:
        if self.split.n_sentences < self.n_rows:
            raise InputError(
                f"{self.corpus.folder}: {self.split.n_sentences} sentences are too few for {self.n_rows} rows; "
                "give more text or fewer rows"
            )
        self._bounds = self.split.sentences[self.split.documents]
        lengths = np.diff(self._bounds)
        self._lengths = lengths.astype(np.min_scalar_type(lengths.max()))  # the fewer bytes, the faster in any order

    def epoch_steps(self, epoch: int) -> int:
        """Return the number of steps of an epoch; its last may be partly empty, and epochs differ by a few."""
        return self.end_of_epoch(epoch) - (self.end_of_epoch(epoch - 1) if epoch else 0)

    def end_of_epoch(self, epoch: int) -> int:
        """Return the step at which the next epoch begins."""
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
        column = step_of_epoch * self.window + np.arange(self.window)
        at = plan.row_bounds[:-1, None][rows] + column  # (B, T)
        inside = at < plan.row_bounds[1:, None][rows]
        at = np.minimum(at, plan.row_bounds[-1] - 1)
        place = np.searchsorted(plan.passed, at, side="right")
        at = at + self._shift(plan.documents, plan.passed, place)
        return self._read(at, inside, self._may_reset(column, step)[rows])

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
        forms, index = np.unique(np.stack([forward, backward]), return_inverse=True)
        index = index.reshape(2, *at.shape)
        indexer = self.corpus.indexer(self.model_input)
        starts = may_reset & (offset == 0)
        return Batch(
            _rounded_up(indexer.trim(self.corpus.rows(forms, self.model_input)), indexer),
            torch.from_numpy(index[0]),
            torch.from_numpy(index[1]),
            torch.from_numpy(np.where(inside, self.corpus.targets(forward_next), IGNORE_INDEX).astype(np.int64)),
            torch.from_numpy(np.where(inside, self.corpus.targets(backward_next), IGNORE_INDEX).astype(np.int64)),
            torch.from_numpy(starts) if starts.any() else None,
            int(inside.sum()),
        )

    def _may_reset(self, column: NDArray[np.int64], step: int) -> NDArray[np.bool_]:
        """Choose, (B, T), where a sentence that starts does so from zero state; at the start of an epoch all do."""
        if 0 < self.reset_probability < 1:
            draws = np.random.default_rng((_RESETS, self.seed or 0, step)).random((self.n_rows, self.window))
            may_reset = draws < self.reset_probability
        else:
            may_reset = np.full((self.n_rows, self.window), self.reset_probability == 1)
        may_reset[:, column == 0] = True
        return may_reset

    def _plan(self, epoch: int) -> _Epoch:
        if self._planned is None or self._planned[0] != epoch:
            self._planned = epoch, self._make_plan(epoch)
        return self._planned[1]

    def _make_plan(self, epoch: int) -> _Epoch:
        """Order the documents; a run plans all its epochs before the first step, so this must not take long."""
        split = self.split
        order = np.arange(split.n_documents, dtype=np.int32)
        if self.seed is not None:
            order = np.random.default_rng((_ORDER, self.seed, epoch)).permutation(order)
        passed = np.cumsum(self._lengths[order], dtype=np.int64)
        # The border of two rows is the first sentence border at or behind an equal share of the positions.
        shares = len(split.tokens) * np.arange(self.n_rows + 1) // self.n_rows
        place = np.minimum(np.searchsorted(passed, shares, side="right"), len(order) - 1)
        shift = self._shift(order, passed, place)
        rows = split.sentences[split.sentences.searchsorted(shares + shift)] - shift
        longest = int((rows[1:] - rows[:-1]).max())
        return _Epoch(order, passed, rows, -(-longest // self.window))

    def _shift(
        self, documents: NDArray[np.int32], passed: NDArray[np.int64], place: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return what is added to a position in the order of an epoch to have that in ``split.tokens``.

        :param place: of its document in that order.
        """
        return self._bounds[documents[place]] - np.where(place > 0, passed[place - 1], 0)
