"""bilm-tf's ``bilm.training.train`` as it is, summaries and all, on the CPU.

Two things are handed to it: data whose next batch it asks for when a step is done, and a session with so many threads,
which notes the loss.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, Iterator

import pkg_resources
import tensorflow as tf
from bilm.data import BidirectionalLMDataset, UnicodeCharsVocabulary
from bilm.training import train
from turns import Turns

N_CHARACTERS = 261
"""In training; a trained model has one more, for padding."""


class Session(tf.compat.v1.Session):
    """What ``train`` runs its graph in."""

    n_threads = 0
    loss = math.nan
    """Of the last step."""

    def __init__(self, config: Any) -> None:
        config.intra_op_parallelism_threads = config.inter_op_parallelism_threads = self.n_threads
        super().__init__(config=config)

    def run(self, fetches: Any, *args: Any, **kwargs: Any) -> Any:
        found = super().run(fetches, *args, **kwargs)
        if isinstance(fetches, list) and len(fetches) > 3:  # a step: its update, summary, perplexity, then states
            Session.loss = math.log(found[2])
        return found


class Data:
    """The batches of bilm-tf; where ``train`` asks for one, it is held between turns."""

    def __init__(self, data: BidirectionalLMDataset, turns: Turns) -> None:
        self.data, self.turns = data, turns

    def iter_batches(self, n_rows: int, window: int) -> Iterator[dict[str, Any]]:
        """Give batches without end; this is called when the graph is there."""
        names = ("bilm", "tensorflow")
        self.turns.begin({name: pkg_resources.get_distribution(name).version for name in names})
        for batch in self.data.iter_batches(n_rows, window):
            yield batch
            self.turns.step_is_done(Session.loss)


def main() -> None:
    """Train until there are no more turns."""
    turns = Turns()
    settings = turns.settings
    folder = Path(settings["model"])
    options = json.loads((folder / "options.json").read_text())
    options["char_cnn"]["n_characters"] = N_CHARACTERS
    vocabulary = UnicodeCharsVocabulary(settings["vocabulary"], options["char_cnn"]["max_characters_per_token"])
    options.update(
        bidirectional=True,
        dropout=settings["dropout"],
        all_clip_norm_val=10.0,
        n_epochs=sys.maxsize,
        batch_size=settings["n_rows"],
        unroll_steps=settings["window"],
        n_tokens_vocab=vocabulary.size,
        n_negative_samples_batch=settings["n_negatives"],
    )
    data = BidirectionalLMDataset(str(turns.write_text()), vocabulary, shuffle_on_load=True)
    Session.n_threads = settings["threads"]
    tf.Session = Session
    out = folder.with_name("bilm-tf")
    out.mkdir()
    train(options, Data(data, turns), 1, str(out), str(out))


if __name__ == "__main__":
    main()
