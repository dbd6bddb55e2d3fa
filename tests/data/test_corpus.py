import pytest
from helpers.data import make_corpus, random_sentences

from elmolite.data.corpus import FORMAT_VERSION, Corpus
from elmolite.errors import InputError
from elmolite.utils import files


def test_first_sentences_stop_at_the_number_of_tokens(corpus):
    part = corpus.train.first_sentences(100)
    assert 88 < part.n_tokens <= 100
    assert part.documents[-1] == part.n_sentences
    assert corpus.train.first_sentences(1).n_sentences == 1
    assert corpus.train.first_sentences(10**9).n_tokens == corpus.train.n_tokens


def text_of(corpus):
    return [corpus.sentences(split, split.n_sentences) for split in (corpus.train, corpus.valid)]


@pytest.mark.parametrize("name", ["train.tokens.npy", "words.txt"])
def test_a_file_missing_cut_short_or_damaged_is_named(tmp_path, name):
    corpus = make_corpus(tmp_path, random_sentences(30))
    corpus.verify()
    path = corpus.folder / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=rf"{name} is damaged \(checksum mismatch\)"):
        corpus.verify()
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match=name):
        Corpus.open(corpus.folder)
    path.unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        Corpus.open(corpus.folder)


def test_describe_warns_of_a_corpus_that_cannot_train(tmp_path):
    corpus = make_corpus(tmp_path, [["once", "only"]])
    assert "no validation text" in corpus.describe()
    assert "training    2 tokens, 1 sentence, 1 document, " in corpus.describe()
    assert "no word is frequent enough" in corpus.describe()
    assert "<td>training</td><td>2</td><td>1</td><td>1</td><td>100.00%</td>" in corpus._repr_html_()


def test_a_folder_without_its_summary_is_no_corpus(tmp_path):
    with pytest.raises(InputError, match=r"corpus\.json is missing"):
        Corpus.open(tmp_path)
    with pytest.raises(InputError, match="no such corpus folder"):
        Corpus.open(tmp_path / "nowhere")


def test_block_checksums_of_version_0_1_are_ignored(tmp_path):
    folder = make_corpus(tmp_path, random_sentences(30)).folder
    summary = files.read_manifest(folder / "corpus.json", kind="corpus", version=FORMAT_VERSION)
    summary["files"]["train.tokens.npy"]["crc32_of_blocks"] = "00" * 4
    del summary["indexer"]
    files.write_manifest(folder / "corpus.json", summary)
    Corpus.open(folder).verify()


def test_a_corpus_is_found_after_a_killed_replacement(tmp_path):
    corpus = make_corpus(tmp_path, random_sentences(30))
    text = text_of(corpus)
    corpus.folder.rename(tmp_path / ".corpus.old")  # and the new one was to take its place
    assert text_of(Corpus.open(tmp_path / "corpus")) == text
