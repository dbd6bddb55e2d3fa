"""How the processes of a run know that one of them is gone or stands still, when waiting for it would be for ever.

torch's collective operations wait half an hour for a process that was stopped, and where one was killed they fail and
name nobody. Here each process tells the others in a store that it is alive, from a thread of its own, so that long work
of its main thread is no silence.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from datetime import timedelta
from functools import partial
from typing import NoReturn

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.distributed import TCPStore, get_rank  # type: ignore[attr-defined]

from elmolite.pretraining import distributed

BEAT_SECONDS = 2.0
SILENCE_SECONDS = 30.0
"""After so long without a beat a process counts as gone."""
LOST_EXIT_CODE = 1


class Heartbeat(Callback):
    """Ends this process, with a message, where another one of the run is gone; does nothing where there is no other."""

    def __init__(self) -> None:
        self._heart: _Heart | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Begin when the processes have found each other."""
        if trainer.world_size > 1 and self._heart is None:
            self._heart = _Heart()
            self._heart.start()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Let the loss of another process be said where it may be what an operation failed on."""
        if isinstance(exception, RuntimeError) and self._heart is not None:
            time.sleep(SILENCE_SECONDS + 3 * BEAT_SECONDS)

    def stop(self) -> None:
        """Be silent: this process has come to its end."""
        if self._heart is not None:
            self._heart.stop()


class _Heart(threading.Thread):
    """Says every :data:`BEAT_SECONDS` that this process is alive, and ends it where another one is silent.

    What it asks the store may wait for ever, where the process whose store it is stands still: it is asked from a
    thread of its own, and the waiting counts as silence.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._stopped = threading.Event()
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._rank = get_rank()
        self._hosts = distributed.gather(socket.gethostname())
        timeout = timedelta(seconds=2 * BEAT_SECONDS)
        address, is_master = os.environ["MASTER_ADDR"], self._rank == 0
        connect = partial(TCPStore, address, is_master=is_master, wait_for_workers=False, timeout=timeout)
        server = connect(port=0) if is_master else None
        port = distributed.gather(server.port if server else 0)[0]
        self._store = server or connect(port=port)
        self._n_beats = dict.fromkeys(range(len(self._hosts)), 0)
        self._heard_at = dict.fromkeys(self._n_beats, time.monotonic())

    def run(self) -> None:
        """Watch the others until it is stopped, or one of them is silent."""
        self._beating.start()
        looked_at = time.monotonic()
        while not self._stopped.wait(BEAT_SECONDS):
            now = time.monotonic()
            if now - looked_at > SILENCE_SECONDS / 2:  # this process stood still, and perhaps all did
                self._heard_at = dict.fromkeys(self._heard_at, now)
            looked_at = now
            silent = [rank for rank, at in self._heard_at.items() if now - at > SILENCE_SECONDS and rank != self._rank]
            if silent:
                self._end(silent[0])

    def stop(self) -> None:
        """Be silent; what still waits for an answer is waited for a little, so that it does not outlive the process."""
        self._stopped.set()
        for thread in (self, self._beating):
            thread.join(2 * BEAT_SECONDS)

    def _beat(self) -> None:
        """Tell the store that this process is alive, and note which others have told it since."""
        while not self._stopped.wait(BEAT_SECONDS):
            try:
                self._store.add(str(self._rank), 1)
                for rank, n_beats in self._n_beats.items():
                    if (n_now := self._store.add(str(rank), 0)) != n_beats:
                        self._n_beats[rank], self._heard_at[rank] = n_now, time.monotonic()
            except RuntimeError:  # the store is the first process's, which is gone; the others cannot be heard
                self._heard_at |= {rank: time.monotonic() for rank in self._heard_at if rank != 0}

    def _end(self, rank: int) -> NoReturn:
        """End the process at once: its main thread may wait where no exception reaches it."""
        print(
            f"elmolite: process {rank}, on {self._hosts[rank]}, was not heard of for {SILENCE_SECONDS:.0f} s: process "
            f"{self._rank} ends too; go on with --resume",
            file=sys.stderr,
            flush=True,
        )
        os._exit(LOST_EXIT_CODE)
