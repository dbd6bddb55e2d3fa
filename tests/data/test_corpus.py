import numpy as np
import pytest
from conftest import make_corpus, random_sentences

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


def read_summary(folder):
    return files.read_manifest(folder / "corpus.json", kind="corpus", version=FORMAT_VERSION)


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
    if not name.endswith(".npy"):
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(InputError, match=f"{name} is damaged"):
            Corpus.open(folder)
    path.unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        Corpus.open(folder)


def test_describe_warns_of_a_corpus_that_cannot_train(tmp_path):
    corpus = make_corpus(tmp_path, [["once", "only"]])
    assert "no validation text" in corpus.describe()
    assert "no word is frequent enough" in corpus.describe()


def test_a_folder_without_its_summary_is_no_corpus(tmp_path):
    folder = make_corpus(tmp_path, random_sentences(30)).folder
    (folder / "corpus.json").unlink()
    with pytest.raises(InputError, match=r"corpus\.json is missing"):
        Corpus.open(folder)
    with pytest.raises(InputError, match="no such corpus folder"):
        Corpus.open(tmp_path / "nowhere")


def test_verify_names_the_damaged_file(tmp_path):
    corpus = make_corpus(tmp_path, random_sentences(30))
    corpus.verify()
    for name in ("train.tokens.npy", "words.txt"):
        path = corpus.folder / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(InputError, match=rf"{name} is damaged \(checksum mismatch\)"):
            corpus.verify()
        path.write_bytes(content)


def test_block_checksums_of_version_0_1_are_ignored(tmp_path):
    folder = make_corpus(tmp_path, random_sentences(30)).folder
    summary = read_summary(folder)
    summary["files"]["train.tokens.npy"]["crc32_of_blocks"] = "00" * 4
    del summary["indexer"]
    files.write_manifest(folder / "corpus.json", summary)
    Corpus.open(folder).verify()


def test_a_corpus_is_found_after_a_killed_replacement(tmp_path):
    corpus = make_corpus(tmp_path, random_sentences(30))
    text = text_of(corpus)
    corpus.folder.rename(tmp_path / ".corpus.old")  # and the new one was to take its place
    assert text_of(Corpus.open(tmp_path / "corpus")) == text


def test_a_summary_without_an_array_is_refused(tmp_path):
    folder = make_corpus(tmp_path, random_sentences(30)).folder
    summary = read_summary(folder)
    del summary["files"]["vocab_ids.npy"]
    files.write_manifest(folder / "corpus.json", summary)
    with pytest.raises(InputError, match=r"corpus\.json: 'files' must name vocab_ids\.npy"):
        Corpus.open(folder)


@pytest.mark.parametrize("name", ["vocab.txt", "words.txt", "tokenizer.json"])
def test_a_file_that_the_summary_does_not_name_is_not_read(tmp_path, name):
    folder = make_corpus(tmp_path, random_sentences(30)).folder
    summary = read_summary(folder)
    del summary["files"][name]
    files.write_manifest(folder / "corpus.json", summary)
    with pytest.raises(InputError, match=rf"corpus\.json: 'files' must name {name}"):
        Corpus.open(folder)


@pytest.mark.parametrize("change", [lambda s: s.pop("cut_share"), lambda s: s.update(word_forms="many")])
def test_invalid_counts_are_refused(tmp_path, change):
    folder = make_corpus(tmp_path, random_sentences(30)).folder
    summary = read_summary(folder)
    change(summary)
    files.write_manifest(folder / "corpus.json", summary)
    with pytest.raises(InputError, match=r"corpus\.json: counts are missing or invalid"):
        Corpus.open(folder).describe()


def other(folder, name, array):
    """Put another array into a corpus, with the checksums that whoever made it would give it."""
    np.save(folder / name, array)
    summary = read_summary(folder)
    summary["files"][name] = files.file_entry(folder / name)
    files.write_manifest(folder / "corpus.json", summary)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train.sentences.npy", lambda a: a + 1, r"train\.sentences\.npy: offsets must start at 0, ascend and end at"),
        ("train.sentences.npy", lambda a: a[[0, 2, 1, *range(3, len(a))]], "ascend and end at"),
        ("valid.documents.npy", lambda a: a[:-1], r"valid\.documents\.npy: offsets must start at 0"),
        ("train.documents.npy", lambda a: a[:0], r"train\.documents\.npy: offsets must start at 0"),
        ("vocab_ids.npy", lambda a: a[:-1], r"characters\.npy and vocab_ids\.npy do not have the same word types"),
        ("characters.npy", lambda a: a[:, 0], r"characters\.npy: has dtype int16, shape \(\d+,\); expected 2-D"),
        ("train.tokens.npy", lambda a: a.astype(float), r"train\.tokens\.npy: has dtype float64"),
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
        ("train.tokens.npy", 1_000_000, r"the text has word types that are not in words\.txt"),
        ("vocab_ids.npy", 1_000_000, "ids out of range"),
        ("vocab_ids.npy", -1, "ids out of range"),
        ("characters.npy", 262, r"ids out of range \[0, 261\]; run"),
    ],
)
def test_ids_out_of_range_are_refused_when_they_are_read(tmp_path, name, value, message):
    folder = make_corpus(tmp_path, random_sentences(200)).folder
    array = np.load(folder / name)
    array[5] = value
    other(folder, name, array)
    corpus = Corpus.open(folder)
    with pytest.raises(InputError, match=message):
        for step in range(20):
            BPTTBatches(corpus, corpus.train, 4, 20).batch(step)
    if name == "train.tokens.npy":
        with pytest.raises(InputError, match=message):
            text_of(corpus)
