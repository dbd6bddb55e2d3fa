"""Word2vec of the text of a prepared corpus: the static vectors that the recipes of tasks compare with.

    pip install gensim
    python recipes/static_vectors.py corpus/ vectors.txt

Skip-gram with five negatives, 256 numbers, three passes, one thread and a seed, so that it can be done again.
"""

import argparse
import tempfile
from pathlib import Path

from elmolite import Corpus


def main() -> None:
    """Train and write the vectors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", help="a folder made by elmolite prepare")
    parser.add_argument("output", help="a file in word2vec's text format")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    from gensim.models.word2vec import Word2Vec

    corpus = Corpus.open(options.corpus)
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "sentences.txt"
        with text.open("w", encoding="utf-8") as file:
            for sentence in corpus.sentences(corpus.train, corpus.train.n_sentences):
                file.write(" ".join(sentence) + "\n")
        settings = {"window": 5, "min_count": 5, "sg": 1, "negative": 5, "workers": 1, "seed": 1}
        model = Word2Vec(
            corpus_file=str(text),
            vector_size=options.size,
            epochs=options.epochs,
            max_final_vocab=100_000,
            **settings,
        )
    model.wv.save_word2vec_format(options.output)


if __name__ == "__main__":
    main()
