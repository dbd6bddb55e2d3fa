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

from elmolite.errors import InputError, check_choices
from elmolite.nn import MAX_CHARACTERS
from elmolite.nn.char_cnn import CharacterEncoder, WordEncoder
from elmolite.nn.lstm.inference import Words
from elmolite.nn.lstm.reference import State
from elmolite.nn.recurrent import LSTMLayer, RecurrentStack, RNNLayer, dropout, run_stacks

DROPOUT_FIELDS = ("dropout", "variational_dropout", "recurrent_dropout", "embedding_dropout")
"""The fields of :class:`BiLMConfig` that are no sizes: a model can be trained on with others."""
MAX_LAYERS = 100
"""LSTM layers, highway layers or convolutions of a model: what asks for more is no model."""
MAX_SIZE = 1 << 24
"""Of a layer."""
ORIGINAL_FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))


@dataclass
class BiLMConfig:
    """Sizes of a bidirectional language model.

    :param input: what a token is read as: its characters (bytes or Unicode, as the corpus has them), or the word
        itself, for which the words of the vocabulary have vectors and all others share that of ``<UNK>``.
    :param filters: width and number of filters of each convolution over characters.
    :param character_embedding_size: of each character.
    :param activation: after the convolutions.
    :param n_highway_layers: after them.
    :param projection_size: P, of a token vector and of the output of each LSTM layer.
    :param cell: lstm, as in the paper, gru or rnn.
    :param cell_size: H, cells of each recurrent layer and direction.
    :param n_layers: recurrent layers of each direction.
    :param cell_clip: bound of the LSTM's cell state; null for none.
    :param projection_clip: bound of its projected output; null for none.
    :param forget_bias: what is added to its forget gate before the sigmoid.
    :param use_residual: whether a layer from the second on adds its input to its output.
    :param use_projection: whether the LSTM projects its output; without, H is P, and nothing is clipped but the cells.
    :param use_token_projection: whether the token encoder does; without, the filters are P.
    :param word_embedding_size: of a vector for each known word, beside its characters: as in ELMoForManyLangs, whose
        models are read, not trained.
    :param dropout: of each recurrent layer's input and of the top output, in training.
    :param variational_dropout: drop the same parts at all positions of a row (Gal and Ghahramani 2016).
    :param recurrent_dropout: share of the LSTM's recurrent weights that is dropped, anew in each window (Merity et al.
        2018, "weight drop").
    :param embedding_dropout: share of the distinct words of a batch whose vectors are dropped (the same, section 4.3).
    """

    input: Literal["characters", "words"] = "characters"
    filters: list[tuple[int, int]] = field(default_factory=lambda: list(ORIGINAL_FILTERS))
    character_embedding_size: int = 16
    activation: Literal["relu", "tanh"] = "relu"
    n_highway_layers: int = 2
    projection_size: int = 512
    cell: Literal["lstm", "gru", "rnn"] = "lstm"
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
        check_choices(self, where="model: ")
        self.filters = [(int(width), int(count)) for width, count in self.filters]
        for name in ("character_embedding_size", "projection_size", "cell_size", "n_layers"):
            if getattr(self, name) < 1:
                raise InputError(f"model: {name} {getattr(self, name)} is not at least 1")
        if self.n_highway_layers < 0:
            raise InputError(f"model: n_highway_layers {self.n_highway_layers} is negative")
        if not self.filters or any(not 1 <= width <= MAX_CHARACTERS or count < 1 for width, count in self.filters):
            raise InputError(f"model: filters need widths of 1 to {MAX_CHARACTERS} and counts of at least 1")
        self._check_bounds()
        for name in ("cell_clip", "projection_clip"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise InputError(f"model: {name} {getattr(self, name)} is not greater than 0; null is for none")
        for name in ("dropout", "recurrent_dropout", "embedding_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"model: {name} {getattr(self, name)} is not in [0, 1)")
        self._check_projections()
        if self.recurrent_dropout and self.cell != "lstm":
            raise InputError(f"model: recurrent_dropout is for cell lstm, not for {self.cell}, which torch computes")

    def _check_bounds(self) -> None:
        sizes = {
            "n_layers": (self.n_layers, MAX_LAYERS),
            "n_highway_layers": (self.n_highway_layers, MAX_LAYERS),
            "convolutions": (len(self.filters), MAX_LAYERS),
            "filters": (self.n_filters, MAX_SIZE),
            "character_embedding_size": (self.character_embedding_size, MAX_SIZE),
            "word_embedding_size": (self.word_embedding_size, MAX_SIZE),
            "projection_size": (self.projection_size, MAX_SIZE),
            "cell_size": (self.cell_size, MAX_SIZE),
        }
        for name, (found, largest) in sizes.items():
            if found > largest:
                raise InputError(f"model: {name} {found:,} is more than {largest:,}")

    @property
    def n_filters(self) -> int:
        """Filters of all widths."""
        return sum(count for _, count in self.filters)

    @property
    def n_weights_at_least(self) -> int:
        """Return how many weights a model of these sizes has at least, which is known before any is made."""
        n_recurrent = 2 * self.n_layers * self.cell_size * self.projection_size
        if self.input == "words":
            return n_recurrent
        n_convolved = sum(width * self.character_embedding_size * count for width, count in self.filters)
        return n_recurrent + n_convolved + 2 * self.n_highway_layers * self.n_filters**2

    def _check_projections(self) -> None:
        if self.word_embedding_size < 0:
            raise InputError(f"model: word_embedding_size {self.word_embedding_size} is negative")
        if not self.use_projection and (self.cell_size != self.projection_size or self.projection_clip is not None):
            raise InputError(
                "model: use_projection false needs cell_size to be projection_size, and no projection_clip"
            )
        n_features = self.n_filters + self.word_embedding_size
        if not self.use_token_projection and n_features != self.projection_size:
            raise InputError(f"model: use_token_projection false needs projection_size {n_features}, as the filters")


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


def _token_encoder(config: BiLMConfig, n_ids: int, n_word_ids: int, padding: int) -> CharacterEncoder | WordEncoder:
    if config.input == "words":
        return WordEncoder(n_ids=n_ids, projection_size=config.projection_size)
    return CharacterEncoder(
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


def _recurrent_layer(config: BiLMConfig) -> LSTMLayer | RNNLayer:
    sizes = {
        "input_size": config.projection_size,
        "cell_size": config.cell_size,
        "projection_size": config.projection_size,
    }
    if config.cell != "lstm":
        return RNNLayer(config.cell, **sizes)
    return LSTMLayer(
        **sizes,
        cell_clip=config.cell_clip,
        projection_clip=config.projection_clip,
        forget_bias=config.forget_bias,
        use_projection=config.use_projection,
        recurrent_dropout=config.recurrent_dropout,
    )


class BiLMState(NamedTuple):
    """The state of both directions."""

    forward: State
    backward: State

    def detach(self) -> BiLMState:
        """Return the state without its history."""
        return BiLMState(*(State(*(part.detach() for part in state)) for state in self))


class BiLM(nn.Module):
    """Token encoder and two stacks of LSTMs, one a direction; both directions share the encoder and no state."""

    def __init__(self, config: BiLMConfig, *, n_ids: int, n_word_ids: int = 0, padding: int) -> None:
        """Make the weights; the numbers are those of the tokens' indexer (:mod:`elmolite.data.indexers`).

        :param n_word_ids: of words beside characters.
        :param padding: the id that fills rows of characters up.
        """
        super().__init__()
        self.config = config
        if (config.word_embedding_size > 0) != (n_word_ids > 0):
            raise InputError("model: word_embedding_size: words beside characters are only in ELMoForManyLangs models")
        self.token_encoder = _token_encoder(config, n_ids, n_word_ids, padding)
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
        """Number of weights, without the softmax."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def zero_state(self, n_rows: int) -> BiLMState:
        """Return the state of fresh sequences in both directions."""
        like = next(self.parameters())
        return BiLMState(self.forward_stack.zero_state(n_rows, like), self.backward_stack.zero_state(n_rows, like))

    def dropout(self, x: Tensor, batch_sizes: Sequence[int]) -> Tensor:
        """Apply the model's dropout to packed vectors (N, P), in training."""
        if not self.training:
            return x
        return dropout(x, batch_sizes, self.config.dropout, is_variational=self.config.variational_dropout)

    def forward(
        self,
        forms: Tensor,
        forward_inputs: Tensor,
        backward_inputs: Tensor,
        batch_sizes: Sequence[int],
        state: BiLMState,
        starts: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor], BiLMState]:
        """Run both directions over packed sequences of words.

        :param forms: the distinct words as rows of ids, (U, C).
        :param forward_inputs: packed sequences as indices into ``forms``, (N); what the forward direction reads.
        :param backward_inputs: the same, reversed within each sentence, for the backward direction.
        :param batch_sizes: rows of each step, as :func:`elmolite.nn.lstm.reference.lstm_reference` takes them.
        :param state: before the first step.
        :param starts: (N), true where both states are set to zero before the step.
        :returns: L + 1 layers (N, P) of each direction, the token vectors first, and the state after the last step.
        """
        words = self.token_encoder(forms)  # (U, P)
        if self.training and self.config.embedding_dropout:
            words = words * F.dropout(words.new_ones(len(words), 1), self.config.embedding_dropout)
        return self.run(words, forward_inputs, backward_inputs, batch_sizes, state, starts)

    def run(
        self,
        words: Tensor,
        forward_inputs: Tensor,
        backward_inputs: Tensor,
        batch_sizes: Sequence[int],
        state: BiLMState,
        starts: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor], BiLMState]:
        """Run both directions as :meth:`forward` does, over words (U, P) that are encoded already."""
        places = torch.stack([forward_inputs, backward_inputs])
        x = F.embedding(places, words)  # (2, N, P)
        stacks = [self.forward_stack, self.backward_stack]
        layers, states = run_stacks(stacks, x, batch_sizes, state, starts, Words(words, places))
        forward_layers, backward_layers = zip(*[x, *layers], strict=True)
        return list(forward_layers), list(backward_layers), BiLMState(*states)
