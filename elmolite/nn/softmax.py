"""Output softmax over the vocabulary, shared by both directions: full, sampled in training, or adaptive.

Shapes: N positions, P projection, V vocabulary, S sampled negatives.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.errors import InputError, nearest
from elmolite.nn.cross_entropy import EXCLUDED, IGNORE_INDEX, cross_entropy_sum, logsumexp

CUTOFFS = (2_000, 10_000, 50_000, 250_000)
"""First id of each cluster of the adaptive softmax; each cluster covers about the same share of a text."""
DIVISOR = 2
"""Ratio of the dimensions of two consecutive clusters."""
MIN_SIZE = 8
"""Minimum dimension of a cluster."""
MAX_CLUSTERS, MAX_SIZE = 100, 1 << 24
"""Maximum number of clusters, and maximum dimension of one, that a configuration file may ask for."""
ROWS_MULTIPLE = 64
"""The rows of a cluster are padded to a multiple of this: oneDNN compiles its kernels for each new shape."""


class TargetGroups(NamedTuple):
    """Targets of an adaptive softmax by cluster.

    Made where the targets are known on the CPU: counting them on a GPU makes the host wait for it.
    """

    head: Tensor  # (N): rows of the head, each a word or a cluster, or IGNORE_INDEX
    positions: Tensor  # (M): of the words of each cluster in turn; for each, padded to a multiple of ROWS_MULTIPLE
    words: Tensor  # (M): relative to the first word of the cluster, or IGNORE_INDEX for padding
    sizes: list[int]  # positions of each cluster

    @classmethod
    def of(cls, targets: Tensor, bounds: Sequence[int]) -> TargetGroups:
        """Group targets, (N).

        :param bounds: as :attr:`Softmax.bounds`.
        """
        head, positions, words = targets, [targets.new_empty(0)], [targets.new_empty(0)]
        for row, (begin, end) in enumerate(pairwise(bounds), start=bounds[0]):
            inside = (targets >= begin) & (targets < end)
            head = head.masked_fill(inside, row)
            at = inside.nonzero().squeeze(1)
            padding = 0, -len(at) % ROWS_MULTIPLE
            positions.append(F.pad(at, padding))
            words.append(F.pad(targets.index_select(0, at) - begin, padding, value=IGNORE_INDEX))
        return cls(head, torch.cat(positions), torch.cat(words), [len(part) for part in words[1:]])

    def to(self, device: torch.device, *, non_blocking: bool = False) -> TargetGroups:
        """Copy the tensors to a device."""
        head, positions, words = (part.to(device, non_blocking=non_blocking) for part in self[:3])
        return TargetGroups(head, positions, words, self.sizes)


class Softmax(nn.Module, ABC):
    """Interface of the output softmaxes; :data:`SOFTMAXES` lists them."""

    kind: ClassVar[str]
    can_sample: ClassVar[bool] = False
    """Whether :meth:`training_loss` can sample negatives."""
    vocabulary_size: int
    """V."""
    head_size: int
    """Number of words, the first of the vocabulary, that have a row of their own in ``weight``."""
    bounds: Sequence[int] = ()
    """First id of each cluster, and V; empty for a softmax without clusters."""
    weight: nn.Parameter
    bias: nn.Parameter

    @classmethod
    @abstractmethod
    def from_options(cls, options: Mapping[str, Any], *, vocabulary_size: int, projection_size: int) -> Softmax:
        """Make a softmax with the options of a configuration file, by default those of a new run.

        :raises InputError: an option is unknown or invalid.
        """

    def config(self) -> dict[str, Any]:
        """Return the kind and the options, for a configuration file."""
        return {"kind": self.kind}

    @abstractmethod
    def full_loss(self, hidden: Tensor, targets: Tensor, groups: TargetGroups | None = None) -> Tensor:
        """Return the summed negative log-likelihood of the targets over the whole vocabulary.

        :param hidden: (N, P).
        :param targets: ids, (N); positions with :data:`IGNORE_INDEX` are not counted.
        :param groups: of the targets, if the softmax has clusters and they are known.
        """

    def training_loss(
        self,
        hidden: Tensor,
        targets: Tensor,
        *,
        n_negatives: int | None,
        seed: int,  # noqa: ARG002
        groups: TargetGroups | None = None,
    ) -> Tensor:
        """Return the summed loss to train on.

        :param hidden: (N, P).
        :param targets: ids, (N); positions with :data:`IGNORE_INDEX` are not counted.
        :param n_negatives: draws of a sampled softmax; ``None`` for the full loss.
        :param seed: of the draws.
        :param groups: as in :meth:`full_loss`.
        """
        assert n_negatives is None, f"the {self.kind} softmax does not sample"
        return self.full_loss(hidden, targets, groups)

    def use_sparse_gradients(self) -> list[str]:
        """Give sparse gradients to tables of which a training step reads the same few rows; return their names."""
        return []

    @abstractmethod
    def init_bias_from_counts(self, counts: Sequence[int]) -> None:
        """Set the biases so that the initial prediction is the unigram distribution.

        :param counts: of each word in the training text, (V).
        """

    @abstractmethod
    def rows(self) -> tuple[Tensor, Tensor]:
        """Return weights (V, P) and biases (V) of a full softmax with about the same probabilities."""

    @torch.no_grad()
    def copy_words(self, source: Softmax, new_ids: Tensor, old_ids: Tensor, *, unknown_id: int) -> None:
        """Take over the words of a trained softmax; new words share the probability of its unknown word.

        :param source: of the same kind and projection size.
        :param new_ids: ids here of the words that both have.
        :param old_ids: ids of the same words in ``source``.
        :param unknown_id: of the unknown word, in both.
        """
        old_rows, old_bias = source.rows()
        n_words = self.vocabulary_size
        rows = old_rows[unknown_id].repeat(n_words, 1)
        bias = old_bias[unknown_id].repeat(n_words) - math.log(n_words - len(new_ids) + 1)  # new words and <UNK>
        unknown_bias = bias[unknown_id].clone()
        rows[new_ids], bias[new_ids] = old_rows[old_ids], old_bias[old_ids]
        bias[unknown_id] = unknown_bias
        n_head = self.head_size
        self.weight[:n_head], self.bias[:n_head] = rows[:n_head], bias[:n_head]
        self._copy_clusters(source, rows, bias, new_ids, old_ids)

    def _copy_clusters(self, source: Softmax, rows: Tensor, bias: Tensor, new_ids: Tensor, old_ids: Tensor) -> None:
        """Fill the clusters beyond the head, if any."""


class FullSoftmax(Softmax):
    """Softmax over the whole vocabulary, exact in chunks, or sampled in training (Jean et al. 2015).

    >>> softmax = FullSoftmax(vocabulary_size=10, projection_size=4)
    >>> softmax.full_loss(torch.zeros(3, 4), torch.tensor([1, 2, 3])) / 3  # the mean of log(10)
    tensor(2.3026, grad_fn=<DivBackward0>)
    """

    kind = "full"
    can_sample = True

    def __init__(self, *, vocabulary_size: int, projection_size: int) -> None:
        super().__init__()
        self.vocabulary_size = self.head_size = vocabulary_size
        self.sparse = False
        """As in ``nn.Embedding``: whether the sampled loss gives sparse gradients."""
        self.weight = nn.Parameter(torch.empty(vocabulary_size, projection_size))
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))
        nn.init.normal_(self.weight, std=projection_size**-0.5)

    @classmethod
    def from_options(cls, options: Mapping[str, Any], *, vocabulary_size: int, projection_size: int) -> FullSoftmax:
        """Make a softmax; it has no options."""
        if options:
            raise InputError(f"softmax: unknown key {next(iter(options))!r} of kind 'full'")
        return cls(vocabulary_size=vocabulary_size, projection_size=projection_size)

    def full_loss(self, hidden: Tensor, targets: Tensor, groups: TargetGroups | None = None) -> Tensor:  # noqa: ARG002
        """Return the exact loss, see :meth:`Softmax.full_loss`."""
        return cross_entropy_sum(hidden, self.weight, self.bias, targets)

    def training_loss(
        self,
        hidden: Tensor,
        targets: Tensor,
        *,
        n_negatives: int | None,
        seed: int,
        groups: TargetGroups | None = None,
    ) -> Tensor:
        """Return the full or the sampled loss, see :meth:`Softmax.training_loss`."""
        if n_negatives is None:
            return self.full_loss(hidden, targets, groups)
        return self.sampled_loss(hidden, targets, n_negatives=n_negatives, seed=seed)

    def use_sparse_gradients(self) -> list[str]:
        """Give sparse gradients to weights and biases in the sampled loss."""
        self.sparse = True
        return ["weight", "bias"]

    @torch.no_grad()
    def init_bias_from_counts(self, counts: Sequence[int]) -> None:
        """Set the biases to the log-frequencies, see :meth:`Softmax.init_bias_from_counts`."""
        self.bias.copy_(_log_frequencies(counts))

    def rows(self) -> tuple[Tensor, Tensor]:
        """Return weights (V, P) and biases (V)."""
        return self.weight, self.bias

    def sampled_loss(self, hidden: Tensor, targets: Tensor, *, n_negatives: int, seed: int) -> Tensor:
        """Return the summed sampled-softmax loss (Jean et al. 2015), an estimate for training, never a perplexity.

        ``n_negatives`` words are drawn with replacement from a log-uniform (Zipfian) distribution over the ids and
        shared by all positions. The log-probability that a word is drawn at all is subtracted from its logit.

        :param hidden: (N, P).
        :param targets: ids, (N); positions with :data:`IGNORE_INDEX` are not counted.
        :param seed: of the draws.
        """
        counted = targets != IGNORE_INDEX
        targets = targets.where(counted, 0)
        negatives = log_uniform_sample(len(self.weight), n_negatives, seed=seed, device=hidden.device)
        repeated = F.pad(negatives[1:] == negatives[:-1], (1, 0))
        weights, biases = self._rows(negatives)
        biases = (biases - self._log_expected(negatives, n_negatives)).masked_fill(repeated, EXCLUDED)
        index = torch.searchsorted(negatives, targets).clamp_(max=n_negatives - 1)
        excluded = index.where(negatives.index_select(0, index) == targets, -1)
        of_negatives = logsumexp(hidden, weights, biases, excluded)
        true_weights, true_biases = self._rows(targets)
        true_logits = (
            (hidden * true_weights).sum(dim=1).float() + true_biases - self._log_expected(targets, n_negatives)
        )
        losses = torch.logaddexp(of_negatives, true_logits) - true_logits
        return losses.where(counted, 0).sum()

    def _rows(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Look up the weights (N, P) and biases (N) of words."""
        weights = F.embedding(ids, self.weight, sparse=self.sparse)
        if self.sparse:
            return weights, self.bias.gather(0, ids, sparse_grad=True)
        return weights, self.bias.index_select(0, ids)  # the dense gradient of x[i] is not deterministic

    def _log_expected(self, ids: Tensor, n_tries: int) -> Tensor:
        """Return the log-probability of words to be among ``n_tries`` draws, 1 - (1 - p) ** n_tries."""
        probability = torch.log1p(1 / (ids + 1.0)) / math.log(len(self.weight) + 1)
        return torch.log(-torch.expm1(n_tries * torch.log1p(-probability)))


class Cluster(nn.Module):
    """Words of one frequency range, after a projection to fewer dimensions."""

    def __init__(self, *, projection_size: int, size: int, n_words: int) -> None:
        super().__init__()
        self.projection = nn.Parameter(torch.empty(size, projection_size))
        self.weight = nn.Parameter(torch.empty(n_words, size))
        self.bias = nn.Parameter(torch.zeros(n_words))
        nn.init.normal_(self.projection, std=projection_size**-0.5)
        nn.init.normal_(self.weight, std=size**-0.5)

    def forward(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the summed loss of (N, P) for targets relative to the first word of the cluster."""
        return cross_entropy_sum(F.linear(hidden, self.projection), self.weight, self.bias, targets)


class AdaptiveSoftmax(Softmax):
    """Adaptive softmax (Grave et al. 2017): a head of frequent words and clusters of lower dimension for the others.

    The loss is exact and normalised, at a cost that hardly grows with the vocabulary. The head predicts its own words
    and the cluster of any other word. The ids of the vocabulary must be in order of frequency.

    >>> softmax = AdaptiveSoftmax(vocabulary_size=100, projection_size=16, cutoffs=[20, 50], sizes=[8, 4])
    >>> softmax.config()
    {'kind': 'adaptive', 'cutoffs': [20, 50], 'sizes': [8, 4]}
    """

    kind = "adaptive"

    def __init__(
        self,
        *,
        vocabulary_size: int,
        projection_size: int,
        cutoffs: Sequence[int] | None = None,
        sizes: Sequence[int] | None = None,
    ) -> None:
        """Initialise the weights.

        :param cutoffs: the first id of each cluster, by default :data:`CUTOFFS`; those beyond the vocabulary are
            dropped.
        :param sizes: dimension of each cluster, by default each :data:`DIVISOR` times smaller than the one before.
        """
        super().__init__()
        self.bounds = (
            *(cutoff for cutoff in (CUTOFFS if cutoffs is None else cutoffs) if cutoff < vocabulary_size),
            vocabulary_size,
        )
        self.vocabulary_size, self.head_size = vocabulary_size, self.bounds[0]
        n_clusters = len(self.bounds) - 1
        default = [max(projection_size // DIVISOR**i, min(MIN_SIZE, projection_size)) for i in range(n_clusters)]
        self.sizes = tuple(default if sizes is None else sizes[:n_clusters])
        n_head = self.head_size + n_clusters
        self.weight = nn.Parameter(torch.empty(n_head, projection_size))
        self.bias = nn.Parameter(torch.zeros(n_head))
        nn.init.normal_(self.weight, std=projection_size**-0.5)
        self.clusters = nn.ModuleList(
            Cluster(projection_size=projection_size, size=size, n_words=end - begin)
            for (begin, end), size in zip(pairwise(self.bounds), self.sizes, strict=True)
        )

    @classmethod
    def from_options(cls, options: Mapping[str, Any], *, vocabulary_size: int, projection_size: int) -> AdaptiveSoftmax:
        """Make a softmax with ``cutoffs`` and ``sizes`` of the clusters."""
        match options:
            case {"cutoffs": [*cutoffs], "sizes": [*sizes], **others} if not others and _are_clusters(cutoffs, sizes):
                return cls(
                    vocabulary_size=vocabulary_size, projection_size=projection_size, cutoffs=cutoffs, sizes=sizes
                )
        if options:
            raise InputError(
                f"softmax: kind 'adaptive' needs ascending 'cutoffs' and as many 'sizes', at most {MAX_CLUSTERS}, got "
                f"{str(dict(options))[:100]}"
            )
        return cls(vocabulary_size=vocabulary_size, projection_size=projection_size)

    def config(self) -> dict[str, Any]:
        """Return the kind and the clusters."""
        return {**super().config(), "cutoffs": list(self.bounds[:-1]), "sizes": list(self.sizes)}

    @torch.no_grad()
    def init_bias_from_counts(self, counts: Sequence[int]) -> None:
        """Set the biases to the log-frequencies of words and clusters, see :meth:`Softmax.init_bias_from_counts`."""
        log_frequencies = _log_frequencies(counts)
        edges = list(pairwise(self.bounds))
        of_clusters = [log_frequencies[begin:end].logsumexp(dim=0, keepdim=True) for begin, end in edges]
        self.bias.copy_(torch.cat([log_frequencies[: self.head_size], *of_clusters]))
        for (begin, end), cluster, of_cluster in zip(edges, self._typed_clusters(), of_clusters, strict=True):
            cluster.bias.copy_(log_frequencies[begin:end] - of_cluster)

    def _typed_clusters(self) -> list[Cluster]:
        return [cast("Cluster", cluster) for cluster in self.clusters]

    def full_loss(self, hidden: Tensor, targets: Tensor, groups: TargetGroups | None = None) -> Tensor:
        """Return the exact loss, see :meth:`Softmax.full_loss`; without ``groups`` waits for a GPU."""
        if groups is None:
            groups = TargetGroups.of(targets, self.bounds)
        loss = self.bias.new_zeros(())
        parts = hidden.index_select(0, groups.positions).split_with_sizes(groups.sizes)
        words_of_parts = groups.words.split_with_sizes(groups.sizes)
        for cluster, part, words in zip(self.clusters, parts, words_of_parts, strict=True):
            loss = loss + cluster(part, words)
        return loss + cross_entropy_sum(hidden, self.weight, self.bias, groups.head)

    def rows(self) -> tuple[Tensor, Tensor]:
        """Return weights (V, P) and biases (V) as if there were no clusters, at the mean normaliser of each cluster."""
        n_head = self.head_size
        rows, bias = [self.weight[:n_head]], [self.bias[:n_head]]
        for head, cluster in enumerate(self._typed_clusters(), start=n_head):
            rows.append(cluster.weight @ cluster.projection + self.weight[head])
            bias.append(cluster.bias - cluster.bias.logsumexp(dim=0) + self.bias[head])
        return torch.cat(rows), torch.cat(bias)

    def _copy_clusters(self, source: Softmax, rows: Tensor, bias: Tensor, new_ids: Tensor, old_ids: Tensor) -> None:
        """Project the rows into the clusters; words that stay in their cluster keep their exact weights."""
        assert isinstance(source, AdaptiveSoftmax)
        for number, (cluster, old) in enumerate(zip(self._typed_clusters(), source._typed_clusters(), strict=False)):
            (begin, end), (old_begin, old_end) = self.bounds[number : number + 2], source.bounds[number : number + 2]
            head, old_head = self.head_size + number, source.head_size + number
            cluster.projection.copy_(old.projection)
            cluster.weight.copy_((rows[begin:end] - source.weight[old_head]) @ torch.linalg.pinv(old.projection))
            cluster.bias.copy_(bias[begin:end] - source.bias[old_head] + old.bias.logsumexp(dim=0))
            stays = (new_ids >= begin) & (new_ids < end) & (old_ids >= old_begin) & (old_ids < old_end)
            cluster.weight[new_ids[stays] - begin] = old.weight[old_ids[stays] - old_begin]
            cluster.bias[new_ids[stays] - begin] = old.bias[old_ids[stays] - old_begin]
            self.weight[head] = source.weight[old_head]
            self.bias[head] = source.bias[old_head] + (cluster.bias.logsumexp(dim=0) - old.bias.logsumexp(dim=0))


def _are_clusters(cutoffs: list[Any], sizes: list[Any]) -> bool:
    are_counts = all(type(value) is int and value > 0 for value in [*cutoffs, *sizes])
    are_few = len(cutoffs) == len(sizes) <= MAX_CLUSTERS
    return are_counts and are_few and max(sizes, default=0) <= MAX_SIZE and all(a < b for a, b in pairwise(cutoffs))


SOFTMAXES: dict[str, type[Softmax]] = {each.kind: each for each in (FullSoftmax, AdaptiveSoftmax)}
"""Kind -> class; a new softmax is a subclass of :class:`Softmax` and an entry here."""


def make_softmax(config: Any, *, vocabulary_size: int, projection_size: int) -> Softmax:
    """Make a softmax from its kind and options.

    :param config: as :meth:`Softmax.config` returns it; a kind alone gets the default options.
    :raises InputError: the kind is unknown or an option invalid.
    """
    kind = config.get("kind") if isinstance(config, Mapping) else config
    if not isinstance(kind, str) or kind not in SOFTMAXES or not isinstance(config, Mapping):
        raise InputError(f"softmax: unknown kind {kind!r}{nearest(str(kind), SOFTMAXES)}")
    options = {key: value for key, value in config.items() if key != "kind"}
    return SOFTMAXES[kind].from_options(options, vocabulary_size=vocabulary_size, projection_size=projection_size)


def _log_frequencies(counts: Sequence[int]) -> Tensor:
    """Return log relative frequencies (V) with add-one smoothing."""
    frequencies = torch.tensor(counts, dtype=torch.float64) + 1
    return (frequencies / frequencies.sum()).log()


def log_uniform_sample(vocabulary_size: int, n_samples: int, *, seed: int, device: torch.device) -> Tensor:
    """Draw sorted ids with replacement, P(k) = log((k + 2) / (k + 1)) / log(V + 1)."""
    generator = torch.Generator(device).manual_seed(seed)
    uniform = torch.rand(n_samples, generator=generator, device=device)
    ids = torch.exp(uniform * math.log(vocabulary_size + 1)).long() - 1
    return ids.clamp_(0, vocabulary_size - 1).sort().values
