"""Task model: language model, feature mixer, head and objective.

Shapes: L layers, B sentences, T tokens, D size of a layer, K labels.
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
from elmolite.tasks.inputs import NO_LAYERS, FeatureMixer
from elmolite.tasks.objectives import Objective, Prediction
from elmolite.tasks.specs import TaskDescription
from elmolite.tasks.static_vectors import StaticEmbedding
from elmolite.utils.torch import evaluating


class SentenceBatch(NamedTuple):
    """A batch of sentences: ids for the language model, or its precomputed layers."""

    mask: Tensor  # (B, T), true for tokens
    ids: TokenIds | None = None
    layers: Tensor | None = None  # (L, B, T, D)
    static_ids: Tensor | None = None  # (B, T)

    def to(self, device: torch.device) -> SentenceBatch:
        """Move the tensors to a device; the language model moves the ids itself."""
        moved = (None if part is None else part.to(device) for part in (self.layers, self.static_ids))
        return SentenceBatch(self.mask.to(device), self.ids, *moved)


class TaskModel(nn.Module):
    """Sentences -> scores, loss and predictions."""

    def __init__(self, elmo: ELMo | None, inputs: FeatureMixer, head: nn.Module, objective: Objective) -> None:
        """Initialise.

        :param elmo: ``None`` if the head reads static vectors only.
        :param head: takes :class:`TokenFeatures` of one sentence or two, returns scores (B, K), or (B, T, K) of tokens.
        """
        super().__init__()
        self.elmo = elmo
        self.inputs = inputs
        self.head = head
        self.objective = objective

    @classmethod
    def build(
        cls,
        description: TaskDescription,
        elmo: ELMo | None,
        static: StaticEmbedding | None,
        *,
        custom_head: HeadFactory | None = None,
    ) -> TaskModel:
        """Build a model whose mixes, head and objective have random weights.

        :param custom_head: makes the head, if the description has none.
        """
        config, n_labels = description.inputs, len(description.labels)
        inputs = FeatureMixer(
            n_layers=0 if elmo is None else elmo.n_layers,
            layer_size=0 if elmo is None else elmo.size,
            layers=NO_LAYERS if elmo is None else str(config.layers),
            normalization=config.normalization,
            output_mix=config.output_mix,
            static=static,
            dropout=config.dropout,
        )
        if description.head is not None:
            head = build_head(
                description.spec.heads,
                description.head,
                input_size=inputs.size,
                n_labels=n_labels,
                output_vectors_size=inputs.output_size,
            )
        else:
            assert custom_head is not None
            try:
                head = custom_head(inputs.size, n_labels)
            except TypeError as error:
                raise InputError(
                    f"cannot make the custom head: {error}; it is called with the input size and the number of labels"
                ) from error
        return cls(elmo, inputs, head, description.spec.objective(description))

    def forward(self, sentences: Sequence[SentenceBatch]) -> Tensor:
        """Return the scores, (B, K) or (B, T, K).

        :param sentences: the sentences of the examples; for pairs the premises and the hypotheses.
        """
        scores: Tensor = self.head(*map(self._features, sentences))
        return scores

    def loss(self, sentences: Sequence[SentenceBatch], targets: Tensor) -> Tensor:
        """Return the loss, without the penalty of the mixes."""
        return self.objective.loss(self(sentences), targets, sentences[0].mask)

    def predict(self, sentences: Sequence[SentenceBatch]) -> list[Prediction]:
        """Return a prediction for each example, without dropout."""
        with evaluating(self), torch.no_grad():
            return self.objective.predict(self(sentences), sentences[0].mask)

    def fit_standardization(self, batches: Iterable[Sequence[SentenceBatch]]) -> None:
        """Measure the layers of sentences, if they are standardized."""
        if self.inputs.standardization is not None:
            with evaluating(self), torch.no_grad():
                self.inputs.standardization.fit(
                    (self._layers(batch), batch.mask) for sentences in batches for batch in sentences
                )

    def check_head(self, sentences: Sequence[SentenceBatch]) -> None:
        """Run a custom head on a batch and check the shape of its scores."""
        shape = self.objective.score_shape(sentences[0].mask)
        reads = "premise and hypothesis as two arguments" if len(sentences) > 1 else "TokenFeatures"
        try:
            with evaluating(self), torch.no_grad():
                scores = self(sentences)
        except (TypeError, RuntimeError, ValueError, AttributeError) as error:
            raise InputError(f"the custom head failed on a batch ({reads}): {error}") from error
        if not isinstance(scores, Tensor) or tuple(scores.shape) != shape:
            found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise InputError(f"the custom head must return scores of shape {shape}, got {found}")

    def _features(self, batch: SentenceBatch) -> TokenFeatures:
        layers = None if self.inputs.mix is None else self._layers(batch)
        return self.inputs(batch.mask, layers, batch.static_ids)  # type: ignore[no-any-return]

    def _layers(self, batch: SentenceBatch) -> Tensor:
        if batch.layers is not None:
            return batch.layers
        assert self.elmo is not None
        assert batch.ids is not None
        layers: Tensor = self.elmo(batch.ids)[0]
        return layers
