"""Linear layers with packed weights for inference, laid out once for the fastest matrix product of the machine.

On a CPU torch multiplies float32 through MKL, which is slow on AMD processors. oneDNN, also part of torch, is two to
three times as fast once it has packed a weight into its own layout, and bfloat16 doubles that. int8 is up to four times
as fast as float32, and needs no native instructions for it.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

T = TypeVar("T")

INT8_SIZE = 1 << 19
"""Minimum size of a weight in int8: of 2,048 by 128, products are as fast in float32; of 2,048 by 256, they are not."""
FBGEMM = "fbgemm"
LEVELS = 127
"""Maximum of a quantized input, and of the sum of two adjacent weights of one sign: processors without VNNI add two
products in 16 bits, in which 255 times 128 fits, and an input is stored with 128 added."""
MIN_RANGE = 1e-30
_is_int8: ContextVar[bool] = ContextVar("is_int8", default=False)
_packing = threading.Lock()


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


class QuantizedLinear:
    """Linear operation in int8 through torch's quantized engine: float32 inputs and outputs, sums in int32.

    Each output of the weight and each row of the input has its own range, so that the result of a row does not depend
    on the other rows.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, engine: str) -> None:
        pairs = F.pad(weight, (0, weight.shape[1] % 2)).view(len(weight), -1, 2)
        sums = torch.maximum(pairs.clamp_min(0).sum(2), -pairs.clamp_max(0).sum(2))
        scales = sums.amax(dim=1).clamp_min(MIN_RANGE) / LEVELS
        zeros = torch.zeros(len(weight), dtype=torch.int64)
        with _packing_for(engine):
            quantized = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
            self._weight = torch.ops.quantized.linear_prepack.default(quantized, None)
        self._bias = bias
        self._engine = engine

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply."""
        ranges = torch.linalg.vector_norm(x, torch.inf, dim=1, keepdim=True).clamp_min_(MIN_RANGE)
        operators = torch.ops.quantized
        if self._engine == FBGEMM:  # the only engine with an operator for a given range of the input
            fixed = operators.linear_with_input_q_dq_qweight_dq_output_fp32.default
            y = fixed(x / ranges, 1 / LEVELS, LEVELS + 1, self._weight)
        else:
            y = operators.linear_dynamic.default(x / ranges, self._weight)
        return y.mul_(ranges) if self._bias is None else torch.addcmul(self._bias, y, ranges, out=y)


class HalfLinear:
    """Linear operation through FBGEMM with a weight in float16: inputs, outputs and sums in float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        with _packing_for(FBGEMM):
            self._weight = torch.ops.quantized.linear_prepack_fp16.default(weight, bias)

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply."""
        y: Tensor = torch.ops.quantized.linear_dynamic_fp16.default(x, self._weight)
        return y


@contextmanager
def _packing_for(engine: str) -> Iterator[None]:
    """Choose the quantized engine of the weights that the block packs; the choice is global to the process."""
    quantized = torch.backends.quantized
    with _packing, warnings.catch_warnings():
        # torch 2.13 deprecates tensors of quantized dtypes, but its engines take no other weights.
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
        before, quantized.engine = quantized.engine, engine
        try:
            yield
        finally:
            quantized.engine = before


class BatchedLinear:
    """Linear operations with G weights (G, N, K) in one call: (G, M, K) -> (G, M, N)."""

    def __init__(self, weights: Tensor, biases: Tensor | None) -> None:
        self.weights = weights.transpose(1, 2).contiguous()
        self._biases = None if biases is None else biases.unsqueeze(1)

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply."""
        return torch.bmm(x, self.weights) if self._biases is None else torch.baddbmm(self._biases, x, self.weights)


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
    return _OneDNN(*(getattr(torch.ops.mkldnn, name).default for name in names))  # without resolving them in each call


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether :class:`PackedLinear` computes on a device in a dtype."""
    if device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16) or _onednn() is None:
        return False
    return dtype == torch.float32 or has_fast_bfloat16()


def has_fast_bfloat16() -> bool:
    """Tell whether this processor multiplies bfloat16 natively; emulation is slower than float32."""
    operators = _onednn()
    return operators is not None and bool(operators.has_bfloat16())


def int8_engine() -> str | None:
    """Return the quantized engine to use, or ``None`` if torch has none for this processor."""
    supported = torch.backends.quantized.supported_engines if hasattr(torch, "quantize_per_channel") else []
    return next((name for name in (FBGEMM, "qnnpack") if name in supported), None)


def linear_op(
    weight: Tensor, bias: Tensor | None = None, *, dtype: torch.dtype, is_sensitive: bool = False
) -> LinearOp:
    """Make the fastest linear operation for a weight (N, K) and a bias (N), computed in ``dtype``.

    In place of int8, a weight that is too small to gain from it is in float32.

    :param is_sensitive: int8 would cost too much accuracy; the weight is in float16 or float32 instead.
    """
    low = vector_dtype(dtype)
    weight = weight.detach().to(low)
    bias = None if bias is None else bias.detach().to(low)
    if dtype == torch.int8 and weight.numel() >= INT8_SIZE and (engine := int8_engine()) is not None:
        if not is_sensitive:
            return QuantizedLinear(weight, bias, engine)
        if engine == FBGEMM:
            return HalfLinear(weight, bias)
    return (PackedLinear if can_pack(weight.device, low) else TorchLinear)(weight, bias)


def grouped_linear_op(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor] | None = None,
    *,
    dtype: torch.dtype,
    few_rows: bool = False,
    is_sensitive: bool = False,
) -> LinearOp:
    """Make the linear operation for G weights (N, K) and biases (N): (G, M, K) -> (G, M, N).

    :param few_rows: M is so small that one batched call, in float32 instead of int8, is faster than a packed operation
        for each weight.
    :param is_sensitive: as in :func:`linear_op`.
    """
    low = vector_dtype(dtype)
    if len(weights) > 1 and (few_rows or not can_pack(weights[0].device, low)):
        return BatchedLinear(
            torch.stack([weight.detach().to(low) for weight in weights]),
            None if biases is None else torch.stack([bias.detach().to(low) for bias in biases]),
        )
    of_each = [None] * len(weights) if biases is None else biases
    pairs = zip(weights, of_each, strict=True)
    return LoopedLinear([linear_op(*each, dtype=dtype, is_sensitive=is_sensitive) for each in pairs])


def min_reproducible_rows(device: torch.device, dtype: torch.dtype) -> int:
    """Return the minimum number of rows for which the result of a row does not depend on the number of rows.

    For fewer rows oneDNN and MKL select other kernels.
    """
    return 2 if can_pack(device, vector_dtype(dtype)) else 12


@contextmanager
def products_in(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Compute the matrix products of a block in a dtype: bfloat16 by autocast, int8 on a CPU and without gradients."""
    token = _is_int8.set(dtype == torch.int8)
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            yield
    finally:
        _is_int8.reset(token)


def compute_dtype(weight: Tensor) -> torch.dtype:
    """Return the dtype of products with a weight: int8 in such a block, that of autocast, or the weight's."""
    if _is_int8.get():
        return torch.int8
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def vector_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the inputs and outputs of products in ``dtype``."""
    return torch.float32 if dtype == torch.int8 else dtype


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
