import pytest
import torch

from elmolite.errors import InputError
from elmolite.tasks.inputs import WordInputs, fixed_weights
from elmolite.tasks.static_vectors import StaticEmbedding

N_LAYERS, SIZE = 3, 4
MASK = torch.tensor([[True, True, True], [True, False, False]])


def layers_of(seed=0):
    layers = torch.randn(N_LAYERS, *MASK.shape, SIZE, generator=torch.Generator().manual_seed(seed))
    return layers * MASK.unsqueeze(2)


def static_of(*, is_trained=False):
    static = StaticEmbedding(["<unk>", "a", "b"], size=2, is_trained=is_trained)
    with torch.no_grad():
        static.weight.copy_(torch.tensor([[9.0, 9.0], [1.0, 2.0], [3.0, 4.0]]))
    return static


def inputs_of(**options):
    return WordInputs(n_layers=N_LAYERS, layer_size=SIZE, **options)


@pytest.mark.parametrize(("layers", "weights"), [("token", [1, 0, 0]), ("top", [0, 0, 1]), ("1", [0, 1, 0])])
def test_one_layer_as_it_is(layers, weights):
    inputs, given = inputs_of(layers=layers), layers_of()
    words = inputs(MASK, given, None)
    torch.testing.assert_close(words.vectors, given[weights.index(1)])
    assert fixed_weights(layers, N_LAYERS) == weights
    assert not list(inputs.parameters())
    assert inputs.learnt_mixes() == {}
    assert inputs.penalty() == 0


def test_the_average_and_a_new_mix_are_the_mean():
    given = layers_of()
    for layers in ("average", "mix"):
        torch.testing.assert_close(inputs_of(layers=layers)(MASK, given, None).vectors, given.mean(dim=0))


def test_static_vectors_stand_beside_the_layers_and_padding_is_zero():
    ids = torch.tensor([[1, 2, 0], [2, 0, 0]])
    inputs = inputs_of(layers="token", static=static_of())
    words = inputs(MASK, layers_of(), ids)
    assert inputs.size == words.vectors.shape[2] == SIZE + 2
    torch.testing.assert_close(words.vectors[..., :SIZE], layers_of()[0])
    expected = [[[1, 2], [3, 4], [9, 9]], [[3, 4], [0, 0], [0, 0]]]
    torch.testing.assert_close(words.vectors[..., SIZE:], torch.tensor(expected, dtype=torch.float32))


def test_static_vectors_alone():
    inputs = WordInputs(n_layers=0, layer_size=0, layers="none", static=static_of())
    assert inputs.size == 2
    assert inputs.mix is None
    assert inputs(MASK, None, torch.ones(2, 3, dtype=torch.int64)).vectors[0, 0].tolist() == [1, 2]
    assert inputs.learnt_mixes() == {}
    assert inputs.penalty() == 0


def test_a_mix_at_the_output_has_weights_of_its_own():
    inputs = inputs_of(mixes_at_output=True)
    with torch.no_grad():
        inputs.output_mix.scores.copy_(torch.tensor([50.0, 0.0, 0.0]))
        inputs.output_mix.gamma.fill_(2.0)
    words = inputs(MASK, layers_of(), None)
    assert inputs.output_size == SIZE
    torch.testing.assert_close(words.vectors, layers_of().mean(dim=0))
    torch.testing.assert_close(words.output_vectors, 2 * layers_of()[0])
    mixes = inputs.learnt_mixes()
    assert mixes["input"].weights == pytest.approx([1 / 3] * 3)
    assert mixes["output"].gamma == 2
    assert inputs.penalty() == 2500


def test_dropout_reaches_all_of_it_but_only_in_training():
    inputs = inputs_of(mixes_at_output=True, static=static_of(), dropout=0.5).train()
    given = torch.ones(N_LAYERS, 2, 300, SIZE)
    mask, ids = torch.ones(2, 300, dtype=torch.bool), torch.ones(2, 300, dtype=torch.int64)
    words = inputs(mask, given, ids)
    for part in (words.vectors[..., :SIZE], words.vectors[..., SIZE:], words.output_vectors):
        assert 0.3 < (part == 0).float().mean() < 0.7
    assert (inputs.eval()(mask, given, ids).vectors != 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "tokens"}, "unknown 'tokens'; did you mean 'token'"),
        ({"layers": "3"}, r"layers: unknown '3'"),
        ({"layers": "-1"}, "layers: unknown '-1'"),
        ({"layers": "none"}, "'none' leaves nothing to read: give static vectors"),
        ({"layers": "none", "static": static_of(), "mixes_at_output": True}, "a mix at the output needs layers"),
    ],
)
def test_what_cannot_be_read_is_explained(options, message):
    with pytest.raises(InputError, match=message):
        inputs_of(**options)
