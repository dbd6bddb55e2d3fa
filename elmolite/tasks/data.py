"""Task data: labelled examples -> batches for a task model.

Shapes: B examples, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from elmolite.data.tokenization import SentenceTokenizer
from elmolite.embedding.batching import BATCH_TOKENS, batches_by_length
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.tasks.config import CacheDtype
from elmolite.tasks.examples.records import Example
from elmolite.tasks.layer_cache import LayerCache
from elmolite.tasks.model import SentenceBatch, TaskModel
from elmolite.tasks.objectives import Prediction
from elmolite.tasks.static_vectors import StaticEmbedding
from elmolite.utils.console import ProgressBar

POOL_BATCHES = 50
"""Number of batches that are sorted by length together: fewer means more padding, more means less shuffling."""


class TaskBatch(NamedTuple):
    """A batch of examples."""

    sentences: tuple[SentenceBatch, ...]  # one, or premise and hypothesis
    targets: Tensor


class TaskData(Dataset[TaskBatch]):
    """Map-style dataset of batches: its index is a list of example indices."""

    def __init__(self, examples: Sequence[Example], model: TaskModel, tokenizer: SentenceTokenizer) -> None:
        """Tokenize examples for a model.

        :param tokenizer: for sentences that are strings.
        """
        self.examples = examples
        self.sides = tokenize(examples, tokenizer)
        self.cache: LayerCache | None = None
        self.elmo: ELMo | None = model.elmo
        self.static: StaticEmbedding | None = model.inputs.static
        self.objective = model.objective
        self.lengths = np.array([sum(map(len, sentences)) for sentences in zip(*self.sides, strict=True)])

    def cache_layers(
        self, folder: Path | None = None, *, dtype: CacheDtype = "float32", show_progress: bool = True
    ) -> None:
        """Compute the layers of a frozen language model once, or read them from the cache; see :class:`LayerCache`."""
        if self.elmo is not None:
            sentences = [sentence for side in self.sides for sentence in side]
            self.cache = LayerCache(self.elmo, sentences, folder, dtype=dtype, show_progress=show_progress)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, indices: Sequence[int]) -> TaskBatch:
        """Return a batch with targets."""
        return TaskBatch(self.sentences(indices), self.objective.targets([self.examples[i].labels for i in indices]))

    def sentences(self, indices: Sequence[int]) -> tuple[SentenceBatch, ...]:
        """Return a batch without targets, for examples without labels."""
        return tuple(self._side(side, indices) for side in range(len(self.sides)))

    def _side(self, side: int, indices: Sequence[int]) -> SentenceBatch:
        tokens = [self.sides[side][i] for i in indices]
        lengths = torch.tensor([len(sentence) for sentence in tokens])
        mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
        static_ids = None
        if self.static is not None:
            static_ids = torch.zeros(mask.shape, dtype=torch.int64)
            static_ids[mask] = self.static.ids(token for sentence in tokens for token in sentence)
        if self.elmo is None:
            return SentenceBatch(mask, static_ids=static_ids)
        if self.cache is None:
            return SentenceBatch(mask, ids=self.elmo.to_ids(tokens), static_ids=static_ids)
        layers, _ = self.cache.batch([side * len(self) + i for i in indices])
        return SentenceBatch(mask, layers=layers, static_ids=static_ids)


def tokenize(examples: Sequence[Example], tokenizer: SentenceTokenizer) -> list[list[list[str]]]:
    """Return the tokens of the first sentences, and for pairs those of the second.

    :raises InputError: a sentence has no tokens; the message names file and line.
    """
    sides: list[list[list[str]]] = [[] for _ in examples[0].sentences] if examples else []
    for example in examples:
        for side, sentence in zip(sides, example.sentences, strict=True):
            tokens = tokenizer.tokens(sentence) if isinstance(sentence, str) else list(sentence)
            if not tokens:
                raise InputError(f"{example.location}: a sentence without tokens")
            side.append(tokens)
    return sides


class ShuffledBatches(Sampler[list[int]]):
    """Shuffled batches of examples of similar length; the order is a function of (seed, epoch)."""

    def __init__(self, lengths: Sequence[int] | NDArray[np.int64], batch_size: int, *, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the next epoch."""
        random = np.random.default_rng((self.seed, self.epoch))
        self.epoch += 1
        order = random.permutation(len(self.lengths))
        pool = self.batch_size * POOL_BATCHES
        batches = []
        for begin in range(0, len(order), pool):
            part = order[begin : begin + pool]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            batches += [part[i : i + self.batch_size].tolist() for i in range(0, len(part), self.batch_size)]
        for number in random.permutation(len(batches)):
            yield batches[number]


def predict(
    model: TaskModel, data: TaskData, *, batch_tokens: int = BATCH_TOKENS, show_progress: bool | None = None
) -> list[Prediction]:
    """Return the predictions of examples, in their order.

    :param batch_tokens: maximum number of tokens of a batch, padding included; a longer example is a batch by itself.
    :param show_progress: show a progress bar; by default if the call takes more than five seconds.
    """
    device = next(model.parameters()).device
    found: dict[int, Prediction] = {}
    with ProgressBar("predicting", unit="examples", total=len(data), show=show_progress) as bar:
        for indices in batches_by_length(data.lengths.tolist(), batch_tokens):
            sentences = [side.to(device) for side in data.sentences(indices)]
            found |= dict(zip(indices, model.predict(sentences), strict=True))
            bar.update(len(indices))
    return [found[index] for index in range(len(data))]
