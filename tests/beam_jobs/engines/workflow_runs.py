"""What the tests of workflow engines share: a command, a cohort, a killer, and a comparison."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow.parquet as pq

from tests.beam_jobs.job_helpers import REPOSITORY, people, people_table

FULL_MODEL = "demo-synthetic"
N_ECGS = 160
UNIT_ECGS = 16
# Kept small here, so that every shard has several units and a killed one has some left.
SETTINGS = ("--unit-ecgs", str(UNIT_ECGS), "--batch", "8")


@dataclass(frozen=True)
class Cohort:
    """ECGs of synthetic people, and the same run made without any engine."""

    ecgs: Path  # Parquet, in row groups of `UNIT_ECGS`
    participants: Path
    local: Path  # the run folder to compare with


@cache
def shared_cohort(folder: Path) -> Cohort:
    """Write Parquet with `N_ECGS` ECGs and a table of people, and score them; once per folder."""
    made = people(N_ECGS)
    ecgs = folder / "workflow-cohort" / "ecg" / "cohort.parquet"
    ecgs.parent.mkdir(parents=True)
    pq.write_table(people_table(made), ecgs, row_group_size=UNIT_ECGS)
    participants = ecgs.parents[1] / "participants.csv"
    with participants.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["participant_id", "age_years", "sex", "height_cm", "weight_kg"])
        for row in zip(made.participant_id, made.age_years, made.sex, made.height_cm, made.weight_kg, strict=True):
            writer.writerow(row)
    local = ecgs.parents[1] / "local"
    words = ["--input", ecgs.parent, "--participants", participants, "--model", FULL_MODEL, "--output", local]
    environment = environment_with_command(ecgs.parents[1])
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


_RECORDER = """#!/bin/sh
{ printf '%s\\037' "$@"; echo; } >> RECORD
case $1 in
  finish) echo '{}' > "$2/run_report.json" ;;
  analyse) mkdir -p study/export ;;
  *)
    while [ "$1" != --output ]; do shift; done
    mkdir -p "$2/predictions"
    echo plan > "$2/plan.json" ;;
esac
"""


def environment_with_recorder(folder: Path) -> dict[str, str]:
    """Return an environment in which `lvm-ai` does nothing but to write down its arguments."""
    environment = environment_with_command(folder)
    (folder / "bin" / "lvm-ai").write_text(_RECORDER.replace("RECORD", str(folder / "record")))
    return environment


def recorded(folder: Path) -> list[list[str]]:
    """Return the arguments of each call, sorted; of paths, the last part."""
    lines = (folder / "record").read_text().splitlines()
    calls = [line.split("\x1f")[:-1] for line in lines]
    return sorted([Path(word).name if word.startswith("/") else word for word in call] for call in calls)


def program_or_none(name: str) -> str | None:
    """Return a program that `make engines` installs, or one of the PATH."""
    return shutil.which(name, path=os.pathsep.join([str(REPOSITORY / ".venv-engines" / "bin"), os.environ["PATH"]]))


def commits(run_folder: Path) -> dict[str, bytes]:
    """Return what is promised to be the same everywhere, as bytes: the plan and files of units."""
    folders = ("predictions", "ecg", "rejects")
    files = [run_folder / "plan.json", *(file for name in folders for file in run_folder.glob(f"{name}/*"))]
    return {str(file.relative_to(run_folder)): file.read_bytes() for file in sorted(files)}


def assert_closed(run_folder: Path, n_ecgs: int) -> None:
    """Fail unless a run is closed, and its report and its tables hold every ECG once."""
    assert (run_folder / "_SUCCESS").is_file()
    counts = json.loads((run_folder / "run_report.json").read_text())["counts"]
    assert counts == {"read": n_ecgs, "predicted": n_ecgs, "rejected": {}}
    ids = pq.read_table(run_folder / "predictions", columns=["ecg_id"]).column("ecg_id").to_pylist()
    assert len(ids) == len(set(ids)) == n_ecgs


def blocks_of(page: str) -> list[tuple[str, str]]:
    """Return the code blocks of a page of `docs`: the language of each, and its text."""
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run_commands(page: str, folder: Path, environment: Mapping[str, str], json_name: str) -> None:
    """Run the commands of a page line by line, in a folder that looks like this checkout.

    Commands are in blocks without a language; a block of JSON is the file that they name.
    """
    (folder / "deploy").symlink_to(REPOSITORY / "deploy")
    for language, text in blocks_of(page):
        if language == "json":
            (folder / json_name).write_text(text)
    for language, text in blocks_of(page):
        for line in text.splitlines() if language == "" else ():
            done = subprocess.run(
                ["/bin/bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, timeout=1800
            )
            assert done.returncode == 0, f"{line}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


@dataclass
class Killed:
    """The process that was killed, and what it had done."""

    n_committed: int = 0  # units it had finished; 0 where nothing was killed


@contextlib.contextmanager
def killing_once(root: Path, shard: str) -> Iterator[Killed]:
    """Kill -9 the process that scores `shard` (`i/n`) below `root`, once it has finished a unit.

    The process is found by its arguments and its working folder: one below `root`, also where it
    sees that folder under another path. Nothing else is killed.
    """
    killed, stop = Killed(), threading.Event()

    def watch() -> None:
        while not stop.wait(0.01) and not killed.n_committed:
            for pid in _scoring(root, shard):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                    done = Path(f"/proc/{pid}/cwd").glob("part*/predictions/[!.]*.parquet")
                    if n_committed := len(list(done)):
                        os.kill(pid, signal.SIGKILL)
                        killed.n_committed = n_committed
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
            if "python" not in words[0] or "score" not in words or shard not in words:
                continue
            status = (entry / "cwd").stat()
            if (status.st_dev, status.st_ino) in own:
                yield int(entry.name)


def _folders(root: Path) -> Iterator[os.stat_result]:
    for folder, _, _ in os.walk(root):
        with contextlib.suppress(FileNotFoundError):
            yield os.stat(folder)
