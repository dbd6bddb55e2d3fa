"""The model of a task: a language model, what a head reads of it, the head, and how its scores are read.

Shapes: L layers, B sentences, T tokens, D width of a layer, K labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from elmolite.embedding.batching import TokenIds
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.tasks.heads import HeadFactory, TokenFeatures, build_head
from elmolite.tasks.inputs import NO_LAYERS, WordInputs
from elmolite.tasks.objectives import Objective, Prediction, TokenLabels
from elmolite.tasks.specs import TaskDescription
from elmolite.tasks.static_vectors import StaticEmbedding
from elmolite.utils.torch import evaluating


class SentenceBatch(NamedTuple):
    """Sentences as a model reads them: ids for the language model, or the layers that it gave them earlier."""

    mask: Tensor  # (B, T), true where there is a token
    ids: TokenIds | None = None
    layers: Tensor | None = None  # (L, B, T, D)
    static_ids: Tensor | None = None  # (B, T)

    def to(self, device: torch.device) -> SentenceBatch:
        """Return them on a device; the ids go to the language model's by themselves."""
        moved = (None if part is None else part.to(device) for part in (self.layers, self.static_ids))
        return SentenceBatch(self.mask.to(device), self.ids, *moved)


class TaskModel(nn.Module):
    """Sentences -> scores, loss and predictions."""

    def __init__(self, elmo: ELMo | None, inputs: WordInputs, head: nn.Module, objective: Objective) -> None:
        """Initialise.

        :param elmo: ``None`` if the head reads static vectors only.
        :param head: takes :class:`TokenFeatures` of one sentence or two, returns scores (B, K), or (B, T, K) of tokens.
        """
        super().__init__()
        self.elmo = elmo
        self.inputs = inputs
        self.head = head
        self.objective = objective

    def forward(self, sentences: Sequence[SentenceBatch]) -> Tensor:
        """Return the scores, (B, K) or (B, T, K), of one sentence or a pair for each example."""
        scores: Tensor = self.head(*map(self._words, sentences))
        return scores

    def loss(self, sentences: Sequence[SentenceBatch], targets: Tensor) -> Tensor:
        """Return what training makes small, without the penalty of the mixes."""
        return self.objective.loss(self(sentences), targets, sentences[0].mask)

    def predict(self, sentences: Sequence[SentenceBatch]) -> list[Prediction]:
        """Return a prediction for each example, without dropout."""
        with evaluating(self), torch.no_grad():
            return self.objective.predict(self(sentences), sentences[0].mask)

    def fit_standardization(self, batches: Iterable[Sequence[SentenceBatch]]) -> None:
        """Measure the layers of sentences, where they are standardised."""
        if self.inputs.standardization is not None:
            with evaluating(self), torch.no_grad():
                self.inputs.standardization.fit(
                    (self._layers(batch), batch.mask) for sentences in batches for batch in sentences
                )

    def check_head(self, sentences: Sequence[SentenceBatch]) -> None:
        """Hold the scores of a batch against the shape that the task needs.

        :raises InputError: the head cannot read the batch, or gives other scores.
        """
        mask, n_labels = sentences[0].mask, len(self.objective.labels)
        expected = (*mask.shape, n_labels) if isinstance(self.objective, TokenLabels) else (len(mask), n_labels)
        reads = "premise and hypothesis, as two arguments" if len(sentences) > 1 else "TokenFeatures"
        try:
            with evaluating(self), torch.no_grad():
                scores = self(sentences)
        except (TypeError, RuntimeError, ValueError, AttributeError) as error:
            raise InputError(f"the head cannot read a batch: {error}; it is given {reads}") from error
        if not isinstance(scores, Tensor) or tuple(scores.shape) != expected:
            found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise InputError(f"the head gives {found} where scores {expected} are needed: of {reads}")

    def _words(self, batch: SentenceBatch) -> TokenFeatures:
        layers = None if self.inputs.mix is None else self._layers(batch)
        return self.inputs(batch.mask, layers, batch.static_ids)  # type: ignore[no-any-return]

    def _layers(self, batch: SentenceBatch) -> Tensor:
        if batch.layers is not None:
            return batch.layers
        assert self.elmo is not None
        assert batch.ids is not None
        layers: Tensor = self.elmo(batch.ids)[0]
        return layers


def build(
    description: TaskDescription,
    elmo: ELMo | None,
    static: StaticEmbedding | None,
    *,
    make_head: HeadFactory | None = None,
) -> TaskModel:
    """Make a model, its weights at random but those of the language model and the static vectors.

    :param make_head: makes a head from the width of its input and its number of scores, where the description has none.
    :raises InputError: the settings do not go together.
    """
    config = description.inputs
    inputs = WordInputs(
        n_layers=0 if elmo is None else elmo.n_layers,
        layer_size=0 if elmo is None else elmo.size,
        layers=NO_LAYERS if elmo is None else str(config.layers),
        normalization=config.normalization,
        mixes_at_output=config.mixes_at_output,
        static=static,
        dropout=config.dropout,
    )
    n_labels = len(description.labels)
    spec = description.spec
    if description.head is not None:
        head = build_head(
            spec.heads,
            description.head,
            input_size=inputs.size,
            n_labels=n_labels,
            output_vectors_size=inputs.output_size,
        )
    else:
        assert make_head is not None
        try:
            head = make_head(inputs.size, n_labels)
        except TypeError as error:
            wanted = "it is called with the width of its input and the number of its scores"
            raise InputError(f"the head cannot be made: {error}; {wanted}") from error
    return TaskModel(elmo, inputs, head, spec.objective(description))
