"""Tables of which a step touches few rows: their gradients, and an optimizer's step on these rows alone.

The model looks rows up in such a way that autograd gives the table a sparse gradient, which :func:`touched_rows` makes
a dense one of the rows that any process touched. :func:`as_parameters` has these rows stand in an optimizer as a
parameter of their own, so that clipping and the step are those of every other parameter, and their cost does not grow
with the table. Adagrad and plain SGD do exactly what they do on the whole table, since nothing of theirs changes where
the gradient is zero. Adam becomes the lazy one of ``torch.optim.SparseAdam`` and TensorFlow: the moments of a row stand
still while no step touches it, and it moves only in the steps that do. A step then brings a little less, and over a
large vocabulary it takes a fraction of the time (recipes/README.md, "A million words"); a small table is therefore left
to the optimizer whole.

Shapes: V rows of a table, R rows that a step touches; vectors have no further dimension, matrices one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from elmolite.pretraining import distributed


class TouchedRows(NamedTuple):
    """What a step does to a table."""

    table: nn.Parameter  # (V, ...)
    rows: Tensor  # (R): distinct, ascending, the same in all processes
    gradient: Tensor  # (R, ...): the mean over the processes, as DDP leaves that of other parameters


def touched_rows(table: nn.Parameter) -> TouchedRows:
    """Take the sparse gradient from a table; all processes must, one table after the other.

    On a GPU this waits for the backward pass, since how many rows there are becomes a shape.
    """
    assert table.grad is not None
    own = table.grad.coalesce()
    table.grad = None
    own_rows = own.indices().squeeze(0)
    rows = distributed.union(own_rows)
    gradient = own.values()
    if len(rows) > len(own_rows):
        gradient = gradient.new_zeros(len(rows), *gradient.shape[1:])
        gradient.index_copy_(0, torch.searchsorted(rows, own_rows), own.values())
    distributed.average_in_place(gradient)
    return TouchedRows(table, rows, gradient)


@contextmanager
def as_parameters(optimizer: Optimizer, touched: Sequence[TouchedRows]) -> Iterator[list[nn.Parameter]]:
    """Have touched rows in an optimizer in the place of their tables, and write them back into the tables after it.

    The optimizer's state stays that of the whole tables: what it keeps for each number of a parameter is looked up for
    the rows and put back; what it keeps for a parameter as a whole, such as a number of steps, is the table's.

    :param optimizer: with one group of parameters; Adam, Adagrad or SGD without momentum.
    :returns: for the block, all parameters of the optimizer: their gradients are dense.
    """
    (group,) = optimizer.param_groups
    parameters = group["params"]
    stand_ins = {each.table: _stand_in(optimizer, each) for each in touched}
    group["params"] = [stand_ins.get(parameter, parameter) for parameter in parameters]
    try:
        yield group["params"]
    finally:
        group["params"] = parameters
    for table, rows, _ in touched:
        _put_back(optimizer, stand_ins[table], table, rows)


def _stand_in(optimizer: Optimizer, touched: TouchedRows) -> nn.Parameter:
    """Make a parameter (R, ...) of rows, with their gradient and what the optimizer keeps for them."""
    table, rows, gradient = touched
    stand_in = nn.Parameter(table.detach().index_select(0, rows))
    stand_in.grad = gradient
    if state := optimizer.state.get(table):
        optimizer.state[stand_in] = {
            name: part.index_select(0, rows) if part.dim() else part for name, part in state.items()
        }
    return stand_in


@torch.no_grad()
def _put_back(optimizer: Optimizer, stand_in: nn.Parameter, table: nn.Parameter, rows: Tensor) -> None:
    """Write rows, and what the optimizer keeps for them, into the table and its state."""
    table.index_copy_(0, rows, stand_in)
    for name, part in optimizer.state.pop(stand_in, {}).items():
        if not part.dim():
            optimizer.state[table][name] = part
            continue
        if name not in optimizer.state[table]:  # Adam begins with zeros, in its first step
            optimizer.state[table][name] = torch.zeros_like(table)
        optimizer.state[table][name].index_copy_(0, rows, part)
