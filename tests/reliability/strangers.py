"""Folders as they could come from a stranger, and a watch over what happens while they are read."""

import atexit
import faulthandler
import json
import os
import resource
import shutil
import signal
import sys
import sysconfig
import tempfile
import typing
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_corpus, random_sentences, small_config
from helpers.legacy_numpy import write_bilm_tf, write_many_langs
from helpers.models import make_bilm
from helpers.small_tasks import setup_of, train, write_classes, write_vectors

from elmolite.checkpoint import Checkpoint
from elmolite.data.indexers import ManyLangsIndexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.embedding.elmo import ELMo
from elmolite.embedding.embedding_files import embed_file
from elmolite.nn.softmax import FullSoftmax
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.trainer import pretrain
from elmolite.tasks.layer_cache import LayerCache
from elmolite.utils import files

SECONDS = 5.0
"""What reading a file may take ..."""
MEMORY = 1 << 30
"""... and the bytes that it may need more than there were."""
SENTENCES = [["ban", "kist"], ["lu"], ["dove", "é", "x" * 60]]
RUN = PretrainingConfig(n_rows=2, window=8, max_steps=4, n_validations=1, warmup_steps=1, softmax="full")
RUN_MODEL = small_config()


def write_json(path, content, *, is_sealed):
    """Write JSON as a stranger would who knows how: whole, with the checksum of a manifest, whatever it says."""
    if is_sealed and isinstance(content, dict):
        content = {key: value for key, value in content.items() if key != "sha256"}
        body = json.dumps(content, indent=2).encode().removesuffix(b"\n}")
        files.write_bytes(path, body + files._manifest_seal(body))
    else:
        files.write_bytes(path, json.dumps(content).encode())


def change(path, function):
    """Change the JSON of a file, and its seal if it has one."""
    content = json.loads(path.read_text())
    function(content)
    write_json(path, content, is_sealed="sha256" in content)


def reseal(manifest):
    """Bring the sizes and checksums of a manifest up to date with the files."""

    def update(content):
        for name, mark in content.get("files", {}).items():
            mark.update(files.file_entry(manifest.parent / name))
        for number, mark in enumerate(content.get("parts", [])):
            mark.update(files.file_entry(manifest.parent / f"part-{number:05}.safetensors"))

    change(manifest, update)


def replace(manifest, name, content):
    """Put other content into a file, so that its manifest does not tell."""
    (manifest.parent / name).write_bytes(content)
    reseal(manifest)


@cache
def made_once():
    """One of each kind of folder and file, for all tests of the session."""
    folder = Path(tempfile.mkdtemp(prefix="strangers-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elmolite.tasks.finetune._draw", lambda *of_the_run: None)
        patch.setenv("XDG_CACHE_HOME", str(folder / "user_cache"))
        return make_all(folder / "good")


def make_all(folder):
    """Make one of each kind of folder and file."""
    folder.mkdir()
    corpus = make_corpus(folder / "text", random_sentences(60), characters="unicode", min_character_count=1)
    shutil.move(corpus.folder, folder / "corpus")
    torch.manual_seed(0)
    bilm = make_bilm(small_config(), corpus.characters)
    softmax = FullSoftmax(vocabulary_size=len(corpus.vocabulary), projection_size=12)
    tokenizer = SentenceTokenizer.english()
    Checkpoint(bilm, tokenizer, corpus.characters, softmax, corpus.vocabulary).save_pretrained(folder / "model")
    write_bilm_tf(folder / "bilm_tf")
    for name, is_zip in (("many_langs", True), ("many_langs_old", False)):
        write_many_langs(folder / name, is_zip=is_zip)
    ELMo.from_pretrained(folder / "many_langs").save_pretrained(folder / "lexicon")
    assert isinstance(ELMo.from_pretrained(folder / "lexicon").indexer, ManyLangsIndexer)
    write_vectors(folder / "vectors.txt")
    write_binary_vectors(folder / "vectors.bin")
    static = str(folder / "vectors.txt")
    setup = setup_of(folder / "model", "classify", train=write_classes(folder / "examples.txt"), static=static)
    shutil.copytree(train(setup, folder / "task_run", n_epochs=1).folder, folder / "task")
    (folder / "lines.txt").write_text("\n".join(" ".join(each) for each in SENTENCES) + "\n")
    embed_file(folder / "model", folder / "lines.txt", folder / "embedding", pretokenized=True, show_progress=False)
    cached(folder)
    pretrain(RUN, model=RUN_MODEL, corpus=folder / "corpus", out=folder / "run", show_progress=False)
    (folder / "recipe.yaml").write_text("preset: tiny\nmax_steps: 10\nmodel:\n  dropout: 0.2\n")
    return folder


def cached(folder):
    """The layers of sentences, from the cache of a folder, which is made where it is not there."""
    elmo = ELMo.from_pretrained(folder / "model")
    cache = LayerCache.build(elmo, SENTENCES, folder / "layers", show_progress=False)
    return cache.batch([0, 1, 2])


def cache_entry(folder):
    """The manifest of the one entry of its cache."""
    return next((folder / "layers").glob("layers-*/entry.json"))


def write_binary_vectors(path):
    """word2vec's format."""
    rows = [f"w{i} ".encode() + np.full(3, i, "<f4").tobytes() for i in range(4)]
    path.write_bytes(b"4 3\n" + b"\n".join(rows))


_TALKS = ("socket.", "pickle.", "ctypes.dlopen")
_HARMLESS = (("ctypes.dlopen", (None,)), ("socket.gethostname", ()))
"""The process itself; what TensorBoard names its files by."""
_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty")
_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")
_INSTALLATION = tuple(
    {
        *(str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        str(Path(files.__file__).parent.resolve()),
    }
)
_TYPING = os.path.realpath(typing.__file__)
_MACHINE = ("/proc/", "/sys/", "/dev/null", "/dev/urandom")


class Watch:
    """An audit hook, which cannot be taken off again, but sleeps."""

    def __init__(self):
        self.allowed: tuple[str, ...] | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._see)

    @contextmanager
    def over(self, *folders):
        """Record what happens that must not; in these folders files may be opened."""
        self.seen = []
        self.allowed = tuple(str(folder.resolve()) for folder in folders)
        try:
            yield self.seen
        finally:
            self.allowed = None

    def _see(self, event, arguments):
        if self.allowed is None:
            return
        if event == "exec":  # what is compiled and not executed is data, as the heading of an .npy file
            self._see_code(arguments[0])
        elif event == "open" or event in _CHANGES:
            path = arguments[0]
            if isinstance(path, str | bytes | os.PathLike):
                self._see_path(event, os.fsdecode(path), arguments)
        elif (event in _STARTS or event.startswith(_TALKS)) and (event, arguments) not in _HARMLESS:
            self.seen.append(f"{event} {arguments!r}"[:300])

    def _see_path(self, event, path, arguments):
        folder = arguments[1] if event != "open" and isinstance(arguments[1], int) and arguments[1] >= 0 else None
        real = os.path.realpath(path if folder is None else f"/proc/self/fd/{folder}/{path}")
        is_searched = event == "open" and path in sys.path  # an archive of modules, if it were there
        if not is_searched and not real.startswith((*self.allowed, *_INSTALLATION, *_MACHINE)):
            self.seen.append(f"{event} {arguments!r}"[:300])

    def _see_code(self, code):
        name = code.co_filename
        is_of_typing = os.path.realpath(sys._getframe(2).f_code.co_filename) == _TYPING  # it evaluates annotations
        if not (is_of_typing or name.startswith("<frozen") or os.path.realpath(name).startswith(_INSTALLATION)):
            self.seen.append(f"exec {name} {code.co_names} {code.co_consts}"[:300])


@contextmanager
def limits():
    """Hold what is read to the bounds above; where something takes longer, its stack is printed."""

    def too_slow(*of_signal):
        faulthandler.dump_traceback()
        raise AssertionError(f"took more than {SECONDS:.0f} seconds")

    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, before[1]))
    handler = signal.signal(signal.SIGALRM, too_slow)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    faulthandler.dump_traceback_later(4 * SECONDS, exit=True)  # where a library in C does not come back
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)
