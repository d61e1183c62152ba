"""The workflow of Snakemake, run for real: jobs killed, Snakemake killed, the same bits."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.beam_jobs.engines.workflow_runs import program_or_none
from tests.beam_jobs.job_helpers import REPOSITORY, assert_reconciles, result_files, rows_of

SNAKEMAKE = program_or_none("snakemake")
pytestmark = [
    pytest.mark.engines,
    pytest.mark.tf,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(SNAKEMAKE is None, reason="Snakemake is missing: make engines"),
]

PAGE = (REPOSITORY / "docs" / "running_on_snakemake.md").read_text(encoding="utf-8")
FIRST, AGAIN = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
WITHIN_S = 900.0
SMALL = "--unit-ecgs 16"  # few ECGs are many units
N_SHARDS = 4


@dataclass(frozen=True)
class Place:
    """A folder in which the commands of the page are run."""

    folder: Path
    environment: dict[str, str]

    @property
    def results(self) -> Path:
        return self.folder / "my-cohort" / "results"

    def start(self, script: str, log: Path) -> subprocess.Popen[bytes]:
        """Start commands of the page as a family of processes of their own."""
        with log.open("ab") as stream:
            return subprocess.Popen(
                ["bash", "-euc", script],
                cwd=self.folder,
                env=self.environment,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    def lvm(self, *argv: str) -> None:
        """Run `lvm-ai` to its end."""
        command = [sys.executable, "-m", "lvm_ai", *argv]
        subprocess.run(
            command, cwd=self.folder, env=self.environment, check=True, capture_output=True, timeout=WITHIN_S
        )


def scoring(family: psutil.Process) -> dict[int, psutil.Process]:
    """Return the processes that score, by their shard."""
    found = {}
    for process in family.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            words = process.cmdline()
            if words and "python" in Path(words[0]).name and "score" in words:
                found[int(words[words.index("--shard") + 1].partition("/")[0])] = process
    return found


def committed(run: Path) -> set[int]:
    """Return the shards of the score run that have committed a unit."""
    files = (run / "predictions").glob("unit-*.parquet")
    return {int(path.name.split("-")[1]) % N_SHARDS + 1 for path in files}


def wait_for_work(run: Path, family: psutil.Process, but: int | None = None) -> tuple[int, psutil.Process]:
    """Return a shard, not `but`, that has committed a unit, and the process that does more."""
    end_s = time.monotonic() + WITHIN_S
    while True:
        begun = committed(run)
        for shard, process in scoring(family).items():
            if shard in begun and shard != but:
                return shard, process
        assert family.is_running()
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Run the page's first block with a job killed, then Snakemake killed, then its last block."""
    assert SNAKEMAKE is not None
    folder = tmp_path_factory.mktemp("site")
    (folder / "deploy").symlink_to(REPOSITORY / "deploy")
    # Snakemake last: its environment may have packages, and no lvm-ai.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], str(Path(SNAKEMAKE).parent)])
    place = Place(folder, {**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY)})
    made = re.search(r"`lvm-ai (simulate .*?)`", PAGE)
    assert made is not None
    place.lvm(*made[1].replace("my-cohort/cohort", "cohort").split())
    small = f'cp -rL ../cohort . && sed -i \'s/^ingest: .*/ingest: "{SMALL}"/; s/^score: "/&{SMALL} /\' config.yaml'
    prepared = FIRST.replace("cd my-cohort\n", f"cd my-cohort\n{small}\n")
    assert prepared != FIRST
    log = folder / "snakemake.log"
    whole = place.start(prepared, log)
    family = psutil.Process(whole.pid)
    killed, process = wait_for_work(place.results / "scored", family)
    process.kill()
    end_s = time.monotonic() + WITHIN_S
    while "Trying to restart job" not in log.read_text():
        assert time.monotonic() < end_s, log.read_text()
        time.sleep(0.1)
    wait_for_work(place.results / "scored", family, but=killed)
    os.killpg(whole.pid, signal.SIGKILL)
    assert whole.wait(60) == -signal.SIGKILL
    again = place.start("cd my-cohort\n" + AGAIN, log)
    assert again.wait(WITHIN_S) == 0, log.read_text()
    return place


def test_workflow__bits_are_those_of_one_local_run(place: Place) -> None:
    place.lvm("ingest", "--input", "cohort/raw", "--output", "ecg", *SMALL.split())
    place.lvm(
        *["score", "--input", "my-cohort/results/ecg/ecg", "--model", "demo-synthetic-ecg-only"],
        *["--output", "scored", "--threads", "1", *SMALL.split()],
    )
    for name in ("ecg", "scored"):
        assert result_files(place.results / name) == result_files(place.folder / name)
    assert_reconciles(place.results / "scored", len(rows_of(place.results / "ecg" / "ecg")))


def test_workflow__a_killed_job_goes_on_after_its_finished_units(place: Place) -> None:
    logs = [path.read_text() for path in (place.results / "logs").glob("score-*.log")]
    assert len(logs) == N_SHARDS
    again = [text for text in logs if "resuming: " in text]
    assert 1 <= sum(text.count("resuming: ") for text in again) <= N_SHARDS + 1


def test_workflow__it_ends_with_a_verified_run(place: Place) -> None:
    assert (place.results / "scored" / "_SUCCESS").is_file()
    assert "bit for bit" in (place.results / "steps" / "verify-scored").read_text()


def test_workflow__nothing_is_left_to_do(place: Place) -> None:
    done = subprocess.run(
        [str(SNAKEMAKE), "--dry-run"],
        cwd=place.folder / "my-cohort",
        env=place.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Nothing to be done" in done.stdout + done.stderr


def test_workflow__lint_finds_nothing(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "deploy" / "snakemake", tmp_path / "flow")
    done = subprocess.run([str(SNAKEMAKE), "--lint"], cwd=tmp_path / "flow", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "good condition" in done.stdout + done.stderr
