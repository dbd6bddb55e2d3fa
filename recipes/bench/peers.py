"""The systems that elmolite is held against, each in a process and an environment of its own.

How the environments are made is in ``recipes/bench/README.md``. A worker says what it loaded and then waits for
requests, so that several can take turns; see ``workers/worker.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

WORKERS = Path(__file__).parent / "workers"
LOG_LINES = 15


@dataclass(frozen=True)
class System:
    """A system, and how it is set up in a comparison."""

    name: str
    worker: Path
    environment: str | None = None
    """Its folder among the environments of the peers; ``None`` for elmolite, which runs on this Python."""
    batch_sizes: tuple[int | None, ...] = (8, 16, 32, 64, 128)
    """What its worker tries; ``None`` for its own batches."""
    new_words: bool = True
    """Whether it forgets the words that it saw before every call."""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def python(self, peers: Path) -> Path | None:
        """Return the Python that it runs on, if there is one."""
        if self.environment is None:
            return Path(sys.executable)
        python = peers.absolute() / self.environment / "bin" / "python"
        return python if python.exists() else None


ELMOLITE = System("elmolite", WORKERS / "elmolite_worker.py", batch_sizes=(None,))
ELMOLITE_BF16 = replace(ELMOLITE, name="elmolite, bf16", settings={"precision": "bf16-mixed"})
ELMOLITE_INT8 = replace(ELMOLITE, name="elmolite, int8", settings={"precision": "int8"})
ALLENNLP = System("AllenNLP", WORKERS / "allennlp_worker.py", "allennlp")
SIMPLE_ELMO = System("simple_elmo", WORKERS / "simple_elmo_worker.py", "simple_elmo")
BILM_TF = System("bilm-tf", WORKERS / "bilm_tf_worker.py", "bilm_tf")
MINILM = System("all-MiniLM-L6-v2", WORKERS / "minilm_worker.py", "minilm")

ELMOLITE_TRAINING = System("elmolite", WORKERS / "elmolite_pretraining_worker.py", settings={"precision": "32-true"})
ELMOLITE_TRAINING_BF16 = replace(ELMOLITE_TRAINING, name="elmolite, bf16", settings={"precision": "bf16-mixed"})
BILM_TF_TRAINING = System("bilm-tf", WORKERS / "bilm_tf_pretraining_worker.py", "bilm_tf")


class Worker:
    """A process in which a system is loaded and warmed up; leaving the ``with`` ends it.

    :ivar about: what it said of itself: versions, seconds to load, the batch size that was best.
    """

    def __init__(self, system: System, python: Path, folder: Path, settings: Mapping[str, Any]) -> None:
        """:param folder: holds the model, the sentences and the vocabulary, and gets the log."""
        self.system = system
        self._log = folder / f"{system.name}.log"
        settings = {
            "model": str(folder / "model"),
            "sentences": str(folder / "sentences.json"),
            "vocabulary": str(folder / "vocabulary.txt"),
            "batch_sizes": system.batch_sizes,
            "new_words": system.new_words,
            **settings,
            **system.settings,
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [python, system.worker, json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=_environment(settings["threads"], is_peer=system.environment is not None),
            )
        try:
            self.about = self._answer() | self.ask("warm_up")
        except BaseException:
            self.end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """Ask for what ``workers/worker.py`` names, and wait for the answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": request, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; why is in its log
        return self._answer()

    def peak_mib(self) -> int:
        """Return the most memory that it has had."""
        return peak_memory(self._process.pid) // 1024

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            last = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
            raise SystemExit("\n".join([f"{self.system.name} ended:", *last]))
        found: dict[str, Any] = json.loads(line)
        return found


def _environment(threads: int, *, is_peer: bool) -> dict[str, str]:
    """Return the variables of a worker; what Python is told to import here is not for peers."""
    kept = {name: value for name, value in os.environ.items() if not (is_peer and name.startswith("PYTHON"))}
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    others = {
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_USE_LEGACY_KERAS": "1",
    }
    return kept | dict.fromkeys(pools, str(threads)) | others


def peak_memory(pid: int) -> int:
    """Return the most memory that a process has had, in KiB (Linux); what its parent had does not count."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
