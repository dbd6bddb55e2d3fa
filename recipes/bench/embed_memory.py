"""Peak memory of a process that embeds running text, in MiB: elmolite and AllenNLP.

    python recipes/bench/embed_memory.py [--text novel.txt] [--keep]

The vectors of each batch are dropped when the next is computed, as when a file is written; with ``--keep`` all stay
until the end. AllenNLP's memory grows with its batches of sentences of like length; elmolite has its own batches.
"""

from dataclasses import replace

from comparison import argument_parser, running
from peers import ALLENNLP, ELMOLITE, Worker
from texts import running_text


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, preset="small", repeats=1)
    parser.add_argument("--text", help="a paragraph a line; it is cut into sentences and words")
    parser.add_argument("--words", type=int, default=100_000)
    parser.add_argument("--keep", action="store_true", help="all vectors")
    parser.add_argument("--batch-size", type=int, default=32, help="AllenNLP's")
    options = parser.parse_args()
    systems = [ELMOLITE, replace(ALLENNLP, batch_sizes=(options.batch_size,))]

    def measure(worker: Worker) -> float:
        worker.ask("time" if options.keep else "run_through")
        return worker.peak_mib()

    with running(systems, running_text(options.words, options.text), options) as comparison:
        peaks = comparison.take_turns(measure)
        comparison.report(f"peak memory, vectors {'kept' if options.keep else 'dropped'}", "peak_mib", peaks)


if __name__ == "__main__":
    main()
