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

    :param layers: of the language model: mix, a scalar mix whose weights are learnt; token, top, average, or the number
        of a layer; none for static vectors only.
    :param normalization: of the layers before they are mixed: standard, zero mean and unit variance of each dimension
        over the training words; layer, layer normalization of each vector; none.
    :param output_mix: also concatenate a second scalar mix to the output of the head's encoder, as in the ELMo paper.
    :param static: file of static word vectors (GloVe or word2vec text format) that are concatenated to the layers.
    :param static_words: keep the vectors of this many words from the beginning of the file, besides those of the
        examples, for later predictions.
    :param train_static: train the static vectors too.
    :param dropout: of the input features.
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

    :param n_epochs: maximum number of passes over the training examples.
    :param patience: stop after this many epochs without a better score on the dev examples.
    :param batch_size: examples a step.
    :param learning_rate: of the head and the scalar mixes.
    :param weight_decay: of their matrices (AdamW).
    :param max_grad_norm: clip the global norm of the gradient to this value.
    :param mix_penalty: weight of the squared scores of the mixes (the paper's lambda), which pulls towards the average.
    :param encoder_training: of the language model: frozen; all, train it from the start; gradual, unfreeze one more
        layer each epoch, from the top.
    :param encoder_learning_rate: of the language model, if it is trained.
    :param seed: of the weights, the order of the examples and dropout.
    :param precision: of matrix products in training.
    :param cache_dtype: of the layers of a frozen language model on disk.
    :param cache_limit: deprecated: 0 means --no-cache, other values are ignored.
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
                "cache_limit is deprecated and will be removed in the next release: use --no-cache instead of 0",
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

    :param kind: lstm: BiLSTM and pooling; cnn (Kim 2014); biattentive (McCann et al. 2017), as in the ELMo paper;
        linear: pooling and a linear layer.
    :param pooling: of lstm and linear: mean, max, attention, or of lstm its final states.
    :param hidden_size: of each direction of an LSTM; number of filters of each width of cnn.
    :param n_layers: layers of lstm.
    :param dropout: in the head.
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

    :param kind: lstm: BiLSTM and a linear layer; linear: a linear layer on each token.
    :param hidden_size: of each direction of the LSTM.
    :param n_layers: layers of the LSTM.
    :param dropout: in the head.
    :param crf: decode the tags of a sentence together with a linear-chain CRF; auto: if the tags mark spans (BIO,
        BIOUL).
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

    :param kind: esim (Chen et al. 2017), as in the ELMo paper; linear: a linear layer on both means.
    :param hidden_size: of each direction of the LSTMs and of the feed-forward layers.
    :param dropout: in the head.
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

    :param format: auto: by the file's suffix; other files than .conllu, .conll, .bio, .iob, .iob2, .csv, .tsv, .jsonl
        and .json hold CoNLL columns (tag), lines of label and text (classify) or tab-separated pairs (entail), or to be
        predicted a sentence per line (tag, classify), which may begin with a label. text: sentences without labels.
        tsv: a row per line, no quoting.
    :param encoding: such as utf-8 or latin-1.
    :param header: of csv and tsv. auto: the first row is a header if it has a usual name or a column is given by name.
        A table of pairs without header and column numbers has premise, hypothesis and label, in this order.
    :param text: column of the sentence, the tokens, or the premise.
    :param second_text: column of the hypothesis.
    :param label: column of the label, the labels or the tags.
    :param label_separator: classification: separator of several labels in a field; an empty field means no label.
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

        check_choices(self)
        if not TASKS[task].is_pair and self.second_text is not None:
            raise InputError(f"second_text: {task} examples have one sentence; this option is for entail")
        if TASKS[task].label_kind != "set" and self.label_separator is not None:
            raise InputError(f"label_separator: does not apply to {task}; this option is for classify")
        if empty := next((name for name, value in vars(self).items() if value == ""), None):
            raise InputError(f"{empty}: must not be empty")
        try:
            contains_ascii = "\n a".encode(self.encoding) == b"\n a"
        except (LookupError, ValueError):
            contains_ascii = False
        if not contains_ascii:
            raise InputError(f"encoding: expected one that contains ASCII, such as latin-1, got {self.encoding!r}")

    @property
    def given(self) -> dict[str, str]:
        """The columns given by name or number, by option."""
        columns = {"text": self.text, "second_text": self.second_text, "label": self.label}
        return {option: column for option, column in columns.items() if column is not None}


DEFAULT_COLUMNS = ExampleColumns()
