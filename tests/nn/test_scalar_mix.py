import pytest
import torch
from torch.nn import functional as F

from elmolite.errors import InputError
from elmolite.nn.scalar_mix import ScalarMix


def layers_of(n_layers=3, n_sentences=2, n_tokens=4, size=6):
    return torch.randn(n_layers, n_sentences, n_tokens, size, generator=torch.Generator().manual_seed(0))


def test_it_is_the_weighted_sum_of_the_paper():
    layers, mix = layers_of(), ScalarMix(3)
    torch.testing.assert_close(mix(layers), layers.mean(dim=0))  # at the start
    with torch.no_grad():
        mix.scores.copy_(torch.tensor([0.5, -1.0, 2.0]))
        mix.gamma.fill_(1.7)
    weights = torch.tensor([0.5, -1.0, 2.0]).exp()
    expected = 1.7 * sum(w * layer for w, layer in zip(weights / weights.sum(), layers, strict=True))
    torch.testing.assert_close(mix(layers), expected)
    mix(layers).square().sum().backward()
    assert mix.scores.grad.abs().sum() > 0
    assert mix.gamma.grad != 0


def test_layer_norm_is_of_each_token_alone():
    layers, mix = layers_of(), ScalarMix(3, use_layer_norm=True)
    expected = sum(F.layer_norm(layer, (6,)) for layer in layers) / 3
    torch.testing.assert_close(mix(layers), expected)
    torch.testing.assert_close(mix(layers[:, :1, :2]), mix(layers)[:1, :2], rtol=0, atol=0)


def test_fixed_weights_choose_a_layer_and_do_not_learn():
    layers, mix = layers_of(), ScalarMix(3, fixed_weights=(0, 1, 0))
    torch.testing.assert_close(mix(layers), layers[1])
    assert not list(mix.parameters())
    assert mix.penalty() == 0
    assert ScalarMix(3, fixed_weights=(0, 1, 0)).load_state_dict(mix.state_dict())


def test_the_penalty_pulls_towards_the_average():
    mix = ScalarMix(3)
    assert mix.penalty() == 0
    with torch.no_grad():
        mix.scores.copy_(torch.tensor([2.0, 0.0, -1.0]))
    optimizer = torch.optim.SGD(mix.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        mix.penalty().backward()
        optimizer.step()
    torch.testing.assert_close(mix.weights, torch.full((3,), 1 / 3), rtol=0, atol=1e-3)


def test_dropout_is_for_training_only():
    mix, layers = ScalarMix(3, dropout=0.5), layers_of(n_tokens=100)
    dropped = (mix(layers) == 0).float().mean()
    assert 0.4 < dropped < 0.6
    torch.testing.assert_close(mix.eval()(layers), layers.mean(dim=0))


def test_another_number_of_fixed_weights_is_refused():
    with pytest.raises(InputError, match="each of 3 layers, got 2"):
        ScalarMix(3, fixed_weights=(0, 1))
