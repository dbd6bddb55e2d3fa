"""Recurrent layers of a training window, on a GPU as CUDA graphs.

A window has hundreds of small kernels, one after the other. Python launches them more slowly than a GPU computes them;
a CUDA graph launches all of them at once.

Shapes: T steps, B rows, N = T B positions, L layers, P projection, H cells.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor, nn

from elmolite.nn.bilm import BiLM, BiLMState
from elmolite.nn.lstm.reference import State
from elmolite.nn.recurrent import RecurrentLayer, RecurrentStack, run_stacks
from elmolite.pretraining import distributed

TOLERANCE = 0.05
"""Maximum difference of a replay from the layers themselves, as a share of the largest value; with other random numbers
for the dropout, it is of the order of 1."""


class TrainingWindow:
    """Runs the recurrent layers of both directions over windows of the same shape, trained one after the other.

    On a GPU the first window is captured as CUDA graphs (``torch.cuda.make_graphed_callables``), if the cell allows it,
    and replayed from then on, with the random numbers of the generator at the time. Where a capture fails, or a replay
    does not give the numbers of the layers themselves, these are called.

    The next window overwrites the outputs of a window, so its backward pass must come before.
    """

    def __init__(self, bilm: BiLM) -> None:
        self._direct = _Layers([bilm.forward_stack, bilm.backward_stack])
        self._cells = [module for module in self._direct.modules() if isinstance(module, RecurrentLayer)]
        self._chosen: Callable[..., tuple[Tensor, ...]] | None = None  # at the first window

    def __call__(self, x: Tensor, state: BiLMState, reset_mask: Tensor | None = None) -> tuple[Tensor, BiLMState]:
        """Run the layers.

        :param x: inputs of the first layer in both directions, (2, N, P), time-major.
        :param state: before the first step.
        :param reset_mask: (N), true where the state is set to zero before the step.
        :returns: the outputs of the top layer, (2, N, P), and the state after the last step, without gradients.
        """
        has_graphs = can_capture(x.device, self._cells)
        if has_graphs and reset_mask is None:
            reset_mask = x.new_zeros(x.shape[1], dtype=torch.bool)  # a graph always reads one
        inputs = (x, reset_mask, *state.forward, *state.backward)
        if self._chosen is None:
            self._chosen = _capture(self._direct, inputs) if has_graphs else self._direct
        for cell in self._cells:
            cell.clear_packed()  # a replay does not call them
        outputs, *after = self._chosen(*inputs)
        return outputs, _state(after)


def can_capture(device: torch.device, layers: Iterable[RecurrentLayer]) -> bool:
    """Tell whether the device has CUDA graphs and the layers allow a capture."""
    return device.type == "cuda" and all(layer.is_capturable for layer in layers)


class _Layers(nn.Module):
    """Recurrent layers as a function of tensors alone, as a capture needs it."""

    def __init__(self, stacks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.stacks = nn.ModuleList(stacks)

    def forward(self, x: Tensor, reset_mask: Tensor | None, *state: Tensor) -> tuple[Tensor, ...]:
        """Run the layers; the state is (L, B, P) and (L, B, H) of the forward, then of the backward direction."""
        n_rows = state[0].shape[1]
        stacks = [cast("RecurrentStack", stack) for stack in self.stacks]
        outputs, after = run_stacks(stacks, x, [n_rows] * (x.shape[1] // n_rows), _state(state), reset_mask)
        return outputs[-1], *(part.detach() for of_direction in after for part in of_direction)


def _state(parts: list[Tensor] | tuple[Tensor, ...]) -> BiLMState:
    return BiLMState(State(*parts[:2]), State(*parts[2:]))


def _capture(direct: _Layers, inputs: tuple[Any, ...]) -> Callable[..., tuple[Tensor, ...]]:
    """Return the layers as CUDA graphs, or themselves if that does not work.

    :param inputs: of the first window, all tensors.
    """
    graphed = _Layers(direct.stacks)  # a capture replaces the method forward() of its module
    device = inputs[0].device.type
    try:
        samples = tuple(part.detach().clone().requires_grad_(part.requires_grad) for part in inputs)
        dtype, is_enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        with _same_random_numbers(inputs[0]), torch.autocast(device, dtype, is_enabled, cache_enabled=False):
            torch.cuda.make_graphed_callables(graphed, samples)
        difference = _largest_difference(direct, graphed, inputs)
    except RuntimeError as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    else:
        if difference <= TOLERANCE:
            # Each replay writes a gradient to the same memory, which must not become ``parameter.grad``.
            for parameter in graphed.parameters():
                parameter.register_hook(torch.clone)  # type: ignore[no-untyped-call]
            return graphed
        reason = f"a replay differs by {difference:.2g}"
    distributed.log_once(f"training without CUDA graphs, which is slower: {reason}", level=logging.WARNING)
    return direct


def _same_random_numbers(x: Tensor) -> AbstractContextManager[None]:
    """Restore the state of the random generators after the block."""
    return torch.random.fork_rng([x.device] if x.is_cuda else [])


def _largest_difference(direct: _Layers, graphed: _Layers, inputs: tuple[Tensor, ...]) -> float:
    """Compare two implementations in outputs, states and the gradient of the input, as :data:`TOLERANCE` says."""
    results = []
    for layers in (direct, graphed):
        x = inputs[0].detach().requires_grad_()
        with _same_random_numbers(x):
            outputs = layers(x, *inputs[1:])
            (gradient,) = torch.autograd.grad(outputs[0].sum(), x)
        results.append([*(part.detach() for part in outputs), gradient])
    pairs = zip(*results, strict=True)
    return max(float((one - other).abs().max() / one.abs().max().clamp_min(1e-6)) for one, other in pairs)
