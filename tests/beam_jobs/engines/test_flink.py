"""`--runner flink` on a real cluster: two TaskManagers on loopback, killed in mid-job."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.beam_jobs.engines import flink_cluster
from tests.beam_jobs.engines.flink_cluster import FlinkCluster
from tests.beam_jobs.engines.workers import (
    Notes,
    boot_program,
    keep_notes,
    listening_on,
    meanwhile,
    n_committed,
    wait_for,
)
from tests.beam_jobs.job_helpers import (
    REPOSITORY,
    assert_reconciles,
    flat_in,
    lvm,
    people,
    people_table,
    report,
    result_files,
    score,
    score_argv,
    write_parquet,
)

N_ECGS = 320
N_UNITS = 40
FLAT_ROWS = (9, 200)  # so that two units have rejects
ENDED = {"CANCELED", "FAILED", "FINISHED"}
SECONDS = 900  # for what happens in seconds on a machine that does nothing else

pytestmark = [
    pytest.mark.engines,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(flink_cluster.missing() is not None, reason=str(flink_cluster.missing())),
]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Have all processes run the code of this repository, and keep the workers' logs here."""
    folder = tmp_path_factory.mktemp("log")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("LVM_BEAM_LOG_DIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def cluster(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    with FlinkCluster(tmp_path_factory.mktemp("flink")) as started:
        started.start(2, SECONDS)
        yield started


@pytest.fixture
def flink(cluster: FlinkCluster, tmp_path: Path) -> list[str]:
    """Return the options of the runner, when the cluster has its four slots."""
    cluster.wait_for_slots(4, SECONDS)
    return cluster.options(boot_program(tmp_path))


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Notes:
    return keep_notes(monkeypatch)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    write_parquet(folder / "part-0.parquet", people_table(flat_in(people(N_ECGS), *FLAT_ROWS)))
    return folder


@pytest.fixture(scope="module")
def local(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of a run on this machine."""
    output = tmp_path_factory.mktemp("local") / "out"
    assert score(inputs, output) == 0
    files = result_files(output)
    assert len(files) == N_UNITS + len(FLAT_ROWS)
    return files


def assert_done(output: Path, local: dict[str, bytes]) -> None:
    assert result_files(output) == local
    assert (output / "_SUCCESS").is_file()
    assert_reconciles(output, N_ECGS)


def test_two_task_managers__give_the_bits_of_local_and_both_work(
    inputs: Path,
    local: dict[str, bytes],
    cluster: FlinkCluster,
    flink: list[str],
    notes: Notes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    shown: list[str] = []
    parents, listening = set(), set()

    def look() -> None:
        wait_for(lambda: n_committed(output) > 0, "the first unit", SECONDS)
        assert lvm("status", output) == 0
        shown.append(capsys.readouterr().out)
        listening.update(listening_on(psutil.Process().children(recursive=True), "-jar"))
        wait_for(lambda: len(parents) == 2 or parents.update(w.ppid() for w in cluster.workers()), "workers", SECONDS)

    with meanwhile(look):
        assert score(inputs, output, *flink) == 0
    assert_done(output, local)
    # One worker process beside each TaskManager, and each did units.
    assert parents == {manager.pid for manager in cluster.alive()}
    assert len({note["process"] for note in notes}) == 2
    stated = report(output)
    seconds = max(note["last_s"] for note in notes) - min(note["first_s"] for note in notes)
    assert stated["timing_s"]["scoring"] == pytest.approx(seconds, abs=0.01)
    assert stated["ecg_per_s"] == pytest.approx(N_ECGS / seconds, rel=0.01)
    assert f"of {N_UNITS} units" in shown[0] or f"of {N_ECGS}" in shown[0]
    assert not (output / "work").exists()
    assert listening == {"127.0.0.1"}


def test_worker_killed__same_bits_and_exit_0(
    inputs: Path, local: dict[str, bytes], cluster: FlinkCluster, flink: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "out"

    def kill_one() -> None:
        wait_for(lambda: n_committed(output) > 3 and bool(cluster.workers()), "the first units", SECONDS)
        cluster.workers()[0].kill()

    with meanwhile(kill_one):
        assert score(inputs, output, *flink) == 0
    assert_done(output, local)


def test_task_manager_killed_and_replaced__same_bits_and_exit_0(
    inputs: Path, local: dict[str, bytes], cluster: FlinkCluster, flink: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "out"

    def kill_one() -> None:
        wait_for(lambda: n_committed(output) > 3, "the first units", SECONDS)
        cluster.kill_and_replace(cluster.alive()[0])

    with meanwhile(kill_one):
        assert score(inputs, output, *flink) == 0
    assert_done(output, local)


def test_interrupted_command__leaves_no_job_on_the_cluster(
    inputs: Path, local: dict[str, bytes], cluster: FlinkCluster, flink: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    with (tmp_path / "said").open("w") as said:
        command = [sys.executable, "-m", "lvm_ai", *score_argv(inputs, output, *flink)]
        started = subprocess.Popen(command, stderr=said)
    wait_for(lambda: n_committed(output) > 3, "the first units", SECONDS)
    started.send_signal(signal.SIGINT)
    assert started.wait(SECONDS) == 130, (tmp_path / "said").read_text()
    assert cluster.job_states() <= ENDED
    assert n_committed(output) < N_UNITS
    # The same command goes on.
    assert score(inputs, output, *flink) == 0
    assert_done(output, local)


def test_workers_that_do_not_start__say_why(
    inputs: Path, flink: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boot = tmp_path / "wrong-python"
    boot.write_text("#!/bin/sh\nexit 10\n")
    boot.chmod(boot.stat().st_mode | stat.S_IXUSR)
    more = ["--worker-command", str(boot)]
    assert score(inputs, tmp_path / "out", *flink, *more) == 1
    said = capsys.readouterr().err
    assert "their Python is another minor version" in said
    assert f"{N_UNITS} of {N_UNITS} units are not finished" in said
    assert "Traceback" not in said


def test_no_worker_begins__ends_after_the_start_timeout(
    inputs: Path, cluster: FlinkCluster, flink: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boot = tmp_path / "silent"
    boot.write_text("#!/bin/sh\nexec sleep 3600\n")
    boot.chmod(boot.stat().st_mode | stat.S_IXUSR)
    more = ["--worker-command", str(boot), "--start-timeout", "30"]
    assert score(inputs, tmp_path / "out", *flink, *more) == 1
    assert "no worker began within 30 s" in capsys.readouterr().err
    assert cluster.job_states() <= ENDED
