"""Choice between Triton kernels and the torch operations that compute the same."""

from __future__ import annotations

from functools import cache

import torch


@cache
def triton_failure(device: torch.device) -> str | None:
    """Return why Triton does not run on a device, or ``None`` if it does.

    Triton needs a compiler, the headers of Python, a writable cache folder and a recent GPU, so kernels are launched.
    """
    if device.type != "cuda":
        return "the kernels are for GPUs"
    try:
        from elmolite.nn import cross_entropy_triton
        from elmolite.nn.lstm import triton

        for module in (triton, cross_entropy_triton):
            module.try_on(device)
    except Exception as error:  # whatever it is, torch computes the same
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def describe_kernels(device: torch.device) -> str:
    """Return what computes the operations besides products on a device, and why not Triton on a GPU."""
    if device.type != "cuda":
        return "torch"
    failure = triton_failure(device)
    return "Triton" if failure is None else f"torch, because Triton does not run: {failure}"
