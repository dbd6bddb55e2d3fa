import pytest
import torch

from elmolite.errors import InputError
from elmolite.tasks.inputs import FeatureMixer, LayerStandardizer
from elmolite.tasks.static_vectors import StaticEmbedding

N_LAYERS, SIZE = 3, 4
MASK = torch.tensor([[True, True, True], [True, False, False]])


def layers_of(seed=0):
    layers = torch.randn(N_LAYERS, *MASK.shape, SIZE, generator=torch.Generator().manual_seed(seed))
    return layers * MASK.unsqueeze(2)


def static_of():
    static = StaticEmbedding(["<unk>", "a", "b"], size=2)
    with torch.no_grad():
        static.weight.copy_(torch.tensor([[9.0, 9.0], [1.0, 2.0], [3.0, 4.0]]))
    return static


def mixer(**options):
    return FeatureMixer(n_layers=N_LAYERS, layer_size=SIZE, **options)


@pytest.mark.parametrize(
    ("layers", "weights"),
    [("token", [1, 0, 0]), ("top", [0, 0, 1]), ("1", [0, 1, 0]), ("average", [1 / 3] * 3)],
)
def test_layers_with_fixed_weights(layers, weights):
    inputs, given = mixer(layers=layers), layers_of()
    expected = (given * torch.tensor(weights).view(N_LAYERS, 1, 1, 1)).sum(dim=0)
    torch.testing.assert_close(inputs(MASK, given, None).vectors, expected)
    assert not list(inputs.parameters())
    assert inputs.learnt_mixes() == {}
    assert inputs.penalty() == 0


def test_static_vectors_are_concatenated_and_padding_is_zero():
    inputs = mixer(layers="token", static=static_of())
    features = inputs(MASK, layers_of(), torch.tensor([[1, 2, 0], [2, 0, 0]]))
    assert inputs.size == features.vectors.shape[2] == SIZE + 2
    torch.testing.assert_close(features.vectors[..., :SIZE], layers_of()[0])
    assert features.vectors[..., SIZE:].tolist() == [[[1, 2], [3, 4], [9, 9]], [[3, 4], [0, 0], [0, 0]]]


def test_the_output_mix_has_its_own_weights():
    inputs = mixer(output_mix=True)
    with torch.no_grad():
        inputs.output_mix.scores.copy_(torch.tensor([50.0, 0.0, 0.0]))
        inputs.output_mix.gamma.fill_(2.0)
    features = inputs(MASK, layers_of(), None)
    assert inputs.output_size == SIZE
    torch.testing.assert_close(features.vectors, layers_of().mean(dim=0))
    torch.testing.assert_close(features.output_vectors, 2 * layers_of()[0])
    mixes = inputs.learnt_mixes()
    assert mixes["input"].weights == pytest.approx([1 / 3] * 3)
    assert mixes["output"].gamma == 2
    assert inputs.penalty() == 2500


def test_dropout_applies_to_everything_in_training_only():
    inputs = mixer(output_mix=True, static=static_of(), dropout=0.5).train()
    given = torch.ones(N_LAYERS, 2, 300, SIZE)
    mask, ids = torch.ones(2, 300, dtype=torch.bool), torch.ones(2, 300, dtype=torch.int64)
    features = inputs(mask, given, ids)
    for part in (features.vectors[..., :SIZE], features.vectors[..., SIZE:], features.output_vectors):
        assert 0.3 < (part == 0).float().mean() < 0.7
    assert (inputs.eval()(mask, given, ids).vectors != 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "tokens"}, "average, 0, 1 or 2, got 'tokens'; did you mean 'token'"),
        ({"layers": "3"}, r"input.layers must be mix, none, token, .*, got '3'"),
        ({"layers": "none"}, "no static vectors: give input.static"),
        ({"layers": "none", "static": static_of(), "output_mix": True}, r"input\.output_mix needs layers"),
    ],
)
def test_impossible_inputs_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        mixer(**options)


def batch_of(seed):
    """Two layers of different scale and mean, with large values for padding."""
    layers = torch.randn(2, *MASK.shape, 4, generator=torch.Generator().manual_seed(seed))
    layers = layers * torch.tensor([0.01, 30.0]).view(2, 1, 1, 1) + torch.tensor([5.0, -2.0]).view(2, 1, 1, 1)
    return layers.masked_fill(~MASK.unsqueeze(2), 1e4), MASK


def test_standardized_layers_have_mean_0_and_deviation_1_over_the_words():
    standardizer, batches = LayerStandardizer(2, 4), [batch_of(seed) for seed in range(3)]
    torch.testing.assert_close(standardizer(batches[0][0]), batches[0][0])
    standardizer.fit(batches)
    words = torch.cat([standardizer(layers)[:, mask] for layers, mask in batches], dim=1)
    torch.testing.assert_close(words.mean(dim=1), torch.zeros(2, 4), atol=1e-3, rtol=0)
    torch.testing.assert_close(words.std(dim=1, correction=0), torch.ones(2, 4), atol=1e-3, rtol=0)
    constant = LayerStandardizer(1, 2)
    layers = torch.full((1, 2, 3, 2), 7.3)
    constant.fit([(layers, MASK)])
    torch.testing.assert_close(constant(layers), torch.zeros_like(layers))
