import importlib.util
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from helpers.lstm import (
    CONSTANTS,
    SIZES,
    in_every_case,
    make_leaves,
    make_reset_mask,
    run_inference,
    run_reference,
    run_training,
    with_gradients,
)
from torch.nn import functional as F

from elmolite.nn import cross_entropy
from elmolite.nn.kernels import describe_kernels, triton_failure
from elmolite.nn.lstm import autograd, inference
from elmolite.nn.lstm.cells import TorchCells, cells_on
from elmolite.nn.softmax import FullSoftmax

CELLS, TIGHT = SIZES[2], CONSTANTS["tight clips"]


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return torch.device(request.param)


LSTM, CROSS_ENTROPY = "elmolite.nn.lstm.triton", "elmolite.nn.cross_entropy_triton"


def kernels_module(monkeypatch, name, *, is_interpreted):
    """Import a module anew: a kernel is defined for the interpreter or for a GPU."""
    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setenv("TRITON_INTERPRET", "1" if is_interpreted else "0")
    found = importlib.util.find_spec(name)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture
def kernels(device, monkeypatch):
    """Replace torch's operations by the kernels, interpreted on the CPU."""
    module = kernels_module(monkeypatch, LSTM, is_interpreted=device.type == "cpu")
    monkeypatch.setattr(module, "MAX_BLOCK", 8)  # two programs a row
    cells = Mock(wraps=module.TritonCells())
    for user in (autograd, inference):
        monkeypatch.setattr(user, "cells_on", lambda device: cells)
    yield cells
    assert cells.mock_calls, "they did not run"


def compile_kernel(kernel, signature, constexprs, capability):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    source = ASTSource(kernel, {name: signature[name] for name in kernel.arg_names}, constexprs)
    assert triton.compile(source, GPUTarget("cuda", capability, 32), {"enable_fp_fusion": True}).asm["cubin"]


@pytest.mark.parametrize("capability", [75, 90])
@pytest.mark.parametrize(("wide", "low"), [("fp32", "fp32"), ("fp32", "bf16"), ("bf16", "bf16"), ("fp64", "fp64")])
@pytest.mark.parametrize("is_plain", [False, True])
def test_compile_for_a_gpu_on_a_machine_without(monkeypatch, tmp_path, capability, wide, low, is_plain):
    """The interpreter accepts code that the compiler refuses.

    Must run before the other tests: the interpreter of Triton 3.8 and earlier patches ``triton.language``.
    """
    module = kernels_module(monkeypatch, LSTM, is_interpreted=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    in_dtype_of_products = {"product", "gated", "grad_gated", "grad_gates"}
    of_cells = {"gates", "cell", "doubled_cells", "cell_sigmoids", "cells_before", "grad_cell"}
    missing = dict.fromkeys(["product", "keep", "cell_sigmoids"] if is_plain else [])
    constants = {"CLIP": None if is_plain else 6.0, "N_CELLS": CELLS, "BLOCK": 16, **missing}
    for kernel, needs in ((module._forward_kernel, set()), (module._backward_kernel, {"cell_sigmoids"})):
        signature = dict.fromkeys(kernel.arg_names, "i32")
        signature |= dict.fromkeys(in_dtype_of_products, f"*{low}") | dict.fromkeys(of_cells, f"*{wide}")
        signature["keep"] = "*i1"
        constexprs = {
            name: value for name, value in constants.items() if name in kernel.arg_names and name not in needs
        }
        signature |= dict.fromkeys(constexprs, "constexpr")
        compile_kernel(kernel, signature, constexprs, capability)
    module = kernels_module(monkeypatch, CROSS_ENTROPY, is_interpreted=False)
    signature = {"logits": f"*{low}", "columns": "*i64", "losses": "*fp64" if low == "fp64" else "*fp32"}
    signature["bias"] = f"*{wide}"
    constexprs = {"N_COLUMNS": 100, "HAS_GRADIENT": True, "BLOCK": 64} | ({"bias": None} if is_plain else {})
    signature |= dict.fromkeys(constexprs, "constexpr")
    compile_kernel(module._kernel, signature, constexprs, capability)


@in_every_case([[3, 2, 1], [2, 0]], directions=[2])
def test_equal_the_reference(kernels, device, n_directions, batch_sizes, constants, has_resets):
    reset_mask = make_reset_mask(batch_sizes, device) if has_resets else None
    leaves = make_leaves(batch_sizes, n_directions, device=device)
    expected = with_gradients(run_reference, leaves, batch_sizes, constants, reset_mask)
    results = with_gradients(run_training, leaves, batch_sizes, constants, reset_mask)
    torch.testing.assert_close(results, expected, rtol=1e-10, atol=1e-10)
    without_gradients = run_inference(leaves, batch_sizes, constants, reset_mask)
    torch.testing.assert_close(without_gradients, [part.detach() for part in expected[:3]], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("dtype", "of_products", "rounding"),
    [
        (torch.float32, torch.float32, 2e-6),
        (torch.float32, torch.float16, 5e-4),
        (torch.float16, torch.float16, 5e-4),
        (torch.float32, torch.bfloat16, 4e-3),
        (torch.bfloat16, torch.bfloat16, 4e-3),
    ],
)
def test_are_as_exact_as_torchs_operations(kernels, device, monkeypatch, dtype, of_products, rounding):
    batch_sizes = [3, 3, 2, 1]
    arguments = batch_sizes, TIGHT, make_reset_mask(batch_sizes, device)
    leaves = make_leaves(batch_sizes, 2, dtype=dtype, device=device)
    exact = with_gradients(run_reference, [leaf.detach().double().requires_grad_() for leaf in leaves], *arguments)
    with torch.autocast(device.type, of_products, enabled=of_products != dtype):
        ours = with_gradients(run_training, leaves, *arguments)
        monkeypatch.setattr(autograd, "cells_on", lambda device: TorchCells())
        theirs = with_gradients(run_training, leaves, *arguments)
    if device.type == "cpu" and of_products == torch.bfloat16:
        rounding = 0.02  # Triton's interpreter cuts numbers to bfloat16, where a GPU rounds them
    for each, other, true in zip(ours, theirs, exact, strict=True):
        assert each.dtype == dtype
        assert (each - true).norm() < 1.1 * (other - true).norm() + rounding * true.norm()


def test_a_clip_lets_nan_through(kernels, device):
    leaves = make_leaves([2], device=device)
    with torch.no_grad():
        leaves[0][0, 0, 0] = torch.nan
    outputs, _, cell, *grads = with_gradients(run_training, leaves, [2], TIGHT)
    for part in (outputs, cell, grads[0]):
        assert part[0, 0].isnan().all()
        assert not part[0, 1].isnan().any()


@pytest.fixture
def losses(device, monkeypatch):
    """Replace torch's cross entropy by the kernel, interpreted on the CPU, in blocks of 8 columns."""
    module = kernels_module(monkeypatch, CROSS_ENTROPY, is_interpreted=device.type == "cpu")
    monkeypatch.setattr(module, "MAX_BLOCK", 8)
    monkeypatch.setattr(module, "_launch", launch := Mock(wraps=module._launch))
    monkeypatch.setitem(sys.modules, CROSS_ENTROPY, module)
    monkeypatch.setattr(cross_entropy, "triton_failure", lambda device: None)
    yield module
    assert launch.mock_calls, "they did not run"


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")  # of the interpreter, which computes in numpy
@pytest.mark.parametrize("n_columns", [1, 8, 21])
@pytest.mark.parametrize(
    ("dtype", "rounding"),
    [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 8e-3)],
)
def test_cross_entropy_is_torchs(losses, device, dtype, rounding, n_columns):
    torch.manual_seed(0)
    logits = (3 * torch.randn(12, n_columns, device=device)).to(dtype)
    logits[0, 0], logits[1, -1], logits[2, 0], logits[3, -1] = torch.nan, torch.inf, -torch.inf, 1e4
    logits[4] = -torch.inf
    targets = torch.randint(n_columns, (12,), device=device)
    exact = logits.double().requires_grad_()
    expected = F.cross_entropy(exact, targets, reduction="none")
    expected.sum().backward()
    evaluated = losses.cross_entropy_(logits, targets, needs_gradient=False)
    found = losses.cross_entropy_(logits, targets, needs_gradient=True)
    assert torch.equal(evaluated.nan_to_num(), found.nan_to_num())
    is_close = {"rtol": rounding, "atol": rounding, "equal_nan": True}
    torch.testing.assert_close(found.double(), expected.detach(), **{**is_close, "rtol": 1e-6, "atol": 1e-6})
    torch.testing.assert_close(logits.double(), exact.grad, **is_close)


@pytest.mark.parametrize("low", [None, torch.bfloat16])
def test_softmax_losses_are_those_of_torchs_operations(losses, device, monkeypatch, low):
    """All positions in chunks, some of them not counted, and with negatives that repeat or are the target."""
    monkeypatch.setattr(cross_entropy, "MIN_CHUNK_ROWS", 5)
    for name in ("CPU_CHUNK_LOGITS", "FUSED_CHUNK_LOGITS"):
        monkeypatch.setattr(cross_entropy, name, 1)
    torch.manual_seed(0)
    softmax = FullSoftmax(vocabulary_size=21, projection_size=6).to(device)
    hidden = torch.randn(23, 6, device=device, requires_grad=True)
    targets = torch.randint(21, (23,), device=device)
    targets[::5] = cross_entropy.IGNORE_INDEX

    def compute():
        results = []
        for n_negatives in (None, 11):
            with torch.autocast(device.type, low or torch.float32, enabled=low is not None):
                loss = softmax.training_loss(hidden, targets, n_negatives=n_negatives, seed=0)
            results += [loss.detach(), *torch.autograd.grad(loss, [hidden, *softmax.parameters()])]
        return [*results, softmax.full_loss(hidden.detach(), targets).detach()]

    ours = compute()
    monkeypatch.setattr(cross_entropy, "triton_failure", lambda device: "not now")
    rounding = 1e-5 if low is None else 0.05
    torch.testing.assert_close(ours, compute(), rtol=rounding, atol=rounding)


@pytest.fixture
def asked_afresh():
    """Clear the cached choice of implementation before and after."""
    triton_failure.cache_clear()
    yield
    triton_failure.cache_clear()


def test_are_chosen_on_a_gpu_and_nowhere_else(device, asked_afresh):
    if device.type == "cpu":
        assert isinstance(cells_on(device), TorchCells)
        assert describe_kernels(device) == "torch"
    else:
        pytest.importorskip("triton", reason="Triton is not installed")
        assert type(cells_on(device)).__name__ == "TritonCells"
        assert describe_kernels(device) == "Triton"


def test_torch_computes_on_a_gpu_where_a_first_launch_fails(monkeypatch, asked_afresh):
    failing = SimpleNamespace(try_on=Mock(side_effect=RuntimeError("Failed to find C compiler.\nPlease specify one")))
    monkeypatch.setattr("elmolite.nn.lstm.triton", failing, raising=False)
    gpu = torch.device("cuda")
    assert isinstance(cells_on(gpu), TorchCells)
    assert describe_kernels(gpu) == "torch, because Triton does not run: RuntimeError: Failed to find C compiler."
