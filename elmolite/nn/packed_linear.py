"""Linear layers with packed weights for inference, laid out once for the fastest matrix product of the machine.

On a CPU torch multiplies float32 through MKL, which is slow on AMD processors. oneDNN, also part of torch, is two to
three times as fast once it has packed a weight into its own layout, and bfloat16 doubles that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

T = TypeVar("T")


class LinearOp(Protocol):
    """``x W^T + b`` with a fixed weight (N, K): (M, K) -> (M, N), in the dtype of ``x``; or with G weights at once."""

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply."""


class TorchLinear:
    """Linear operation through ``F.linear``, on any device."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply."""
        return F.linear(x, self._weight, self._bias)


class PackedLinear:
    """Linear operation through oneDNN with a packed weight."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        operators = _onednn()
        assert operators is not None
        self._linear = operators.linear
        self._weight = operators.pack(weight.contiguous())
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply."""
        return self._linear(x, self._weight, self._bias, "none", [], "")


class BatchedLinear:
    """Linear operations with G weights (G, N, K) in one call: (G, M, K) -> (G, M, N)."""

    def __init__(self, weights: Tensor, biases: Tensor | None) -> None:
        self._weights = weights.transpose(1, 2).contiguous()
        self._biases = None if biases is None else biases.unsqueeze(1)

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply."""
        return torch.bmm(x, self._weights) if self._biases is None else torch.baddbmm(self._biases, x, self._weights)


class LoopedLinear:
    """Linear operations with G weights, one after the other: (G, M, K) -> (G, M, N)."""

    def __init__(self, operations: Sequence[LinearOp]) -> None:
        self._operations = operations

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply."""
        outputs = [operation(each) for operation, each in zip(self._operations, x, strict=True)]
        return outputs[0].unsqueeze(0) if len(outputs) == 1 else torch.stack(outputs)


class _OneDNN(NamedTuple):
    pack: Callable[[Tensor], Tensor]
    linear: Callable[..., Tensor]
    has_bfloat16: Callable[[], bool]


def _onednn() -> _OneDNN | None:
    """Return torch's oneDNN operators for packed weights, or ``None`` if this build of torch has none.

    The only use of private operators: torch has no public interface to a packed weight, and its own ``torch.compile``
    calls these when it freezes a model. Tested with torch 2.13; without them :class:`TorchLinear` computes.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return None
    return _OneDNN(*(getattr(torch.ops.mkldnn, name) for name in names))


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether :class:`PackedLinear` computes on a device in a dtype."""
    if device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16) or _onednn() is None:
        return False
    return dtype == torch.float32 or has_fast_bfloat16()


def has_fast_bfloat16() -> bool:
    """Tell whether this processor multiplies bfloat16 natively; emulation is slower than float32."""
    operators = _onednn()
    return operators is not None and bool(operators.has_bfloat16())


def linear_op(weight: Tensor, bias: Tensor | None = None, *, dtype: torch.dtype) -> LinearOp:
    """Make the fastest linear operation for a weight (N, K) and a bias (N), computed in ``dtype``."""
    weight = weight.detach().to(dtype)
    bias = None if bias is None else bias.detach().to(dtype)
    return (PackedLinear if can_pack(weight.device, dtype) else TorchLinear)(weight, bias)


def grouped_linear_op(
    weights: Sequence[Tensor], biases: Sequence[Tensor] | None = None, *, dtype: torch.dtype, few_rows: bool = False
) -> LinearOp:
    """Make the linear operation for G weights (N, K) and biases (N): (G, M, K) -> (G, M, N).

    :param few_rows: M is so small that one batched call is faster than a packed operation for each weight.
    """
    if len(weights) > 1 and (few_rows or not can_pack(weights[0].device, dtype)):
        return BatchedLinear(
            torch.stack([weight.detach().to(dtype) for weight in weights]),
            None if biases is None else torch.stack([bias.detach().to(dtype) for bias in biases]),
        )
    of_each = [None] * len(weights) if biases is None else biases
    return LoopedLinear([linear_op(*each, dtype=dtype) for each in zip(weights, of_each, strict=True)])


def min_reproducible_rows(device: torch.device, dtype: torch.dtype) -> int:
    """Return the minimum number of rows for which the result of a row does not depend on the number of rows.

    For fewer rows oneDNN and MKL select other kernels.
    """
    return 2 if can_pack(device, dtype) else 12


def compute_dtype(weight: Tensor) -> torch.dtype:
    """Return the dtype of products with a weight: that of autocast if enabled, otherwise the weight's own."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


class WeightVersions:
    """Detects changes of weights, in place or by replacement.

    Changes through ``.data``, which torch does not count, are not detected. The weights are kept alive, so that no
    other tensor gets their address.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._weights = [weight.detach() for weight in weights]
        self._versions = [_version(weight) for weight in weights]

    def match(self, weights: Sequence[Tensor]) -> bool:
        """Tell whether these are the same weights, unchanged."""
        return len(weights) == len(self._weights) and all(
            now.data_ptr() == then.data_ptr() and now.dtype == then.dtype and _version(now) == version
            for now, then, version in zip(weights, self._weights, self._versions, strict=True)
        )


def _version(weight: Tensor) -> int:
    return 0 if weight.is_inference() else weight._version


class WeightCache(Generic[T]):
    """Caches a value derived from weights until they change; not copied or pickled with its module.

    torch's fused optimizers change weights without counting it: call :meth:`clear` when gradients are computed.
    """

    def __init__(self) -> None:
        self._entry: tuple[WeightVersions, torch.dtype, T] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return WeightCache, ()

    def clear(self) -> None:
        """Drop the value, because the weights are about to change."""
        self._entry = None

    def get(self, weights: Sequence[Tensor], dtype: torch.dtype, make: Callable[[], T]) -> T:
        """Return the cached value, or that of ``make()`` if the weights or the compute dtype have changed."""
        entry = self._entry
        if entry is None or entry[1] != dtype or not entry[0].match(weights):
            with (
                torch.inference_mode(mode=False),
                torch.no_grad(),
                torch.autocast(weights[0].device.type, enabled=False),
            ):
                entry = WeightVersions(weights), dtype, make()
            self._entry = entry
        return entry[2]


def needs_grad(*tensors: Tensor) -> bool:
    """Tell whether autograd records operations on the tensors; to be called outside of autograd functions."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
