"""Calls of the operating system that fail: the n-th by which a save changes the disk, by a kill or by a full disk.

What is counted is every open for writing, write, fsync, rename, unlink, rmdir and mkdir that Python code makes, writes
as they leave Python's buffers. A kill is a SIGKILL of a process that was forked for it.
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
    """Something that is saved over an earlier state of it."""

    def begin(self, folder: Path) -> None:
        """Save the earlier state, and what else is needed."""

    def save(self, folder: Path) -> None:
        """Save the later state over it."""

    def read(self, folder: Path) -> Any:
        """Return what a reader finds, bit for bit, or :data:`RESUMABLE`.

        :raises Exception: nothing can be read: it is lost.
        """


RESUMABLE = "what stands is whole, and the save goes on where it was broken off"


class Calls:
    """Counts the calls, and has the n-th of them fail."""

    def __init__(self, kind: str | None = None, n: int | None = None) -> None:
        self.made: list[str] = []
        self._kind, self._n = kind, n

    def make(self, name: str, call: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        """Make a call, or have it fail.

        :param half: does half of it.
        """
        self.made.append(name)
        if len(self.made) - 1 != self._n:
            return call()
        if self._kind == FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._kind == "killed after":
            with suppress(OSError):  # as where a folder is there already
                call()
        elif self._kind == "killed half-way":
            assert half is not None
            half()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("a killed process goes on")

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count, and fail, within a block."""
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
    """A file below Python's buffer."""

    def __init__(self, calls: Calls, *args: Any) -> None:
        super().__init__(*args)
        self._calls = calls

    def write(self, data: Any) -> int:
        def write(part: Any) -> Any:
            return io.FileIO.write(self, part)

        return self._calls.make("write", lambda: write(data), lambda: write(data[: len(data) // 2]))


def sweep(save: Save, folder: Path, *, first: int = 0, step: int = 1) -> Counter[str]:
    """Have every ``step``-th call of a save fail, from the ``first`` on, in every way; return how many of each way.

    :raises AssertionError: something was lost, an error says nothing, something was left behind that nothing clears.
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
    """Save in a process of its own; return whether a call killed it."""
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
    """Save where one call finds the disk full: that is an error with a name, or did no harm."""
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
