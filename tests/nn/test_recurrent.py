import pytest
import torch
from torch import nn

from elmolite.nn.lstm.reference import State
from elmolite.nn.recurrent import GRULayer, LSTMLayer, RecurrentStack, RNNLayer, dropout

LSTM = {"cell_clip": 3.0, "projection_clip": 3.0, "forget_bias": 1.0}
SIZES = {"input_size": 4, "cell_size": 6, "projection_size": 4}


def stack_of(n_layers, *, use_residual=True, dropout=0.0, **options):
    layers = [LSTMLayer(**SIZES, **LSTM, **options) for _ in range(n_layers)]
    return RecurrentStack(layers, projection_size=4, cell_size=6, use_residual=use_residual, dropout=dropout)


def test_residual_from_the_second_layer_on():
    torch.manual_seed(0)
    plain, residual = (stack_of(3, use_residual=use) for use in (False, True))
    residual.load_state_dict(plain.state_dict())
    x = torch.randn(6, 4)
    first, second, third = residual(x, [2] * 3, residual.zero_state(2, x))[0]
    torch.testing.assert_close(first, plain(x, [2] * 3, plain.zero_state(2, x))[0][0])
    inner, _ = plain.layers[1](first, [2] * 3, State(torch.zeros(2, 4), torch.zeros(2, 6)))
    torch.testing.assert_close(second, first + inner)
    inner, _ = plain.layers[2](second, [2] * 3, State(torch.zeros(2, 4), torch.zeros(2, 6)))
    torch.testing.assert_close(third, second + inner)


def test_dropout_falls_on_the_input_of_each_layer_in_training_only():
    torch.manual_seed(0)
    stack = stack_of(2, dropout=0.5)
    x = torch.randn(6, 4)
    state = stack.zero_state(2, x)
    first, second = (stack(x, [2] * 3, state)[0][-1] for _ in range(2))
    assert not torch.equal(first, second)
    stack.eval()
    first, second = (stack(x, [2] * 3, state)[0][-1] for _ in range(2))
    assert torch.equal(first, second)


def test_variational_dropout_drops_the_same_parts_at_all_positions_of_a_row():
    torch.manual_seed(0)
    x = torch.ones(3 + 3 + 1, 200)
    dropped = dropout(x, [3, 3, 1], 0.25, is_variational=True)
    first, second, third = dropped.split([3, 3, 1])
    assert torch.equal(first, second)
    assert torch.equal(first[:1], third)
    assert not torch.equal(first[0], first[1])
    torch.testing.assert_close(dropped.unique(), torch.tensor([0, 4 / 3]))
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.05)
    plain = dropout(x, [3, 3, 1], 0.25, is_variational=False)
    assert not torch.equal(plain[:3], plain[3:6])


def test_dropped_recurrent_weights_are_zero_for_a_whole_window():
    torch.manual_seed(0)
    layer = LSTMLayer(**SIZES, **LSTM, recurrent_dropout=0.5)
    x, state = torch.randn(6, 4), State(torch.randn(2, 4), torch.randn(2, 6))
    layer(x, [2] * 3, state)[0].sum().backward()
    share = (layer.recurrent_weight.grad == 0).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.15)
    assert (layer.input_weight.grad != 0).all()
    layer.eval()
    assert torch.equal(layer(x, [2] * 3, state)[0], layer(x, [2] * 3, state)[0])


@pytest.mark.parametrize(("layer_class", "cell"), [(GRULayer, nn.GRUCell), (RNNLayer, nn.RNNCell)])
def test_gru_and_rnn_are_those_of_the_definition(layer_class, cell):
    """Ragged sequences and states that start afresh in the middle, step by step through torch's single cells."""
    torch.manual_seed(0)
    layer = layer_class(**SIZES)
    step = cell(4, 6)
    step.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.rnn.state_dict().items()})
    batch_sizes = [3, 3, 2, 2, 1]
    x, state = torch.randn(11, 4), State(torch.zeros(3, 4), torch.randn(3, 6))
    reset_mask = torch.zeros(11, dtype=torch.bool)
    reset_mask[[1, 7, 10]] = True
    hidden, expected, at = state.cell, [], 0
    for n_rows in batch_sizes:
        rows = slice(at, at + n_rows)
        new = step(x[rows], hidden[:n_rows] * ~reset_mask[rows, None])
        expected.append(layer.projection(new))
        hidden = torch.cat([new, hidden[n_rows:]])
        at += n_rows
    output, after = layer(x, batch_sizes, state, reset_mask)
    torch.testing.assert_close(output, torch.cat(expected))
    torch.testing.assert_close(after.cell, hidden)
