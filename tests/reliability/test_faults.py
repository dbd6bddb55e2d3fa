"""A save that is killed or finds the disk full at any call leaves the old or the new state; damage is detected.

``make test-all`` has a sample, ``make test-reliability`` every call and ten thousand damages.
"""

import json
import random
import shutil
from concurrent.futures import ProcessPoolExecutor

import h5py
import numpy as np
import pytest
import torch
from helpers.data import random_sentences, write_sentences
from helpers.faults import FULL, KILLS, RESUMABLE, sweep
from helpers.models import make_bilm, small_config
from helpers.runs import FORK_SERVER

from elmolite.checkpoint import Checkpoint
from elmolite.data.corpus import Corpus
from elmolite.data.indexers import ByteIndexer
from elmolite.data.prepare import prepare
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import Vocabulary
from elmolite.embedding import output
from elmolite.embedding.output import EmbeddingFolder, embed_file
from elmolite.errors import InputError
from elmolite.nn.softmax import FullSoftmax
from elmolite.pretraining.checkpointing import TrainingCheckpoints, load_checkpoint, save_checkpoint
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.utils import files

SENTENCES = random_sentences(40)


class TrainingCheckpoint:
    """Training checkpoints, of which the last two are kept."""

    def begin(self, folder):
        for step in (1, 2):
            self._save(folder, step)

    def save(self, folder):
        self._save(folder, 3)
        TrainingCheckpoints(folder).prune(keep_last=2, step=3)

    def read(self, folder):
        assert len(self.read_all(folder)) >= 2
        latest = TrainingCheckpoints(folder).load_latest()
        return latest["step"], latest["weights"].tolist()

    def read_all(self, folder):
        contents = [load_checkpoint(path) for path in TrainingCheckpoints(folder).paths()]
        return [(content["step"], content["weights"].tolist()) for content in contents]

    def _save(self, folder, step):
        content = {"step": step, "weights": torch.full((500,), step)}
        save_checkpoint(TrainingCheckpoints(folder).path_at(step), content)


class Model:
    def begin(self, folder):
        self._save(folder, seed=1)

    def save(self, folder):
        self._save(folder, seed=2)

    def read(self, folder):
        found = Checkpoint.from_pretrained(folder / "model")
        modules = found.bilm, found.softmax
        return [tensor.numpy().tobytes() for module in modules for tensor in module.state_dict().values()]

    def _save(self, folder, seed):
        bilm = make_bilm(small_config(), seed=seed).eval()
        softmax = FullSoftmax(vocabulary_size=4, projection_size=12)
        vocabulary = Vocabulary(["<S>", "</S>", "<UNK>", "ban"], [1] * 4)
        checkpoint = Checkpoint(bilm, SentenceTokenizer.whitespace(), ByteIndexer(), softmax, vocabulary)
        checkpoint.save_pretrained(folder / "model", overwrite=True)


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


class VectorFolder:
    """A folder of vectors whose text has grown: its last shard is written again, others are added."""

    name = "vectors"

    def begin(self, folder):
        output.PART_BYTES = 8000
        Model().begin(folder)
        write_sentences(folder / "old.txt", SENTENCES[:15])
        write_sentences(folder / "new.txt", SENTENCES)
        self._embed(folder, "old.txt")

    def save(self, folder):
        self._embed(folder, "new.txt")

    def read(self, folder):
        manifest = json.loads((folder / self.name / "embedding.json").read_bytes())
        if not manifest["is_complete"]:
            for number, entry in enumerate(manifest["parts"]):
                files.check_file(folder / self.name / f"part-{number:05}.safetensors", entry)
            return RESUMABLE
        return [vectors.tobytes() for vectors in EmbeddingFolder(folder / self.name)]

    def _embed(self, folder, text):
        embed_file(folder / "model", str(folder / text), folder / self.name, show_progress=False)


class VectorFile(VectorFolder):
    """A file of vectors that replaces an earlier one."""

    name = "vectors.h5"

    def read(self, folder):
        with h5py.File(folder / self.name) as file:
            return {name: np.asarray(file[name]).tobytes() for name in file if name != "sentence_to_index"}


SAVES = [TrainingCheckpoint, Model, PreparedCorpus, VectorFolder, VectorFile]


def run(save, folder, step):
    torch.set_num_threads(1)
    return sweep(save(), folder, first=SAVES.index(save), step=step)


@pytest.fixture(scope="module")
def clean_process():
    """A process without threads, which may be forked."""
    with ProcessPoolExecutor(1, mp_context=FORK_SERVER) as pool:
        yield pool


@pytest.mark.parametrize("save", SAVES)
def test_a_failed_save_loses_nothing(tmp_path, clean_process, is_full, save):
    injected = clean_process.submit(run, save, tmp_path, 1 if is_full else 30).result()
    print(f"{save.__name__}: {dict(injected)}, {injected.total()} in all, 0 lost")
    assert injected.keys() == {*KILLS, FULL} or not is_full
    assert injected.total() >= (20 if is_full else 2)


DAMAGED = {
    "run": TrainingCheckpoint().read_all,
    "model": Checkpoint.from_pretrained,
    "corpus": lambda folder: Corpus.open(folder).verify(),
    "task": TaskCheckpoint.from_pretrained,
    "vectors": lambda folder: list(EmbeddingFolder(folder)),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory, model_folder, corpus, tasks):
    """Folders of each kind."""
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "run").mkdir()
    TrainingCheckpoint().begin(folder / "run")
    for name, source in (("model", model_folder), ("corpus", corpus.folder), ("task", tasks["tag"][0].folder)):
        shutil.copytree(source, folder / name)
    text = write_sentences(folder / "text.txt", SENTENCES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "PART_BYTES", 8000)
        embed_file(model_folder, str(text), folder / "vectors", show_progress=False)
    return folder


@pytest.mark.parametrize("kind", DAMAGED)
def test_every_flipped_bit_and_truncation_is_found_and_the_file_named(folders, is_full, kind):
    folder, read = folders / kind, DAMAGED[kind]
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    rng, expected = random.Random(kind), read(folder)
    for _ in range(2000 if is_full else 40):
        path = rng.choice(paths)
        whole = path.read_bytes()
        at, bit = rng.randrange(len(whole)), rng.randrange(8)
        is_cut = rng.random() < 0.2
        path.write_bytes(whole[:at] if is_cut else whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        try:
            found, message = read(folder), ""
        except InputError as error:
            found, message = None, str(error)
        # In the padding of a training checkpoint, a zip archive, a flipped bit changes nothing.
        is_harmless = kind == "run" and found == expected
        assert is_harmless or path.name in message, (path.name, at, "truncated" if is_cut else bit)
        path.write_bytes(whole)
    read(folder)
