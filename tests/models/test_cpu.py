import os
import platform

import pytest

from models.cpu import available_cores, instruction_set, instruction_set_from


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
