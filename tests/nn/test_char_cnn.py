import pytest
import torch

from elmolite.data.indexers import _END_WORD, ByteIndexer
from elmolite.nn import PADDING, packed_linear
from elmolite.nn.char_cnn import CharacterCNN

WORDS = ["a", "the", "elephantine", "naïve", "東京"]


def make_encoder(**changes):
    torch.manual_seed(0)
    sizes = {"embedding_size": 4, "filters": [(1, 6), (2, 6), (5, 8)], "n_highway_layers": 2, "projection_size": 5}
    return CharacterCNN(n_ids=262, **{"activation": "relu", "padding": PADDING, **sizes, **changes})


def by_the_definition(encoder, word):
    """The paper's encoder for one word at its full 50 columns, window by window."""
    ids = torch.from_numpy(ByteIndexer().rows([word])[0]).long()
    embedded = encoder.embedding.weight[ids]  # (50, E)
    features = []
    for convolution in encoder.convolutions:
        width = convolution.kernel_size[0]
        windows = torch.stack([embedded[at : at + width] for at in range(50 - width + 1)])
        values = torch.einsum("nwe,few->nf", windows, convolution.weight) + convolution.bias
        features.append(values.max(dim=0).values)
    x = encoder.activation(torch.cat(features))
    for highway in encoder.highways:
        gate = torch.sigmoid(highway.gate(x))
        x = gate * torch.relu(highway.transform(x)) + (1 - gate) * x
    return encoder.projection(x)


@pytest.mark.parametrize("with_gradients", [True, False])
@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize(("activation", "is_trimmed"), [("relu", False), ("tanh", True)])
def test_equals_the_definition(monkeypatch, activation, is_trimmed, packs, with_gradients):
    if not packs:
        monkeypatch.setattr(packed_linear, "can_pack", lambda device, dtype: False)
    encoder = make_encoder(activation=activation).requires_grad_(with_gradients)
    rows = ByteIndexer().rows(WORDS)
    encoded = encoder(torch.from_numpy(ByteIndexer().trim(rows) if is_trimmed else rows).long())
    assert encoded.requires_grad == with_gradients
    for word, vector in zip(WORDS, encoded, strict=True):
        torch.testing.assert_close(vector, by_the_definition(encoder, word), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("with_gradients", [True, False])
@pytest.mark.parametrize("n_symbols", [40, 43, 44, 46, 47, 48])
def test_words_that_fill_the_50_columns_have_no_window_beyond_them(n_symbols, with_gradients):
    encoder = make_encoder(filters=[(1, 6), (2, 6), (7, 8)])
    with torch.no_grad():  # a window that is all padding, or half of it, would win where it does not fit
        encoder.embedding.weight[PADDING] = 30.0
        encoder.embedding.weight[_END_WORD] = 20.0
    encoder.requires_grad_(with_gradients)
    word = "x" * n_symbols
    rows = torch.from_numpy(ByteIndexer().trim(ByteIndexer().rows([word, "a"]))).long()
    torch.testing.assert_close(encoder(rows)[0], by_the_definition(encoder, word), rtol=1e-5, atol=1e-5)
