"""Random LSTM layers of several directions, run by the reference and by the fast implementations."""

import pytest
import torch

from elmolite.nn.lstm import autograd
from elmolite.nn.lstm.inference import PackedLSTM
from elmolite.nn.lstm.reference import Constants, State, Weights, lstm_reference

SIZES = (7, 5, 9)  # input, projection, cells
CONSTANTS = {
    "wide clips": Constants(3.0, 3.0, 1.0),
    "tight clips": Constants(0.4, 0.3, 1.0),
    "no clips": Constants(None, None, 0.0),
}


def make_leaves(batch_sizes, n_directions=1, *, dtype=torch.float64, scale=0.7, sizes=SIZES, device="cpu"):
    """Return x, hidden, cell and the weights, all with a dimension for the direction, some not contiguous."""
    generator = torch.Generator().manual_seed(0)
    n_in, n_out, n_cells = sizes

    def leaf(*shape):
        values = torch.randn(n_directions, *shape, generator=generator, dtype=dtype).mul_(scale)
        return values.to(device)

    return [
        leaf(n_in, sum(batch_sizes)).mT.requires_grad_(),
        leaf(n_out, batch_sizes[0]).mT.requires_grad_(),
        leaf(n_cells, batch_sizes[0]).mT.requires_grad_(),
        leaf(4 * n_cells, n_in).requires_grad_(),
        leaf(4 * n_cells, n_out).requires_grad_(),
        leaf(4 * n_cells).requires_grad_(),
        leaf(n_out, n_cells).requires_grad_(),
    ]


def make_reset_mask(batch_sizes, device="cpu"):
    return (torch.rand(sum(batch_sizes), generator=torch.Generator().manual_seed(1)) < 0.3).to(device)


def run_reference(leaves, batch_sizes, constants, reset_mask=None):
    """Return outputs, hidden and cell of all directions, run one after the other."""
    results = []
    for x, hidden, cell, *weights in zip(*leaves, strict=True):
        outputs, final = lstm_reference(x, batch_sizes, State(hidden, cell), Weights(*weights), constants, reset_mask)
        results.append((outputs, *final))
    return [torch.stack(parts) for parts in zip(*results, strict=True)]


def run_training(leaves, batch_sizes, constants, reset_mask=None):
    x, hidden, cell, *weights = leaves
    outputs, final = autograd.lstm(x, batch_sizes, State(hidden, cell), Weights(*weights), constants, reset_mask)
    return [outputs, *final]


def run_inference(leaves, batch_sizes, constants, reset_mask=None, inputs=None, *, dtype=None):
    x, hidden, cell, *weights = (leaf.detach() for leaf in leaves)
    packed = PackedLSTM([Weights(*each) for each in zip(*weights, strict=True)], constants, dtype or x.dtype)
    outputs, final = packed(x, batch_sizes, State(hidden, cell), reset_mask, inputs)
    return [outputs, *final]


def with_gradients(run, leaves, *arguments):
    """Return the results of a run and the gradients of a loss that weights each of their numbers differently."""
    results = run(leaves, *arguments)
    weightings = [torch.linspace(-1, 2, part.numel()).view(part.mT.shape).mT.to(part) for part in results]
    return [*results, *torch.autograd.grad(results, leaves, weightings)]


def in_every_case(batches, *, directions=(1, 2)):
    """Parametrize a test: one and two directions, ragged sequences, clips, with and without resets of the state."""

    def decorate(test):
        test = pytest.mark.parametrize("n_directions", directions)(test)
        test = pytest.mark.parametrize("batch_sizes", batches)(test)
        test = pytest.mark.parametrize("constants", CONSTANTS.values(), ids=CONSTANTS)(test)
        return pytest.mark.parametrize("has_resets", [False, True])(test)

    return decorate
