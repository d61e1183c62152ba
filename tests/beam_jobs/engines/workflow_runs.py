"""What the tests of workflow engines share: a command, a cohort, a killer, and a comparison."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.beam_jobs.job_helpers import REPOSITORY, people, people_table

FULL_MODEL = "demo-synthetic"
N_ECGS = 160
UNIT_ECGS = 16
DEADLINE_S = 300.0
# Kept small here, so that every shard has several units and a killed one has some left.
SETTINGS = ("--unit-ecgs", str(UNIT_ECGS), "--batch", "8")


@dataclass(frozen=True)
class Cohort:
    """ECGs of synthetic people, and the same run made without any engine."""

    ecgs: Path  # Parquet, in row groups of `UNIT_ECGS`
    participants: Path
    local: Path  # the run folder to compare with


def write_cohort(folder: Path, environment: Mapping[str, str]) -> Cohort:
    """Write Parquet with `N_ECGS` ECGs and a participant table, and score them here."""
    made = people(N_ECGS)
    ecgs = folder / "ecg" / "cohort.parquet"
    ecgs.parent.mkdir(parents=True)
    pq.write_table(people_table(made), ecgs, row_group_size=UNIT_ECGS)
    participants = folder / "participants.csv"
    with participants.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["participant_id", "age_years", "sex", "height_cm", "weight_kg"])
        for row in zip(made.participant_id, made.age_years, made.sex, made.height_cm, made.weight_kg, strict=True):
            writer.writerow(row)
    local = folder / "local"
    words = ["--input", ecgs.parent, "--participants", participants, "--model", FULL_MODEL, "--output", local]
    subprocess.run(["lvm-ai", "score", *words, *SETTINGS], env=environment, check=True, capture_output=True)
    return Cohort(ecgs, participants, local)


def environment_with_command(folder: Path) -> dict[str, str]:
    """Return an environment in which `lvm-ai` is this checkout, whatever the working folder."""
    program = folder / "bin" / "lvm-ai"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} -m lvm_ai "$@"\n')
    program.chmod(0o755)
    rest = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**rest, "PATH": f"{program.parent}:{os.environ['PATH']}", "TF_CPP_MIN_LOG_LEVEL": "3"}


def program_or_none(name: str) -> str | None:
    """Return a program of the PATH, or one beside this interpreter."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.is_file() else shutil.which(name)


def commits(run_folder: Path) -> dict[str, bytes]:
    """Return what a run folder promises to be the same everywhere: the plan and the bytes of each unit."""
    files = [run_folder / "plan.json", *run_folder.glob("predictions/*"), *run_folder.glob("rejects/*")]
    return {str(file.relative_to(run_folder)): file.read_bytes() for file in sorted(files)}


def table_of(run_folder: Path) -> pa.Table:
    """Return all predictions of a run folder, by ECG."""
    return pq.read_table(run_folder / "predictions").sort_by("ecg_id")


@dataclass
class Killed:
    """The process that was killed, and what it had done."""

    folder: Path | None = None  # its run folder
    n_committed: int = 0  # units it had finished
    seen: set[int] = field(default_factory=set)  # process ids of this shard, in the order of attempts


@contextlib.contextmanager
def killing_once(root: Path, shard: str) -> Iterator[Killed]:
    """Kill -9 the process that scores `shard` (`i/n`) below `root`, once it has finished a unit.

    The process is found by its arguments and its working folder: one below `root`, also where it
    sees that folder under another path. Nothing else is killed.
    """
    killed, stop = Killed(), threading.Event()

    def watch() -> None:
        while not stop.wait(0.02) and killed.folder is None:
            for pid in _scoring(root, shard):
                folder = Path(f"/proc/{pid}/cwd/part")
                with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                    n_committed = len(list(folder.glob("predictions/[!.]*.parquet")))
                    if n_committed:
                        os.kill(pid, signal.SIGKILL)
                        killed.folder, killed.n_committed = folder, n_committed
                        break

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def _scoring(root: Path, shard: str) -> Iterator[int]:
    own = {(status.st_dev, status.st_ino) for status in _folders(root)}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if not entry.name.isdigit():
                continue
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if "score" not in words or shard not in words or "-m" not in words:
                continue
            status = (entry / "cwd").stat()
            if (status.st_dev, status.st_ino) in own:
                yield int(entry.name)


def _folders(root: Path) -> Iterator[os.stat_result]:
    for folder, _, _ in os.walk(root):
        with contextlib.suppress(FileNotFoundError):
            yield os.stat(folder)


def wait_for(what: threading.Event, seconds: float = DEADLINE_S) -> None:
    """Wait for an event; fail the test where it does not come."""
    started = time.monotonic()
    assert what.wait(seconds), f"nothing after {time.monotonic() - started:.0f} s"
