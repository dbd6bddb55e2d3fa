"""The LSTM for training and the one for inference equal the reference."""

import gc
import weakref

import pytest
import torch
from helpers.lstm import (
    CONSTANTS,
    in_every_case,
    make_leaves,
    make_reset_mask,
    run_inference,
    run_reference,
    run_training,
    with_gradients,
)

from elmolite.nn import packed_linear
from elmolite.nn.lstm import inference
from elmolite.nn.lstm.inference import IndexedInputs, PackedLSTM
from elmolite.nn.lstm.reference import State, Weights

WIDE = CONSTANTS["wide clips"]


@in_every_case([[1], [4] * 6, [5, 5, 3, 2, 2, 1]])
def test_training_equals_the_reference_with_all_gradients(n_directions, batch_sizes, constants, has_resets):
    reset_mask = make_reset_mask(batch_sizes) if has_resets else None
    leaves = make_leaves(batch_sizes, n_directions)
    expected = with_gradients(run_reference, leaves, batch_sizes, constants, reset_mask)
    results = with_gradients(run_training, leaves, batch_sizes, constants, reset_mask)
    torch.testing.assert_close(results, expected, rtol=1e-10, atol=1e-10)
    if constants == CONSTANTS["tight clips"] and batch_sizes == [4] * 6:
        assert (results[0].abs().max(), results[2].abs().max()) == (0.3, 0.4), "a clip is not reached"


@pytest.mark.parametrize("packs", [True, False])
@in_every_case([[1], [0], [4] * 6, [5, 5, 3, 2, 2, 1], [20, 20, 17, 3, 1], [14, 2], [2, 0]])
def test_inference_equals_the_reference(monkeypatch, packs, n_directions, batch_sizes, constants, has_resets):
    if not packs:
        monkeypatch.setattr(packed_linear, "can_pack", lambda device, dtype: False)
    monkeypatch.setattr(inference, "WINDOW_POSITIONS", 7)  # smaller than a step, and larger than some
    reset_mask = make_reset_mask(batch_sizes) if has_resets else None
    leaves = make_leaves(batch_sizes, n_directions, dtype=torch.float32)
    kept = [leaf.detach().clone() for leaf in leaves]
    results = run_inference(leaves, batch_sizes, constants, reset_mask)
    expected = run_reference([leaf.double() for leaf in leaves], batch_sizes, constants, reset_mask)
    torch.testing.assert_close(results, [part.float() for part in expected], rtol=0, atol=2e-6)
    torch.testing.assert_close([leaf.detach() for leaf in leaves], kept, rtol=0, atol=0)  # arguments do not change


def test_training_in_bfloat16_keeps_the_cell_state_in_float32():
    leaves = make_leaves([4] * 6, dtype=torch.float32, scale=0.3)
    exact = with_gradients(run_training, leaves, [4] * 6, WIDE)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = with_gradients(run_training, leaves, [4] * 6, WIDE)
    for ours, theirs in zip(rounded, exact, strict=True):
        assert ours.dtype == torch.float32
        assert not torch.equal(ours, theirs)
        assert (ours - theirs).norm() < 0.03 * theirs.norm()


def test_inference_in_bfloat16_keeps_the_cell_state_in_float32():
    leaves = make_leaves([20] * 4, dtype=torch.float32, scale=0.4)
    exact, _, exact_cell = run_reference(leaves, [20] * 4, WIDE)
    outputs, hidden, cell = run_inference(leaves, [20] * 4, WIDE, dtype=torch.bfloat16)
    assert outputs.dtype == hidden.dtype == cell.dtype == torch.float32
    assert not torch.equal(outputs, exact)
    assert (outputs - exact).norm() < 0.02 * exact.norm()
    assert not torch.equal(cell, cell.bfloat16().float())
    assert (cell - exact_cell).norm() < 0.02 * exact_cell.norm()


def test_buffers_are_freed_with_the_output_and_not_by_the_garbage_collector():
    gc.disable()
    try:
        results = run_training(make_leaves([2, 2]), [2, 2], WIDE)
        graph = weakref.ref(results[0].grad_fn)
        results[0].sum().backward()
        del results
        assert graph() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("n_directions", [1, 2])
@pytest.mark.parametrize(("n_vectors", "is_indexed"), [(3, True), (40, False)])
def test_the_input_product_of_a_repeated_vector_is_computed_once(n_directions, n_vectors, is_indexed):
    batch_sizes = [20, 20, 3]
    leaves = [leaf.detach() for leaf in make_leaves(batch_sizes, n_directions, dtype=torch.float32)]
    vectors = leaves[0][0, :n_vectors]
    indices = torch.randint(n_vectors, (n_directions, 43), generator=torch.Generator().manual_seed(1))
    leaves[0], inputs = vectors[indices], IndexedInputs(vectors, indices)
    packed = PackedLSTM([Weights(*each) for each in zip(*leaves[3:], strict=True)], WIDE, torch.float32)
    assert isinstance(packed._gates(leaves[0], 20, inputs), inference._IndexedGates) == is_indexed
    outputs, _ = packed(leaves[0], batch_sizes, State(*leaves[1:3]), inputs=inputs)
    torch.testing.assert_close(outputs, run_reference(leaves, batch_sizes, WIDE)[0], rtol=0, atol=2e-6)


def test_a_sequence_has_the_same_bits_in_batches_of_other_sizes():
    x, hidden, cell, *weights = make_leaves([30] * 5, dtype=torch.float32, scale=0.2, sizes=(64, 64, 128))
    together = run_inference([x, hidden, cell, *weights], [30] * 5, WIDE)[0].view(5, 30, -1)
    n_min = max(inference.JOINT_ROWS, packed_linear.min_reproducible_rows(x.device, x.dtype))
    for n_rows in range(n_min, 30):
        some = x.view(1, 5, 30, 64)[:, :, :n_rows].flatten(1, 2)
        alone = run_inference([some, hidden[:, :n_rows], cell[:, :n_rows], *weights], [n_rows] * 5, WIDE)[0]
        assert torch.equal(alone.view(5, n_rows, -1), together[:, :n_rows])
