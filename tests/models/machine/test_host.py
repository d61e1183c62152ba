import os
import platform
import resource
from pathlib import Path

import pytest

from models.machine.host import (
    available_cores,
    available_memory_mb,
    home_dir,
    instruction_set,
    instruction_set_from,
    memory_limits,
)


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "expected"),
    [
        ("x86_64", "flags\t\t: fpu sse4_2 avx2 avx fma\nflags\t: amx_tile", "x86_64+sse4.2+avx+avx2+fma"),
        ("x86_64", "model name: avx2\nflags : sse2 avx512f", "x86_64+avx512f"),
        ("aarch64", "Features\t: fp asimd sve", "aarch64+asimd+sve"),
        ("arm64", "", "arm64"),
    ],
)
def test_instruction_set_from__reads_the_first_processor(machine: str, cpuinfo: str, expected: str) -> None:
    assert instruction_set_from(machine, cpuinfo) == expected


def test_instruction_set__starts_with_the_architecture() -> None:
    assert instruction_set().split("+")[0] == platform.machine()


def test_available_cores__within_the_machine() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


def test_available_cores__without_affinity_counts_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1


def _cgroup(folder: Path, **limits: str) -> tuple[Path, Path]:
    own, inside = folder / "cgroup", folder / "sys" / "job" / "step"
    inside.mkdir(parents=True)
    own.write_text("12:cpu:/elsewhere\n0::/job/step\n")
    for name, text in limits.items():
        where, _, limit = name.partition("__")
        target = inside.parent if where == "outer" else inside
        (target / limit.replace("_", ".")).write_text(text + "\n")
    return own, folder / "sys"


@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        ({"inner__cpu_max": "max 100000"}, 8),
        ({"inner__cpu_max": "250000 100000"}, 3),
        ({"inner__cpu_max": "50000 100000"}, 1),
        ({"outer__cpu_max": "200000 100000", "inner__cpu_max": "max 100000"}, 2),
        ({"outer__cpu_max": "200000 100000", "inner__cpu_max": "400000 100000"}, 2),
        ({}, 8),
    ],
)
def test_available_cores__within_the_control_groups(
    limits: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert available_cores(*_cgroup(tmp_path, **limits)) == cores


def test_available_memory_mb__the_smallest_limit(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 32000000 kB\nMemAvailable: 2000000 kB\n")
    nowhere = tmp_path / "nowhere"
    assert available_memory_mb(meminfo, nowhere, nowhere) == pytest.approx(2048)
    groups = _cgroup(tmp_path, outer__memory_max="1500000000", inner__memory_max="max")
    assert available_memory_mb(meminfo, *groups) == 1500
    assert available_memory_mb(nowhere, nowhere, nowhere) is None


def test_available_memory_mb__control_groups_of_version_1_and_the_high_mark(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemAvailable: 2000000 kB\n")
    own, groups = tmp_path / "own", tmp_path / "sys"
    own.write_text("9:memory:/docker/1\n8:cpu,cpuacct:/docker/1\n0::/\n")
    inside = groups / "memory" / "docker" / "1"
    inside.mkdir(parents=True)
    (inside / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert available_memory_mb(meminfo, own, groups) == pytest.approx(2048)
    (inside / "memory.limit_in_bytes").write_text("1200000000\n")
    assert available_memory_mb(meminfo, own, groups) == 1200
    # In a container the group's own folder is the root of what is mounted.
    (groups / "memory" / "memory.limit_in_bytes").write_text("1100000000\n")
    assert available_memory_mb(meminfo, own, groups) == 1100
    (groups / "memory.high").write_text("900000000\n")
    assert available_memory_mb(meminfo, own, groups) == 900


STATUS = "Name:\tpython\nVmSize:\t  800000 kB\nVmRSS:\t  300000 kB\nVmData:\t  400000 kB\n"


def test_memory_limits__of_the_process_and_of_its_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {resource.RLIMIT_AS: 2_000_000 * 1024, resource.RLIMIT_DATA: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limits[which], -1))
    status = tmp_path / "status"
    status.write_text(STATUS)
    groups = _cgroup(tmp_path, inner__memory_max="1500000000")
    addresses, group = memory_limits(*groups, status)
    assert (addresses.left_mb, group.left_mb) == pytest.approx((1228.8, 1192.8))
    assert (addresses.counts_addresses, group.counts_addresses) == (True, False)
    assert str(addresses) == (
        "the limit of the address space (ulimit -v 2000000) is 2.05 GB, of which 0.82 GB are in use"
    )
    assert str(group) == ("the limit of the control group (memory.max) is 1.50 GB, of which 0.31 GB are in use")
    limits.update({resource.RLIMIT_AS: resource.RLIM_INFINITY, resource.RLIMIT_DATA: 10**9})
    (data,) = memory_limits(tmp_path / "none", tmp_path, status)
    assert data.left_mb == pytest.approx(590.4)
    assert (data.counts_reservations, data.counts_addresses) == (True, False)


def test_memory_limits__none_on_a_system_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.machine.host.resource", None)
    assert memory_limits(tmp_path / "none", tmp_path, tmp_path / "none") == []


def test_home_dir__user_who_is_only_a_number_has_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 2_000_000_123)  # no such user
    assert home_dir() == Path("/")
    monkeypatch.setenv("HOME", "/work/of/mine")
    assert home_dir() == Path("/work/of/mine")
