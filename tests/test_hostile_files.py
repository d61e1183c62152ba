"""A small file that asks for much costs less than 500 MB and 2 s, and is never a crash."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.hostile_files import CASES

MOST_MB = 500
MOST_CPU_S = 2.0
OFTEN_BAD = ("hdf5: chunk", "npz: members", "mat: cells", "scp: fields")
"""Those that cost too much once, and that are built fast."""
_SLOW_MACHINE = 1.5  # shared processors take longer for the same work


def _assert_cheap(name: str) -> None:
    command = [sys.executable, "-m", "tests.hostile_files", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout)
    assert not found["outcome"].startswith(("crash", "killed")), found
    assert found["peak_mb"] < MOST_MB, found
    assert found["cpu_s"] < MOST_CPU_S * _SLOW_MACHINE, found


@pytest.mark.parametrize("name", OFTEN_BAD)
def test_reading__what_asked_for_too_much_is_cheap(name: str) -> None:
    _assert_cheap(name)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [name for name in CASES if name not in OFTEN_BAD])
def test_reading__whatever_asks_for_much_is_cheap(name: str) -> None:
    _assert_cheap(name)
