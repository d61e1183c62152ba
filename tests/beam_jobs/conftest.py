"""Fixtures of the tests of whole jobs."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests.beam_jobs import job_runner
from tests.beam_jobs.job_runner import Hooks

Spawn = Callable[..., BaseProcess]
Finish = Callable[..., int]
END_S = 120


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give this process and those that it starts a home of their own: networks are kept there."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("HOME", str(folder))
        yield folder


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace TensorFlow by the fake predictor in jobs that run in this process."""
    monkeypatch.setattr("beam_jobs.scoring.job.shared_predictor", job_runner.fake_shared_predictor())
    monkeypatch.setattr("beam_jobs.run.resources.choose_engine", job_runner.fake_choice)


@pytest.fixture(scope="session")
def spawn() -> Spawn:
    """Return a function that starts a command in a process of its own, with the fake predictor."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.beam_jobs.job_runner"])

    def start(argv: Sequence[str], **hooks: Any) -> BaseProcess:
        given = Hooks(**{"log": os.devnull, **hooks})
        process = context.Process(target=job_runner.run, args=(list(argv), given))
        process.start()
        return process

    return start


@pytest.fixture(scope="session")
def finish(spawn: Spawn) -> Finish:
    """Return a function that runs a command in a process of its own and returns its exit code."""

    def run(argv: Sequence[str], **hooks: Any) -> int:
        return ended(spawn(argv, **hooks))

    return run


def ended(process: BaseProcess) -> int:
    """Wait for a process and return its exit code; -9 after `kill -9`."""
    process.join(END_S)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    process.close()
    assert code is not None, f"the command did not end within {END_S} s"
    return int(code)
