"""simple_elmo: ``ElmoModel.get_elmo_vectors(layers="all", warmup=False)``, a call a batch.

It is given a session: without one, each call makes its own and loads the weights again. A call for all sentences at
once would fill one array of float64 in which every sentence is as long as the longest.
"""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import Any

import tensorflow as tf
from simple_elmo import ElmoModel
from simple_elmo.elmo import weight_layers
from worker import Embedder, serve


class SimpleElmo(Embedder):
    """The model in a session of ours. State is carried from batch to batch, as it comes."""

    def __init__(self, settings: dict[str, Any], sentences: list[list[str]]) -> None:
        self.versions = {name: version(name) for name in ("simple_elmo", "tensorflow")}
        self.model = ElmoModel()
        logging.getLogger().setLevel(logging.WARNING)
        self.model.load(settings["model"], max_batch_size=max(settings["batch_sizes"]))
        self.model.elmo_sentence_input = weight_layers("input", self.model.sentence_embeddings_op, use_layers="all")
        threads = {"intra_op_parallelism_threads": settings["threads"], "inter_op_parallelism_threads": 1}
        self.session = tf.compat.v1.Session(config=tf.compat.v1.ConfigProto(**threads))
        with self.session.as_default():
            self.session.run(tf.compat.v1.global_variables_initializer())

    def embed_batch(self, batch: list[list[str]]) -> list[Any]:
        vectors = self.model.get_elmo_vectors(batch, warmup=False, layers="all", session=self.session)
        return [rows[:, : len(sentence)] for rows, sentence in zip(vectors, batch)]


if __name__ == "__main__":
    serve(SimpleElmo)
