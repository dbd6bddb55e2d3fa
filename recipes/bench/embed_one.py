"""Milliseconds of embedding one sentence of 20 words: elmolite in fp32 and int8, words new or seen, and AllenNLP.

    python recipes/bench/embed_one.py

A figure of a turn is the median of the sentences, each in a call of its own.
"""

import statistics
from dataclasses import replace

from comparison import argument_parser, running
from peers import ALLENNLP, ELMOLITE, ELMOLITE_INT8
from texts import beginnings


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, preset="small", repeats=5)
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--length", type=int, default=20)
    options = parser.parse_args()
    new = [ELMOLITE, ELMOLITE_INT8]
    seen = [replace(system, name=f"{system.name}, words seen before", new_words=False) for system in new]
    systems = [*new, *seen, replace(ALLENNLP, batch_sizes=(1,))]
    with running(systems, beginnings(options.sentences, options.length), options) as comparison:
        times = comparison.take_turns(
            lambda worker: 1e3 * statistics.median(worker.ask("time", one_by_one=True)["seconds"])
        )
        comparison.report("one sentence at a time", "milliseconds", times)


if __name__ == "__main__":
    main()
