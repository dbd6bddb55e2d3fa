import pytest
import torch

from elmolite.nn import packed_linear
from elmolite.nn.lstm import inference
from elmolite.nn.lstm.inference import PreparedLSTM, Words, runs_together
from elmolite.nn.lstm.reference import Constants, State, Weights, lstm_reference

INPUT, PROJECTION, CELLS = 7, 5, 9


def arguments(batch_sizes, *, dtype=torch.float32, scale=0.7, sizes=(INPUT, PROJECTION, CELLS), seed=0):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype) * scale

    n_in, n_out, n_cells = sizes
    x = random(sum(batch_sizes), n_in)
    state = State(random(batch_sizes[0], n_out), random(batch_sizes[0], n_cells))
    weights = Weights(
        random(4 * n_cells, n_in), random(4 * n_cells, n_out), random(4 * n_cells), random(n_out, n_cells)
    )
    return x, state, weights


def run(x, batch_sizes, state, weights, constants, *, dtype=torch.float32, starts=None, words=None):
    """Run one direction."""
    prepared = PreparedLSTM([weights], constants, dtype)
    outputs, final = prepared(x[None], batch_sizes, State(*(part[None] for part in state)), starts, words)
    return outputs[0], State(*(part[0] for part in final))


@pytest.mark.parametrize("n_directions", [1, 2])
@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("batch_sizes", [[1], [0], [4] * 6, [5, 5, 3, 2, 2, 1], [20, 20, 17, 3, 1], [14, 2], [2, 0]])
@pytest.mark.parametrize("constants", [Constants(3.0, 3.0, 1.0), Constants(0.4, 0.3, 1.0), Constants(None, None, 0.0)])
@pytest.mark.parametrize("with_starts", [False, True])
def test_equals_the_reference(monkeypatch, n_directions, packs, batch_sizes, constants, with_starts):
    if not packs:
        monkeypatch.setattr(packed_linear, "packs", lambda device, dtype: False)
    monkeypatch.setattr(inference, "WINDOW_POSITIONS", 7)  # smaller than a step, and larger than some
    starts = torch.rand(sum(batch_sizes), generator=torch.Generator().manual_seed(1)) < 0.3 if with_starts else None
    each = [arguments(batch_sizes, seed=seed) for seed in range(n_directions)]
    x = torch.stack([x for x, _, _ in each])
    state = State(*(torch.stack(parts) for parts in zip(*(state for _, state, _ in each), strict=True)))
    weights = [weights for _, _, weights in each]
    kept = [part.clone() for part in (x, *state, *(part for each in weights for part in each))]
    outputs, final = PreparedLSTM(weights, constants, torch.float32)(x, batch_sizes, state, starts)
    for g, (x_of_one, state_of_one, weights_of_one) in enumerate(each):
        exact, exact_final = lstm_reference(
            x_of_one.double(),
            batch_sizes,
            State(*(part.double() for part in state_of_one)),
            Weights(*(part.double() for part in weights_of_one)),
            constants,
            starts,
        )
        for ours, theirs in zip((outputs, *final), (exact, *exact_final), strict=True):
            torch.testing.assert_close(ours[g], theirs.float(), rtol=0, atol=2e-6)
    for now, then in zip((x, *state, *(part for each in weights for part in each)), kept, strict=True):
        assert torch.equal(now, then), "an argument was changed"


@pytest.mark.parametrize("n_directions", [1, 2])
@pytest.mark.parametrize(("n_words", "is_shared"), [(3, True), (40, False)])
def test_the_product_of_a_word_that_stands_at_many_positions_is_computed_once(n_directions, n_words, is_shared):
    batch_sizes = [20, 20, 3]
    vectors, state, weights = arguments(batch_sizes)
    vectors = vectors[:n_words]
    places = torch.randint(n_words, (n_directions, 43), generator=torch.Generator().manual_seed(1))
    words, x = Words(vectors, places), vectors[places]
    constants = Constants(3.0, 3.0, 1.0)
    prepared = PreparedLSTM([weights] * n_directions, constants, torch.float32)
    assert isinstance(prepared._gates(x, 20, words), inference._InputsOfWords) == is_shared
    outputs, _ = prepared(x, batch_sizes, State(*(part.expand(n_directions, -1, -1) for part in state)), words=words)
    for ours, inputs in zip(outputs, x, strict=True):
        exact, _ = lstm_reference(inputs, batch_sizes, state, weights, constants)
        torch.testing.assert_close(ours, exact, rtol=0, atol=2e-6)


def test_both_directions_run_at_once_where_that_is_faster():
    one = Weights(*(torch.empty(0) for _ in range(3)), torch.empty(128, 1024))
    assert runs_together(1, one)
    assert not runs_together(20, one)
    assert runs_together(20, Weights(*(part.to("meta") for part in one)))


def test_in_double_precision_it_is_as_exact_as_the_reference():
    x, state, weights = arguments([5, 3], dtype=torch.float64)
    constants = Constants(0.4, 0.3, 1.0)
    ours = run(x, [5, 3], state, weights, constants, dtype=torch.float64)
    torch.testing.assert_close(ours, lstm_reference(x, [5, 3], state, weights, constants), rtol=1e-12, atol=1e-12)


def test_bfloat16_products_keep_the_cell_state_in_float32():
    batch_sizes = [20] * 4
    x, state, weights = arguments(batch_sizes, scale=0.4)
    constants = Constants(3.0, 3.0, 1.0)
    exact, exact_final = lstm_reference(x, batch_sizes, state, weights, constants)
    outputs, final = run(x, batch_sizes, state, weights, constants, dtype=torch.bfloat16)
    assert outputs.dtype == final.hidden.dtype == final.cell.dtype == torch.float32
    assert not torch.equal(outputs, exact)
    assert (outputs - exact).norm() < 0.02 * exact.norm()
    assert not torch.equal(final.cell, final.cell.bfloat16().float())
    assert (final.cell - exact_final.cell).norm() < 0.02 * exact_final.cell.norm()


def test_a_sequence_has_the_same_bits_however_many_stand_beside_it():
    batch_sizes = [30] * 5
    x, state, weights = arguments(batch_sizes, scale=0.2, sizes=(64, 64, 128))
    constants = Constants(3.0, 3.0, 1.0)
    together, _ = run(x, batch_sizes, state, weights, constants)
    least = max(inference.JOINT_ROWS, packed_linear.min_rows(x.device, x.dtype))
    for n_rows in range(least, 30):
        some = x.view(5, 30, 64)[:, :n_rows].flatten(0, 1)
        alone, _ = run(some, [n_rows] * 5, State(*(part[:n_rows] for part in state)), weights, constants)
        assert torch.equal(alone.view(5, n_rows, -1), together.view(5, 30, -1)[:, :n_rows])
