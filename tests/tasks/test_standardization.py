import pytest
import torch

from elmolite.tasks.standardization import Standardization

MASK = torch.tensor([[True, True, True], [True, False, False]])


def batch_of(seed=0):
    """Two layers of different scale and place; what is behind the end of a sentence is no word."""
    layers = torch.randn(2, *MASK.shape, 4, generator=torch.Generator().manual_seed(seed))
    layers = layers * torch.tensor([0.01, 30.0]).view(2, 1, 1, 1) + torch.tensor([5.0, -2.0]).view(2, 1, 1, 1)
    return layers.masked_fill(~MASK.unsqueeze(2), 1e4), MASK


def test_each_number_has_mean_0_and_deviation_1_over_the_words():
    standardization, batches = Standardization(2, 4), [batch_of(seed) for seed in range(3)]
    standardization.fit(batches)
    words = torch.cat([standardization(layers)[:, mask] for layers, mask in batches], dim=1)
    torch.testing.assert_close(words.mean(dim=1), torch.zeros(2, 4), atol=1e-3, rtol=0)
    torch.testing.assert_close(words.std(dim=1, correction=0), torch.ones(2, 4), atol=1e-3, rtol=0)


def test_it_changes_nothing_before_it_has_measured():
    layers, _ = batch_of()
    torch.testing.assert_close(Standardization(2, 4)(layers), layers)


def test_what_never_changes_becomes_0():
    layers = torch.full((1, 2, 3, 2), 7.3)
    standardization = Standardization(1, 2)
    standardization.fit([(layers, MASK)])
    torch.testing.assert_close(standardization(layers), torch.zeros_like(layers))


def test_no_words():
    with pytest.raises(ValueError, match="no words"):
        Standardization(1, 2).fit([])
    layers, mask = torch.ones(1, 1, 1, 2), torch.zeros(1, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match="no words"):
        Standardization(1, 2).fit([(layers, mask)])
