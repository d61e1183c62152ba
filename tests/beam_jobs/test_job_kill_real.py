"""`kill -9` in the middle of a real run with the real network; minutes long."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.beam_jobs.job_helpers import ECG_ONLY, REPOSITORY, assert_reconciles, result_files, write_cohort

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.timeout(1800)]

UNIT_ECGS = 128


def command(folder: Path, output: str, *extra: str) -> list[str]:
    argv = [sys.executable, "-m", "lvm_ai", "score", "--input", str(folder / "in")]
    argv += ["--output", str(folder / output), "--model", ECG_ONLY]
    return [*argv, "--unit-ecgs", str(UNIT_ECGS), *extra]


def kill_after_units(argv: list[str], output: Path, n_units: int) -> None:
    """Start a command and kill it when some units are committed and the next has begun."""
    process = subprocess.Popen(argv, cwd=REPOSITORY)
    stop_s = time.monotonic() + 600
    while len(list((output / "predictions").glob("unit-*.parquet"))) < n_units:
        assert process.poll() is None
        assert time.monotonic() < stop_s
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -9


@pytest.mark.parametrize("n_ecgs", [2000])
def test_killed_run__resumed_has_the_bits_of_an_uninterrupted_one(n_ecgs: int, tmp_path: Path) -> None:
    write_cohort(tmp_path / "in", n_ecgs, n_files=5)
    subprocess.run(command(tmp_path, "whole"), cwd=REPOSITORY, timeout=900, check=True)
    n_units = len(list((tmp_path / "whole" / "predictions").iterdir()))
    output = tmp_path / "out"
    kill_after_units(command(tmp_path, "out"), output, max(1, n_units // 2))
    done = {p: p.stat().st_mtime_ns for p in (output / "predictions").glob("unit-*.parquet")}
    assert len(done) < n_units
    # The rest on one thread, in two shards: neither may move a bit.
    for shard in ("2/2", "1/2"):
        argv = command(tmp_path, "out", "--threads", "1", "--shard", shard)
        subprocess.run(argv, cwd=REPOSITORY, timeout=900, check=True)
    assert {p: p.stat().st_mtime_ns for p in done} == done
    assert result_files(output) == result_files(tmp_path / "whole")
    assert (output / "_SUCCESS").is_file()
    assert_reconciles(output, n_ecgs)
