"""The head that gives two sentences, a premise and a hypothesis, scores for their relation.

Shapes: B pairs, T and S tokens of premise and hypothesis, D width of a vector, H hidden size, E width of the vectors
for the output, K labels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from elmolite.tasks.words import BiLSTM, Words, attend, beside, masked_max, masked_mean


class ESIM(nn.Module):
    """Enhanced sequential inference (Chen et al. 2017), in which ELMo's paper trained SNLI.

    Both sentences are read, each word attends to the words of the other sentence, both are read again beside what they
    attended to, and pooled. Both directions share their weights.
    """

    def __init__(
        self,
        input_size: int,
        n_labels: int,
        *,
        output_vectors_size: int = 0,
        hidden_size: int = 300,
        dropout: float = 0.5,
    ) -> None:
        """Initialise.

        :param input_size: D.
        :param output_vectors_size: E, of what stands beside the output of the first LSTM.
        :param hidden_size: H, of each direction of both LSTMs and of the layers between them and before the output.
        """
        super().__init__()
        self.encoder = BiLSTM(input_size, hidden_size, dropout=dropout)
        size = self.encoder.output_size + output_vectors_size
        self.projection = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * size, hidden_size), nn.ReLU())
        self.composition = BiLSTM(hidden_size, hidden_size, dropout=dropout)
        self.output = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(4 * self.composition.output_size, hidden_size),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, n_labels),
        )

    def forward(self, premise: Words, hypothesis: Words) -> Tensor:
        """Return the scores (B, K)."""
        a = beside(self.encoder(premise.vectors, premise.mask)[0], premise)
        b = beside(self.encoder(hypothesis.vectors, hypothesis.mask)[0], hypothesis)
        similarity = a @ b.transpose(1, 2)  # (B, T, S)
        pooled = [
            *self._compose(a, attend(b, similarity, hypothesis.mask), premise.mask),
            *self._compose(b, attend(a, similarity.transpose(1, 2), premise.mask), hypothesis.mask),
        ]
        return self.output(torch.cat(pooled, dim=1))  # type: ignore[no-any-return]

    def _compose(self, words: Tensor, attended: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        compared = torch.cat([words, attended, words - attended, words * attended], dim=2)
        composed, _ = self.composition(self.projection(compared), mask)
        return masked_mean(composed, mask), masked_max(composed, mask)


class PairProbe(nn.Module):
    """A linear layer on what two means have in common: ``[u; v; |u - v|; u * v]`` (Conneau et al. 2017)."""

    def __init__(self, input_size: int, n_labels: int) -> None:
        """:param input_size: D."""
        super().__init__()
        self.linear = nn.Linear(4 * input_size, n_labels)

    def forward(self, premise: Words, hypothesis: Words) -> Tensor:
        """Return the scores (B, K)."""
        u, v = (masked_mean(words.vectors, words.mask) for words in (premise, hypothesis))
        return self.linear(torch.cat([u, v, (u - v).abs(), u * v], dim=1))  # type: ignore[no-any-return]
