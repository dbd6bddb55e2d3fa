"""Fault injection: the n-th system call of a save kills its process or finds the disk full.

Calls are the opens for writing, writes, fsyncs, renames, unlinks, rmdirs and mkdirs of Python code. Killed saves run in
forked processes.
"""

import errno
import io
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

from elmolite.errors import InputError
from elmolite.utils import files

KILLS = ("killed before", "killed after", "killed half-way")
FULL = "disk full"
NAMES = ("open", "fsync", "rename", "replace", "unlink", "remove", "rmdir", "mkdir")


class Save(Protocol):
    """A state that replaces an earlier one on the disk."""

    def begin(self, folder: Path) -> None:
        """Save the earlier state and all inputs."""

    def save(self, folder: Path) -> None:
        """Replace it by the later state."""

    def read(self, folder: Path) -> Any:
        """Return the state that a reader finds, bit for bit, or :data:`RESUMABLE`; raise if it is lost."""


RESUMABLE = "incomplete, but valid: the next save continues it"


class Calls:
    """Count system calls, and let the n-th fail."""

    def __init__(self, kind: str | None = None, n: int | None = None) -> None:
        self.made: list[str] = []
        self._kind, self._n = kind, n

    def make(self, name: str, call: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        """Make a call, or let it fail.

        :param half: makes half of it.
        """
        self.made.append(name)
        if len(self.made) - 1 != self._n:
            return call()
        if self._kind == FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._kind == "killed after":
            with suppress(OSError):  # as if a folder exists
                call()
        elif self._kind == "killed half-way":
            assert half is not None
            half()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("a killed process goes on")

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count, and let fail, the calls of a block."""
        with ExitStack() as stack:
            for name in NAMES:
                stack.enter_context(mock.patch.object(os, name, self._counting(name, getattr(os, name))))
            for module in ("io", "builtins"):
                stack.enter_context(mock.patch(f"{module}.open", self._open))
            yield

    def _counting(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.make(name, lambda: function(*args, **kwargs))

    def _open(
        self, file: Any, mode: str = "r", buffering: int = -1, *args: Any, open_: Any = open, **kwargs: Any
    ) -> Any:
        if not set(mode) & set("wxa+"):
            return open_(file, mode, buffering, *args, **kwargs)
        assert "b" in mode, mode
        raw = self.make("open for writing", lambda: _File(self, file, mode.replace("b", "")))
        return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)


class _File(io.FileIO):
    """The raw file below Python's buffer."""

    def __init__(self, calls: Calls, *args: Any) -> None:
        super().__init__(*args)
        self._calls = calls

    def write(self, data: Any) -> int:
        def write(part: Any) -> Any:
            return io.FileIO.write(self, part)

        return self._calls.make("write", lambda: write(data), lambda: write(data[: len(data) // 2]))


def sweep(save: Save, folder: Path, *, first: int = 0, step: int = 1) -> Counter[str]:
    """Let every ``step``-th call of a save fail in every way, from the ``first`` on; return the number of each way.

    Asserts that nothing is lost, that errors name the file, and that no partial files remain.
    """
    files.UNLOCKED_AFTER = -1.0
    here = folder / "here"
    here.mkdir(parents=True)
    save.begin(here)
    old = save.read(here)
    before = folder / "before"
    shutil.copytree(here, before)
    whole = Calls()
    with whole.counted():
        save.save(here)
    new, names = save.read(here), _names(here)
    assert old != new
    injected: Counter[str] = Counter()
    for kind in (*KILLS, FULL):
        made = [n for n, name in enumerate(whole.made) if name == "write" or kind != "killed half-way"]
        for n in made[first % step :: step]:
            what = f"{kind}, call {n} of {len(whole.made)} ({whole.made[n]})"
            shutil.rmtree(here)
            shutil.copytree(before, here)
            if kind == FULL:
                _fill_disk(save, here, n, new, what)
            else:
                assert _killed(save, here, Calls(kind, n)), f"{what}: it was not killed"
            found = save.read(here)
            assert found in (old, new, RESUMABLE), f"{what}: neither the old nor the new one is there"
            save.save(here)
            assert save.read(here) == new, f"{what}: a later save did not make it good"
            assert _names(here) == names, f"{what}: {sorted(set(_names(here)) ^ set(names))}"
            injected[kind] += 1
    assert not _killed(save, here, Calls("killed before", len(whole.made))), "there are more calls than were tried"
    return injected


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _killed(save: Save, here: Path, calls: Calls) -> bool:
    """Save in a forked process; return whether a call killed it."""
    process = os.fork()
    if process == 0:
        try:
            with calls.counted():
                save.save(here)
        finally:
            os._exit(0)
    _, status = os.waitpid(process, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _fill_disk(save: Save, here: Path, n: int, new: Any, what: str) -> None:
    """Save with one call that finds the disk full: an error with the path, or no harm."""
    calls = Calls(FULL, n)
    said: str | None = None
    try:
        with calls.counted():
            save.save(here)
    except InputError as error:
        said = str(error)
    if said is None:
        assert save.read(here) == new, f"{what}: no error, and not saved"
    else:
        assert str(here) in said, f"{what}: {said}"
        assert os.strerror(errno.ENOSPC) in said, f"{what}: {said}"
        assert ".partial" not in said, f"{what}: {said}"
        left = [name for name in _names(here) if name.endswith((".partial", ".old"))]
        assert not left, f"{what}: left {left}"
    assert len(calls.made) > n, f"{what}: the call was not made"
