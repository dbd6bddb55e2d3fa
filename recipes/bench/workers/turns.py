"""A training that is held between turns, so that several systems can take theirs one after the other.

The loop over the steps is the system's own, and it is never left: what it calls after each step returns when the
comparison has asked for more of them.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from worker import Connection


class Turns:
    """The requests of the comparison, to be answered from within the loop of a training."""

    def __init__(self) -> None:
        self._connection = Connection()
        self._requests = self._connection.requests()
        self._request: dict[str, Any] = {}
        self._losses: list[float] = []
        self._started = 0.0
        self.settings = self._connection.settings

    def write_text(self) -> Path:
        """Write the sentences as a text, a sentence a line; return the file."""
        path = Path(self.settings["sentences"]).with_name("text.txt")
        lines = (" ".join(sentence) + "\n" for sentence in self._connection.sentences)
        path.write_text("".join(lines), encoding="utf-8")
        return path

    def begin(self, versions: dict[str, str]) -> None:
        """Say that the first step can be taken, and wait until it is asked for."""
        self._connection.is_loaded(versions)
        self._wait()

    def step_is_done(self, loss: float) -> None:
        """Count a step; at the end of a turn answer, and wait for the next.

        :param loss: of a position, the mean of both directions.
        """
        self._losses.append(loss)
        warms_up = self._request["do"] == "warm_up"
        if len(self._losses) < (self.settings["warm_up_steps"] if warms_up else self._request["n_steps"]):
            return
        seconds, mean = time.perf_counter() - self._started, sum(self._losses) / len(self._losses)
        self._connection.answer({"first_loss": round(mean, 3)} if warms_up else {"seconds": seconds, "loss": mean})
        self._wait()

    def _wait(self) -> None:
        request = next(self._requests, None)
        if request is None:
            sys.exit()
        self._request, self._losses, self._started = request, [], time.perf_counter()
