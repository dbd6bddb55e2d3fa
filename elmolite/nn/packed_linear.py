"""Weights made ready for computing without gradients: laid out once for the fastest product of the machine.

On a CPU torch multiplies float32 through MKL, which leaves most of an AMD processor idle. oneDNN, which torch brings
too, is two to three times as fast once it has laid out a weight in its own way, and bfloat16 doubles that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

T = TypeVar("T")


class Product(Protocol):
    """``x W^T + b`` with a weight (N, K) that stays: (M, K) -> (M, N), in the dtype of ``x``; or with G of them."""

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply."""


class TorchProduct:
    """The product as torch computes it everywhere."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply."""
        return F.linear(x, self._weight, self._bias)


class PackedProduct:
    """The product through oneDNN, the weight in the blocks that its kernels read, as torch.compile's freezing does."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return product


class BatchedProduct:
    """The products with G weights (G, N, K) in one call: (G, M, K) -> (G, M, N)."""

    def __init__(self, weights: Tensor, biases: Tensor | None) -> None:
        self._weights = weights.transpose(1, 2).contiguous()
        self._biases = None if biases is None else biases.unsqueeze(1)

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply."""
        return torch.bmm(x, self._weights) if self._biases is None else torch.baddbmm(self._biases, x, self._weights)


class ProductOfEach:
    """The same, one after the other."""

    def __init__(self, products: Sequence[Product]) -> None:
        self._products = products

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply."""
        products = [product(each) for product, each in zip(self._products, x, strict=True)]
        return products[0].unsqueeze(0) if len(products) == 1 else torch.stack(products)


def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether products on a device are computed by :class:`PackedProduct`."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and computes_bfloat16())


def computes_bfloat16() -> bool:
    """Tell whether this processor multiplies bfloat16; others can be made to, slower than float32."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported())


def product(weight: Tensor, bias: Tensor | None = None, *, dtype: torch.dtype) -> Product:
    """Make the product with a weight (N, K) and a bias (N), computed in ``dtype``."""
    weight = weight.detach().to(dtype)
    bias = None if bias is None else bias.detach().to(dtype)
    return (PackedProduct if packs(weight.device, dtype) else TorchProduct)(weight, bias)


def products(
    weights: Sequence[Tensor], biases: Sequence[Tensor] | None = None, *, dtype: torch.dtype, few_rows: bool = False
) -> Product:
    """Make the product with G weights (N, K) and biases (N): (G, M, K) -> (G, M, N).

    :param few_rows: one call is faster then than a packed product for each.
    """
    if len(weights) > 1 and (few_rows or not packs(weights[0].device, dtype)):
        return BatchedProduct(
            torch.stack([weight.detach().to(dtype) for weight in weights]),
            None if biases is None else torch.stack([bias.detach().to(dtype) for bias in biases]),
        )
    of_each = [None] * len(weights) if biases is None else biases
    return ProductOfEach([product(*each, dtype=dtype) for each in zip(weights, of_each, strict=True)])


def min_rows(device: torch.device, dtype: torch.dtype) -> int:
    """Return from how many rows on a product gives each row the same bits, however many others stand beside it.

    With fewer, oneDNN and MKL take other kernels.
    """
    return 2 if packs(device, dtype) else 12


def product_dtype(weight: Tensor) -> torch.dtype:
    """Return the dtype in which products with a weight are computed: that of autocast where it is on."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


class WeightVersions:
    """Tells whether weights are what they were: neither changed in place nor others in their place.

    A change that torch does not count, through ``.data``, is not seen. The memory of the weights is held, so that no
    others can take it and look the same.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._weights = [weight.detach() for weight in weights]
        self._versions = [_version(weight) for weight in weights]

    def are_of(self, weights: Sequence[Tensor]) -> bool:
        """Compare."""
        return len(weights) == len(self._weights) and all(
            now.data_ptr() == then.data_ptr() and now.dtype == then.dtype and _version(now) == version
            for now, then, version in zip(weights, self._weights, self._versions, strict=True)
        )


def _version(weight: Tensor) -> int:
    return 0 if weight.is_inference() else weight._version


class Prepared(Generic[T]):
    """What was made of weights: kept while they stay, and not copied or pickled with the module that holds it.

    torch's fused optimizers change weights and do not count it: who computes with gradients, calls :meth:`clear`.
    """

    def __init__(self) -> None:
        self._made: tuple[WeightVersions, torch.dtype, T] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Prepared, ()

    def clear(self) -> None:
        """Forget it: the weights are about to change."""
        self._made = None

    def get(self, weights: Sequence[Tensor], dtype: torch.dtype, make: Callable[[], T]) -> T:
        """Return what ``make`` gives for the weights as they are, computing in ``dtype``."""
        made = self._made
        if made is None or made[1] != dtype or not made[0].are_of(weights):
            with (
                torch.inference_mode(mode=False),
                torch.no_grad(),
                torch.autocast(weights[0].device.type, enabled=False),
            ):
                made = WeightVersions(weights), dtype, make()
            self._made = made
        return made[2]


def wants_gradients(*tensors: Tensor) -> bool:
    """Tell whether a gradient could be asked for; inside a Function they always count as wanted."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
