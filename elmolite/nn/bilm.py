"""Bidirectional language model (biLM): configuration, presets and :class:`BiLM`.

Shapes: U distinct words, B rows, T positions, N positions of packed sequences, L layers, P projection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.errors import InputError, nearest
from elmolite.nn import MAX_CHARACTERS, N_BYTE_IDS, PADDING
from elmolite.nn.char_cnn import ACTIVATIONS, CharacterCNN, WordEncoder
from elmolite.nn.lstm.inference import IndexedInputs
from elmolite.nn.lstm.reference import State
from elmolite.nn.recurrent import CELLS, RecurrentLayer, RecurrentStack, dropout, run_stacks

DROPOUT_FIELDS = ("dropout", "variational_dropout", "recurrent_dropout", "embedding_dropout")
"""Fields of :class:`BiLMConfig` that are not sizes, so that training can continue with other values."""
MAX_LAYERS = 100
"""Maximum number of recurrent layers, highway layers or convolutions in a configuration file."""
MAX_SIZE = 1 << 24
"""Maximum size of a layer in a configuration file."""
ORIGINAL_FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))


@dataclass
class BiLMConfig:
    """Sizes of a bidirectional language model.

    :param input: what a token is read as: ``characters``, which are bytes or Unicode characters as in the corpus, or
        ``words``, a table of word vectors in which out-of-vocabulary words share the vector of ``<UNK>``.
    :param filters: width and number of filters of each convolution over characters.
    :param character_embedding_size: of each character.
    :param activation: after the convolutions: relu or tanh.
    :param n_highway_layers: after the activation.
    :param projection_size: P, of a token vector and of the output of each recurrent layer.
    :param cell: lstm, as in the paper, gru or rnn.
    :param cell_size: H, cells of each recurrent layer and direction.
    :param n_layers: recurrent layers of each direction.
    :param cell_clip: bound of the LSTM's cell state; null for no clipping.
    :param projection_clip: bound of the LSTM's projected output; null for no clipping.
    :param forget_bias: added to the LSTM's forget gate before the sigmoid.
    :param use_residual: add its input to the output of each layer from the second on.
    :param use_projection: project the LSTM's output; without, H must be P and projection_clip null.
    :param use_token_projection: project the token encoder's output; without, the number of filters must be P.
    :param word_embedding_size: of a vector for each known word that is concatenated to the character features, as in
        ELMoForManyLangs, whose models can be read but not trained.
    :param dropout: of each recurrent layer's input and of the top output, in training.
    :param variational_dropout: use one dropout mask for all positions of a row (Gal and Ghahramani 2016).
    :param recurrent_dropout: share of the LSTM's recurrent weights that is dropped in each window (Merity et al. 2018,
        "weight drop").
    :param embedding_dropout: share of the distinct words of a batch whose vectors are dropped (the same, section 4.3).
    """

    input: str = "characters"
    filters: list[tuple[int, int]] = field(default_factory=lambda: list(ORIGINAL_FILTERS))
    character_embedding_size: int = 16
    activation: str = "relu"
    n_highway_layers: int = 2
    projection_size: int = 512
    cell: str = "lstm"
    cell_size: int = 4096
    n_layers: int = 2
    cell_clip: float | None = 3.0
    projection_clip: float | None = 3.0
    forget_bias: float = 1.0
    use_residual: bool = True
    use_projection: bool = True
    use_token_projection: bool = True
    word_embedding_size: int = 0
    dropout: float = 0.1
    variational_dropout: bool = False
    recurrent_dropout: float = 0.0
    embedding_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, table in (("input", TOKEN_ENCODERS), ("activation", ACTIVATIONS), ("cell", CELLS)):
            if getattr(self, name) not in table:
                raise InputError(
                    f"model: {name}: unknown {getattr(self, name)!r}{nearest(str(getattr(self, name)), table)}"
                )
        self.filters = [(int(width), int(count)) for width, count in self.filters]
        if not self.filters or any(not 1 <= width <= MAX_CHARACTERS or count < 1 for width, count in self.filters):
            raise InputError(f"model: filters must have widths of 1 to {MAX_CHARACTERS} and counts of at least 1")
        self._check_sizes()
        for name in ("cell_clip", "projection_clip"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise InputError(f"model: {name} must be positive, or null for no clipping, got {getattr(self, name)}")
        for name in ("dropout", "recurrent_dropout", "embedding_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"model: {name} must be in [0, 1), got {getattr(self, name)}")
        if self.recurrent_dropout and "recurrent_dropout" not in CELLS[self.cell].options:
            raise InputError(f"model: recurrent_dropout is not supported by cell {self.cell}, only by lstm")
        if not self.use_projection and (self.cell_size != self.projection_size or self.projection_clip is not None):
            raise InputError("model: without use_projection, cell_size must be projection_size, projection_clip null")
        n_features = self.n_filters + self.word_embedding_size
        if not self.use_token_projection and n_features != self.projection_size:
            raise InputError(
                f"model: without use_token_projection, projection_size must be the number of filters ({n_features}), "
                f"got {self.projection_size}"
            )

    def _check_sizes(self) -> None:
        for name, value, least, most in (
            ("n_layers", self.n_layers, 1, MAX_LAYERS),
            ("n_highway_layers", self.n_highway_layers, 0, MAX_LAYERS),
            ("number of convolutions", len(self.filters), 1, MAX_LAYERS),
            ("number of filters", self.n_filters, 1, MAX_SIZE),
            ("character_embedding_size", self.character_embedding_size, 1, MAX_SIZE),
            ("word_embedding_size", self.word_embedding_size, 0, MAX_SIZE),
            ("projection_size", self.projection_size, 1, MAX_SIZE),
            ("cell_size", self.cell_size, 1, MAX_SIZE),
        ):
            if not least <= value <= most:
                raise InputError(f"model: {name} must be in [{least}, {most:,}], got {value:,}")

    @property
    def n_filters(self) -> int:
        """Number of filters of all widths."""
        return sum(count for _, count in self.filters)


def tiny() -> BiLMConfig:
    """0.8 M parameters, for the demonstration and tests."""
    return BiLMConfig(filters=list(ORIGINAL_FILTERS[:4]), cell_size=256, projection_size=64, n_highway_layers=1)


def mini() -> BiLMConfig:
    """3.0 M parameters, for training on two CPU cores."""
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
        words = self.token_encoder(unique_words)  # (U, P)
        if self.training and self.config.embedding_dropout:
            words = words * F.dropout(words.new_ones(len(words), 1), self.config.embedding_dropout)
        return self.run(words, forward_inputs, backward_inputs, batch_sizes, state, reset_mask)

    def run(
        self,
        words: Tensor,
        forward_inputs: Tensor,
        backward_inputs: Tensor,
        batch_sizes: Sequence[int],
        state: BiLMState,
        reset_mask: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor], BiLMState]:
        """Run both directions as :meth:`forward` does, over encoded words (U, P)."""
        indices = torch.stack([forward_inputs, backward_inputs])
        x = F.embedding(indices, words)  # (2, N, P)
        stacks = [self.forward_stack, self.backward_stack]
        layers, states = run_stacks(stacks, x, batch_sizes, state, reset_mask, IndexedInputs(words, indices))
        forward_layers, backward_layers = zip(*[x, *layers], strict=True)
        return list(forward_layers), list(backward_layers), BiLMState(*states)
