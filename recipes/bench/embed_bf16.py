"""Words per second of elmolite in bf16 or int8 against AllenNLP, and how far its vectors are from its own in fp32.

    python recipes/bench/embed_bf16.py
    python recipes/bench/embed_bf16.py --precision int8

No word was seen before. The cosine is the least of all vectors: of every token and every layer.
"""

from comparison import argument_parser, running
from peers import ALLENNLP, ELMOLITE, ELMOLITE_BF16, ELMOLITE_INT8
from precision import least_cosine
from texts import sentences

LOW = {"bf16": ELMOLITE_BF16, "int8": ELMOLITE_INT8}


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, preset="original", repeats=3)
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--precision", choices=LOW, default="bf16")
    options = parser.parse_args()
    low = LOW[options.precision]
    with running([low, ELMOLITE, ALLENNLP], sentences(options.sentences), options) as comparison:
        speeds = comparison.words_per_second()
        cosine = least_cosine(comparison.workers, low)
        comparison.report(options.precision, "words_per_second", speeds, least_cosine_to_fp32=cosine)


if __name__ == "__main__":
    main()
