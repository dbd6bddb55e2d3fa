"""Task table: everything in which tasks differ, one entry a task.

A new task is one module with its labels' objective, its heads and a :class:`TaskSpec`, one line in :data:`TASKS`, and
one in :data:`elmolite.tasks.config.HEAD_CONFIGS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from elmolite.errors import InputError, nearest
from elmolite.tasks.config import ClassifyConfig, EntailConfig, HeadConfig, InputConfig, TagConfig
from elmolite.tasks.heads import HEADS, Head
from elmolite.tasks.metrics import Labels, TaskScores, score_sentences, score_tokens
from elmolite.tasks.objectives import Objective, sentence_objective, tag_objective
from elmolite.tasks.spans import Scheme

ColumnNames = tuple[tuple[str, ...], ...]
"""Groups of usual column names; the first group with a column in the data counts, and exactly one must match."""

_TEXTS = ("text", "sentence", "content", "review", "comment", "question", "tweet", "utterance", "document")
_TOKENS = ("tokens", "words", "form")


@dataclass(frozen=True)
class TaskSpec:
    """Everything in which a task differs from others.

    :param sentences: names of the sentences of an example in predictions: one, or two for pairs.
    :param label_kind: what an example has: ``single``, exactly one label; ``set``, one label, or if an example of the
        training data has another number of them, any number; ``token``, one label a token.
    :param heads: kind of head -> class.
    :param probe: the head without an encoder, which measures what the layers encode.
    :param objective: makes loss and decoding.
    :param score: evaluates predictions, from the description and the gold and predicted labels of each example.
    :param text_columns: usual column names of each sentence.
    :param label_columns: usual column names of the labels.
    :param no_label: the label of examples that are left out, as nobody agreed on their label.
    """

    sentences: tuple[str, ...]
    label_kind: Literal["single", "set", "token"]
    heads: Mapping[str, Head]
    probe: HeadConfig
    objective: Callable[[TaskDescription], Objective]
    score: Callable[[TaskDescription, Sequence[Labels], Sequence[Labels]], TaskScores]
    text_columns: tuple[ColumnNames, ...]
    label_columns: ColumnNames
    no_label: str | None = None

    @property
    def is_pair(self) -> bool:
        """Whether an example has two sentences."""
        return len(self.sentences) == 2

    @property
    def has_token_labels(self) -> bool:
        """Whether each token has a label."""
        return self.label_kind == "token"


TASKS: dict[str, TaskSpec] = {
    "classify": TaskSpec(
        sentences=("text",),
        label_kind="set",
        heads=HEADS["classify"],
        probe=ClassifyConfig(kind="linear", pooling="mean", dropout=0.0),
        objective=sentence_objective,
        score=score_sentences,
        text_columns=((_TEXTS, _TOKENS),),
        label_columns=(("label", "labels", "class", "category", "sentiment", "intent", "gold_label"),),
    ),
    "tag": TaskSpec(
        sentences=("tokens",),
        label_kind="token",
        heads=HEADS["tag"],
        probe=TagConfig(kind="linear", dropout=0.0, crf="never"),
        objective=tag_objective,
        score=score_tokens,
        text_columns=((_TOKENS, _TEXTS),),
        label_columns=(
            ("tags", "labels", "tag", "label"),
            ("upos", "xpos", "pos", "ner", "pos_tags", "ner_tags", "chunk_tags"),
        ),
    ),
    "entail": TaskSpec(
        sentences=("premise", "hypothesis"),
        label_kind="single",
        heads=HEADS["entail"],
        probe=EntailConfig(kind="linear", dropout=0.0),
        objective=sentence_objective,
        score=score_sentences,
        text_columns=(
            (("sentence1", "premise", "text1", "question1", "sentence_a", "question"),),
            (("sentence2", "hypothesis", "text2", "question2", "sentence_b", "sentence"),),
        ),
        label_columns=(("gold_label",), ("label", "class", "entailment_judgment", "entailment_label")),
        no_label="-",
    ),
}


def task_spec(name: str) -> TaskSpec:
    """Return the entry of a task, or raise :class:`InputError` with the nearest name."""
    if name not in TASKS:
        raise InputError(f"unknown task {name!r}{nearest(name, TASKS)}")
    return TASKS[name]


@dataclass(frozen=True)
class TaskDescription:
    """Configuration of a task's model: what is saved next to its weights."""

    task: str
    labels: tuple[str, ...]
    inputs: InputConfig
    head: HeadConfig | None
    """``None`` for a custom head."""
    is_multi_label: bool = False
    scheme: Scheme | None = None
    """How tags mark spans; ``None`` if they do not."""

    @property
    def spec(self) -> TaskSpec:
        """The entry of the task in :data:`TASKS`."""
        return TASKS[self.task]

    def score(self, gold: Sequence[Labels], predicted: Sequence[Labels]) -> TaskScores:
        """Evaluate predicted labels of examples."""
        return self.spec.score(self, gold, predicted)
