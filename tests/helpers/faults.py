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
from contextlib import ExitStack, contextmanager, suppress
from unittest import mock

from elmolite.errors import InputError
from elmolite.utils import files

KILLS = ("killed before", "killed after", "killed half-way")
FULL = "disk full"
NAMES = ("open", "fsync", "rename", "replace", "unlink", "remove", "rmdir", "mkdir")
RESUMABLE = "incomplete, but valid: the next save continues it"


class Calls:
    """Count system calls, and let the n-th fail."""

    def __init__(self, kind=None, n=None):
        self.made = []
        self._kind, self._n = kind, n

    def make(self, name, call, half=None):
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
            half()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("a killed process goes on")

    @contextmanager
    def counted(self):
        """Count, and let fail, the calls of a block."""
        with ExitStack() as stack:
            for name in NAMES:
                stack.enter_context(mock.patch.object(os, name, self._counting(name, getattr(os, name))))
            for module in ("io", "builtins"):
                stack.enter_context(mock.patch(f"{module}.open", self._open))
            yield

    def _counting(self, name, function):
        return lambda *args, **kwargs: self.make(name, lambda: function(*args, **kwargs))

    def _open(self, file, mode="r", buffering=-1, *args, open_=open, **kwargs):
        if not set(mode) & set("wxa+"):
            return open_(file, mode, buffering, *args, **kwargs)
        assert "b" in mode, mode
        raw = self.make("open for writing", lambda: _File(self, file, mode.replace("b", "")))
        return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)


class _File(io.FileIO):
    """The raw file below Python's buffer."""

    def __init__(self, calls, *args):
        super().__init__(*args)
        self._calls = calls

    def write(self, data):
        write = super().write
        return self._calls.make("write", lambda: write(data), lambda: write(data[: len(data) // 2]))


def sweep(save, folder, *, first=0, step=1):
    """Let every ``step``-th call of a save fail in every way, from the ``first`` on; return the number of each way.

    Asserts that nothing is lost, that errors name the file, and that no partial files remain.

    :param save: ``begin(folder)`` writes an earlier state, ``save(folder)`` replaces it by a later one, and
        ``read(folder)`` returns the one that is there, or :data:`RESUMABLE`, and raises if it is lost.
    """
    files.UNLOCKED_AFTER = -1.0
    here = folder / "here"
    here.mkdir(parents=True)
    save.begin(here)
    old = save.read(here)
    before = shutil.copytree(here, folder / "before")
    whole = Calls()
    with whole.counted():
        save.save(here)
    new, names = save.read(here), _names(here)
    assert old != new
    injected = Counter()
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
            assert save.read(here) in (old, new, RESUMABLE), f"{what}: neither the old nor the new one is there"
            save.save(here)
            assert save.read(here) == new, f"{what}: a later save did not make it good"
            assert _names(here) == names, f"{what}: {sorted(set(_names(here)) ^ set(names))}"
            injected[kind] += 1
    assert not _killed(save, here, Calls("killed before", len(whole.made))), "there are more calls than were tried"
    return injected


def _names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _killed(save, here, calls):
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


def _fill_disk(save, here, n, new, what):
    """Save with one call that finds the disk full: an error with the path, or no harm."""
    calls = Calls(FULL, n)
    try:
        with calls.counted():
            save.save(here)
    except InputError as error:
        said = str(error)
        assert str(here) in said, f"{what}: {said}"
        assert os.strerror(errno.ENOSPC) in said, f"{what}: {said}"
        assert ".partial" not in said, f"{what}: {said}"
        left = [name for name in _names(here) if name.endswith((".partial", ".old"))]
        assert not left, f"{what}: left {left}"
    else:
        assert save.read(here) == new, f"{what}: no error, and not saved"
    assert len(calls.made) > n, f"{what}: the call was not made"
