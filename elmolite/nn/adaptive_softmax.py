"""The adaptive softmax (Grave et al. 2017): frequent words in a small head, the others in clusters of lower dimension.

Exact and normalised, so that its loss gives a perplexity, at a cost that hardly grows with the vocabulary. Shapes: N
positions, P projection, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.errors import InputError
from elmolite.nn.softmax import IGNORE_INDEX, Softmax, cross_entropy_sum, log_frequencies_of

CUTOFFS = (2_000, 10_000, 50_000, 250_000)
"""Where clusters begin, as far as the vocabulary goes: each holds about as much of a text, and is five times larger."""
DIVISOR = 2
"""By which the dimension of each cluster is smaller than that of the one before."""
MAX_CLUSTERS, MAX_SIZE = 100, 1 << 24
"""What a description asks for beyond it is no softmax."""
MIN_SIZE = 8
"""... but never below this."""
ROWS_MULTIPLE = 64
"""Positions of a cluster are filled up to so many: the CPU's kernels are made anew for each shape that they meet."""


class Cluster(nn.Module):
    """The words of one range of frequencies, behind a projection to fewer dimensions."""

    def __init__(self, *, projection_size: int, size: int, n_words: int) -> None:
        super().__init__()
        self.projection = nn.Parameter(torch.empty(size, projection_size))
        self.weight = nn.Parameter(torch.empty(n_words, size))
        self.bias = nn.Parameter(torch.zeros(n_words))
        nn.init.normal_(self.projection, std=projection_size**-0.5)
        nn.init.normal_(self.weight, std=size**-0.5)

    def forward(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the summed loss of (N, P) whose targets, counted from the first word here, are all in the cluster."""
        return cross_entropy_sum(F.linear(hidden, self.projection), self.weight, self.bias, targets)


class AdaptiveSoftmax(nn.Module):
    """Output weights in clusters; the head predicts its own words and which cluster the word is in.

    The ids of the vocabulary must be in order of frequency.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        projection_size: int,
        cutoffs: Sequence[int] | None = None,
        sizes: Sequence[int] | None = None,
    ) -> None:
        """Make the weights.

        :param cutoffs: the first id of each cluster, those behind the end of the vocabulary left out; ``None`` for
            :data:`CUTOFFS`.
        :param sizes: dimensions of each cluster; ``None``: each :data:`DIVISOR` times smaller than the one before.
        """
        super().__init__()
        self.bounds = (
            *(cutoff for cutoff in (CUTOFFS if cutoffs is None else cutoffs) if cutoff < vocabulary_size),
            vocabulary_size,
        )
        n_clusters = len(self.bounds) - 1
        default = [max(projection_size // DIVISOR**i, min(MIN_SIZE, projection_size)) for i in range(n_clusters)]
        self.sizes = tuple(default if sizes is None else sizes)
        n_head = self.bounds[0] + n_clusters
        self.weight = nn.Parameter(torch.empty(n_head, projection_size))
        self.bias = nn.Parameter(torch.zeros(n_head))
        nn.init.normal_(self.weight, std=projection_size**-0.5)
        self.clusters = nn.ModuleList(
            Cluster(projection_size=projection_size, size=size, n_words=end - begin)
            for (begin, end), size in zip(pairwise(self.bounds), self.sizes, strict=True)
        )

    @torch.no_grad()
    def predict_frequencies(self, counts: Sequence[int]) -> None:
        """Set the biases as :meth:`Softmax.predict_frequencies` does, those of clusters by the sums of their words."""
        log_frequencies = log_frequencies_of(counts)
        edges = list(pairwise(self.bounds))
        of_clusters = [log_frequencies[begin:end].logsumexp(dim=0, keepdim=True) for begin, end in edges]
        self.bias.copy_(torch.cat([log_frequencies[: self.bounds[0]], *of_clusters]))
        for (begin, end), cluster, of_cluster in zip(edges, self.typed_clusters(), of_clusters, strict=True):
            cluster.bias.copy_(log_frequencies[begin:end] - of_cluster)

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self.bounds[-1]

    def description(self) -> dict[str, Any]:
        """Return what kind of softmax it is, for a configuration file."""
        return {"kind": "adaptive", "cutoffs": list(self.bounds[:-1]), "sizes": list(self.sizes)}

    def typed_clusters(self) -> list[Cluster]:
        """Return the clusters as what they are; a ModuleList has forgotten it."""
        return [cast("Cluster", cluster) for cluster in self.clusters]

    def full_loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the summed negative log-likelihood of the targets over the whole vocabulary.

        :param hidden: (N, P).
        :param targets: ids, (N); IGNORE_INDEX positions count nothing.
        """
        n_head_words = self.bounds[0]
        head_targets = targets
        loss = self.bias.new_zeros(())
        for number, ((begin, end), cluster) in enumerate(zip(pairwise(self.bounds), self.clusters, strict=True)):
            inside = (targets >= begin) & (targets < end)
            head_targets = head_targets.masked_fill(inside, n_head_words + number)
            rows = inside.nonzero().squeeze(1)
            n_padding = -len(rows) % ROWS_MULTIPLE
            in_cluster = F.pad(targets.index_select(0, rows) - begin, (0, n_padding), value=IGNORE_INDEX)
            loss = loss + cluster(hidden.index_select(0, F.pad(rows, (0, n_padding))), in_cluster)
        return loss + cross_entropy_sum(hidden, self.weight, self.bias, head_targets)


AnySoftmax = Softmax | AdaptiveSoftmax


def softmax_of(description: Any, *, vocabulary_size: int, projection_size: int) -> AnySoftmax:
    """Make the softmax that a description names; of a larger vocabulary it takes the clusters that are needed.

    :raises InputError: it is none.
    """
    match description:
        case {"kind": "full"}:
            return Softmax(vocabulary_size=vocabulary_size, projection_size=projection_size)
        case {"kind": "adaptive", "cutoffs": [*cutoffs], "sizes": [*sizes]} if _are_clusters(cutoffs, sizes):
            n_clusters = sum(cutoff < vocabulary_size for cutoff in cutoffs)
            return AdaptiveSoftmax(
                vocabulary_size=vocabulary_size,
                projection_size=projection_size,
                cutoffs=cutoffs[:n_clusters],
                sizes=sizes[:n_clusters],
            )
    raise InputError(f"'softmax' must be of kind 'full', or 'adaptive' with cutoffs and sizes, not {description!r}")


def _are_clusters(cutoffs: list[Any], sizes: list[Any]) -> bool:
    are_counts = all(type(value) is int and value > 0 for value in [*cutoffs, *sizes])
    are_few = len(cutoffs) == len(sizes) <= MAX_CLUSTERS
    return are_counts and are_few and max(sizes, default=0) <= MAX_SIZE and all(a < b for a, b in pairwise(cutoffs))
