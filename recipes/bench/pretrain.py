"""Positions per second of pretraining: elmolite in fp32 and bf16, and bilm-tf.

    python recipes/bench/pretrain.py
    python recipes/bench/pretrain.py --text train.txt.gz --vocab vocab.txt

Each trains its model from random weights in its own loop, optimizer and data included, with the sampled softmax, and is
held between turns; a turn is the next steps. A position has a target in either direction. The losses of the first steps
and of the last turn, nats of a position, are printed too: they must fall, and are no comparison.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from comparison import argument_parser, running
from peers import BILM_TF_TRAINING, ELMOLITE_TRAINING, ELMOLITE_TRAINING_BF16, Worker
from texts import training_text

from elmolite.data.vocab import Vocabulary
from elmolite.nn.config import PRESETS

VOCABULARY_SIZE = 10_000


def vocabulary_of(sentences: list[list[str]]) -> list[str]:
    """Return the words that stand there at least twice, the most frequent first, up to 10,000."""
    counts = Counter(word for sentence in sentences for word in sentence)
    in_order = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    found = Vocabulary.from_counts(in_order, n_sentences=len(sentences), max_size=VOCABULARY_SIZE, min_count=2)
    return found.words


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, preset="mini", repeats=5)
    parser.add_argument("--text", help="a sentence a line, its tokens between spaces; by default Python's reference")
    parser.add_argument("--vocab", type=Path, help="a word a line; by default that of the text, up to 10,000")
    parser.add_argument("--steps", type=int, default=100, help="of a turn")
    parser.add_argument("--warm-up-steps", type=int, default=20)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--window", type=int, default=20)
    parser.add_argument("--negatives", type=int, default=1024)
    options = parser.parse_args()
    sentences = training_text(options.text)
    vocabulary = vocabulary_of(sentences) if options.vocab is None else Vocabulary.load(options.vocab).words
    settings = {
        "preset": options.preset,
        "dropout": PRESETS[options.preset]().dropout,
        "n_rows": options.rows,
        "window": options.window,
        "n_negatives": options.negatives,
        "warm_up_steps": options.warm_up_steps,
        "steps_in_all": options.warm_up_steps + options.repeats * options.steps,
    }
    n_positions = options.steps * options.rows * options.window

    def train(worker: Worker) -> float:
        answer = worker.ask("train", n_steps=options.steps)
        worker.about["last_loss"] = round(answer["loss"], 3)
        return n_positions / answer["seconds"]

    systems = [
        replace(system, settings={**settings, **system.settings})
        for system in (ELMOLITE_TRAINING, ELMOLITE_TRAINING_BF16, BILM_TF_TRAINING)
    ]
    with running(systems, sentences, options, vocabulary) as comparison:
        speeds = comparison.take_turns(train)
        comparison.report(
            "pretraining",
            "positions_per_second",
            speeds,
            **{name: settings[name] for name in ("n_rows", "window", "n_negatives")},
            vocabulary=len(vocabulary),
            steps=options.steps,
        )


if __name__ == "__main__":
    main()
