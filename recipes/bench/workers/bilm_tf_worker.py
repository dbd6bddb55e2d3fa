"""bilm-tf: ``Batcher`` and ``BidirectionalLanguageModel`` with characters as its input; its state is carried on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pkg_resources
import tensorflow as tf
from bilm import Batcher, BidirectionalLanguageModel
from worker import Embedder, serve

MAX_CHARACTERS = 50


class BilmTF(Embedder):
    """The language model in a session. The vocabulary, which only spares the spelling of words, holds no words."""

    def __init__(self, settings: dict[str, Any], sentences: list[list[str]]) -> None:
        names = ("bilm", "tensorflow")
        self.versions = {name: pkg_resources.get_distribution(name).version for name in names}
        folder = Path(settings["model"])
        self.batcher = Batcher(settings["vocabulary"], MAX_CHARACTERS)
        self.ids = tf.compat.v1.placeholder("int32", shape=(None, None, MAX_CHARACTERS))
        bilm = BidirectionalLanguageModel(
            str(folder / "options.json"), str(folder / "weights.hdf5"), max_batch_size=max(settings["batch_sizes"])
        )
        self.vectors = bilm(self.ids)["lm_embeddings"]  # (B, layers, T, size)
        # Two operations at once are a tenth faster here, forward beside backward; for simple_elmo they are slower.
        threads = {f"{kind}_op_parallelism_threads": settings["threads"] for kind in ("intra", "inter")}
        self.session = tf.compat.v1.Session(config=tf.compat.v1.ConfigProto(**threads))
        self.session.run(tf.compat.v1.global_variables_initializer())

    def embed_batch(self, batch: list[list[str]]) -> list[Any]:
        vectors = self.session.run(self.vectors, {self.ids: self.batcher.batch_sentences(batch)})
        return [rows[:, : len(sentence)] for rows, sentence in zip(vectors, batch)]


if __name__ == "__main__":
    serve(BilmTF)
