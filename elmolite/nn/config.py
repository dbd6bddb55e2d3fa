"""Sizes of a bidirectional language model and the presets, without torch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from elmolite.errors import InputError, check_choice
from elmolite.nn import MAX_CHARACTERS

DROPOUT_FIELDS = ("dropout", "variational_dropout", "recurrent_dropout", "embedding_dropout")
"""Fields of :class:`BiLMConfig` that are not sizes, so that training can continue with other values."""
MAX_LAYERS = 100
"""Maximum number of recurrent layers, highway layers or convolutions in a configuration file."""
MAX_SIZE = 1 << 24
"""Maximum size of a layer in a configuration file."""
KINDS = {"input": ("characters", "words"), "activation": ("relu", "tanh"), "cell": ("lstm", "gru", "rnn")}
"""Names in the tables of :mod:`elmolite.nn`, to which entries can be added once torch is imported."""
ORIGINAL_FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))


@dataclass
class BiLMConfig:
    """Sizes of a bidirectional language model.

    >>> config = BiLMConfig(cell_size=1024, projection_size=128)
    >>> config.n_filters
    2048

    :param input: Token input: characters (bytes or Unicode, as in the corpus), or words: a table of word vectors,
        in which out-of-vocabulary words share one.
    :param filters: Width and number of filters of each character convolution.
    :param character_embedding_size: Size of a character embedding.
    :param activation: Activation after the convolutions: relu or tanh.
    :param n_highway_layers: Number of highway layers after the activation.
    :param projection_size: Projection size P: of a token vector and of the output of each recurrent layer.
    :param cell: Recurrent cell: lstm, as in the paper, gru or rnn.
    :param cell_size: Hidden size H of each recurrent layer and direction.
    :param n_layers: Number of recurrent layers in each direction.
    :param cell_clip: Maximum absolute value of the LSTM cell state; null for no clipping.
    :param projection_clip: Maximum absolute value of the LSTM's projected output; null for no clipping.
    :param forget_bias: Constant added to the LSTM forget gate before the sigmoid.
    :param use_residual: Residual connections around every recurrent layer but the first.
    :param use_projection: Projection of the LSTM's output. Without it, H must be P and projection_clip null.
    :param use_token_projection: Projection of the token encoder's output. Without it, the number of filters must be
        P.
    :param word_embedding_size: Size of the word vectors concatenated to the character features, as in
        ELMoForManyLangs, whose models can be read but not trained.
    :param dropout: Dropout of each recurrent layer's input and of the top output.
    :param variational_dropout: One dropout mask for all positions of a row (Gal and Ghahramani 2016).
    :param recurrent_dropout: Share of the LSTM's recurrent weights dropped in each window ("weight drop", Merity et
        al. 2018).
    :param embedding_dropout: Share of a batch's distinct words whose vectors are dropped (Merity et al. 2018,
        section 4.3).
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
        self._check_kinds()
        self.filters = [(int(width), int(count)) for width, count in self.filters]
        if not self.filters or any(not 1 <= width <= MAX_CHARACTERS or count < 1 for width, count in self.filters):
            raise InputError(f"model.filters must have widths of 1 to {MAX_CHARACTERS} and counts of at least 1")
        self._check_sizes()
        for name in ("cell_clip", "projection_clip"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise InputError(f"model.{name} must be positive, or null for no clipping, got {getattr(self, name)}")
        for name in ("dropout", "recurrent_dropout", "embedding_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"model.{name} must be at least 0 and less than 1, got {getattr(self, name)}")
        if not self.use_projection and (self.cell_size != self.projection_size or self.projection_clip is not None):
            raise InputError("model: without use_projection, cell_size must be projection_size, projection_clip null")
        n_features = self.n_filters + self.word_embedding_size
        if not self.use_token_projection and n_features != self.projection_size:
            raise InputError(
                f"model: without use_token_projection, projection_size must be the number of filters ({n_features}), "
                f"got {self.projection_size}"
            )

    def _check_kinds(self) -> None:
        """Check choices, against the tables of :mod:`elmolite.nn` if that is needed and torch is imported."""
        if "torch" not in sys.modules or all(getattr(self, name) in kinds for name, kinds in KINDS.items()):
            for name, kinds in KINDS.items():
                check_choice(f"model.{name}", getattr(self, name), kinds)
            if self.cell == BiLMConfig.cell or not self.recurrent_dropout:
                return
        from elmolite.nn.bilm import TOKEN_ENCODERS
        from elmolite.nn.char_cnn import ACTIVATIONS
        from elmolite.nn.recurrent import CELLS

        for name, table in (("input", TOKEN_ENCODERS), ("activation", ACTIVATIONS), ("cell", CELLS)):
            check_choice(f"model.{name}", getattr(self, name), table)
        if self.recurrent_dropout and "recurrent_dropout" not in CELLS[self.cell].options:
            raise InputError(f"model.recurrent_dropout requires model.cell lstm, got {self.cell}")

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
                raise InputError(f"model.{name} must be between {least} and {most:,}, got {value:,}")

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
