"""Warm start (domain adaptation): initialize a new model with the weights of a trained one.

Words and characters that both models have keep their rows of the softmax and of the input table. New ones start with
the row of the unknown word or character; in the softmax, new words and ``<UNK>`` share the probability of ``<UNK>``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from elmolite.checkpoint import Checkpoint
from elmolite.data.vocab import UNKNOWN_ID
from elmolite.errors import InputError
from elmolite.nn.bilm import DROPOUT_FIELDS, BiLMConfig


@torch.no_grad()
def load(source: Checkpoint, new: Checkpoint, *, name: str) -> list[str]:
    """Copy the weights of a trained model.

    :param source: the trained model.
    :param new: a model of the same sizes and kind of softmax, whose words and characters may differ.
    :param name: name of the source in messages.
    :raises InputError: sizes or kinds of input differ.
    :returns: lines for the user on the rows that were kept.
    """
    _check_sizes(source.bilm.config, new.bilm.config, name)
    if type(source.indexer) is not type(new.indexer):
        raise InputError(f"{name}: the model reads {source.indexer.reads}, but the corpus has {new.indexer.reads}")
    old_table, table = source.bilm.token_encoder.table, new.bilm.token_encoder.table
    for old, fresh in zip(source.bilm.parameters(), new.bilm.parameters(), strict=True):
        if fresh is not table:
            fresh.copy_(old)
    new_ids, old_ids = _shared(source.indexer.names(), new.indexer.names())
    table.copy_(old_table[source.indexer.unknown_id].expand_as(table))
    table[new_ids] = old_table[old_ids]
    notes = [f"initialized from {name}: kept the vectors of {len(new_ids):,} of {len(table):,} {new.indexer.reads}"]
    if source.softmax is None or source.vocabulary is None or new.softmax is None or new.vocabulary is None:
        return [*notes, "initialized the softmax at random: the model has none"]
    new_ids, old_ids = _shared(source.vocabulary.words, new.vocabulary.words)
    new.softmax.copy_words(source.softmax, new_ids, old_ids, unknown_id=UNKNOWN_ID)
    return [*notes, f"kept the softmax rows of {len(new_ids):,} of {len(new.vocabulary):,} words"]


def _check_sizes(old: BiLMConfig, new: BiLMConfig, name: str) -> None:
    for field in fields(BiLMConfig):
        if field.name not in DROPOUT_FIELDS and getattr(old, field.name) != getattr(new, field.name):
            raise InputError(
                f"{name}: sizes must be equal: the model has {field.name} {getattr(old, field.name)}, got "
                f"model.{field.name} {getattr(new, field.name)}"
            )


def _shared(old_names: Sequence[str], names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the new and the old index of each name in both lists."""
    old_index = {name: index for index, name in enumerate(old_names)}
    pairs = [(index, old_index[name]) for index, name in enumerate(names) if name in old_index]
    new, old = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).unbind(dim=1)
    return new, old
