import copy

import pytest
import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
from torch.nn import functional as F

from elmolite.errors import InputError
from elmolite.nn import cross_entropy as module
from elmolite.nn.cross_entropy import IGNORE_INDEX
from elmolite.nn.softmax import (
    AdaptiveSoftmax,
    FullSoftmax,
    TargetGroups,
    log_uniform_sample,
    make_softmax,
)

VOCABULARY, SIZE, POSITIONS, CUTOFFS = 40, 6, 101, (5, 12)
CONFIGS = {"full": {"kind": "full"}, "adaptive": {"kind": "adaptive", "cutoffs": list(CUTOFFS), "sizes": [4, 2]}}


def make(kind):
    torch.manual_seed(0)
    softmax = make_softmax(CONFIGS[kind], vocabulary_size=VOCABULARY, projection_size=SIZE).double()
    for parameter in softmax.parameters():
        torch.nn.init.normal_(parameter)
    return softmax


@pytest.fixture(params=CONFIGS)
def any_softmax(request):
    return make(request.param)


@pytest.fixture
def softmax():
    return make("full")


@pytest.fixture
def data():
    torch.manual_seed(1)
    hidden = torch.randn(POSITIONS, SIZE, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, VOCABULARY, (POSITIONS,))
    targets[::5] = IGNORE_INDEX
    return hidden, targets


def log_probabilities(softmax, hidden):
    """By the definition, (N, V)."""
    head = F.log_softmax(hidden @ softmax.weight.T + softmax.bias, dim=1)
    parts = [head[:, : softmax.head_size]]
    for number, cluster in enumerate(getattr(softmax, "clusters", [])):
        inside = F.log_softmax(hidden @ cluster.projection.T @ cluster.weight.T + cluster.bias, dim=1)
        parts.append(head[:, softmax.head_size + number, None] + inside)
    return torch.cat(parts, dim=1)


def gradients(loss, hidden, softmax):
    return torch.autograd.grad(loss, [hidden, *softmax.parameters()])


@pytest.mark.parametrize("chunk_rows", [1, 3, 200])
def test_full_loss_is_cross_entropy(any_softmax, data, monkeypatch, chunk_rows):
    monkeypatch.setattr(module, "CPU_CHUNK_LOGITS", 1)
    monkeypatch.setattr(module, "MIN_CHUNK_ROWS", chunk_rows)
    hidden, targets = data
    expected = F.nll_loss(log_probabilities(any_softmax, hidden), targets, ignore_index=IGNORE_INDEX, reduction="sum")
    loss = any_softmax.full_loss(hidden, targets)
    torch.testing.assert_close(loss, expected)
    assert torch.equal(any_softmax.training_loss(hidden, targets, n_negatives=None, seed=0), loss)
    torch.testing.assert_close(gradients(3 * loss, hidden, any_softmax), gradients(3 * expected, hidden, any_softmax))


@pytest.mark.parametrize(("kind", "n_negatives"), [("full", None), ("full", 8), ("adaptive", None)])
def test_training_loss_needs_no_value_on_the_host(data, kind, n_negatives):
    """Fake tensors have no values: an operation for which the host would wait for a GPU raises."""
    softmax, options = make(kind), {"n_negatives": n_negatives, "seed": 0}
    *tensors, sizes = groups = TargetGroups.of(data[1], softmax.bounds or [VOCABULARY])
    ours, theirs = (softmax.training_loss(*data, **options, groups=given) for given in (groups, None))
    assert all(map(torch.equal, *([loss, *gradients(loss, data[0], softmax)] for loss in (ours, theirs))))
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        softmax, (hidden, targets) = copy.deepcopy(softmax), map(fake.from_tensor, data)
        if softmax.bounds:
            with pytest.raises(DynamicOutputShapeException):
                softmax.training_loss(hidden, targets, **options)
        groups = TargetGroups(*map(fake.from_tensor, tensors), sizes)
        softmax.training_loss(hidden, targets, **options, groups=groups).backward()
        assert all(part.grad.shape == part.shape for part in [hidden, *softmax.parameters()])


def test_full_loss_without_gradients_is_the_same_and_keeps_none(any_softmax, data):
    with torch.no_grad():
        loss = any_softmax.full_loss(*data)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, any_softmax.full_loss(*data).detach())


def test_full_loss_of_large_logits_is_finite(softmax, data):
    hidden, targets = data
    assert torch.isfinite(softmax.full_loss(hidden.detach() * 1e4, targets))


def test_full_loss_of_batches_without_targets_in_a_cluster_or_at_all(any_softmax):
    hidden = torch.randn(4, SIZE, dtype=torch.float64, requires_grad=True)
    expected = log_probabilities(any_softmax, hidden)[:, 3].neg().sum()
    torch.testing.assert_close(any_softmax.full_loss(hidden, torch.full((4,), 3)), expected)
    nothing = any_softmax.full_loss(hidden, torch.full((4,), IGNORE_INDEX))
    assert nothing.item() == 0
    assert torch.autograd.grad(nothing, hidden)[0].abs().max() == 0


def test_initial_bias_gives_the_unigram_distribution(any_softmax):
    counts = [3 * word % 17 for word in range(VOCABULARY)]
    any_softmax.init_bias_from_counts(counts)
    hidden = torch.zeros(1, SIZE, dtype=torch.float64)
    losses = [any_softmax.full_loss(hidden, torch.tensor([word])) for word in range(VOCABULARY)]
    expected = torch.tensor(counts, dtype=torch.float64) + 1
    torch.testing.assert_close(torch.stack(losses).neg().exp(), expected / expected.sum())


@pytest.mark.parametrize("kind", CONFIGS)
def test_bfloat16_is_close(data, kind):
    hidden, targets = data
    softmax = make(kind).float()
    exact = softmax.full_loss(hidden.float(), targets)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = softmax.full_loss(hidden.float(), targets)
    assert rounded.dtype == torch.float32
    assert exact != rounded
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0)


@pytest.mark.parametrize(
    "config",
    [
        {"kind": "ful"},
        {"kind": "full", "sizes": []},
        {"kind": "adaptive", "cutoffs": [2, 1], "sizes": [1, 1]},
        {"kind": "adaptive", "cutoffs": [2, 3], "sizes": [1]},
    ],
)
def test_invalid_config_is_refused(config):
    with pytest.raises(InputError, match="softmax: "):
        make_softmax(config, vocabulary_size=VOCABULARY, projection_size=SIZE)


def test_clusters_have_decreasing_sizes_with_a_minimum():
    softmax = AdaptiveSoftmax(vocabulary_size=300_000, projection_size=32)
    assert softmax.sizes == (32, 16, 8, 8)
    assert [len(cluster.weight) for cluster in softmax.clusters] == [8_000, 40_000, 200_000, 50_000]
    small = AdaptiveSoftmax(vocabulary_size=7, projection_size=SIZE)
    assert small.weight.shape == (7, SIZE)
    assert len(small.clusters) == 0


def test_sampled_loss_is_the_full_loss_when_every_word_is_drawn(softmax, data):
    full = softmax.full_loss(*data)
    sampled = softmax.training_loss(*data, n_negatives=20_000, seed=0)
    torch.testing.assert_close(sampled, full, rtol=1e-6, atol=0)
    ours, theirs = (gradients(loss, data[0], softmax) for loss in (sampled, full))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-6)


def test_sparse_gradients_are_those_of_the_rows_of_targets_and_negatives(softmax):
    torch.manual_seed(1)
    hidden = torch.randn(23, SIZE, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, VOCABULARY, (23,))
    dense = gradients(softmax.sampled_loss(hidden, targets, n_negatives=5, seed=0), hidden, softmax)
    assert softmax.use_sparse_gradients() == ["weight", "bias"]
    sparse = gradients(softmax.sampled_loss(hidden, targets, n_negatives=5, seed=0), hidden, softmax)
    assert [part.is_sparse for part in sparse] == [False, True, True]
    torch.testing.assert_close([part.to_dense() for part in sparse], list(dense))
    rows = sparse[1].coalesce().indices()[0]
    assert torch.equal(rows, sparse[2].coalesce().indices()[0])
    assert set(rows.tolist()) < set(range(VOCABULARY))


def test_estimate_of_the_normaliser_is_unbiased():
    """Averaged over seeds, sum over drawn words of exp(logit) / P(drawn) is the sum over all words."""
    torch.manual_seed(0)
    logits = torch.randn(500, dtype=torch.float64)
    softmax = FullSoftmax(vocabulary_size=500, projection_size=2)
    estimates = []
    for seed in range(3000):
        drawn = log_uniform_sample(500, 60, seed=seed, device=torch.device("cpu")).unique()
        estimates.append((logits[drawn] - softmax._log_expected(drawn, 60)).exp().sum())
    estimates = torch.stack(estimates)
    error = (estimates.mean() - logits.exp().sum()).abs()
    assert error < 4 * estimates.std() / len(estimates) ** 0.5


def test_negatives_are_a_function_of_the_seed(softmax, data):
    losses = [softmax.sampled_loss(*data, n_negatives=8, seed=seed).item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_a_target_that_is_the_only_negative_costs_nothing(softmax):
    hidden = torch.randn(3, SIZE, dtype=torch.float64, requires_grad=True)
    negative = log_uniform_sample(VOCABULARY, 1, seed=0, device=hidden.device)
    loss = softmax.sampled_loss(hidden, negative.expand(3), n_negatives=1, seed=0)
    loss.backward()
    assert loss == 0
    assert torch.equal(hidden.grad, torch.zeros_like(hidden))
