"""The states in which rows ended, from one call to the next, as AllenNLP and bilm-tf carry them."""

from __future__ import annotations

import torch
from torch import Tensor

from elmolite.nn.bilm import BiLM, BiLMState
from elmolite.nn.lstm.reference import State


class CarriedState:
    """The state of both directions for each row of a batch, by its place in the call."""

    def __init__(self) -> None:
        self._state: BiLMState | None = None

    def reset(self) -> None:
        """Let every row start from zero."""
        self._state = None

    def before(self, bilm: BiLM, order: Tensor) -> BiLMState:
        """Return the states of rows, in the order in which they are packed; rows that are new start from zero.

        :param order: (B), which row of the call each packed row is.
        """
        fresh = bilm.zero_state(len(order))
        if self._state is None:
            return fresh
        for new, old in zip(fresh, self._state, strict=True):
            for part, kept in zip(new, old, strict=True):
                n_rows = min(part.shape[1], kept.shape[1])
                part[:, :n_rows] = kept[:, :n_rows]
        return BiLMState(*(State(*(part[:, order] for part in state)) for state in fresh))

    def keep(self, after: BiLMState, order: Tensor) -> None:
        """Keep the states of rows, each in its place; those of rows that this call did not have stay.

        :param order: as in :meth:`before`.
        """
        rank = order.argsort()
        states = []
        for index, state in enumerate(after.detach()):
            parts = [part[:, rank] for part in state]
            if self._state is not None:
                kept = self._state[index]
                others = [old[:, new.shape[1] :].to(new) for new, old in zip(parts, kept, strict=True)]
                parts = [torch.cat(each, dim=1) for each in zip(parts, others, strict=True)]
            states.append(State(*parts))
        self._state = BiLMState(*states)
