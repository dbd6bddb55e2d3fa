"""A save that is killed or finds the disk full at any call leaves the old or the new state; damage is detected.

``make test-all`` has a sample, ``make test-reliability`` every call and ten thousand damages.
"""

import multiprocessing
import os
import random
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import h5py
import numpy as np
import pytest
import torch
from conftest import make_corpus, random_sentences, small_config, write_sentences
from faults import FULL, KILLS, RESUMABLE, sweep
from helpers.models import make_bilm

from elmolite.checkpoint import Checkpoint
from elmolite.data.corpus import Corpus
from elmolite.data.indexers import ByteIndexer
from elmolite.data.prepare import prepare
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import Vocabulary
from elmolite.embedding import output
from elmolite.embedding.elmo import ELMo
from elmolite.embedding.output import EmbeddingFolder, EmbeddingSettings, EmbeddingWriter, embed_file
from elmolite.errors import InputError
from elmolite.nn.softmax import FullSoftmax
from elmolite.pretraining.checkpointing import TrainingCheckpoints, load_checkpoint, save_checkpoint
from elmolite.tasks import layer_cache
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.config import InputConfig
from elmolite.tasks.heads import ClassifyConfig
from elmolite.tasks.model import TaskModel
from elmolite.tasks.specs import TaskDescription
from elmolite.utils import files, folders

IS_LONG = bool(os.environ.get("ELMOLITE_RELIABILITY"))
SENTENCES = random_sentences(40)


def checkpoint(seed):
    torch.manual_seed(seed)
    vocabulary = Vocabulary(["<S>", "</S>", "<UNK>", "ban"], [1] * 4)
    softmax = FullSoftmax(vocabulary_size=4, projection_size=12)
    bilm = make_bilm(small_config()).eval()
    return Checkpoint(bilm, SentenceTokenizer.whitespace(), ByteIndexer(), softmax, vocabulary)


def elmo():
    saved = checkpoint(0)
    return ELMo(saved.bilm, saved.tokenizer, saved.indexer).eval()


def content(module):
    return {name: tensor.numpy().tobytes() for name, tensor in module.state_dict().items()}


class Point:
    """Training checkpoints, of which the last two are kept."""

    def begin(self, folder):
        for step in (1, 2):
            save_checkpoint(TrainingCheckpoints(folder).path_at(step), self._point(step))

    def save(self, folder):
        save_checkpoint(TrainingCheckpoints(folder).path_at(3), self._point(3))
        TrainingCheckpoints(folder).prune(keep_last=2, step=3)

    def read(self, folder):
        whole = [load_checkpoint(path)["step"] for path in TrainingCheckpoints(folder).paths()]
        assert len(whole) >= 2
        latest = TrainingCheckpoints(folder).load_latest()
        return latest["step"], latest["weights"].numpy().tobytes()

    def _point(self, step):
        return {"step": step, "weights": torch.full((500,), step)}


class Model:
    def begin(self, folder):
        checkpoint(1).save_pretrained(folder / "model")

    def save(self, folder):
        checkpoint(2).save_pretrained(folder / "model", overwrite=True)

    def read(self, folder):
        found = Checkpoint.from_pretrained(folder / "model")
        return content(found.bilm), content(found.softmax)


class Task:
    """A task folder, with a model folder in it."""

    def begin(self, folder):
        self._task(1).save_pretrained(folder / "task")

    def save(self, folder):
        self._task(2).save_pretrained(folder / "task", overwrite=True)

    def read(self, folder):
        return content(TaskCheckpoint.from_pretrained(folder / "task").model)

    def _task(self, seed):
        encoder = elmo()
        torch.manual_seed(seed)
        head = ClassifyConfig(hidden_size=4)
        description = TaskDescription("classify", ("left", "right"), InputConfig(normalization="layer"), head)
        return TaskCheckpoint(description, TaskModel.build(description, encoder, None), SentenceTokenizer.whitespace())


class PreparedCorpus:
    def begin(self, folder):
        write_sentences(folder / "old.txt", SENTENCES[:20])
        write_sentences(folder / "new.txt", SENTENCES)
        self._prepare(folder, "old.txt")

    def save(self, folder):
        self._prepare(folder, "new.txt")

    def read(self, folder):
        corpus = Corpus.open(folder / "corpus")
        return [corpus.sentences(split, split.n_sentences) for split in (corpus.train, corpus.valid)]

    def _prepare(self, folder, text):
        prepare([str(folder / text)], folder / "corpus", n_workers=1, overwrite=True, show_progress=False)


class Embedding:
    """A folder of vectors whose text has grown: its last shard is written again, others are added."""

    def begin(self, folder):
        output.PART_BYTES = 8000
        self._elmo = elmo()
        self._embed(folder, SENTENCES[:15])

    def save(self, folder):
        self._embed(folder, SENTENCES)

    def read(self, folder):
        out = folder / "out"
        manifest = files.read_manifest(out / "embedding.json", kind="embedding", version=2)
        if not manifest["is_complete"]:
            for number, entry in enumerate(manifest["parts"]):
                files.check_file(out / f"part-{number:05}.safetensors", entry)
            return RESUMABLE
        return [vectors.tobytes() for vectors in EmbeddingFolder(out)]

    def _embed(self, folder, sentences):
        settings = EmbeddingSettings("all", 100, "float32", True, "32-true")
        for _ in EmbeddingWriter(folder / "out", self._elmo, settings).write(sentences):
            pass


class VectorFile:
    """A file of vectors that replaces an earlier one."""

    def begin(self, folder):
        checkpoint(0).save_pretrained(folder / "model")
        write_sentences(folder / "old.txt", SENTENCES[:5])
        write_sentences(folder / "new.txt", SENTENCES[:12])
        self._embed(folder, "old.txt")

    def save(self, folder):
        self._embed(folder, "new.txt")

    def read(self, folder):
        with h5py.File(folder / "vectors.h5") as file:
            return {name: np.asarray(file[name]).tobytes() for name in file if name != "sentence_to_index"}

    def _embed(self, folder, text):
        embed_file(folder / "model", str(folder / text), folder / "vectors.h5", show_progress=False)


class CachedLayers:
    """A new entry of the layer cache; a missing one is no loss, as it can be computed again."""

    def begin(self, folder):
        (folder / "cache").mkdir()

    def save(self, folder):
        files.remove_stale(folder / "cache")
        path = folder / "cache" / "layers-key"
        if not layer_cache._is_complete(path):
            with folders.writing_shared_folder(path) as new:
                (new / "layers.npy").write_bytes(b"1" * 1000)
                manifest = {"format_version": layer_cache.FORMAT_VERSION, "files": folders.file_entries(new)}
                files.write_manifest(new / layer_cache.MANIFEST, manifest)

    def read(self, folder):
        return layer_cache._is_complete(folder / "cache" / "layers-key")


SAVES = {
    "training checkpoint": Point,
    "model": Model,
    "task": Task,
    "corpus": PreparedCorpus,
    "folder of vectors": Embedding,
    "HDF5 file of vectors": VectorFile,
    "layer cache": CachedLayers,
}
STEP = 1 if IS_LONG else 12


def run(name, folder):
    torch.set_num_threads(1)
    return sweep(SAVES[name](), folder, first=list(SAVES).index(name), step=STEP)


@pytest.fixture(scope="module")
def clean_process():
    """A process without threads, which may be forked."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["elmolite.pretraining.trainer", "torch._dynamo"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        yield pool


@pytest.mark.parametrize("name", SAVES)
def test_a_failed_save_loses_nothing(tmp_path, clean_process, name):
    injected = clean_process.submit(run, name, tmp_path).result()
    print(f"{name}: {dict(injected)}, {injected.total()} in all, 0 lost")
    assert injected.keys() == {*KILLS, FULL} or not IS_LONG
    assert isinstance(injected, Counter)
    assert injected.total() >= (20 if IS_LONG else 2)


N_DAMAGES = 2000 if IS_LONG else 40


def read_points(folder):
    contents = [load_checkpoint(path) for path in TrainingCheckpoints(folder).paths()]
    return [(content["step"], content["weights"].tolist()) for content in contents]


DAMAGED = {
    "training checkpoint": (Point().begin, read_points),
    "model": (Model().begin, lambda folder: Checkpoint.from_pretrained(folder / "model")),
    "corpus": (lambda folder: make_corpus(folder, SENTENCES), lambda folder: Corpus.open(folder / "corpus").verify()),
    "task": (Task().begin, lambda folder: TaskCheckpoint.from_pretrained(folder / "task")),
    "folder of vectors": (Embedding().begin, lambda folder: list(EmbeddingFolder(folder / "out"))),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_every_flipped_bit_and_truncation_is_found_and_the_file_named(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(output, "PART_BYTES", 8000)
    make, read = DAMAGED[kind]
    make(tmp_path)
    paths = sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.name != "text.txt")
    expected = read(tmp_path)
    rng = random.Random(kind)
    for _ in range(N_DAMAGES):
        path = rng.choice(paths)
        whole = path.read_bytes()
        at, bit = rng.randrange(len(whole)), rng.randrange(8)
        is_cut = rng.random() < 0.2
        path.write_bytes(whole[:at] if is_cut else whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        try:
            found, message = read(tmp_path), None
        except InputError as error:
            found, message = None, str(error)
        # In the padding of a training checkpoint, a zip archive, a flipped bit changes nothing.
        is_harmless = kind == "training checkpoint" and found == expected
        assert is_harmless or (message and path.name in message), (path.name, at, "truncated" if is_cut else bit)
        path.write_bytes(whole)
    read(tmp_path)
