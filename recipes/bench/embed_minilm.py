"""Words per second of elmolite in bf16 against all-MiniLM-L6-v2 in bf16, which many would take instead.

    python recipes/bench/embed_minilm.py

The words are elmolite's tokens of the same sentences for both. MiniLM gives a vector a sentence; elmolite all layers of
every token. MiniLM has no cache of words, so elmolite is there with words that are new and with words seen before.
"""

from dataclasses import replace

from comparison import argument_parser, running
from peers import ELMOLITE, ELMOLITE_BF16, MINILM
from precision import least_cosine
from texts import sentences


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, preset="small", repeats=5)
    parser.add_argument("--sentences", type=int, default=200)
    options = parser.parse_args()
    seen = replace(ELMOLITE_BF16, name="elmolite, bf16, words seen before", new_words=False)
    with running([ELMOLITE_BF16, seen, ELMOLITE, MINILM], sentences(options.sentences), options) as comparison:
        speeds = comparison.words_per_second()
        cosine = least_cosine(comparison.workers, ELMOLITE_BF16)
        comparison.report("against MiniLM", "words_per_second", speeds, least_cosine_to_fp32=cosine)


if __name__ == "__main__":
    main()
