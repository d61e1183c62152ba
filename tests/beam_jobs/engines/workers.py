"""What the tests of engines share: the boot program, and processes that are watched and killed."""

from __future__ import annotations

import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from beam_jobs.run.folder import UNDER_WAY_PREFIX, RunFolder
from beam_jobs.run.report import Work, noted_work
from beam_jobs.runners import flow
from tests.beam_jobs.job_helpers import CLINICAL_LEADS, REPOSITORY, people
from tests.file_builders import cardiosoft_xml

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


def write_raw(folder: Path, n: int) -> None:
    """Write device files of synthetic people."""
    folder.mkdir()
    made = people(n)
    for i, ecg_id in enumerate(made.ecg_id):
        leads = dict(zip(CLINICAL_LEADS, made.counts[i], strict=True))
        (folder / f"{ecg_id}.xml").write_bytes(cardiosoft_xml(leads))


def keep_notes(monkeypatch: pytest.MonkeyPatch) -> Notes:
    """Return a list that is filled with what workers noted, before a run removes it."""
    seen: Notes = []

    def noted(folder: RunFolder, shard: tuple[int, int]) -> Work:
        seen.extend(folder.reports(UNDER_WAY_PREFIX).values())
        return noted_work(folder, shard)

    monkeypatch.setattr(flow, "noted_work", noted)
    return seen


def commands_of(page: str) -> list[list[str]]:
    """Return the words of every command in the blocks of a page of docs/."""
    blocks = (REPOSITORY / "docs" / page).read_text(encoding="utf-8").split("```")[1::2]
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


def n_committed(output: Path) -> int:
    """Return the units that are committed in a run folder."""
    return sum(len(list((output / name).glob("unit-*.parquet"))) for name in ("predictions", "ecg"))


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


def listening_on(processes: Sequence[psutil.Process], word: str) -> set[str]:
    """Return where those of some processes listen that have a word in their command line."""
    found = set()
    for process in processes:
        if word in process.cmdline():
            ports = (one for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN)
            found.update(one.laddr.ip.removeprefix("::ffff:") for one in ports)
    return found


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 500) -> None:
    """Wait until something is so."""
    stop_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < stop_s, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.05)


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
