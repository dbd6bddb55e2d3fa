import torch

from elmolite.lstm import State
from elmolite.lstm_layers import LSTMStack


def test_residual_from_the_second_layer_on():
    torch.manual_seed(0)
    options = {"cell_clip": 3.0, "projection_clip": 3.0, "forget_bias": 1.0, "dropout": 0.0}
    plain, residual = (
        LSTMStack(n_layers=3, projection_size=4, cell_size=6, use_residual=use, **options) for use in (False, True)
    )
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
    stack = LSTMStack(
        n_layers=2,
        projection_size=4,
        cell_size=6,
        cell_clip=3.0,
        projection_clip=3.0,
        forget_bias=1.0,
        use_residual=True,
        dropout=0.5,
    )
    x = torch.randn(6, 4)
    state = stack.zero_state(2, x)
    first, second = (stack(x, [2] * 3, state)[0][-1] for _ in range(2))
    assert not torch.equal(first, second)
    stack.eval()
    first, second = (stack(x, [2] * 3, state)[0][-1] for _ in range(2))
    assert torch.equal(first, second)
