"""Weights of an earlier model -> the first weights of a new one: domain adaptation.

What both models know by the same name keeps its row: words in the softmax and in a table of words, characters in the
table of characters. What is new begins with the row of what was unknown; in the softmax it shares that probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from elmolite.checkpoint import Checkpoint
from elmolite.data.vocab import UNKNOWN_ID
from elmolite.errors import InputError
from elmolite.nn.adaptive_softmax import AdaptiveSoftmax, AnySoftmax
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
    _fill(source.softmax, new.softmax, new_ids, old_ids)
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


def _fill(old: AnySoftmax, new: AnySoftmax, new_ids: Tensor, old_ids: Tensor) -> None:
    """Give the words their rows; ``new_ids`` are those that ``old`` knows as ``old_ids``."""
    old_rows, old_bias = _as_one(old)
    n_words = new.vocabulary_size
    rows = old_rows[UNKNOWN_ID].repeat(n_words, 1)
    bias = old_bias[UNKNOWN_ID].repeat(n_words) - math.log(n_words - len(new_ids) + 1)  # new words and <UNK> share it
    unknown_bias = bias[UNKNOWN_ID].clone()
    rows[new_ids], bias[new_ids] = old_rows[old_ids], old_bias[old_ids]
    bias[UNKNOWN_ID] = unknown_bias
    n_head = new.bounds[0]
    new.weight[:n_head], new.bias[:n_head] = rows[:n_head], bias[:n_head]
    if isinstance(old, AdaptiveSoftmax) and isinstance(new, AdaptiveSoftmax):
        for number in range(len(new.clusters)):
            _fill_cluster(old, new, number, rows, bias)
            _copy_what_stays(old, new, number, new_ids, old_ids)


def _as_one(softmax: AnySoftmax) -> tuple[Tensor, Tensor]:
    """Return rows (V, P) and biases as if there were no clusters: exact but for how a cluster's sum varies."""
    n_head = softmax.bounds[0]
    rows, bias = [softmax.weight[:n_head]], [softmax.bias[:n_head]]
    for number, cluster in enumerate(softmax.typed_clusters() if isinstance(softmax, AdaptiveSoftmax) else []):
        rows.append(cluster.weight @ cluster.projection + softmax.weight[n_head + number])
        bias.append(cluster.bias - cluster.bias.logsumexp(dim=0) + softmax.bias[n_head + number])
    return torch.cat(rows), torch.cat(bias)


def _fill_cluster(old: AdaptiveSoftmax, new: AdaptiveSoftmax, number: int, rows: Tensor, bias: Tensor) -> None:
    """Write rows of :func:`_as_one` as those of a cluster, as nearly as its dimensions allow."""
    words = slice(*new.bounds[number : number + 2])
    head, old_head = new.bounds[0] + number, old.bounds[0] + number
    cluster, old_cluster = new.typed_clusters()[number], old.typed_clusters()[number]
    new.weight[head] = old.weight[old_head]
    cluster.projection.copy_(old_cluster.projection)
    cluster.weight.copy_((rows[words] - old.weight[old_head]) @ torch.linalg.pinv(old_cluster.projection))
    cluster.bias.copy_(bias[words] - old.bias[old_head] + old_cluster.bias.logsumexp(dim=0))


def _copy_what_stays(old: AdaptiveSoftmax, new: AdaptiveSoftmax, number: int, new_ids: Tensor, old_ids: Tensor) -> None:
    """Copy the words that are in the same cluster before and after, and fit the cluster's share to what it holds."""
    begin, end = new.bounds[number : number + 2]
    old_begin, old_end = old.bounds[number : number + 2]
    stays = (new_ids >= begin) & (new_ids < end) & (old_ids >= old_begin) & (old_ids < old_end)
    cluster, old_cluster = new.typed_clusters()[number], old.typed_clusters()[number]
    cluster.weight[new_ids[stays] - begin] = old_cluster.weight[old_ids[stays] - old_begin]
    cluster.bias[new_ids[stays] - begin] = old_cluster.bias[old_ids[stays] - old_begin]
    growth = cluster.bias.logsumexp(dim=0) - old_cluster.bias.logsumexp(dim=0)
    new.bias[new.bounds[0] + number] = old.bias[old.bounds[0] + number] + growth
