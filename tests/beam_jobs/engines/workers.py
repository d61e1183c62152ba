"""What the tests of engines share: the boot program, and processes that are watched and killed."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from beam_jobs.run.folder import UNDER_WAY_PREFIX, RunFolder
from beam_jobs.run.report import Work, noted_work
from beam_jobs.runners import flow
from tests.beam_jobs.job_helpers import REPOSITORY

Notes = list[Mapping[str, Any]]


def boot_program(folder: Path) -> Path:
    """Write the boot program as an install would, with the code of this repository."""
    path = folder / "lvm-beam-boot"
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from beam_jobs.runners.boot import main\nsys.exit(main())\n"
    )
    path.chmod(0o755)
    return path


def keep_notes(monkeypatch: pytest.MonkeyPatch) -> Notes:
    """Return a list that is filled with what workers noted, before a run removes it."""
    seen: Notes = []

    def noted(folder: RunFolder, shard: tuple[int, int]) -> Work:
        seen.extend(folder.reports(UNDER_WAY_PREFIX).values())
        return noted_work(folder, shard)

    monkeypatch.setattr(flow, "noted_work", noted)
    return seen


def n_committed(output: Path) -> int:
    """Return the units that are committed in a run folder."""
    return len(list((output / "predictions").glob("unit-*.parquet")))


def workers_below(root: psutil.Process) -> list[psutil.Process]:
    """Return the worker processes that a process started, itself or through others."""
    found = []
    for process in root.children(recursive=True):
        try:
            if any(word.startswith("--provision_endpoint") for word in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 500) -> None:
    """Wait until something is so."""
    stop_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < stop_s, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.02)


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something in another thread; an error of it is raised at the end."""
    problems: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        if problems:
            raise problems[0]
