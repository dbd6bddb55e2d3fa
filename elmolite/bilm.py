"""The bidirectional language model: its configuration, its presets, and :class:`BiLM`.

Shapes: U distinct words, B rows, T positions, N positions of packed sequences, L layers, P projection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.char_encoder import ACTIVATIONS, CharacterEncoder
from elmolite.chars import MAX_CHARACTERS
from elmolite.errors import InputError
from elmolite.lstm import State
from elmolite.lstm_layers import LSTMStack

ORIGINAL_FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))


@dataclass
class BiLMConfig:
    """Sizes of a bidirectional language model.

    :param filters: width and number of filters of each convolution over characters.
    :param character_embedding_size: of each character.
    :param activation: after the convolutions.
    :param n_highway_layers: after them.
    :param projection_size: P, of a token vector and of the output of each LSTM layer.
    :param cell_size: H, cells of each LSTM layer and direction.
    :param n_layers: LSTM layers of each direction.
    :param cell_clip: bound of the cell state; null for none.
    :param projection_clip: bound of the projected output; null for none.
    :param forget_bias: what is added to the forget gate before its sigmoid.
    :param use_residual: whether a layer from the second on adds its input to its output.
    :param dropout: of each LSTM layer's input and of the top output, in pretraining.
    """

    filters: list[tuple[int, int]] = field(default_factory=lambda: list(ORIGINAL_FILTERS))
    character_embedding_size: int = 16
    activation: Literal["relu", "tanh"] = "relu"
    n_highway_layers: int = 2
    projection_size: int = 512
    cell_size: int = 4096
    n_layers: int = 2
    cell_clip: float | None = 3.0
    projection_clip: float | None = 3.0
    forget_bias: float = 1.0
    use_residual: bool = True
    dropout: float = 0.1

    def __post_init__(self) -> None:
        self.filters = [(int(width), int(count)) for width, count in self.filters]
        for name in ("character_embedding_size", "projection_size", "cell_size", "n_layers"):
            if getattr(self, name) < 1:
                raise InputError(f"model: {name} {getattr(self, name)} is not at least 1")
        if self.n_highway_layers < 0:
            raise InputError(f"model: n_highway_layers {self.n_highway_layers} is negative")
        if not self.filters or any(not 1 <= width <= MAX_CHARACTERS or count < 1 for width, count in self.filters):
            raise InputError(f"model: filters need widths of 1 to {MAX_CHARACTERS} and counts of at least 1")
        for name in ("cell_clip", "projection_clip"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise InputError(f"model: {name} {getattr(self, name)} is not greater than 0; null is for none")
        if self.activation not in ACTIVATIONS:
            raise InputError(f"model: activation {self.activation!r} is not one of {', '.join(ACTIVATIONS)}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"model: dropout {self.dropout} is not in [0, 1)")


def tiny() -> BiLMConfig:
    """0.8 M parameters: the demo and the tests."""
    return BiLMConfig(filters=list(ORIGINAL_FILTERS[:4]), cell_size=256, projection_size=64, n_highway_layers=1)


def mini() -> BiLMConfig:
    """3.0 M parameters: what two CPU cores can train."""
    return BiLMConfig(filters=list(ORIGINAL_FILTERS[:5]), cell_size=512, projection_size=128, n_highway_layers=1)


def small() -> BiLMConfig:
    """13.6 M parameters, as AllenNLP's ``small``."""
    return BiLMConfig(cell_size=1024, projection_size=128, n_highway_layers=1)


def medium() -> BiLMConfig:
    """28.0 M parameters, as AllenNLP's ``medium``."""
    return BiLMConfig(cell_size=2048, projection_size=256, n_highway_layers=1)


def original() -> BiLMConfig:
    """93.6 M parameters, as in the paper (Peters et al. 2018)."""
    return BiLMConfig()


PRESETS: dict[str, Callable[[], BiLMConfig]] = {
    preset.__name__: preset for preset in (tiny, mini, small, medium, original)
}


class BiLMState(NamedTuple):
    """The state of both directions."""

    forward: State
    backward: State

    def detach(self) -> BiLMState:
        """Return the state without its history."""
        return BiLMState(*(State(*(part.detach() for part in state)) for state in self))


class BiLM(nn.Module):
    """Token encoder and two stacks of LSTMs, one a direction; both directions share the encoder and no state."""

    def __init__(self, config: BiLMConfig) -> None:
        super().__init__()
        self.config = config
        self.char_encoder = CharacterEncoder(
            embedding_size=config.character_embedding_size,
            filters=config.filters,
            activation=config.activation,
            n_highway_layers=config.n_highway_layers,
            projection_size=config.projection_size,
        )
        self.forward_lstm, self.backward_lstm = (
            LSTMStack(
                n_layers=config.n_layers,
                projection_size=config.projection_size,
                cell_size=config.cell_size,
                cell_clip=config.cell_clip,
                projection_clip=config.projection_clip,
                forget_bias=config.forget_bias,
                use_residual=config.use_residual,
                dropout=config.dropout,
            )
            for _ in range(2)
        )

    @property
    def n_parameters(self) -> int:
        """Number of weights, without the softmax."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.char_encoder.projection.weight.device

    def zero_state(self, n_rows: int) -> BiLMState:
        """Return the state of fresh sequences in both directions."""
        like = self.char_encoder.projection.weight
        return BiLMState(self.forward_lstm.zero_state(n_rows, like), self.backward_lstm.zero_state(n_rows, like))

    def forward(
        self,
        characters: Tensor,
        forward_inputs: Tensor,
        backward_inputs: Tensor,
        batch_sizes: Sequence[int],
        state: BiLMState,
        starts: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor], BiLMState]:
        """Run both directions over packed sequences of words.

        :param characters: of the distinct words, (U, C).
        :param forward_inputs: packed sequences as indices into ``characters``, (N); what the forward direction reads.
        :param backward_inputs: the same, reversed within each sentence, for the backward direction.
        :param batch_sizes: rows of each step, as :func:`elmolite.lstm.lstm` takes them.
        :param state: before the first step.
        :param starts: (N), true where both states are set to zero before the step.
        :returns: L + 1 layers (N, P) of each direction, the token vectors first, and the state after the last step.
        """
        words = self.char_encoder(characters)  # (U, P)
        forward_words = F.embedding(forward_inputs, words)
        backward_words = F.embedding(backward_inputs, words)
        forward_layers, forward_state = self.forward_lstm(forward_words, batch_sizes, state.forward, starts)
        backward_layers, backward_state = self.backward_lstm(backward_words, batch_sizes, state.backward, starts)
        return (
            [forward_words, *forward_layers],
            [backward_words, *backward_layers],
            BiLMState(forward_state, backward_state),
        )
