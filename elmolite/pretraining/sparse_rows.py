"""Row-sparse updates: optimizer steps on the rows of a large table that a step's gradient touches.

Lookups with ``sparse=True`` give the table a sparse gradient. :func:`take_row_gradients` turns it into a dense
gradient of the rows that any rank touched, and :func:`row_sparse_update` puts these rows into the optimizer as a
proxy parameter, so that clipping and the update are those of other parameters at a cost independent of the table's
size. Adagrad and plain SGD give exactly the update of the whole table, because they leave rows with a zero gradient
unchanged. Adam becomes the lazy Adam of ``torch.optim.SparseAdam`` and TensorFlow: rows without a gradient keep their
weights and moments. A lazy step learns a little less and takes a fraction of the time over a large vocabulary
(docs/benchmarks.md, "A million words"); small tables are therefore updated whole.

Shapes: V rows of a table, R rows that a step touches; biases have one dimension, tables of vectors two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from elmolite.pretraining import distributed


class RowGradient(NamedTuple):
    """Gradient of some rows of a table."""

    table: nn.Parameter  # (V, ...)
    rows: Tensor  # (R): distinct, ascending, equal on all ranks
    gradient: Tensor  # (R, ...): the mean over the ranks, as under DDP


def take_row_gradients(tables: Sequence[nn.Parameter]) -> list[RowGradient]:
    """Remove the sparse gradients from tables whose rows were looked up together, and return them dense; a collective.

    Synchronizes with the GPU, because the number of rows becomes a shape.
    """
    own = [table.grad.coalesce() for table in tables if table.grad is not None]
    own_rows = own[0].indices().squeeze(0)
    rows = distributed.all_gather_unique(own_rows)
    row_gradients = []
    for table, of_table in zip(tables, own, strict=True):
        table.grad = None
        gradient = of_table.values()
        if len(rows) > len(own_rows):
            gradient = gradient.new_zeros(len(rows), *gradient.shape[1:])
            gradient.index_copy_(0, torch.searchsorted(rows, own_rows), of_table.values())
        distributed.all_reduce_mean_(gradient)
        row_gradients.append(RowGradient(table, rows, gradient))
    return row_gradients


@contextmanager
def row_sparse_update(optimizer: Optimizer, gradients: Sequence[RowGradient]) -> Iterator[list[nn.Parameter]]:
    """Replace tables in an optimizer by proxy parameters of their rows for the block, then write the rows back.

    :param optimizer: Adam, Adagrad or SGD without momentum, with one parameter group.
    :returns: the parameters for clipping, proxies included.
    """
    (group,) = optimizer.param_groups
    parameters = group["params"]
    proxies = {each.table: _proxy_parameter(optimizer, each) for each in gradients}
    group["params"] = [proxies.get(parameter, parameter) for parameter in parameters]
    try:
        yield group["params"]
    finally:
        group["params"] = parameters
    for table, rows, _ in gradients:
        _write_back(optimizer, proxies[table], table, rows)


def _proxy_parameter(optimizer: Optimizer, row_gradient: RowGradient) -> nn.Parameter:
    """Return a parameter (R, ...) of rows with their gradient and optimizer state."""
    table, rows, gradient = row_gradient
    proxy = nn.Parameter(table.detach().index_select(0, rows))
    proxy.grad = gradient
    if state := optimizer.state.get(table):
        optimizer.state[proxy] = {
            name: part.index_select(0, rows) if part.dim() else part for name, part in state.items()
        }
    return proxy


@torch.no_grad()
def _write_back(optimizer: Optimizer, proxy: nn.Parameter, table: nn.Parameter, rows: Tensor) -> None:
    """Write the rows of a proxy and their optimizer state into the table and its state."""
    table.index_copy_(0, rows, proxy)
    for name, part in optimizer.state.pop(proxy, {}).items():
        if not part.dim():
            optimizer.state[table][name] = part
            continue
        if name not in optimizer.state[table]:  # Adam creates its moments, zeros, in the first step
            optimizer.state[table][name] = torch.zeros_like(table)
        optimizer.state[table][name].index_copy_(0, rows, part)
