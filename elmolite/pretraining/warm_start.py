"""Weights of an earlier model -> the first weights of a new one: domain adaptation.

What both models know by the same name keeps its row: words in the softmax and in a table of words, characters in the
table of characters. What is new begins with the row of what was unknown; in the softmax it shares that probability.
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
def start_from(source: Checkpoint, new: Checkpoint, *, name: str) -> list[str]:
    """Copy the weights of a trained model.

    :param source: the trained model.
    :param new: a model of the same sizes and with the same kind of softmax, which may have other words and characters.
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
    new_ids, old_ids = _shared(source.indexer.names(), new.indexer.names())
    table.copy_(old_table[source.indexer.unknown_id].expand_as(table))
    table[new_ids] = old_table[old_ids]
    notes = [f"started from {name}: {len(new_ids):,} of {len(table):,} {new.indexer.reads} keep their vectors"]
    if source.softmax is None or source.vocabulary is None or new.softmax is None or new.vocabulary is None:
        return [*notes, "the softmax starts afresh: that model has none"]
    new_ids, old_ids = _shared(source.vocabulary.words, new.vocabulary.words)
    new.softmax.copy_words(source.softmax, new_ids, old_ids, unknown_id=UNKNOWN_ID)
    return [*notes, f"{len(new_ids):,} of {len(new.vocabulary):,} words keep their rows of the softmax"]


def _check_sizes(old: BiLMConfig, new: BiLMConfig, name: str) -> None:
    for field in fields(BiLMConfig):
        if field.name not in DROPOUT_FIELDS and getattr(old, field.name) != getattr(new, field.name):
            raise InputError(
                f"{name}: has {field.name} {getattr(old, field.name)}, where model.{field.name} is "
                f"{getattr(new, field.name)}; a model starts from one of its own sizes"
            )


def _shared(old_names: Sequence[str], names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the new and the old index of each name that is in both."""
    place = {name: index for index, name in enumerate(old_names)}
    pairs = [(index, place[name]) for index, name in enumerate(names) if name in place]
    new, old = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).unbind(dim=1)
    return new, old
