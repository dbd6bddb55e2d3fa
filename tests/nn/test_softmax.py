import pytest
import torch
from torch.nn import functional as F

from elmolite.nn import softmax as module
from elmolite.nn.softmax import IGNORE_INDEX, FullSoftmax, log_uniform_sample

VOCABULARY, SIZE, POSITIONS = 40, 6, 23


@pytest.fixture
def softmax():
    torch.manual_seed(0)
    softmax = FullSoftmax(vocabulary_size=VOCABULARY, projection_size=SIZE).double()
    torch.nn.init.normal_(softmax.bias)
    return softmax


@pytest.fixture
def data():
    torch.manual_seed(1)
    hidden = torch.randn(POSITIONS, SIZE, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, VOCABULARY, (POSITIONS,))
    targets[::5] = IGNORE_INDEX
    return hidden, targets


def gradients(loss, hidden, softmax):
    return torch.autograd.grad(loss, [hidden, softmax.weight, softmax.bias])


@pytest.mark.parametrize("chunk_rows", [1, 3, 100])
def test_full_loss_is_cross_entropy(softmax, data, monkeypatch, chunk_rows):
    monkeypatch.setattr(module, "CPU_CHUNK_LOGITS", 1)
    monkeypatch.setattr(module, "MIN_CHUNK_ROWS", chunk_rows)
    hidden, targets = data
    expected = F.cross_entropy(
        hidden @ softmax.weight.T + softmax.bias, targets, ignore_index=IGNORE_INDEX, reduction="sum"
    )
    loss = softmax.full_loss(hidden, targets)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(
        gradients(3 * loss, hidden, softmax), gradients(3 * expected, hidden, softmax), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_full_loss_without_gradients_is_the_same_and_keeps_none(softmax, data):
    hidden, targets = data
    with torch.no_grad():
        loss = softmax.full_loss(hidden, targets)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, softmax.full_loss(hidden, targets).detach())


def test_full_loss_survives_large_logits(softmax, data):
    hidden, targets = data
    assert torch.isfinite(softmax.full_loss(hidden.detach() * 1e4, targets))


def test_sampled_loss_becomes_the_full_loss_when_every_word_is_drawn(softmax, data):
    hidden, targets = data
    full = softmax.full_loss(hidden, targets)
    sampled = softmax.sampled_loss(hidden, targets, n_negatives=20_000, seed=0)
    torch.testing.assert_close(sampled, full, rtol=1e-6, atol=0)
    for ours, theirs in zip(gradients(sampled, hidden, softmax), gradients(full, hidden, softmax), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_sparse_gradients_are_those_of_the_rows_of_targets_and_negatives(softmax, data):
    hidden, targets = data
    dense = gradients(softmax.sampled_loss(hidden, targets, n_negatives=5, seed=0), hidden, softmax)
    softmax.sparse = True
    sparse = gradients(softmax.sampled_loss(hidden, targets, n_negatives=5, seed=0), hidden, softmax)
    assert [part.is_sparse for part in sparse] == [False, True, True]
    for ours, theirs in zip(sparse, dense, strict=True):
        torch.testing.assert_close(ours.to_dense(), theirs)
    rows = sparse[1].coalesce().indices()[0]
    assert torch.equal(rows, sparse[2].coalesce().indices()[0])
    assert set(rows.tolist()) < set(range(VOCABULARY))


def test_correction_makes_the_estimate_of_the_normaliser_unbiased():
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


def test_draws_are_log_uniform():
    n = 200_000
    drawn = log_uniform_sample(1000, n, seed=0, device=torch.device("cpu"))
    share = torch.bincount(drawn, minlength=1000) / n
    k = torch.arange(1000.0)
    expected = torch.log((k + 2) / (k + 1)) / torch.log(torch.tensor(1001.0))
    torch.testing.assert_close(share, expected, rtol=0.2, atol=5e-4)
    assert drawn.min() == 0
    assert drawn.max() <= 999


def test_negatives_are_a_function_of_the_seed(softmax, data):
    hidden, targets = data
    losses = [softmax.sampled_loss(hidden, targets, n_negatives=8, seed=seed).item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_a_target_among_the_negatives_counts_once(softmax):
    hidden = torch.randn(1, SIZE, dtype=torch.float64)
    # Everything is drawn, so the sum of probabilities must be 1: a second copy of the target would raise the loss.
    losses = [softmax.sampled_loss(hidden, torch.tensor([t]), n_negatives=50_000, seed=0) for t in range(VOCABULARY)]
    torch.testing.assert_close(torch.stack(losses).neg().exp().sum(), torch.tensor(1.0, dtype=torch.float64))


def test_a_target_that_is_the_only_negative_costs_nothing(softmax):
    hidden = torch.randn(3, SIZE, dtype=torch.float64, requires_grad=True)
    negative = log_uniform_sample(VOCABULARY, 1, seed=0, device=hidden.device)
    loss = softmax.sampled_loss(hidden, negative.expand(3), n_negatives=1, seed=0)
    loss.backward()
    assert loss == 0
    assert torch.equal(hidden.grad, torch.zeros_like(hidden))


def test_before_training_a_word_is_as_probable_as_it_is_frequent(softmax):
    counts = [3 * word % 17 for word in range(VOCABULARY)]
    softmax.init_bias_from_counts(counts)
    nothing = torch.zeros(1, SIZE, dtype=torch.float64)
    losses = [softmax.full_loss(nothing, torch.tensor([word])) for word in range(VOCABULARY)]
    expected = torch.tensor(counts, dtype=torch.float64) + 1
    torch.testing.assert_close(torch.stack(losses).neg().exp(), expected / expected.sum())


def test_bfloat16_is_close(softmax, data):
    hidden, targets = data
    softmax = softmax.float()
    exact = softmax.full_loss(hidden.float(), targets)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = softmax.full_loss(hidden.float(), targets)
    assert rounded.dtype == torch.float32
    assert exact != rounded
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0)
