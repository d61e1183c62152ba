import os
import platform
from pathlib import Path

import pytest

from models.cpu import (
    available_cores,
    available_memory_mb,
    instruction_set,
    instruction_set_from,
)


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "expected"),
    [
        (
            "x86_64",
            "flags\t\t: fpu sse4_2 avx2 avx fma\nflags\t: amx_tile",
            "x86_64+sse4.2+avx+avx2+fma",
        ),
        ("x86_64", "model name: avx2\nflags : sse2 avx512f", "x86_64+avx512f"),
        ("aarch64", "Features\t: fp asimd sve", "aarch64+asimd+sve"),
        ("arm64", "", "arm64"),
    ],
)
def test_instruction_set_from__reads_the_first_processor(
    machine: str, cpuinfo: str, expected: str
) -> None:
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
