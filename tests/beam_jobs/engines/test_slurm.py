"""Array jobs on a real Slurm of one node: tasks killed and started again, the same bits."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.beam_jobs.engines import slurm_node
from tests.beam_jobs.engines.slurm_node import SlurmNode, Task
from tests.beam_jobs.job_helpers import REPOSITORY, assert_reconciles, result_files

PROBLEM = slurm_node.missing()
pytestmark = [
    pytest.mark.engines,
    pytest.mark.tf,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(PROBLEM is not None, reason=str(PROBLEM)),
]

PAGE = (REPOSITORY / "docs" / "running_on_slurm.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SUBMIT = BLOCKS[0]
NAMES = ("ingest", "ecg", "score", "scored", "verify")  # variables of the page's first block
N_TASKS = 8
UNIT_ECGS = 16
WITHIN_S = 1200.0


@dataclass(frozen=True)
class Place:
    """A folder that the node sees, in which the commands of the page are run."""

    folder: Path
    node: SlurmNode

    def shell(self, script: str) -> str:
        """Run commands of the page and return what they write."""
        done = subprocess.run(
            ["bash", "-euc", script], cwd=self.folder, env=dict(self.node.environment), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, block: str) -> dict[str, str]:
        """Submit the jobs of the page's first block and return their numbers by variable.

        Nothing of the block is changed but the size of a unit, so that few ECGs are many units.
        """
        small = re.sub(r"(--output (?:ecg|scored))\b", rf"\1 --unit-ecgs {UNIT_ECGS}", block)
        assert small.count("--unit-ecgs") == 2
        shown = "; ".join(f'echo "{name} ${name}"' for name in NAMES)
        lines = self.shell(f"{small}\n{shown}").splitlines()
        return {name: number for name, _, number in (line.partition(" ") for line in lines)}

    def log(self, job_id: str, task: int | None = None) -> str:
        """Return the log of a job, or of a task of an array."""
        path = self.folder / (f"slurm-{job_id}.out" if task is None else f"slurm-{job_id}_{task}.out")
        return path.read_text() if path.exists() else ""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "deploy").symlink_to(REPOSITORY / "deploy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        patch.setenv("HOME", str(folder / "no-home-on-nodes"))
        patch.setenv("TMPDIR", str(folder / "node-tmp"))
        (folder / "node-tmp").mkdir()
        made = re.search(r"`(lvm-ai simulate .*?)`", PAGE)
        assert made is not None
        subprocess.run(made[1].split(), cwd=folder, check=True, capture_output=True, timeout=600)
        # As many CPUs as four tasks of the file take, whatever the machine has.
        with slurm_node.slurm_node(folder / "slurm", cpus=16, memory_mb=16_384) as node:
            yield Place(folder, node)


@pytest.fixture(scope="module")
def local(place: Place) -> Path:
    """Do the same without Slurm, in one process each, and return the folder."""
    folder = place.folder / "local"
    ingest = ["ingest", "--input", "cohort/raw", "--output", "local/ecg"]
    score = ["score", "--input", "local/ecg/ecg", "--model", "demo-synthetic-ecg-only", "--output", "local/scored"]
    environment = {**place.node.environment, "HOME": str(place.folder / "home")}
    for argv in (ingest, score):
        command = [sys.executable, "-m", "lvm_ai", *argv, "--unit-ecgs", str(UNIT_ECGS), "--threads", "1"]
        subprocess.run(command, cwd=place.folder, env=environment, check=True, capture_output=True)
    return folder


@dataclass(frozen=True)
class Story:
    """What happened to the tasks of the page's jobs."""

    jobs: dict[str, str]
    ended: dict[str, list[Task]]
    kept: dict[str, int]  # files committed when the last task was killed; times of writing, ns
    left: dict[int, int]  # units that a killed shard had to do then


def units_of(run: Path, shard: int, count: int = N_TASKS) -> list[int]:
    """Return the numbers of a shard's units, every `count`-th of the plan."""
    return list(range(len(json.loads((run / "plan.json").read_text())["units"])))[shard - 1 :: count]


def committed(run: Path, shard: int, count: int = N_TASKS) -> list[int]:
    """Return the numbers of a shard's units that are committed."""
    done = {int(path.name.split("-")[1]) for path in (run / "predictions").glob("unit-*.parquet")}
    return sorted(number for number in done if number % count == shard - 1)


def at_work(place: Place, job_id: str, shard: int) -> Task:
    """Return a task of the score run as soon as it has committed a unit, with others to do."""
    run, end_s = place.folder / "scored", time.monotonic() + WITHIN_S
    while not committed(run, shard):
        assert time.monotonic() < end_s, place.log(job_id, shard)
        time.sleep(0.02)
    return next(task for task in place.node.tasks(job_id) if task.name == f"{job_id}_{shard}")


def kill_command(place: Place, task: Task) -> None:
    """Do `kill -9` to the command of a task, not to its script."""
    for pid in place.node.pids(task.job_id):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if Path(os.fsdecode(words[0])).name.startswith("python"):
            os.kill(pid, signal.SIGKILL)
            return
    raise AssertionError(f"no command of {task.name} is running")


@pytest.fixture(scope="module")
def story(place: Place) -> Story:
    """Run the page's first block; two tasks of its second array are killed, one is put back."""
    node, run, jobs = place.node, place.folder / "scored", place.submit(SUBMIT)
    kill_command(place, at_work(place, jobs["score"], 1))
    left = {1: len(units_of(run, 1)) - len(committed(run, 1))}
    node.command("scancel", "--signal=KILL", f"{at_work(place, jobs['score'], 3).job_id}.0")  # its command alone
    left[3] = len(units_of(run, 3)) - len(committed(run, 3))
    node.command("scontrol", "requeue", at_work(place, jobs["score"], 4).name)
    left[4] = len(units_of(run, 4)) - len(committed(run, 4))
    kept = {str(path): path.stat().st_mtime_ns for path in (run / "predictions").glob("unit-*.parquet")}
    sizes = {name: N_TASKS if name in ("ingest", "score") else 1 for name in NAMES}
    ended = {name: node.wait_until_ended(jobs[name], sizes[name], WITHIN_S) for name in NAMES}
    return Story(jobs, ended, kept, left)


def test_array__jobs_of_the_page_end_well_although_tasks_were_killed(place: Place, story: Story) -> None:
    for name, tasks in story.ended.items():
        states = {(task.state, task.exit_code) for task in tasks}
        assert states == {("COMPLETED", 0)}, f"{name}: {tasks}"
    started_again = {task.name.partition("_")[2] for task in story.ended["score"] if task.restarts}
    assert started_again == {"1", "3", "4"}
    assert "exit code 137" in place.log(story.jobs["score"], 1)
    assert "resuming: " in place.log(story.jobs["score"], 1)
    shown = place.shell(BLOCKS[1])  # the page's own way to look
    assert "score: finished" in shown
    assert "JOBID" in shown


def test_array__bits_are_those_of_one_local_run(place: Place, local: Path, story: Story) -> None:
    assert result_files(place.folder / "ecg") == result_files(local / "ecg")
    assert result_files(place.folder / "scored") == result_files(local / "scored")
    n_ecgs = sum(pq.read_metadata(path).num_rows for path in (local / "ecg" / "ecg").glob("*.parquet"))
    assert n_ecgs > 700
    assert_reconciles(place.folder / "scored", n_ecgs)


def test_array__finished_units_are_not_done_again(story: Story) -> None:
    assert len(story.kept) >= 3
    assert {name: Path(name).stat().st_mtime_ns for name in story.kept} == story.kept


def test_array__each_task_used_the_cpus_and_the_shard_that_slurm_gave_it(place: Place, story: Story) -> None:
    for task in range(1, N_TASKS + 1):
        assert f"--shard {task}/{N_TASKS} --threads 4" in place.log(story.jobs["score"], task)
        assert "threads: 4" in place.log(story.jobs["score"], task)


def test_array__nothing_is_left_on_the_node(place: Place, story: Story) -> None:
    assert list((place.folder / "node-tmp").iterdir()) == []
    assert not (place.folder / "no-home-on-nodes").exists()


def test_finish__names_the_missing_units_and_their_shards(place: Place, local: Path) -> None:
    run, count = place.folder / "partly", 3
    score = "score --input local/ecg/ecg --model demo-synthetic-ecg-only --output partly --unit-ecgs 16"
    submit, file = "sbatch --parsable", "deploy/slurm/array.sbatch"
    part = place.shell(f"{submit} --array=1-{count} {file} {score}").strip()
    end = place.shell(f"{submit} --dependency=afterany:{part} {file} finish partly").strip()
    after = place.shell(f"{submit} --dependency=afterok:{end} {file} verify partly").strip()
    place.node.wait_until(lambda: any(task.state == "RUNNING" for task in place.node.tasks(f"{part}_2")), WITHIN_S)
    place.node.command("scancel", f"{part}_2")
    (finish,) = place.node.wait_until_ended(end, 1, WITHIN_S)
    assert (finish.state, finish.exit_code) == ("FAILED", 1)
    missing = [number for number in units_of(run, 2, count) if number not in committed(run, 2, count)]
    assert len(missing) > 1
    assert f"units are not done ({UNIT_ECGS * len(missing)} ECGs): units {', '.join(map(str, missing))}\n" in (
        place.log(end)
    )
    assert f"they belong to shards 2/{count} ({len(missing)} units)\n" in place.log(end)
    assert not (run / "_SUCCESS").exists()
    (verify,) = place.node.wait_until_ended(after, 1, WITHIN_S)
    assert verify.state == "CANCELLED"
    place.shell(BLOCKS[2].replace("${score}_3", f"{part}_2"))  # the page's own way to start a task again
    place.node.wait_until_ended(part, count, WITHIN_S)
    place.shell("lvm-ai finish partly")
    assert (run / "_SUCCESS").is_file()
    assert result_files(run) == result_files(local / "scored")
