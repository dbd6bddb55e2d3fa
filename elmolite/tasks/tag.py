"""The head that gives each word of a sentence scores for its tags.

Shapes: B sentences, T tokens, D width of a vector, E width of the vectors for the output, K tags.
"""

from __future__ import annotations

from torch import Tensor, nn

from elmolite.tasks.words import BiLSTM, Words, beside


class Tagger(nn.Module):
    """A BiLSTM, or nothing, then a linear layer for each word."""

    def __init__(
        self,
        input_size: int,
        n_labels: int,
        *,
        output_vectors_size: int = 0,
        hidden_size: int = 200,
        n_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        """Initialise.

        :param input_size: D.
        :param output_vectors_size: E, of what stands beside the output of the LSTM.
        :param hidden_size: of each direction of the LSTM.
        :param n_layers: of it; 0 for a linear layer on the words as they are.
        """
        super().__init__()
        self.lstm = BiLSTM(input_size, hidden_size, n_layers=n_layers, dropout=dropout) if n_layers else None
        size = (self.lstm.output_size if self.lstm else input_size) + output_vectors_size
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(size, n_labels)

    def forward(self, words: Words) -> Tensor:
        """Return the scores (B, T, K)."""
        vectors = words.vectors if self.lstm is None else self.lstm(words.vectors, words.mask)[0]
        return self.linear(self.dropout(beside(vectors, words)))  # type: ignore[no-any-return]
