import pytest
from conftest import make_corpus, random_sentences

from elmolite.corpus import Corpus
from elmolite.errors import InputError


def test_first_sentences_stop_at_the_number_of_tokens(corpus):
    part = corpus.train.first_sentences(100)
    assert 88 < part.n_tokens <= 100
    assert part.documents[-1] == part.n_sentences
    assert corpus.train.first_sentences(1).n_sentences == 1
    assert corpus.train.first_sentences(10**9).n_tokens == corpus.train.n_tokens


@pytest.mark.parametrize(
    "name", ["characters.npy", "train.tokens.npy", "valid.sentences.npy", "vocab.txt", "words.txt", "tokenizer.json"]
)
def test_a_file_missing_or_cut_short_is_named(tmp_path, name):
    folder = make_corpus(tmp_path, random_sentences(30)).folder
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match=name):
        Corpus.open(folder)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=f"{name} is damaged"):
        Corpus.open(folder)
    path.unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        Corpus.open(folder)


def test_what_cannot_train_is_said(tmp_path):
    corpus = make_corpus(tmp_path, [["once", "only"]])
    assert "no held-out text" in corpus.describe()
    assert "no word is frequent enough" in corpus.describe()


def test_a_folder_without_its_summary_is_no_corpus(tmp_path):
    folder = make_corpus(tmp_path, random_sentences(30)).folder
    (folder / "corpus.json").unlink()
    with pytest.raises(InputError, match=r"corpus\.json is missing"):
        Corpus.open(folder)
    with pytest.raises(InputError, match="no such corpus folder"):
        Corpus.open(tmp_path / "nowhere")
