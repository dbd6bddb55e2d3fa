import copy
import pickle

import pytest
import torch
from helpers.models import make_bilm
from torch import nn
from torch.nn import functional as F

from elmolite.nn import packed_linear
from elmolite.nn.config import tiny
from elmolite.nn.lstm.reference import State
from elmolite.nn.packed_linear import (
    BatchedLinear,
    HalfLinear,
    PackedLinear,
    QuantizedLinear,
    WeightCache,
    WeightVersions,
    can_pack,
    grouped_linear_op,
    linear_op,
    min_reproducible_rows,
)
from elmolite.nn.recurrent import LSTMLayer

CPU = torch.device("cpu")
needs_onednn = pytest.mark.skipif(not can_pack(CPU, torch.float32), reason="this machine has no oneDNN")


@needs_onednn
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_packed_product_is_that_of_torch(dtype, has_bias):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(70, 33, generator=generator)
    bias = torch.randn(70, generator=generator) if has_bias else None
    packed = linear_op(weight, bias, dtype=dtype)
    if can_pack(CPU, dtype):
        assert isinstance(packed, PackedLinear)
    x = torch.randn(9, 40, generator=generator)[:, 3:36].to(dtype)  # rows that are not side by side
    exact = x.double() @ weight.to(dtype).double().T + (0 if bias is None else bias.to(dtype).double())
    torch.testing.assert_close(packed(x).double(), exact, rtol=0, atol=2e-5 if dtype == torch.float32 else 0.15)
    assert packed(x[:0]).shape == (0, 70)


@pytest.mark.parametrize("engine", torch.backends.quantized.supported_engines)
@pytest.mark.parametrize("n_rows", [1, 2, 33])
def test_an_int8_product_is_exact_up_to_the_rounding_of_its_operands(monkeypatch, engine, n_rows):
    if engine not in ("fbgemm", "qnnpack"):
        pytest.skip("not used")
    monkeypatch.setattr(packed_linear, "int8_engine", lambda: engine)
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(2048, 257, generator=generator), torch.randn(2048, generator=generator)
    weight[:3] = torch.tensor([[0.0], [1.0], [-1.0]])  # with 1, sums of two products are the largest possible
    before = torch.backends.quantized.engine
    product = linear_op(weight, bias, dtype=torch.int8)
    assert isinstance(product, QuantizedLinear)
    assert torch.backends.quantized.engine == before
    x = torch.randn(n_rows, 300, generator=generator)[:, 3:260].contiguous()
    x[0] = 3.0
    weight, x = weight.double(), x.double()
    step_of_weight = 2 * weight.abs().amax(1) / 127  # that of two adjacent weights of one sign
    step_of_x = x.abs().amax(1, keepdim=True) / 127
    bound = x.abs().sum(1, keepdim=True) * step_of_weight / 2 + weight.abs().sum(1) * step_of_x / 2
    error = product(x.float()).double() - (x @ weight.T + bias.double())
    assert (error.abs() <= 1.02 * bound).all()
    assert error.norm() < 0.02 * (x @ weight.T).norm()
    assert product(torch.zeros(n_rows, 257)).sub(bias).abs().max() < 1e-6
    assert product(x[:0].float()).shape == (0, 2048)
    if engine == "fbgemm":
        assert torch.equal(product(x[-1:].float()), product(x.float())[-1:])  # whatever the other rows are


def test_weights_that_are_not_in_int8():
    weight, bias, x = torch.randn(2048, 256), torch.randn(2048), torch.randn(33, 256)
    for is_sensitive, rows in ((False, 1000), (True, 1000), (True, 2048)):
        product = linear_op(weight[:rows], bias[:rows], dtype=torch.int8, is_sensitive=is_sensitive)
        is_half = rows == 2048 and packed_linear.int8_engine() == packed_linear.FBGEMM
        assert isinstance(product, HalfLinear) == is_half
        exact = F.linear(x, weight[:rows].half().float() if is_half else weight[:rows], bias[:rows])
        torch.testing.assert_close(product(x), exact, rtol=0, atol=1e-4)
        assert product(x[:0]).shape == (0, rows)


@pytest.mark.parametrize("few_rows", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("n_weights", [1, 2])
def test_products_with_several_weights(few_rows, has_bias, n_weights):
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(7, 5, generator=generator) for _ in range(n_weights)]
    biases = [torch.randn(7, generator=generator) for _ in range(n_weights)] if has_bias else None
    x = torch.randn(n_weights, 3, 5, generator=generator)
    exact = torch.stack([F.linear(*each) for each in zip(x, weights, biases or [None] * n_weights, strict=True)])
    ours = grouped_linear_op(weights, biases, dtype=torch.float32, few_rows=few_rows)
    torch.testing.assert_close(ours(x), exact, rtol=0, atol=1e-5)
    assert isinstance(ours, BatchedLinear) == (n_weights > 1 and (few_rows or not can_pack(CPU, torch.float32)))


@needs_onednn
@pytest.mark.parametrize(("size_in", "size_out"), [(128, 512), (112, 300), (2048, 128)])
def test_a_row_has_the_same_bits_however_many_stand_beside_it(size_in, size_out):
    generator = torch.Generator().manual_seed(0)
    packed = linear_op(torch.randn(size_out, size_in, generator=generator), dtype=torch.float32)
    x = torch.randn(300, size_in, generator=generator)
    together = packed(x)
    for n_rows in (*range(min_reproducible_rows(CPU, torch.float32), 40), 63, 64, 65, 128, 299):
        assert torch.equal(packed(x[:n_rows]), together[:n_rows]), n_rows


def test_what_was_made_is_kept_until_a_weight_changes():
    layer, cache, made = nn.Linear(3, 2), WeightCache(), []

    def get(dtype=torch.float32):
        return cache.get(list(layer.parameters()), dtype, lambda: made.append(dtype) or len(made))

    assert [get(), get()] == [1, 1]
    with torch.no_grad():
        layer.bias.add_(1)
    assert [get(), get()] == [2, 2]
    layer.weight = nn.Parameter(layer.weight.detach().clone())
    assert [get(), get()] == [3, 3]
    assert [get(torch.bfloat16), get(torch.bfloat16)] == [4, 4]
    layer.to(torch.float64)
    assert get() == 5


def test_it_is_made_without_gradients_and_outside_inference_mode_and_autocast():
    weight = nn.Parameter(torch.ones(2, 2))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        made = WeightCache().get([weight], torch.float32, lambda: weight @ weight)
    assert not made.requires_grad
    assert not made.is_inference()
    assert made.dtype == torch.float32


def test_it_is_not_copied_with_its_module():
    cache = WeightCache()
    cache.get([torch.ones(1)], torch.float32, lambda: lambda: None)  # which cannot be pickled
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert other.get([torch.ones(1)], torch.float32, lambda: "anew") == "anew"


def test_other_weights_in_memory_that_became_free_are_others():
    weight = torch.ones(1000)
    versions = WeightVersions([weight])
    place = weight.data_ptr()
    del weight
    assert all(torch.zeros(1000).data_ptr() != place for _ in range(100))
    assert not versions.match([torch.ones(1000)])
    assert not versions.match([])


@pytest.mark.parametrize(
    "make", [lambda: make_bilm(tiny()).forward_stack.layers[0], lambda: make_bilm(tiny()).token_encoder]
)
def test_a_step_of_a_fused_optimizer_is_seen(make):
    """Which torch does not count as a change of the weights."""
    torch.manual_seed(0)
    module = make()
    size = tiny().projection_size
    inputs = (torch.randn(4, size), [2, 2], State(torch.zeros(2, size), torch.zeros(2, tiny().cell_size)))
    inputs = inputs if isinstance(module, LSTMLayer) else (torch.randint(1, 262, (4, 5)),)

    def run():
        found = module(*inputs)
        return found[0] if isinstance(found, tuple) else found

    with torch.no_grad():
        run()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1, fused=True)
    run().sum().backward()
    optimizer.step()
    with torch.no_grad():
        after = run()
    torch.testing.assert_close(after, run().detach(), rtol=1e-4, atol=1e-5)
