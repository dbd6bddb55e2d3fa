import subprocess
import sys

import pytest

from elmolite import allocator

CODE = """
import torch
from pathlib import Path
from elmolite.allocator import keep_freed_memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
{call}
for _ in range(3):
    parts = [torch.ones(1 << 20) for _ in range(50)]  # 200 MB in blocks of 4
    taken = resident()
    parts.clear()
print(taken - resident())
"""


@pytest.mark.skipif(allocator.platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_freed_memory_stays_with_the_process():
    given_back = [
        int(subprocess.run([sys.executable, "-c", CODE.format(call=call)], capture_output=True, check=True).stdout)
        for call in ("", "keep_freed_memory()")
    ]
    assert given_back[0] > 150e6
    assert given_back[1] < 20e6


def test_nothing_is_done_elsewhere(monkeypatch):
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("there is no glibc"))
    allocator.keep_freed_memory()
