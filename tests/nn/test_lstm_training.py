import gc
import time
import weakref

import pytest
import torch

from elmolite.nn.lstm import autograd
from elmolite.nn.lstm.reference import Constants, State, Weights, lstm_reference

INPUT, PROJECTION, CELLS = 7, 5, 9


def lstm(x, batch_sizes, state, weights, constants, starts=None):
    """One direction, as the reference takes it."""
    x, state, weights = x[None], State(*(part[None] for part in state)), Weights(*(part[None] for part in weights))
    outputs, final = autograd.lstm(x, batch_sizes, state, weights, constants, starts)
    return outputs[0], State(*(part[0] for part in final))


def arguments(batch_sizes, *, dtype=torch.float64, scale=0.7, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def leaf(*shape):
        return (torch.randn(*shape, generator=generator, dtype=dtype) * scale).requires_grad_()

    x = leaf(sum(batch_sizes), INPUT)
    state = State(leaf(batch_sizes[0], PROJECTION), leaf(batch_sizes[0], CELLS))
    weights = Weights(leaf(4 * CELLS, INPUT), leaf(4 * CELLS, PROJECTION), leaf(4 * CELLS), leaf(PROJECTION, CELLS))
    return x, state, weights


def weighting(part):
    """What makes of outputs a loss that tells each of them from the others."""
    return torch.linspace(-1, 2, part.numel()).view(part.shape)


def outputs_and_gradients(function, batch_sizes, constants, starts, **options):
    x, state, weights = arguments(batch_sizes, **options)
    outputs, final = function(x, batch_sizes, state, weights, constants, starts)
    sum((part * weighting(part)).sum() for part in (outputs, *final)).backward()
    return [outputs, *final, *(leaf.grad for leaf in (x, *state, *weights))]


@pytest.mark.parametrize("batch_sizes", [[1], [4] * 6, [5, 5, 3, 2, 2, 1]])
@pytest.mark.parametrize("constants", [Constants(3.0, 3.0, 1.0), Constants(0.4, 0.3, 1.0), Constants(None, None, 0.0)])
@pytest.mark.parametrize("with_starts", [False, True])
def test_equals_the_reference_with_all_gradients(batch_sizes, constants, with_starts):
    starts = torch.rand(sum(batch_sizes), generator=torch.Generator().manual_seed(1)) < 0.3 if with_starts else None
    reference = outputs_and_gradients(lstm_reference, batch_sizes, constants, starts)
    for ours, theirs in zip(outputs_and_gradients(lstm, batch_sizes, constants, starts), reference, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("batch_sizes", [[4] * 6, [5, 5, 3, 2, 2, 1]])
def test_two_directions_together_equal_each_alone(batch_sizes):
    constants, starts = Constants(0.4, 0.3, 1.0), torch.arange(sum(batch_sizes)) % 5 == 2
    alone = [outputs_and_gradients(lstm_reference, batch_sizes, constants, starts, seed=seed) for seed in (0, 1)]
    (x, state, weights), others = (arguments(batch_sizes, seed=seed) for seed in (0, 1))
    ours = [x, *state, *weights]
    both = [torch.stack(pair) for pair in zip(ours, [others[0], *others[1], *others[2]], strict=True)]
    leaves = [part.detach().requires_grad_() for part in both]
    outputs, final = autograd.lstm(leaves[0], batch_sizes, State(*leaves[1:3]), Weights(*leaves[3:]), constants, starts)
    results = (outputs, *final)
    sum((part[g] * weighting(part[g])).sum() for part in results for g in range(2)).backward()
    for g in range(2):
        found = [part[g] for part in (*results, *(leaf.grad for leaf in leaves))]
        for ours, theirs in zip(found, alone[g], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_the_clips_are_at_work_in_that_comparison():
    constants = Constants(0.4, 0.3, 1.0)
    x, state, weights = arguments([4] * 6)
    outputs, final = lstm(x, [4] * 6, state, weights, constants)
    assert outputs.abs().max() == 0.3
    assert final.cell.abs().max() == 0.4


def test_gradients_equal_finite_differences():
    x, state, weights = arguments([3, 2], scale=0.5)

    def function(*leaves):
        outputs, final = lstm(leaves[0], [3, 2], State(*leaves[1:3]), Weights(*leaves[3:]), Constants(3.0, 3.0, 1.0))
        return outputs, *final

    assert torch.autograd.gradcheck(function, (x, *state, *weights))


def test_a_sequence_does_not_depend_on_the_others():
    batch_sizes = [3, 3, 2, 1]
    x, state, weights = arguments(batch_sizes)
    constants = Constants(3.0, 3.0, 1.0)
    together, final = lstm(x, batch_sizes, state, weights, constants)
    places = [[0, 3, 6, 8], [1, 4, 7], [2, 5]]
    for row, at in enumerate(places):
        alone, end = lstm(x[at], [1] * len(at), State(*(s[row : row + 1] for s in state)), weights, constants)
        torch.testing.assert_close(alone, together[at])
        torch.testing.assert_close(end.hidden[0], final.hidden[row])
        torch.testing.assert_close(end.cell[0], final.cell[row])


def test_two_windows_with_carried_state_equal_one():
    x, state, weights = arguments([2] * 8)
    constants = Constants(3.0, 3.0, 1.0)
    whole, end = lstm(x, [2] * 8, state, weights, constants)
    first, between = lstm(x[:6], [2] * 3, state, weights, constants)
    second, end_again = lstm(x[6:], [2] * 5, between, weights, constants)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(end_again, end)


def test_bfloat16_products_keep_the_cell_state_in_float32():
    options = {"dtype": torch.float32, "scale": 0.3}
    exact = outputs_and_gradients(lstm, [4] * 6, Constants(3.0, 3.0, 1.0), None, **options)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = outputs_and_gradients(lstm, [4] * 6, Constants(3.0, 3.0, 1.0), None, **options)
    assert all(part.dtype == torch.float32 for part in rounded)
    for ours, theirs in zip(rounded, exact, strict=True):
        assert not torch.equal(ours, theirs)
        assert (ours - theirs).norm() < 0.03 * theirs.norm()


def test_buffers_are_freed_with_the_output_and_not_by_the_garbage_collector():
    x, state, weights = arguments([2, 2])
    gc.disable()
    try:
        together = [State(*(part[None] for part in state)), Weights(*(part[None] for part in weights))]
        outputs, final = autograd.lstm(x[None], [2, 2], *together, Constants(3.0, 3.0, 1.0))
        graph = weakref.ref(outputs.grad_fn)
        outputs.sum().backward()
        del outputs, final
        assert graph() is None
    finally:
        gc.enable()


def test_not_slower_than_the_reference():
    """A guard, not a benchmark: the ratio in one process, at the size of the preset mini."""
    size, cells, batch_sizes = 128, 512, [32] * 20
    generator = torch.Generator().manual_seed(0)
    shapes = [(4 * cells, size), (4 * cells, size), (4 * cells,), (size, cells)]
    weights = Weights(*((torch.randn(*s, generator=generator) * 0.05).requires_grad_() for s in shapes))
    x = torch.randn(640, size, generator=generator, requires_grad=True)
    state = State(torch.zeros(32, size), torch.zeros(32, cells))
    seconds = {lstm: [], lstm_reference: []}
    for _ in range(7):
        for function, times in seconds.items():
            start = time.perf_counter()
            outputs, _ = function(x, batch_sizes, state, weights, Constants(3.0, 3.0, 1.0))
            outputs.sum().backward()
            times.append(time.perf_counter() - start)
    assert min(seconds[lstm]) < 1.1 * min(seconds[lstm_reference])  # a tenth for noise; 0.85 when it was written
