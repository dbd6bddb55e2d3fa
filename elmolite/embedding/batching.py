"""Sentences -> batches -> ids -> packed sequences, which the language model runs over.

Shapes: B sentences, T tokens, U distinct words, C characters, N positions of packed sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from elmolite.data.indexers import TokenIndexer

BEGIN_MARK, END_MARK = 0, 1
"""The forms of ``<S>`` and ``</S>``."""

BATCH_TOKENS = 4096
"""Tokens, with padding, that are embedded at once."""


class TokenIds(NamedTuple):
    """Sentences as ids, with each distinct word once; what :meth:`ELMo.to_ids` makes and :meth:`ELMo.forward` takes."""

    unique_words: Tensor  # (U, C): <S>, </S> and the distinct words as rows of ids
    tokens: Tensor  # (B, T): index into unique_words; 0 behind the end of a sentence
    lengths: Tensor  # (B): tokens of each sentence


def encode(tokenised: Sequence[Sequence[str]], indexer: TokenIndexer) -> TokenIds:
    """Encode each distinct word of sentences once."""
    index: dict[str, int] = {}
    lengths = [len(sentence) for sentence in tokenised]
    tokens = np.zeros((len(tokenised), max(lengths, default=0)), np.int64)
    for row, sentence in zip(tokens, tokenised, strict=True):
        row[: len(sentence)] = [index.setdefault(token, len(index) + 2) for token in sentence]
    unique_words = np.concatenate([indexer.sentence_marks(), indexer.rows(list(index))])
    return TokenIds(
        torch.from_numpy(indexer.trim(unique_words)),
        torch.from_numpy(tokens),
        torch.tensor(lengths, dtype=torch.int64),
    )


class Packed(NamedTuple):
    """Sentences between their marks as packed sequences, and where their tokens' vectors will be."""

    forward_inputs: Tensor  # (N)
    backward_inputs: Tensor  # (N)
    batch_sizes: list[int]
    forward_places: Tensor  # (B, T): index into the N positions
    backward_places: Tensor  # (B, T)
    mask: Tensor  # (B, T)
    order: Tensor  # (rows): of the rows, longest first, which sentence each is


def pack(ids: TokenIds, *, reads_both_marks: bool = False) -> Packed:
    """Pack sentences, longest first: ``<S> w1 .. wn`` forward and ``</S> wn .. w1`` backward.

    :param reads_both_marks: go on to ``</S>`` forward and to ``<S>`` backward, which nothing but the state tells of.
    """
    device = ids.tokens.device
    n_tokens = ids.tokens.shape[1]
    order = ids.lengths.argsort(descending=True, stable=True)
    rank = order.argsort()

    n_marks = 1 + reads_both_marks
    step = torch.arange(n_tokens + n_marks, device=device)
    before = (
        ids.lengths[order, None] - step
    )  # (rows, steps): tokens that the backward direction has yet to read, and one
    forward = F.pad(ids.tokens[order], (1, n_marks - 1), value=BEGIN_MARK)
    backward = ids.tokens[order].gather(1, before.clamp(0, max(0, n_tokens - 1))) if n_tokens else forward
    backward = torch.where(step == 0, END_MARK, backward)
    forward, backward = (
        torch.where(before == -1, mark, part) for mark, part in ((END_MARK, forward), (BEGIN_MARK, backward))
    )
    runs = (before > -n_marks).T  # (steps, rows)
    batch_sizes = runs.sum(dim=1)
    offsets = batch_sizes.cumsum(0) - batch_sizes

    at = torch.arange(n_tokens, device=device)
    mask = at < ids.lengths[:, None]
    backward_step = (ids.lengths[:, None] - at).clamp(min=0)
    return Packed(
        forward.T[runs],
        backward.T[runs],
        batch_sizes.tolist(),
        torch.where(mask, offsets[1 : n_tokens + 1] + rank[:, None], 0),
        torch.where(mask, offsets[backward_step] + rank[:, None], 0),
        mask,
        order,
    )


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Group sentences of about the same length, longest first, under a number of tokens with padding."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) + 1) * (lengths[batch[0]] + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
