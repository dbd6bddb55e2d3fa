"""Bidirectional language model (biLM): :class:`BiLM`, from a configuration of :mod:`elmolite.nn.config`.

Shapes: U distinct words, B rows, T positions, N positions of packed sequences, L layers, P projection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.errors import InputError
from elmolite.nn import N_BYTE_IDS, PADDING
from elmolite.nn.char_cnn import CharacterCNN, WordEncoder
from elmolite.nn.config import PRESETS as PRESETS, BiLMConfig as BiLMConfig
from elmolite.nn.lstm.inference import IndexedInputs
from elmolite.nn.lstm.reference import State
from elmolite.nn.recurrent import CELLS, RecurrentLayer, RecurrentStack, dropout, run_stacks


def _character_cnn(config: BiLMConfig, n_ids: int, n_word_ids: int, padding: int) -> CharacterCNN:
    return CharacterCNN(
        n_ids=n_ids,
        embedding_size=config.character_embedding_size,
        filters=config.filters,
        activation=config.activation,
        n_highway_layers=config.n_highway_layers,
        projection_size=config.projection_size if config.use_token_projection else None,
        n_word_ids=n_word_ids,
        word_embedding_size=config.word_embedding_size,
        padding=padding,
    )


def _word_encoder(config: BiLMConfig, n_ids: int, n_word_ids: int, padding: int) -> WordEncoder:  # noqa: ARG001
    return WordEncoder(n_ids=n_ids, projection_size=config.projection_size)


TOKEN_ENCODERS: dict[str, Callable[[BiLMConfig, int, int, int], CharacterCNN | WordEncoder]] = {
    "characters": _character_cnn,
    "words": _word_encoder,
}
"""``BiLMConfig.input`` -> function that makes the token encoder."""


def _recurrent_layer(config: BiLMConfig) -> RecurrentLayer:
    cell = CELLS[config.cell]
    return cell(
        input_size=config.projection_size,
        cell_size=config.cell_size,
        projection_size=config.projection_size,
        **{name: getattr(config, name) for name in cell.options},
    )


class BiLMState(NamedTuple):
    """Recurrent state of both directions."""

    forward: State
    backward: State

    def detach(self) -> BiLMState:
        """Return the state detached from the graph."""
        return BiLMState(*(State(*(part.detach() for part in state)) for state in self))


class BiLM(nn.Module):
    """Bidirectional language model: a token encoder, and a stack of recurrent layers for each direction.

    The directions share the token encoder but no state.

    >>> bilm = BiLM(BiLMConfig(filters=[(1, 8), (2, 8)], cell_size=32, projection_size=16, n_layers=2))
    >>> words = torch.randint(0, 256, (5, 10))  # five distinct words of up to ten characters
    >>> inputs = torch.tensor([0, 1, 2, 3, 4, 4])  # two sequences of three words, packed
    >>> forward, backward, state = bilm(words, inputs, inputs.flip(0), [2, 2, 2], bilm.zero_state(2))
    >>> len(forward), forward[-1].shape  # the token layer and two recurrent layers
    (3, torch.Size([6, 16]))
    """

    def __init__(
        self, config: BiLMConfig, *, n_ids: int = N_BYTE_IDS, n_word_ids: int = 0, padding: int = PADDING
    ) -> None:
        """Initialise the weights. The numbers are ``sizes()`` of the tokens' indexer; the defaults are those of bytes.

        :param n_ids: number of ids of characters, or of words if ``config.input`` is ``words``.
        :param n_word_ids: number of word ids besides those of characters (ELMoForManyLangs), or 0.
        :param padding: id that pads rows of characters.
        """
        super().__init__()
        self.config = config
        if (config.word_embedding_size > 0) != (n_word_ids > 0):
            raise InputError("model: word_embedding_size is for models of ELMoForManyLangs only")
        self.token_encoder = TOKEN_ENCODERS[config.input](config, n_ids, n_word_ids, padding)
        self.forward_stack, self.backward_stack = (
            RecurrentStack(
                [_recurrent_layer(config) for _ in range(config.n_layers)],
                projection_size=config.projection_size,
                cell_size=config.cell_size,
                use_residual=config.use_residual,
                dropout=config.dropout,
                variational_dropout=config.variational_dropout,
            )
            for _ in range(2)
        )

    @property
    def n_parameters(self) -> int:
        """Number of parameters, without the softmax."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def zero_state(self, n_rows: int) -> BiLMState:
        """Return the initial state of both directions."""
        like = next(self.parameters())
        return BiLMState(self.forward_stack.zero_state(n_rows, like), self.backward_stack.zero_state(n_rows, like))

    def dropout(self, x: Tensor, batch_sizes: Sequence[int]) -> Tensor:
        """Apply the model's dropout to packed vectors (N, P), in training mode."""
        if not self.training:
            return x
        return dropout(x, batch_sizes, self.config.dropout, is_variational=self.config.variational_dropout)

    def forward(
        self,
        unique_words: Tensor,
        forward_inputs: Tensor,
        backward_inputs: Tensor,
        batch_sizes: Sequence[int],
        state: BiLMState,
        reset_mask: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor], BiLMState]:
        """Run both directions over packed sequences of words.

        :param unique_words: distinct words as rows of ids, (U, C).
        :param forward_inputs: packed sequences of the forward direction as indices into ``unique_words``, (N).
        :param backward_inputs: those of the backward direction, reversed within each sentence, (N).
        :param batch_sizes: rows of each step, non-increasing, N in total.
        :param state: before the first step.
        :param reset_mask: (N), true where both states are set to zero before the step.
        :returns: L + 1 layers (N, P) of each direction, the token vectors first, and the state after the last step.
        """
        words = self.encode(unique_words)
        return self.run(words, forward_inputs, backward_inputs, batch_sizes, state, reset_mask)

    def encode(self, unique_words: Tensor) -> Tensor:
        """Return the vectors (U, P) of distinct words (U, C), in training with the embedding dropout."""
        words: Tensor = self.token_encoder(unique_words)
        if self.training and self.config.embedding_dropout:
            words = words * F.dropout(words.new_ones(len(words), 1), self.config.embedding_dropout)
        return words

    def run(
        self,
        words: Tensor,
        forward_inputs: Tensor,
        backward_inputs: Tensor,
        batch_sizes: Sequence[int],
        state: BiLMState,
        reset_mask: Tensor | None = None,
        *,
        n_layers: int | None = None,
    ) -> tuple[list[Tensor], list[Tensor], BiLMState]:
        """Run both directions as :meth:`forward` does, over encoded words (U, P).

        :param n_layers: number of recurrent layers to run, from the lowest; all by default. The state has only these.
        """
        indices = torch.stack([forward_inputs, backward_inputs])
        x = F.embedding(indices, words)  # (2, N, P)
        if n_layers == 0:
            return [x[0]], [x[1]], state
        stacks = [self.forward_stack, self.backward_stack]
        inputs = IndexedInputs(words, indices)
        layers, states = run_stacks(stacks, x, batch_sizes, state, reset_mask, inputs, n_layers)
        forward_layers, backward_layers = zip(*[x, *layers], strict=True)
        return list(forward_layers), list(backward_layers), BiLMState(*states)
