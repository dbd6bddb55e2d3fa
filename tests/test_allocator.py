import subprocess
import sys

import pytest

from elmolite import allocator

CODE = """
import torch
from pathlib import Path
from elmolite.allocator import keep_freed_memory
def resident():
    return 1024 * int(Path("/proc/self/smaps_rollup").read_text().split("Rss:")[1].split()[0])
keep_freed_memory()
before = resident()
for _ in range(3):
    parts = [torch.ones(1 << 20) for _ in range(50)]  # 200 MB in blocks of 4
    parts.clear()
print(resident() - before)
"""


@pytest.mark.skipif(allocator.platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_freed_memory_stays_with_the_process():
    """Without the call it depends on what else lies at the end of the heap."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True)
    assert int(done.stdout) > 150e6


def test_nothing_is_done_elsewhere(monkeypatch):
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("there is no glibc"))
    allocator.keep_freed_memory()
