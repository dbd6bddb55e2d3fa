import ctypes

import pytest

from elmolite.utils import torch as helpers


@pytest.mark.skipif(helpers.platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_glibc_takes_both_settings(monkeypatch):
    """Whether freed memory then stays depends on what else lies at the end of the heap: so its answers count."""
    libc, answers = ctypes.CDLL(None), {}

    class Recorded:
        @staticmethod
        def mallopt(parameter, value):
            answers[parameter, value] = libc.mallopt(parameter, value)

    monkeypatch.setattr(helpers.ctypes, "CDLL", lambda name: Recorded)
    helpers.keep_freed_memory()
    m_trim_threshold, m_mmap_threshold = -1, -3  # of malloc.h
    assert answers == {(m_mmap_threshold, 32 << 20): 1, (m_trim_threshold, -1): 1}
