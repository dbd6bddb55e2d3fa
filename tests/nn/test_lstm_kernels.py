import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from elmolite.nn.lstm import autograd, cells, inference
from elmolite.nn.lstm.cells import TorchCells, cells_on, describe_cells
from elmolite.nn.lstm.inference import PreparedLSTM
from elmolite.nn.lstm.reference import Constants, State, Weights, lstm_reference

INPUT, PROJECTION, CELLS = 7, 5, 9
CLIPS = [Constants(3.0, 3.0, 1.0), Constants(0.4, 0.3, 1.0), Constants(None, None, 0.0)]
BATCHES = [[3], [4, 4, 2, 1], [2, 0]]


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return torch.device(request.param)


def kernels_module(monkeypatch, *, is_interpreted):
    """One of its own: a kernel is for the interpreter, or for a GPU, from its definition on."""
    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setenv("TRITON_INTERPRET", "1" if is_interpreted else "0")
    found = importlib.util.find_spec("elmolite.nn.lstm.triton")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture
def kernels(device, monkeypatch):
    """The kernels in the place of torch's operations, interpreted where they are not for a GPU."""
    module = kernels_module(monkeypatch, is_interpreted=device.type == "cpu")
    monkeypatch.setattr(module, "MAX_BLOCK", 8)  # two programs a row
    cells = Counted(module.TritonCells())
    for user in (autograd, inference):
        monkeypatch.setattr(user, "cells_on", lambda device: cells)
    yield cells
    assert cells.n_calls, "they did not run"


class Counted:
    """Cells of which it is known whether they were called."""

    def __init__(self, cells):
        self.cells = cells
        self.n_calls = 0

    def __getattr__(self, name):
        self.n_calls += 1
        return getattr(self.cells, name)


@pytest.mark.parametrize("capability", [75, 90])
@pytest.mark.parametrize(("wide", "low"), [("fp32", "fp32"), ("fp32", "bf16"), ("bf16", "bf16"), ("fp64", "fp64")])
@pytest.mark.parametrize("is_plain", [False, True])
def test_compile_for_a_gpu_on_a_machine_without(monkeypatch, tmp_path, capability, wide, low, is_plain):
    """The interpreter runs what the compiler refuses.

    Before the other tests: up to Triton 3.8 its interpreter leaves functions of its own in ``triton.language``.
    """
    module = kernels_module(monkeypatch, is_interpreted=False)
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

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
        source = ASTSource(kernel, {name: signature[name] for name in kernel.arg_names}, constexprs)
        compiled = triton.compile(source, GPUTarget("cuda", capability, 32), {"enable_fp_fusion": True})
        assert compiled.asm["cubin"]


def leaves_of(batch_sizes, n_directions, device, *, dtype=torch.float64, scale=0.7):
    """Inputs, state and weights, whose layout is not that of their shape where a caller has a choice."""
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape):
        return torch.randn(n_directions, *shape, generator=generator, dtype=dtype).mul_(scale).to(device)

    n_rows = batch_sizes[0]
    return [
        leaf(INPUT, sum(batch_sizes)).mT.requires_grad_(),
        leaf(PROJECTION, n_rows).mT.requires_grad_(),
        leaf(CELLS, n_rows).mT.requires_grad_(),
        leaf(4 * CELLS, INPUT).requires_grad_(),
        leaf(4 * CELLS, PROJECTION).requires_grad_(),
        leaf(4 * CELLS).requires_grad_(),
        leaf(PROJECTION, CELLS).requires_grad_(),
    ]


def starts_of(batch_sizes, device):
    return (torch.rand(sum(batch_sizes), generator=torch.Generator().manual_seed(1)) < 0.3).to(device)


def reference(leaves, batch_sizes, constants, starts):
    """All directions, one after the other."""
    results = []
    for x, hidden, cell, *weights in zip(*leaves, strict=True):
        outputs, final = lstm_reference(x, batch_sizes, State(hidden, cell), Weights(*weights), constants, starts)
        results.append((outputs, *final))
    return [torch.stack(parts) for parts in zip(*results, strict=True)]


def fast(leaves, batch_sizes, constants, starts):
    x, hidden, cell, *weights = leaves
    outputs, final = autograd.lstm(x, batch_sizes, State(hidden, cell), Weights(*weights), constants, starts)
    return [outputs, *final]


def with_gradients(function, leaves, *arguments):
    results = function(leaves, *arguments)
    weightings = [torch.linspace(-1, 2, part.numel()).view(part.mT.shape).mT.to(part) for part in results]
    grads = torch.autograd.grad(results, leaves, weightings)
    return [*results, *grads]


def in_every_case(test):
    """Run a test with one and two directions, ragged sequences, clips that bite and none, states that start anew."""
    cases = {"n_directions": [1, 2], "batch_sizes": BATCHES, "constants": CLIPS, "with_starts": [False, True]}
    for name, values in cases.items():
        test = pytest.mark.parametrize(name, values)(test)
    return test


@in_every_case
def test_equal_the_reference_with_all_gradients(kernels, device, n_directions, batch_sizes, constants, with_starts):
    starts = starts_of(batch_sizes, device) if with_starts else None
    leaves = leaves_of(batch_sizes, n_directions, device)
    exact = with_gradients(reference, leaves, batch_sizes, constants, starts)
    for ours, theirs in zip(with_gradients(fast, leaves, batch_sizes, constants, starts), exact, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@in_every_case
def test_equal_the_reference_without_gradients(kernels, device, n_directions, batch_sizes, constants, with_starts):
    starts = starts_of(batch_sizes, device) if with_starts else None
    leaves = [leaf.detach() for leaf in leaves_of(batch_sizes, n_directions, device)]
    exact = reference(leaves, batch_sizes, constants, starts)
    x, hidden, cell, *weights = leaves
    prepared = PreparedLSTM([Weights(*each) for each in zip(*weights, strict=True)], constants, torch.float64)
    outputs, final = prepared(x, batch_sizes, State(hidden, cell), starts)
    for ours, theirs in zip((outputs, *final), exact, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


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
    batch_sizes = [5, 5, 3, 2, 2, 1]
    arguments = batch_sizes, Constants(0.4, 0.3, 1.0), starts_of(batch_sizes, device)
    leaves = leaves_of(batch_sizes, 2, device, dtype=dtype)
    exact = with_gradients(reference, [leaf.detach().double().requires_grad_() for leaf in leaves], *arguments)
    with torch.autocast(device.type, of_products, enabled=of_products != dtype):
        ours = with_gradients(fast, leaves, *arguments)
        monkeypatch.setattr(autograd, "cells_on", lambda device: TorchCells())
        theirs = with_gradients(fast, leaves, *arguments)
    if device.type == "cpu" and of_products == torch.bfloat16:
        rounding = 0.02  # Triton's interpreter cuts numbers to bfloat16, where a GPU rounds them
    for each, other, true in zip(ours, theirs, exact, strict=True):
        assert each.dtype == dtype
        assert (each - true).norm() < 1.1 * (other - true).norm() + rounding * true.norm()


def test_a_clip_lets_nan_through(kernels, device):
    leaves = leaves_of([2], 1, device)
    with torch.no_grad():
        leaves[0][0, 0, 0] = torch.nan
    outputs, _, cell, *grads = with_gradients(fast, leaves, [2], Constants(0.4, 0.3, 1.0), None)
    for part in (outputs, cell, grads[0]):
        assert part[0, 0].isnan().all()
        assert not part[0, 1].isnan().any()


@pytest.fixture
def asked_afresh():
    """What was found out about the machine is forgotten before and after."""
    cells._kernels.cache_clear()
    yield
    cells._kernels.cache_clear()


def test_are_chosen_on_a_gpu_and_nowhere_else(device, asked_afresh):
    if device.type == "cpu":
        assert isinstance(cells_on(device), TorchCells)
        assert describe_cells(device) == "torch"
    else:
        pytest.importorskip("triton", reason="Triton is not installed")
        assert type(cells_on(device)).__name__ == "TritonCells"
        assert describe_cells(device) == "one Triton kernel"


def test_torch_computes_on_a_gpu_where_triton_is_missing(monkeypatch, asked_afresh):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "elmolite.nn.lstm.triton", raising=False)
    assert isinstance(cells_on(torch.device("cuda")), TorchCells)
    assert describe_cells(torch.device("cuda")).startswith("torch, for Triton does not run: ModuleNotFoundError: ")


def test_torch_computes_on_a_gpu_where_a_first_step_fails(monkeypatch, asked_afresh):
    class Failing:
        def infer(self, gates, *others):
            raise RuntimeError("Failed to find C compiler.\nPlease specify one")

    monkeypatch.setitem(sys.modules, "elmolite.nn.lstm.triton", SimpleNamespace(TritonCells=Failing))
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: torch.empty(shape))
    gpu = torch.device("cuda")
    assert isinstance(cells_on(gpu), TorchCells)
    assert describe_cells(gpu) == "torch, for Triton does not run: RuntimeError: Failed to find C compiler."


def test_triton_is_not_imported_without_a_gpu():
    code = (
        "import sys, torch; from elmolite.nn.bilm import BiLM, PRESETS; from elmolite.nn.lstm.cells import cells_on;"
        "cells_on(torch.device('cpu')); print(sorted({'triton', 'elmolite.nn.lstm.triton'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
