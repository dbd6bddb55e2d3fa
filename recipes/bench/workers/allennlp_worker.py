"""AllenNLP: ``batch_to_ids`` and ``_ElmoBiLm``, which is what gives all layers; ``Elmo`` is this and a weighted sum.

Every batch starts from zero state, as elmolite's do; left alone, AllenNLP would carry the state on, in the same time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import allennlp.version
import torch
from allennlp.modules.elmo import _ElmoBiLm, batch_to_ids
from worker import Embedder, serve


class AllenNLP(Embedder):
    """The language model; with the setting ``cached``, the vectors of all words are computed while it is loaded."""

    def __init__(self, settings: dict[str, Any], sentences: list[list[str]]) -> None:
        torch.set_num_threads(settings["threads"])
        self.versions = {"allennlp": allennlp.version.VERSION, "torch": torch.__version__}
        self.ids = {}
        cached = None
        if settings.get("cached"):
            words = sorted({word for sentence in sentences for word in sentence})
            cached = ["@@PADDING@@", *words]  # the first number is that of padding
            self.ids = {word: i for i, word in enumerate(words, 1)}
        folder = Path(settings["model"])
        self.bilm = _ElmoBiLm(str(folder / "options.json"), str(folder / "weights.hdf5"), vocab_to_cache=cached).eval()

    def embed_batch(self, batch: list[list[str]]) -> list[Any]:
        self.bilm._elmo_lstm.reset_states()
        with torch.no_grad():
            output = self.bilm(None, self.word_ids(batch)) if self.ids else self.bilm(batch_to_ids(batch))
            vectors = torch.stack(output["activations"], dim=1).numpy()  # (B, layers, <S> T </S>, size)
        return [rows[:, 1 : len(sentence) + 1] for rows, sentence in zip(vectors, batch)]

    def word_ids(self, batch: list[list[str]]) -> torch.Tensor:
        """Return the numbers of cached words, (B, T); so no characters are needed."""
        ids = torch.zeros(len(batch), max(map(len, batch)), dtype=torch.int64)
        for row, sentence in zip(ids, batch):
            row[: len(sentence)] = torch.tensor([self.ids[word] for word in sentence])
        return ids


if __name__ == "__main__":
    serve(AllenNLP)
