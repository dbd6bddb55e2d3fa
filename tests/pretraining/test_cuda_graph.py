"""CUDA graphs of a training window, on a machine without a GPU: captures are replaced by :class:`StaticMemory`."""

from unittest import mock

import pytest
import torch
from helpers.models import make_bilm, small_config
from helpers.pretraining import assert_same_run, train
from torch._subclasses.fake_tensor import FakeTensorMode

from elmolite.nn.recurrent import LSTMLayer
from elmolite.pretraining import cuda_graph
from elmolite.pretraining.cuda_graph import TrainingWindow

EVERY_DROPOUT = {"dropout": 0.2, "recurrent_dropout": 0.2, "embedding_dropout": 0.1}


class StaticMemory:
    """Stands in for ``torch.cuda.make_graphed_callables``, which needs a GPU.

    As in a CUDA graph, inputs, outputs and gradients are each at one place in memory that every call overwrites, and
    shapes and dtypes are those of the capture.
    """

    def __init__(self):
        self.n_captures = self.n_replays = 0

    def __call__(self, module, samples):
        assert not (torch.is_autocast_enabled() and torch.is_autocast_cache_enabled())
        self.n_captures += 1
        function, parameters, static_inputs = module.forward, tuple(module.parameters()), samples
        with FakeTensorMode(allow_non_fake_inputs=True), torch.random.fork_rng():
            function(*samples)  # raises where a shape or a branch depends on values
        autocast = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
        memory = {}

        def keep(name, values):
            """Copy values into the memory of that name; return other tensors of the same memory."""
            kept = memory.setdefault(name, [None if value is None else torch.empty_like(value) for value in values])
            for place, value in zip(kept, values, strict=True):
                if place is not None:
                    place.copy_(value)
            return tuple(None if place is None else place.detach() for place in kept)

        class Replay(torch.autograd.Function):
            @staticmethod
            def forward(ctx, *arguments):
                for place, value in zip(static_inputs, arguments[: len(samples)], strict=True):
                    assert (place.shape, place.dtype) == (value.shape, value.dtype)
                    place.data.copy_(value)
                self.n_replays += 1
                with (
                    mock.patch.object(LSTMLayer, "clear_packed"),  # a replay calls no Python
                    torch.enable_grad(),
                    torch.autocast("cpu", autocast[1], autocast[0], cache_enabled=False),
                ):
                    ctx.outputs = function(*static_inputs)
                ctx.mark_non_differentiable(*(outputs := keep("outputs", [each.detach() for each in ctx.outputs]))[1:])
                return outputs

            @staticmethod
            def backward(ctx, *grads):
                leaves = [each for each in (*static_inputs, *parameters) if each.requires_grad]
                found = iter(keep("gradients", torch.autograd.grad(ctx.outputs[0], leaves, grads[0])))
                return tuple(next(found) if each.requires_grad else None for each in (*static_inputs, *parameters))

        module.forward = lambda *arguments: Replay.apply(*arguments, *parameters)
        return module


@pytest.fixture
def graphs(monkeypatch):
    static_memory = StaticMemory()
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", static_memory)
    monkeypatch.setattr(cuda_graph, "can_capture", lambda device, layers: all(each.is_capturable for each in layers))
    return static_memory


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        ({"reset_probability": 0.0}, {"dropout": 0.0}),
        ({"accumulate_steps": 2, "softmax": "sampled", "n_negatives": 20}, EVERY_DROPOUT),
        ({"precision": "bf16-mixed", "ema_decay": 0.9}, {"variational_dropout": True, "dropout": 0.2}),
    ],
)
def test_a_run_with_graphs_is_the_same(tmp_path, corpus, request, changes, sizes):
    """Also after validations, which have packed the weights of an earlier step."""
    train(corpus, tmp_path / "direct", model=small_config(**sizes), **changes)
    graphs = request.getfixturevalue("graphs")
    train(corpus, tmp_path / "graphs", model=small_config(**sizes), **changes)
    n_windows = 12 * changes.get("accumulate_steps", 1)
    assert (graphs.n_captures, graphs.n_replays) == (1, n_windows + 1)  # one for the comparison
    assert_same_run(tmp_path / "direct", tmp_path / "graphs")


@pytest.mark.parametrize("fault", ["capture", "numbers", "cell"])
def test_without_graphs_where_they_do_not_work(graphs, monkeypatch, caplog, fault):
    def capture(module, samples):
        if fault == "capture":
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        module.forward = lambda *inputs: tuple(1.1 * part for part in type(module).forward(module, *inputs))

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    bilm = make_bilm(small_config(dropout=0.0, **({"cell": "gru"} if fault == "cell" else {})), seed=0)
    window, x = TrainingWindow(bilm), torch.randn(2, 12, bilm.config.projection_size).requires_grad_()
    outputs, state = window(x, bilm.zero_state(3))
    expected, _ = bilm.forward_stack(x[0], [3] * 4, bilm.zero_state(3).forward)
    assert torch.equal(outputs[0], expected[-1])
    assert not any(part.requires_grad for direction in state for part in direction)
    warning = {
        "capture": "slower: RuntimeError: operation not permitted when stream is capturing",
        "numbers": "slower: a replay differs by",
    }
    assert warning.get(fault, "") in caplog.text
    assert bool(caplog.text) == (fault in warning)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("sizes", [{"dropout": 0.0}, EVERY_DROPOUT])
def test_graphs_on_a_gpu(caplog, sizes):
    bilm = make_bilm(small_config(**sizes), seed=0).cuda()
    window, state = TrainingWindow(bilm), bilm.zero_state(3)
    direct = cuda_graph._Layers([bilm.forward_stack, bilm.backward_stack])
    for seed in range(3):
        x = torch.randn(2, 12, bilm.config.projection_size, device="cuda").requires_grad_()
        reset_mask = torch.rand(12, device="cuda") < 0.2
        torch.manual_seed(seed)
        expected, *_ = direct(x, reset_mask, *state.forward, *state.backward)
        wanted = torch.autograd.grad(expected.sum(), [x, *bilm.forward_stack.parameters()])
        torch.manual_seed(seed)
        outputs, state = window(x, state, reset_mask)
        found = torch.autograd.grad(outputs.sum(), [x, *bilm.forward_stack.parameters()])
        torch.testing.assert_close([outputs, *found], [expected, *wanted])
    assert not caplog.text
