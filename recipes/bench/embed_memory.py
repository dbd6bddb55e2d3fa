"""Peak memory of a process that embeds running text, in MiB: elmolite and AllenNLP.

    python recipes/bench/embed_memory.py [--text novel.txt]

Twice: where the vectors of each batch are dropped when the next is computed, as when a file is written, and where all
are kept. AllenNLP has batches of 32 sentences of like length; a larger batch would take more.
"""

from dataclasses import replace

from comparison import argument_parser, running
from peers import ALLENNLP, ELMOLITE
from texts import running_text


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, preset="small", repeats=1)
    parser.add_argument("--text", help="a paragraph a line; it is cut into sentences and words")
    parser.add_argument("--words", type=int, default=100_000)
    options = parser.parse_args()
    text = running_text(options.words, options.text)
    for title, request in (("vectors dropped", "run_through"), ("vectors kept", "time")):
        with running([ELMOLITE, replace(ALLENNLP, batch_sizes=(32,))], text, options) as comparison:
            for worker in comparison.workers:
                worker.ask(request)
            peaks = comparison.take_turns(lambda worker: worker.peak_mib())
            comparison.report(f"peak memory, {title}", "peak_mib", peaks)


if __name__ == "__main__":
    main()
