import numpy as np
import pytest
from conftest import make_corpus, random_sentences

from elmolite.data import checked_array
from elmolite.data.bptt import BPTTBatches
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


@pytest.mark.parametrize(
    "name",
    ["characters.npy", "train.tokens.npy", "valid.sentences.npy", "vocab.txt", "words.txt", "tokenizer.json"],
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
        text_of(Corpus.open(folder))
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


def test_opening_reads_of_the_tokens_no_block_but_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(checked_array, "BLOCK_BYTES", 512)
    corpus = make_corpus(tmp_path, random_sentences(300))
    expected = text_of(corpus)
    path = corpus.folder / "train.tokens.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    opened = Corpus.open(corpus.folder)
    assert opened.sentences(opened.train, 20) == expected[0][:20]
    with pytest.raises(InputError, match=r"train\.tokens\.npy is damaged between bytes [\d,]+ and [\d,]+ "):
        text_of(opened)


def test_a_corpus_is_found_though_a_process_was_killed_while_it_replaced_it(tmp_path):
    corpus = make_corpus(tmp_path, random_sentences(30))
    text = text_of(corpus)
    corpus.folder.rename(tmp_path / ".corpus.old")  # and the new one was to take its place
    assert text_of(Corpus.open(tmp_path / "corpus")) == text


def test_a_summary_without_an_array_is_refused(tmp_path):
    folder = make_corpus(tmp_path, random_sentences(30)).folder
    summary = files.read_manifest(folder / "corpus.json", kind="corpus", version=FORMAT_VERSION)
    del summary["files"]["vocab_ids.npy"]
    files.write_manifest(folder / "corpus.json", summary)
    with pytest.raises(InputError, match=r"corpus\.json: 'files' must name vocab_ids\.npy"):
        Corpus.open(folder)


@pytest.mark.parametrize("name", ["vocab.txt", "words.txt", "tokenizer.json"])
def test_a_file_that_the_summary_does_not_name_is_not_read(tmp_path, name):
    folder = make_corpus(tmp_path, random_sentences(30)).folder
    summary = files.read_manifest(folder / "corpus.json", kind="corpus", version=FORMAT_VERSION)
    del summary["files"][name]
    files.write_manifest(folder / "corpus.json", summary)
    with pytest.raises(InputError, match=rf"corpus\.json: 'files' must name {name}"):
        Corpus.open(folder)


@pytest.mark.parametrize("change", [lambda s: s.pop("cut_share"), lambda s: s.update(word_forms="many")])
def test_counts_that_are_none_are_said(tmp_path, change):
    folder = make_corpus(tmp_path, random_sentences(30)).folder
    summary = files.read_manifest(folder / "corpus.json", kind="corpus", version=FORMAT_VERSION)
    change(summary)
    files.write_manifest(folder / "corpus.json", summary)
    with pytest.raises(InputError, match=r"corpus\.json: its counts are not all there"):
        Corpus.open(folder).describe()


def other(folder, name, array):
    """Put another array into a corpus, with the checksums that whoever made it would give it."""
    np.save(folder / name, array)
    summary = files.read_manifest(folder / "corpus.json", kind="corpus", version=FORMAT_VERSION)
    summary["files"][name] = checked_array.fingerprint(folder / name)
    files.write_manifest(folder / "corpus.json", summary)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train.sentences.npy", lambda a: a + 1, r"train\.sentences\.npy: must begin with 0, never fall and end with"),
        ("train.sentences.npy", lambda a: a[[0, 2, 1, *range(3, len(a))]], "never fall"),
        ("valid.documents.npy", lambda a: a[:-1], r"valid\.documents\.npy: must begin with 0"),
        ("train.documents.npy", lambda a: a[:0], r"train\.documents\.npy: must begin with 0"),
        ("vocab_ids.npy", lambda a: a[:-1], r"characters\.npy and vocab_ids\.npy are not of the same word forms"),
        ("characters.npy", lambda a: a[:, 0], r"characters\.npy: holds int16 of shape \(\d+,\); expected 2 dimensions"),
        ("train.tokens.npy", lambda a: a.astype(float), r"train\.tokens\.npy: holds float64"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(tmp_path, name, change, message):
    folder = make_corpus(tmp_path, random_sentences(200)).folder
    other(folder, name, change(np.load(folder / name)))
    with pytest.raises(InputError, match=message):
        Corpus.open(folder)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train.tokens.npy", 1_000_000, r"the text has word forms that words\.txt has not"),
        ("vocab_ids.npy", 1_000_000, "word forms have ids that are not of 0 to"),
        ("vocab_ids.npy", -1, "word forms have ids that are not of 0 to"),
        ("characters.npy", 262, "word forms have ids that are not of 0 to 261"),
    ],
)
def test_ids_that_are_none_are_refused_where_they_are_read(tmp_path, name, value, message):
    folder = make_corpus(tmp_path, random_sentences(200)).folder
    array = np.load(folder / name)
    array[5] = value
    other(folder, name, array)
    corpus = Corpus.open(folder)
    with pytest.raises(InputError, match=message):
        for step in range(20):
            BPTTBatches(corpus, corpus.train, 4, 20).batch(step)


def test_sentences_with_word_forms_that_are_none_are_refused(tmp_path):
    folder = make_corpus(tmp_path, random_sentences(200)).folder
    tokens = np.load(folder / "train.tokens.npy")
    tokens[5] = 1_000_000
    other(folder, "train.tokens.npy", tokens)
    corpus = Corpus.open(folder)
    with pytest.raises(InputError, match=r"the text has word forms that words\.txt has not"):
        text_of(corpus)
