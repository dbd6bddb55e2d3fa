"""Words per second of embedding sentences of 15 to 35 words, none of which was seen before: elmolite and its ancestors.

    python recipes/bench/embed_new_words.py
    python recipes/bench/embed_new_words.py --preset original --repeats 3

The sentences are of the documentation behind Python's ``help()``; each system embeds all of them in one call.
"""

from comparison import argument_parser, running
from peers import ALLENNLP, BILM_TF, ELMOLITE, SIMPLE_ELMO
from texts import sentences


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, preset="small", repeats=5)
    parser.add_argument("--sentences", type=int, default=200)
    options = parser.parse_args()
    with running([ELMOLITE, ALLENNLP, SIMPLE_ELMO, BILM_TF], sentences(options.sentences), options) as comparison:
        comparison.report("nothing seen before", "words_per_second", comparison.words_per_second())


if __name__ == "__main__":
    main()
