"""Runs that lose a random process at a random moment, until each has ended in the same bits.

    python -m tests.beam_jobs.engines.random_kills --engine flink --runs 10 --seed 1

Each run is `lvm-ai score` on a real cluster, in a process of its own. At a random moment a random
process is killed by `kill -9`: the command itself, a worker process, or a machine's process of the
engine (which is replaced). Where the command did not end well, the same command is run again. Then
the bytes of all results are compared with those of a run on this machine. Every line of the output
is JSON: what was killed and when, how often the command was run, and how many units were committed
more than once. The exit code is 1 when a run differs.

Another engine is one more entry of `ENGINES`: what starts a cluster, the options of the command,
and the processes that may be killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.beam_jobs.engines.flink_cluster import FlinkCluster
from tests.beam_jobs.engines.workers import boot_program
from tests.beam_jobs.job_helpers import REPOSITORY, result_files, score_argv, write_cohort

MOST_COMMANDS: Final = 5
LAUNCHER: Final = "launcher"
_LOOK_EVERY_S: Final = 0.02


@dataclass(frozen=True)
class Engine:
    """A cluster that runs, as far as this program needs it."""

    options: Sequence[str]  # of the command
    victims: Callable[[], Mapping[str, Sequence[psutil.Process]]]  # by kind, those that run now
    replace: Callable[[str], None]  # called with the kind of what was killed
    ready: Callable[[], None]  # waits until the cluster is whole again


@contextmanager
def _flink(folder: Path) -> Iterator[Engine]:
    with FlinkCluster(folder / "flink") as cluster:
        cluster.start(2, 1800)

        def replace(kind: str) -> None:
            if kind == "TaskManager":
                cluster.start_task_manager()

        yield Engine(
            cluster.options(boot_program(folder)),
            lambda: {"worker": cluster.workers(), "TaskManager": cluster.alive()},
            replace,
            lambda: cluster.wait_for_slots(4, 1800),
        )


ENGINES: Final[Mapping[str, Callable[[Path], AbstractContextManager[Engine]]]] = {"flink": _flink}


class Commits:
    """Counts how often units are committed: each commit is a new file under the old name."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._seen: set[tuple[str, int, int]] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Commits:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    @property
    def repeated(self) -> int:
        """Units that were committed again after a commit."""
        return len(self._seen) - len({name for name, _, _ in self._seen})

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_EVERY_S):
            self._look()

    def _look(self) -> None:
        for path in (self._output / "predictions").glob("unit-*.parquet"):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            self._seen.add((path.name, found.st_ino, found.st_mtime_ns))


def _start(argv: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "LVM_BEAM_LOG_DIR": str(log.parent / "workers")}
    with log.open("ab") as stream:
        command = [sys.executable, "-m", "lvm_ai", *argv]
        return subprocess.Popen(command, stderr=stream, env=environment, cwd=REPOSITORY)


def _begun(output: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a unit is committed, or the command has ended."""
    while process.poll() is None and not list((output / "predictions").glob("unit-*.parquet")):
        time.sleep(_LOOK_EVERY_S)


def one_run(engine: Engine, inputs: Path, folder: Path, scoring_s: float, choose: random.Random) -> dict[str, object]:
    """Do one run with one kill; return what happened.

    The moment is within the time of the plan, the job server and the units: a third of the kills
    come before the first unit, the others within `scoring_s` seconds after it.
    """
    engine.ready()
    output = folder / "out"
    argv = score_argv(inputs, output, *engine.options)
    killed, begin_s = "nothing", time.monotonic()
    moment: float | None = None
    codes: list[int] = []
    with Commits(output) as commits:
        while not codes or (codes[-1] != 0 and len(codes) < MOST_COMMANDS):
            process = _start(argv, folder / "command.log")
            if not codes:
                early = choose.random() < 1 / 3
                if not early:
                    _begun(output, process)
                time.sleep(choose.uniform(0, scoring_s))
                victims = {LAUNCHER: [psutil.Process(process.pid)], **engine.victims()}
                kinds = sorted(kind for kind, found in victims.items() if found)
                kind = choose.choice(kinds)
                if process.poll() is None:
                    choose.choice(list(victims[kind])).kill()
                    killed, moment = kind, round(time.monotonic() - begin_s, 1)
                    engine.replace(kind)
            codes.append(process.wait())
    return {
        "killed": killed,
        "after_s": moment,
        "seconds": round(time.monotonic() - begin_s, 1),
        "exit_codes": codes,
        "units": len(list((output / "predictions").glob("unit-*.parquet"))),
        "committed_again": commits.repeated,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Do the runs; return 1 when one differs."""
    parser = argparse.ArgumentParser(description="Runs that lose a random process at a random moment.")
    parser.add_argument("--engine", choices=sorted(ENGINES), default="flink")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ecgs", type=int, default=320)
    given = parser.parse_args(argv)
    choose, bad = random.Random(given.seed), 0
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        folder = Path(name)
        write_cohort(folder / "in", given.ecgs, n_files=4)
        local = _start(score_argv(folder / "in", folder / "local"), folder / "local.log")
        if local.wait() != 0:
            raise RuntimeError((folder / "local.log").read_text())
        expected = result_files(folder / "local")
        scoring_s = json.loads((folder / "local" / "run_report.json").read_text())["timing_s"]["scoring"]
        with ENGINES[given.engine](folder) as engine:
            for number in range(given.runs):
                own = folder / f"run-{number}"
                own.mkdir()
                found = one_run(engine, folder / "in", own, max(2.0, scoring_s), choose)
                is_same = result_files(own / "out") == expected and (own / "out" / "_SUCCESS").is_file()
                bad += not is_same
                line = {"run": number + 1, "engine": given.engine, **found, "same_bits": is_same}
                sys.stdout.write(f"{json.dumps(line)}\n")
                sys.stdout.flush()
                if not is_same:
                    sys.stderr.write((own / "command.log").read_text())
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
