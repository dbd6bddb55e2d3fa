"""Weights of an earlier model -> the first weights of a new one: domain adaptation.

What both models know by the same name keeps its row: words in the softmax and in a table of words, characters in the
table of characters. What is new begins with the row of what was unknown; in the softmax it shares that probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from elmolite.adaptive_softmax import AdaptiveSoftmax, AnySoftmax
from elmolite.bilm import DROPOUT_FIELDS, BiLMConfig
from elmolite.checkpoint import Checkpoint
from elmolite.errors import InputError
from elmolite.vocab import UNKNOWN_ID


@torch.no_grad()
def start_from(source: Checkpoint, new: Checkpoint, *, name: str) -> list[str]:
    """Copy the weights of a trained model.

    :param source: the trained model.
    :param new: a model of the same sizes, which may have other words and characters.
    :param name: of the source, for messages.
    :raises InputError: sizes or inputs differ; the message names the field.
    :returns: what was kept, in lines for the user.
    """
    _check_sizes(source.bilm.config, new.bilm.config, name)
    if type(source.indexer) is not type(new.indexer):
        raise InputError(f"{name}: reads {source.indexer.reads}, and the corpus holds {new.indexer.reads}")
    old_table, table = source.bilm.token_encoder.table, new.bilm.token_encoder.table
    for old, fresh in zip(source.bilm.parameters(), new.bilm.parameters(), strict=True):
        if fresh is not table:
            fresh.copy_(old)
    default = old_table[source.indexer.unknown_id]
    n_kept, n_ids = _copy_rows(old_table, table, source.indexer.names(), new.indexer.names(), default), len(table)
    notes = [f"started from {name}: {n_kept:,} of {n_ids:,} {new.indexer.reads} keep their vectors"]
    if source.softmax is None or source.vocabulary is None or new.softmax is None or new.vocabulary is None:
        return [*notes, "the softmax starts afresh: that model has none"]
    old_words, words = source.vocabulary.words, new.vocabulary.words
    n_kept = sum(map(_copy_part, _parts(source.softmax, old_words), _parts(new.softmax, words)))
    return [*notes, f"{n_kept:,} of {len(words):,} words keep their rows of the softmax"]


def _check_sizes(old: BiLMConfig, new: BiLMConfig, name: str) -> None:
    for field in fields(BiLMConfig):
        if field.name not in DROPOUT_FIELDS and getattr(old, field.name) != getattr(new, field.name):
            raise InputError(
                f"{name}: has {field.name} {getattr(old, field.name)}, where model.{field.name} is "
                f"{getattr(new, field.name)}; a model starts from one of its own sizes"
            )


def _copy_rows(old: Tensor, new: Tensor, old_names: Sequence[str], names: Sequence[str], default: Tensor) -> int:
    """Fill rows from those of the same name, the others from a default; return how many were known."""
    place = {name: row for row, name in enumerate(old_names)}
    known = [row for row, name in enumerate(names) if name in place]
    new.copy_(default.expand_as(new))
    new[known] = old[[place[names[row]] for row in known]]
    return len(known)


class _Part(NamedTuple):
    """Output weights that are normalised together, and the names of their rows."""

    names: list[str]
    n_words: int  # the first rows; clusters may follow
    weight: Tensor
    bias: Tensor
    projection: Tensor | None


def _parts(softmax: AnySoftmax, words: list[str]) -> list[_Part]:
    if not isinstance(softmax, AdaptiveSoftmax):
        return [_Part(words, len(words), softmax.weight, softmax.bias, None)]
    n_head = softmax.bounds[0]
    clusters = [f"\0{number}" for number in range(len(softmax.clusters))]  # no word can be called so
    return [
        _Part([*words[:n_head], *clusters], n_head, softmax.weight, softmax.bias, None),
        *(
            _Part(words[begin:end], end - begin, cluster.weight, cluster.bias, cluster.projection)
            for (begin, end), cluster in zip(pairwise(softmax.bounds), softmax.typed_clusters(), strict=True)
        ),
    ]


def _copy_part(old: _Part, new: _Part) -> int:
    """Copy what two parts share; return how many words that are."""
    if new.projection is not None and old.projection is not None:
        new.projection.copy_(old.projection)
        weight, bias = old.weight.mean(dim=0), old.bias.mean()  # rare words: any other
    else:
        weight, bias = old.weight[UNKNOWN_ID], old.bias[UNKNOWN_ID]
    _copy_rows(old.weight, new.weight, old.names, new.names, weight)
    _copy_rows(old.bias[:, None], new.bias[:, None], old.names, new.names, bias)
    before = set(old.names)
    is_new = torch.tensor([name not in before for name in new.names])
    if new.projection is None and is_new.any():  # new words and <UNK> share what <UNK> had
        is_new[UNKNOWN_ID] = True
        new.bias[is_new] -= math.log(int(is_new.sum()))
    return sum(name in before for name in new.names[: new.n_words])
