import os

import pytest

from elmolite.utils import cpu

SPINS = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "4000"}


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_the_cores_are_those_of_the_quota(tmp_path, monkeypatch, files, quota):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(cpu, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert cpu.n_cores() == (quota or 8)
    environment = {}
    cpu.set_openmp_defaults(environment)
    assert environment == {**SPINS, "OMP_NUM_THREADS": str(quota or 8)}


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS"])
def test_the_settings_of_the_user_take_precedence(monkeypatch, name):
    monkeypatch.setattr(cpu, "n_cores", lambda: 3)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    environment = {name: "5"}
    cpu.set_openmp_defaults(environment)
    defaults = {"OMP_NUM_THREADS": "3"} if name != "OMP_NUM_THREADS" else SPINS
    assert environment == {**defaults, name: "5"}
