import time

import pytest
import torch

from elmolite import lstm_inference, prepared_weights
from elmolite.lstm import Constants, State, Weights, lstm_reference
from elmolite.lstm_inference import PreparedLSTM, Words

INPUT, PROJECTION, CELLS = 7, 5, 9


def arguments(batch_sizes, *, dtype=torch.float32, scale=0.7, sizes=(INPUT, PROJECTION, CELLS)):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype) * scale

    n_in, n_out, n_cells = sizes
    x = random(sum(batch_sizes), n_in)
    state = State(random(batch_sizes[0], n_out), random(batch_sizes[0], n_cells))
    weights = Weights(
        random(4 * n_cells, n_in), random(4 * n_cells, n_out), random(4 * n_cells), random(n_out, n_cells)
    )
    return x, state, weights


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("batch_sizes", [[1], [0], [4] * 6, [5, 5, 3, 2, 2, 1], [20, 20, 17, 3, 1], [14, 2], [2, 0]])
@pytest.mark.parametrize("constants", [Constants(3.0, 3.0, 1.0), Constants(0.4, 0.3, 1.0), Constants(None, None, 0.0)])
@pytest.mark.parametrize("with_starts", [False, True])
def test_equals_the_reference(monkeypatch, packs, batch_sizes, constants, with_starts):
    if not packs:
        monkeypatch.setattr(prepared_weights, "packs", lambda device, dtype: False)
    monkeypatch.setattr(lstm_inference, "WINDOW_POSITIONS", 7)  # smaller than a step, and larger than some
    starts = torch.rand(sum(batch_sizes), generator=torch.Generator().manual_seed(1)) < 0.3 if with_starts else None
    x, state, weights = arguments(batch_sizes)
    kept = [part.clone() for part in (x, *state, *weights)]
    prepared = PreparedLSTM(weights, constants, torch.float32)
    outputs, final = prepared(x, batch_sizes, state, starts)
    exact, exact_final = lstm_reference(
        x.double(),
        batch_sizes,
        State(*(part.double() for part in state)),
        Weights(*(part.double() for part in weights)),
        constants,
        starts,
    )
    for ours, theirs in zip((outputs, *final), (exact, *exact_final), strict=True):
        torch.testing.assert_close(ours, theirs.float(), rtol=0, atol=2e-6)
    for now, then in zip((x, *state, *weights), kept, strict=True):
        assert torch.equal(now, then), "an argument was changed"


@pytest.mark.parametrize(("n_words", "is_shared"), [(3, True), (40, False)])
def test_the_product_of_a_word_that_stands_at_many_positions_is_computed_once(n_words, is_shared):
    batch_sizes = [20, 20, 3]
    x, state, weights = arguments(batch_sizes)
    words = Words(x[:n_words], torch.randint(n_words, (43,), generator=torch.Generator().manual_seed(1)))
    x = words.vectors[words.places]
    constants = Constants(3.0, 3.0, 1.0)
    prepared = PreparedLSTM(weights, constants, torch.float32)
    assert isinstance(prepared._gates(x, 20, words), lstm_inference._InputsOfWords) == is_shared
    ours = prepared(x, batch_sizes, state, words=words)
    torch.testing.assert_close(ours, lstm_reference(x, batch_sizes, state, weights, constants), rtol=0, atol=2e-6)


def test_in_double_precision_it_is_as_exact_as_the_reference():
    x, state, weights = arguments([5, 3], dtype=torch.float64)
    constants = Constants(0.4, 0.3, 1.0)
    ours = PreparedLSTM(weights, constants, torch.float64)(x, [5, 3], state)
    torch.testing.assert_close(ours, lstm_reference(x, [5, 3], state, weights, constants), rtol=1e-12, atol=1e-12)


def test_bfloat16_products_keep_the_cell_state_in_float32():
    batch_sizes = [20] * 4
    x, state, weights = arguments(batch_sizes, scale=0.4)
    constants = Constants(3.0, 3.0, 1.0)
    exact, exact_final = lstm_reference(x, batch_sizes, state, weights, constants)
    outputs, final = PreparedLSTM(weights, constants, torch.bfloat16)(x, batch_sizes, state)
    assert outputs.dtype == final.hidden.dtype == final.cell.dtype == torch.float32
    assert not torch.equal(outputs, exact)
    assert (outputs - exact).norm() < 0.02 * exact.norm()
    assert not torch.equal(final.cell, final.cell.bfloat16().float())
    assert (final.cell - exact_final.cell).norm() < 0.02 * exact_final.cell.norm()


def test_a_sequence_has_the_same_bits_however_many_stand_beside_it():
    batch_sizes = [30] * 5
    x, state, weights = arguments(batch_sizes, scale=0.2, sizes=(64, 64, 128))
    prepared = PreparedLSTM(weights, Constants(3.0, 3.0, 1.0), torch.float32)
    together, _ = prepared(x, batch_sizes, state)
    least = max(lstm_inference.JOINT_ROWS, prepared_weights.min_rows(x.device, x.dtype))
    for n_rows in range(least, 30):
        some = x.view(5, 30, 64)[:, :n_rows].flatten(0, 1)
        alone, _ = prepared(some, [n_rows] * 5, State(*(part[:n_rows] for part in state)))
        assert torch.equal(alone.view(5, n_rows, -1), together.view(5, 30, -1)[:, :n_rows])


def test_faster_than_the_reference():
    """A guard, not a benchmark: the ratio in one process, at the size of the preset mini."""
    size, cells, batch_sizes = 128, 512, [64] * 10
    generator = torch.Generator().manual_seed(0)
    shapes = [(4 * cells, size), (4 * cells, size), (4 * cells,), (size, cells)]
    weights = Weights(*(torch.randn(*shape, generator=generator) * 0.05 for shape in shapes))
    constants = Constants(3.0, 3.0, 1.0)
    prepared = PreparedLSTM(weights, constants, torch.float32)
    x = torch.randn(640, size, generator=generator)
    state = State(torch.zeros(64, size), torch.zeros(64, cells))
    seconds = {"prepared": [], "reference": []}
    for _ in range(9):
        for name, run in (
            ("prepared", lambda: prepared(x, batch_sizes, state)),
            ("reference", lambda: lstm_reference(x, batch_sizes, state, weights, constants)),
        ):
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    assert min(seconds["prepared"]) < 0.9 * min(seconds["reference"])
