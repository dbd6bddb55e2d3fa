"""Words per second where every word was seen before: elmolite's cache of words, and AllenNLP's ``vocab_to_cache``.

    python recipes/bench/embed_seen_words.py

AllenNLP is given all words when it is loaded, and numbers of words instead of characters.
"""

from dataclasses import replace

from comparison import argument_parser, running
from peers import ALLENNLP, ELMOLITE
from texts import sentences


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, preset="small", repeats=5)
    parser.add_argument("--sentences", type=int, default=200)
    options = parser.parse_args()
    cached = replace(ALLENNLP, name="AllenNLP, vocab_to_cache", settings={"cached": True})
    systems = [replace(ELMOLITE, new_words=False), cached]
    with running(systems, sentences(options.sentences), options) as comparison:
        comparison.report("every word seen before", "words_per_second", comparison.words_per_second())


if __name__ == "__main__":
    main()
