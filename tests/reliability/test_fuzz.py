"""Each reader of a file, given files that were changed: an :class:`InputError` or a valid result, within five seconds.

A thousand of each kind, or as many as ``ELMOLITE_FUZZ`` says; 100,000 take hours.
"""

import contextlib
import gzip
import json
import os
import shutil
import zipfile

import pytest
from hypothesis import HealthCheck, given, seed, settings
from mutations import changed_bytes, changed_json
from strangers import SENTENCES, limits, made_once, reseal, write_json

from elmolite import load_recipe
from elmolite.checkpoint import Checkpoint
from elmolite.data.bptt import BPTTBatches
from elmolite.data.corpus import Corpus
from elmolite.data.indexers import ManyLangsIndexer, load_indexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import Vocabulary
from elmolite.embedding.elmo import ELMo
from elmolite.embedding.output import EmbeddingFolder
from elmolite.errors import InputError
from elmolite.formats.loading import load as read_legacy
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.static_vectors import StaticVectors

N_INPUTS = int(os.environ.get("ELMOLITE_FUZZ", "1000"))


def read_model(folder):
    checkpoint = Checkpoint.from_pretrained(folder / "model")
    ELMo(checkpoint.bilm, checkpoint.tokenizer, checkpoint.indexer).embed(["A b. C d"])


def read_model_only(folder):
    Checkpoint.from_pretrained(folder / "model")


def read_corpus(folder):
    corpus = Corpus.open(folder / "corpus")
    BPTTBatches(corpus, corpus.train, 2, 8, seed=0).batch(0)
    corpus.sentences(corpus.train, 2)


def read_task(folder):
    TaskCheckpoint.from_pretrained(folder / "task").predict(SENTENCES)


def read_embedding(folder):
    vectors = EmbeddingFolder(folder / "embedding")
    if len(vectors):
        _ = vectors[0]
    for _ in zip(vectors, range(10), strict=False):
        pass


def read_tokenizer(folder):
    tokenizer = SentenceTokenizer.load(folder / "model" / "tokenizer.json")
    tokenizer.sentences("It's 5 p.m. He can't go. www.a.org")
    tokenizer.tokens_and_offsets("naïve 東京")


def read_characters(folder):
    load_indexer(folder / "model", kind="unicode", names=["characters.json"]).rows(["é"])


def read_lexicon(folder):
    ManyLangsIndexer.load(folder / "lexicon", None).rows(["bad", "é"])


def of_bilm_tf(folder):
    read_legacy(folder / "bilm_tf")


def of_many_langs(folder):
    read_legacy(folder / "many_langs")


def of_old_many_langs(folder):
    read_legacy(folder / "many_langs_old")


JSON, BYTES = changed_json, changed_bytes
READERS = {
    # what is changed, how, the manifest whose checksums are brought up to date, and what reads it
    "config.json": ("model/config.json", JSON, None, read_model_only),
    "model.safetensors": ("model/model.safetensors", BYTES, "model/config.json", read_model),
    "softmax.safetensors": ("model/softmax.safetensors", BYTES, "model/config.json", read_model_only),
    "vocab.txt": ("model/vocab.txt", BYTES, None, lambda f: Vocabulary.load(f / "model" / "vocab.txt")),
    "tokenizer.json": ("model/tokenizer.json", JSON, None, read_tokenizer),
    "characters.json": (
        "model/characters.json",
        JSON,
        None,
        read_characters,
    ),
    "lexicon.json": ("lexicon/lexicon.json", JSON, None, read_lexicon),
    "corpus.json": ("corpus/corpus.json", JSON, None, read_corpus),
    "tokens": ("corpus/train.tokens.npy", BYTES, "corpus/corpus.json", read_corpus),
    "sentences": ("corpus/train.sentences.npy", BYTES, "corpus/corpus.json", read_corpus),
    "documents": ("corpus/train.documents.npy", BYTES, "corpus/corpus.json", read_corpus),
    "character ids": ("corpus/characters.npy", BYTES, "corpus/corpus.json", read_corpus),
    "vocabulary ids": ("corpus/vocab_ids.npy", BYTES, "corpus/corpus.json", read_corpus),
    "words.txt": ("corpus/words.txt", BYTES, "corpus/corpus.json", read_corpus),
    "task.json": ("task/task.json", JSON, None, read_task),
    "task weights": ("task/model.safetensors", BYTES, "task/task.json", read_task),
    "static_words.txt": ("task/static_words.txt", BYTES, "task/task.json", read_task),
    "embedding.json": ("embedding/embedding.json", JSON, None, read_embedding),
    "part": ("embedding/part-00000.safetensors", BYTES, "embedding/embedding.json", read_embedding),
    "options.json": ("bilm_tf/options.json", JSON, None, of_bilm_tf),
    "weights.hdf5": ("bilm_tf/weights.hdf5", BYTES, None, of_bilm_tf),
    "a.zip": ("a.zip", BYTES, None, lambda f: read_legacy(f / "a.zip")),
    "sizes.json": ("many_langs/sizes.json", JSON, None, of_many_langs),
    "char.dic": ("many_langs/char.dic", BYTES, None, of_many_langs),
    "encoder.pkl": ("many_langs/encoder.pkl", BYTES, None, of_many_langs),
    "encoder.pkl, before zip": ("many_langs_old/encoder.pkl", BYTES, None, of_old_many_langs),
    "recipe.yaml": ("recipe.yaml", BYTES, None, lambda f: load_recipe(f / "recipe.yaml")),
    "vectors.txt": ("vectors.txt", BYTES, None, lambda f: StaticVectors.load(f / "vectors.txt", show_progress=False)),
    "vectors.bin": ("vectors.bin", BYTES, None, lambda f: StaticVectors.load(f / "vectors.bin", show_progress=False)),
    "vectors.txt.gz": ("v.txt.gz", BYTES, None, lambda f: StaticVectors.load(f / "v.txt.gz", show_progress=False)),
}


def write_sealed(path, content, *, is_sealed):
    """Write a changed file; a manifest with the checksum that a stranger would give it, if it is JSON still."""
    path.write_bytes(content)
    with contextlib.suppress(ValueError, RecursionError):
        if is_sealed:
            write_json(path, json.loads(content), is_sealed=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = shutil.copytree(made_once(), tmp_path_factory.mktemp("fuzz") / "stranger")
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((folder / "bilm_tf").iterdir()):
            archive.write(path, path.name)
    (folder / "v.txt.gz").write_bytes(gzip.compress((folder / "vectors.txt").read_bytes()))
    return folder


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of the input that failed
@pytest.mark.parametrize("reader", READERS)
def test_a_changed_file_is_refused_or_read(folder, reader):
    name, strategy, manifest, read = READERS[reader]
    path, manifest = folder / name, None if manifest is None else folder / manifest
    whole = path.read_bytes()
    seal = None if manifest is None else manifest.read_bytes()
    is_sealed = path.suffix == ".json" and "sha256" in json.loads(whole)
    ends = {"refused": 0, "read": 0}

    @seed(0)
    @settings(max_examples=N_INPUTS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy(whole))
    def check(content):
        write_sealed(path, content, is_sealed=is_sealed)
        if manifest is not None:
            reseal(manifest)
        with limits():
            try:
                read(folder)
            except InputError:
                ends["refused"] += 1
            else:
                ends["read"] += 1

    try:
        check()
    finally:
        path.write_bytes(whole)
        if manifest is not None:
            manifest.write_bytes(seal)
    print(f"{reader}: {ends}")
    assert ends["refused"] > 0
    read(folder)  # as it was, it is whole
