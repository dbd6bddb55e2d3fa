"""Words per second of elmolite in bf16 against AllenNLP, and how far its vectors are from its own in fp32.

    python recipes/bench/embed_bf16.py

No word was seen before. The cosine is the least of all vectors: of every token and every layer.
"""

from comparison import argument_parser, running
from peers import ALLENNLP, ELMOLITE, ELMOLITE_BF16
from precision import least_cosine
from texts import sentences


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, preset="original", repeats=3)
    parser.add_argument("--sentences", type=int, default=200)
    options = parser.parse_args()
    with running([ELMOLITE_BF16, ELMOLITE, ALLENNLP], sentences(options.sentences), options) as comparison:
        speeds = comparison.words_per_second()
        comparison.report("bf16", "words_per_second", speeds, least_cosine_to_fp32=least_cosine(comparison.workers))


if __name__ == "__main__":
    main()
