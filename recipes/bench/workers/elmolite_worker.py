"""elmolite, as it comes: its own batches, its own cache of words."""

from __future__ import annotations

from typing import Any

import torch
from worker import Embedder, serve

from elmolite import ELMo


class Elmolite(Embedder):
    """``ELMo.embed``, and ``embed_iter`` where vectors are not kept."""

    def __init__(self, settings: dict[str, Any], sentences: list[list[str]]) -> None:
        torch.set_num_threads(settings["threads"])
        self.versions = {"torch": torch.__version__}
        self.elmo = ELMo.from_pretrained(settings["model"], precision=settings.get("precision", "32-true"))

    def embed(self, sentences: list[list[str]], batch_size: int) -> list[Any]:
        return self.elmo.embed(sentences)

    def run_through(self, sentences: list[list[str]], batch_size: int) -> None:
        for _ in self.elmo.embed_iter(sentences):
            pass

    def forget(self) -> None:
        self.elmo.word_cache.clear()


if __name__ == "__main__":
    serve(Elmolite)
