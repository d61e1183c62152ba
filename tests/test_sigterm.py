"""A command that is told to end (SIGTERM) ends at once, with a message and all its processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.beam_jobs.job_helpers import ECG_ONLY, REPOSITORY, write_cohort

pytestmark = [pytest.mark.tf, pytest.mark.slow]

MOST_S = 10  # of a machine that is busy with other tests


def start(folder: Path, *extra: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "lvm_ai", "score", "--input", str(folder / "in"), "--model", ECG_ONLY]
    argv += ["--output", str(folder / "out"), "--unit-ecgs", "16", "--threads", "2", *extra]
    environment = {**os.environ, "HOME": str(folder)}
    return subprocess.Popen(argv, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("n_processes", [1, 2])
def test_sigterm__ends_a_run_within_seconds_and_the_same_command_resumes(n_processes: int, tmp_path: Path) -> None:
    write_cohort(tmp_path / "in", 192, n_files=12)
    process = start(tmp_path, "--processes", str(n_processes))
    end_s = time.monotonic() + 240
    while not list((tmp_path / "out").glob("predictions/unit-*.parquet")):
        assert process.poll() is None
        assert time.monotonic() < end_s
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) == (0 if n_processes == 1 else n_processes)
    process.send_signal(signal.SIGTERM)
    told_s = time.monotonic()
    _, text = process.communicate(timeout=60)
    assert time.monotonic() - told_s < MOST_S
    assert process.returncode == -signal.SIGTERM  # 143 in a shell
    assert "stopped by SIGTERM. Run the same command again to resume: finished units are kept" in text
    assert "Traceback" not in text
    assert not any(child.is_running() for child in family)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "predictions").glob("unit-*.parquet")}
    assert 0 < len(kept) < 12
    again = start(tmp_path)
    again.communicate(timeout=300)
    assert again.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (tmp_path / "out" / "_SUCCESS").is_file()
