"""Fine-tuning settings, without torch: training, input features, heads, and the columns of labelled files."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal

from elmolite.errors import InputError, check_choices
from elmolite.utils.config import Precision, accepts_renamed_settings

Normalization = Literal["standard", "layer", "none"]
CacheDtype = Literal["float32", "float16"]
ClassifierKind = Literal["lstm", "cnn", "biattentive", "linear"]
TaggerKind = Literal["lstm", "linear"]
PairClassifierKind = Literal["esim", "linear"]
Pooling = Literal["mean", "max", "attention", "final"]
Format = Literal["auto", "text", "conllu", "conll", "csv", "tsv", "jsonl", "label-text"]


@accepts_renamed_settings
@dataclass
class InputConfig:
    """Input features of a head.

    >>> InputConfig(layers="top").layers
    'top'

    :param layers: Layers of the language model: mix (scalar mix with learnt weights), token, top, average, the
        number of a layer, or none for static vectors only.
    :param normalization: Normalization of the layers before the mix: standard (mean 0, variance 1 over the training
        words), layer (layer normalization of each vector) or none.
    :param output_mix: Second scalar mix, concatenated to the output of the head's encoder, as in the ELMo paper.
    :param static: File of static word vectors (GloVe or word2vec text format) concatenated to the layers.
    :param static_words: Number of static vectors kept from the start of the file for later predictions, besides
        those of the examples' words.
    :param train_static: Training of the static vectors.
    :param dropout: Dropout of the input features.
    """

    layers: str | int = "mix"
    normalization: Normalization = "standard"
    output_mix: bool = False
    static: str | None = None
    static_words: int = 100_000
    train_static: bool = False
    dropout: float = 0.3

    def __post_init__(self) -> None:
        self.layers = str(self.layers)
        check_choices(self, where="input.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"input.dropout must be at least 0 and less than 1, got {self.dropout}")
        if self.static_words < 0:
            raise InputError(f"input.static_words must not be negative, got {self.static_words}")


@accepts_renamed_settings
@dataclass
class FinetuningConfig:
    """Training settings.

    >>> FinetuningConfig(n_epochs=10, encoder_training="gradual").n_epochs
    10

    :param n_epochs: Maximum number of passes over the training examples.
    :param patience: Stop early after this many epochs without a better dev score.
    :param batch_size: Examples per step.
    :param learning_rate: Learning rate of the head and the scalar mixes.
    :param weight_decay: Weight decay (AdamW) of the head's matrices.
    :param max_grad_norm: Maximum global norm of the gradient, for clipping.
    :param mix_penalty: Weight of the L2 penalty on the mix scores (the paper's lambda), which favours equal layer
        weights.
    :param encoder_training: Training of the language model: frozen; all, from the first epoch; gradual, one more
        layer each epoch, from the top.
    :param encoder_learning_rate: Learning rate of the language model, if it is trained.
    :param seed: Random seed of weights, example order and dropout.
    :param precision: Precision of matrix products in training.
    :param cache_dtype: Type of the cached layers of a frozen language model on disk.
    :param cache_limit: deprecated: 0 means ``cache=False``, other values are ignored.
    """

    n_epochs: int = 40
    patience: int = 5
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    max_grad_norm: float = 5.0
    mix_penalty: float = 1e-3
    encoder_training: Literal["frozen", "all", "gradual"] = "frozen"
    encoder_learning_rate: float = 1e-4
    seed: int = 0
    precision: Precision = "32-true"
    cache_dtype: CacheDtype = "float32"
    cache_limit: float | None = None

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("n_epochs", "patience", "batch_size", "learning_rate", "max_grad_norm", "encoder_learning_rate"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("weight_decay", "mix_penalty"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.seed < 1 << 32:
            raise InputError(f"seed must be between 0 and 2 ** 32 - 1, got {self.seed}")
        if self.cache_limit is not None:
            warnings.warn(
                "cache_limit is deprecated and will be removed in the next release: instead of 0, use cache=False "
                "(--no-cache)",
                FutureWarning,
                stacklevel=3,
            )


@dataclass
class HeadConfig:
    """Base class of the settings of a task's heads."""

    summary: ClassVar[str] = ""
    """Of the task, for the help of the command line."""
    kind: str = "linear"

    def __post_init__(self) -> None:
        check_choices(self, where="head.")
        for name, largest in (("hidden_size", 1 << 16), ("n_layers", 100)):
            value = getattr(self, name, 1)
            if not 1 <= value <= largest:
                raise InputError(f"head.{name} must be between 1 and {largest:,}, got {value}")
        dropout = getattr(self, "dropout", 0.0)
        if not 0 <= dropout < 1:
            raise InputError(f"head.dropout must be at least 0 and less than 1, got {dropout}")


@dataclass
class ClassifyConfig(HeadConfig):
    """Settings of sentence classification heads.

    >>> ClassifyConfig(kind="linear").kind
    'linear'

    :param kind: Head: lstm (BiLSTM and pooling), cnn (Kim 2014), biattentive (McCann et al. 2017, as in the ELMo
        paper) or linear (pooling and a linear layer).
    :param pooling: Pooling over tokens, of lstm and linear; final: the final states of the LSTM.
    :param hidden_size: Hidden size of each LSTM direction; number of filters per width of cnn.
    :param n_layers: Number of layers of lstm.
    :param dropout: Dropout in the head.
    """

    summary = "a label, or several, for each sentence"
    kind: ClassifierKind = "lstm"
    pooling: Pooling = "max"
    hidden_size: int = 200
    n_layers: int = 1
    dropout: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind == "linear" and self.pooling == "final":
            raise InputError("head.pooling: 'final' needs an LSTM; the linear head has none")


@dataclass
class TagConfig(HeadConfig):
    """Settings of sequence tagging heads.

    >>> TagConfig(hidden_size=64).hidden_size
    64

    :param kind: Head: lstm (BiLSTM and a linear layer) or linear (a linear layer on each token).
    :param hidden_size: Hidden size of each LSTM direction.
    :param n_layers: Number of LSTM layers.
    :param dropout: Dropout in the head.
    :param crf: Linear-chain CRF over the tags of a sentence; auto: if the tags mark spans (BIO, BIOUL).
    """

    summary = "a label for each word"
    kind: TaggerKind = "lstm"
    hidden_size: int = 200
    n_layers: int = 1
    dropout: float = 0.3
    crf: Literal["auto", "always", "never"] = "auto"


@dataclass
class EntailConfig(HeadConfig):
    """Settings of heads for sentence pairs, such as natural language inference.

    >>> EntailConfig(kind="linear").kind
    'linear'

    :param kind: Head: esim (Chen et al. 2017, as in the ELMo paper) or linear (a linear layer on both means).
    :param hidden_size: Hidden size of each LSTM direction and of the feed-forward layers.
    :param dropout: Dropout in the head.
    """

    summary = "a label for each pair of sentences (natural language inference)"
    kind: PairClassifierKind = "esim"
    hidden_size: int = 200
    dropout: float = 0.4


HEAD_CONFIGS: dict[str, type[HeadConfig]] = {"classify": ClassifyConfig, "tag": TagConfig, "entail": EntailConfig}
"""Task -> settings of its heads."""


@dataclass(frozen=True, kw_only=True)
class ExampleColumns:
    """Format and columns of labelled data.

    A column is given by its name in the header or the JSON keys, or by its number, from 1; usual names such as text,
    sentence, premise, hypothesis and label are found without.

    >>> ExampleColumns(format="csv", text="review", label="stars").given
    {'text': 'review', 'label': 'stars'}

    :param format: File format; auto: by the suffix (.conllu, .conll, .bio, .iob, .iob2, .csv, .tsv, .jsonl, .json).
        Other files hold CoNLL columns (tag), a label and a text per line (classify) or tab-separated pairs
        (entail); unlabelled ones, a sentence per line. text: sentences without labels. tsv: a row per line, no
        quoting.
    :param encoding: Encoding, such as utf-8 or latin-1.
    :param header: Header of csv and tsv. auto: the first row is one if it has a usual name, or if a column is given
        by name. Pairs without header and column numbers are premise, hypothesis, label.
    :param text: Column of the sentence, the tokens or the premise.
    :param second_text: Column of the hypothesis.
    :param label: Column of the label, the labels or the tags.
    :param label_separator: Separator of several labels in a field (classify); an empty field means no label.
    """

    format: Format = "auto"
    encoding: str = "utf-8"
    header: Literal["auto", "present", "absent"] = "auto"
    text: str | None = None
    second_text: str | None = None
    label: str | None = None
    label_separator: str | None = None

    def check(self, task: str) -> None:
        """Check the values, and that each applies to the task.

        :raises InputError: a value is unknown, or does not apply.
        """
        from elmolite.tasks.specs import TASKS  # imports torch

        check_choices(self, where="columns.")
        if not TASKS[task].is_pair and self.second_text is not None:
            raise InputError(f"columns.second_text cannot be used with {task}, whose examples have one sentence")
        if TASKS[task].label_kind != "set" and self.label_separator is not None:
            raise InputError(f"columns.label_separator cannot be used with {task}: it is for classify")
        if empty := next((name for name, value in vars(self).items() if value == ""), None):
            raise InputError(f"columns.{empty} must not be empty")
        try:
            contains_ascii = "\n a".encode(self.encoding) == b"\n a"
        except (LookupError, ValueError):
            contains_ascii = False
        if not contains_ascii:
            raise InputError(f"columns.encoding must contain ASCII, as latin-1 does, got {self.encoding!r}")

    @property
    def given(self) -> dict[str, str]:
        """The columns given by name or number, by option."""
        columns = {"text": self.text, "second_text": self.second_text, "label": self.label}
        return {option: column for option, column in columns.items() if column is not None}


DEFAULT_COLUMNS = ExampleColumns()
