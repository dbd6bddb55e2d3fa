import pytest
import torch
from torch.nn import functional as F

from elmolite.nn.softmax import IGNORE_INDEX, AdaptiveSoftmax

VOCABULARY, SIZE, CUTOFFS = 40, 6, (5, 12)


@pytest.fixture
def softmax():
    torch.manual_seed(0)
    softmax = AdaptiveSoftmax(vocabulary_size=VOCABULARY, projection_size=SIZE, cutoffs=CUTOFFS, sizes=(4, 2)).double()
    for parameter in softmax.parameters():
        torch.nn.init.normal_(parameter)
    return softmax


def log_probabilities(softmax, hidden):
    """From the definition, all words one after the other: (N, V)."""
    head = F.log_softmax(hidden @ softmax.weight.T + softmax.bias, dim=1)
    parts = [head[:, : CUTOFFS[0]]]
    for number, cluster in enumerate(softmax.clusters):
        inside = F.log_softmax(hidden @ cluster.projection.T @ cluster.weight.T + cluster.bias, dim=1)
        parts.append(head[:, CUTOFFS[0] + number, None] + inside)
    return torch.cat(parts, dim=1)


def test_the_loss_is_that_of_the_definition(softmax):
    hidden = torch.randn(101, SIZE, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, VOCABULARY, (101,))
    targets[::7] = IGNORE_INDEX
    expected = F.nll_loss(log_probabilities(softmax, hidden), targets, ignore_index=IGNORE_INDEX, reduction="sum")
    loss = softmax.full_loss(hidden, targets)
    torch.testing.assert_close(loss, expected)
    wanted = [hidden, *softmax.parameters()]
    for ours, theirs in zip(torch.autograd.grad(loss, wanted), torch.autograd.grad(expected, wanted), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_it_is_normalised_over_the_whole_vocabulary(softmax):
    hidden = torch.randn(1, SIZE, dtype=torch.float64)
    losses = [softmax.full_loss(hidden, torch.tensor([word])) for word in range(VOCABULARY)]
    assert torch.stack(losses).neg().exp().sum().item() == pytest.approx(1.0)


def test_batches_in_which_a_cluster_or_every_target_is_missing(softmax):
    hidden = torch.randn(4, SIZE, dtype=torch.float64, requires_grad=True)
    expected = log_probabilities(softmax, hidden)[:, 3].neg().sum()
    torch.testing.assert_close(softmax.full_loss(hidden, torch.full((4,), 3)), expected)
    nothing = softmax.full_loss(hidden, torch.full((4,), IGNORE_INDEX))
    assert nothing.item() == 0
    assert torch.autograd.grad(nothing, hidden)[0].abs().max() == 0


def test_before_training_a_word_is_as_probable_as_it_is_frequent(softmax):
    counts = [3 * word % 17 for word in range(VOCABULARY)]
    softmax.init_bias_from_counts(counts)
    nothing = torch.zeros(1, SIZE, dtype=torch.float64)
    losses = [softmax.full_loss(nothing, torch.tensor([word])) for word in range(VOCABULARY)]
    expected = torch.tensor(counts, dtype=torch.float64) + 1
    torch.testing.assert_close(torch.stack(losses).neg().exp(), expected / expected.sum())


def test_a_small_vocabulary_has_no_clusters():
    softmax = AdaptiveSoftmax(vocabulary_size=7, projection_size=SIZE)
    assert softmax.weight.shape == (7, SIZE)
    assert len(softmax.clusters) == 0


def test_clusters_shrink_but_not_to_nothing():
    softmax = AdaptiveSoftmax(vocabulary_size=300_000, projection_size=32)
    assert softmax.sizes == (32, 16, 8, 8)
    assert [len(cluster.weight) for cluster in softmax.clusters] == [8_000, 40_000, 200_000, 50_000]


def test_in_bf16_the_loss_is_near():
    torch.manual_seed(0)
    softmax = AdaptiveSoftmax(vocabulary_size=VOCABULARY, projection_size=SIZE, cutoffs=CUTOFFS)
    hidden, targets = torch.randn(50, SIZE), torch.randint(0, VOCABULARY, (50,))
    exact = softmax.full_loss(hidden, targets)
    with torch.autocast("cpu", torch.bfloat16):
        assert softmax.full_loss(hidden, targets).item() == pytest.approx(exact.item(), rel=0.01)
