"""Words per second over running text, whose words come back as they do in any text: elmolite and its ancestors.

    python recipes/bench/embed_text.py [--text novel.txt]

Without a text it is the documentation behind Python's ``help()``, some 58,000 words, and no part of it twice.
"""

from comparison import argument_parser, running
from peers import ALLENNLP, BILM_TF, ELMOLITE, SIMPLE_ELMO
from texts import running_text


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, preset="small", repeats=3)
    parser.add_argument("--text", help="a paragraph a line; it is cut into sentences and words")
    parser.add_argument("--words", type=int, default=100_000)
    options = parser.parse_args()
    systems = [ELMOLITE, ALLENNLP, SIMPLE_ELMO, BILM_TF]
    with running(systems, running_text(options.words, options.text), options) as comparison:
        comparison.report("running text", "words_per_second", comparison.words_per_second())


if __name__ == "__main__":
    main()
