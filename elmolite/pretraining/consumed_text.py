"""What training has read, as a number that tells whether two runs have read the same in the same order."""

from __future__ import annotations

import hashlib

from torch import Tensor

from elmolite.data.bptt import Batch
from elmolite.pretraining import distributed


class ConsumedText:
    """A chain of SHA-256: of the ids of a batch, after that of all batches before it."""

    def __init__(self) -> None:
        self._digest = b""

    def add(self, batch: Batch) -> None:
        """Go on with the next batch, on the CPU."""
        chain = hashlib.sha256(self._digest)
        for part in batch:
            chain.update(part.numpy().tobytes() if isinstance(part, Tensor) else repr(part).encode())
        self._digest = chain.digest()

    def sha256(self) -> str:
        """Return the number for what all processes have read; all must call it."""
        return hashlib.sha256(b"".join(distributed.gather(self._digest))).hexdigest()

    def state(self) -> list[str]:
        """Return what each process has read, for the point to resume from; all must call it."""
        return [digest.hex() for digest in distributed.gather(self._digest)]

    def load_state(self, state: list[str], rank: int) -> None:
        """Take back what :meth:`state` gave."""
        self._digest = bytes.fromhex(state[rank])
