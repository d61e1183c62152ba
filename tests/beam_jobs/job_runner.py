"""A command line in a process of its own with the fake predictor, which can kill itself.

Used in two ways: through multiprocessing's fork server, which has imported everything once, so
that dozens of processes take seconds; and as `python -m tests.beam_jobs.job_runner OPTIONS -- ...`
where a process must begin from nothing (stores, whose clients do not survive a fork).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import beam_jobs.ingest
import beam_jobs.run.resources
import beam_jobs.score
import beam_jobs.scoring.job
import beam_jobs.verify
import beam_jobs.withdraw
import lvm_ai
from beam_jobs.reading.storage import Storage
from models.catalogue.known import ModelSource
from models.catalogue.spec import Predictions
from models.engines.choosing import EngineChoice, EngineName
from models.machine.runtime import Device
from tests.fakes import FakePredictor


@dataclass(frozen=True)
class Hooks:
    """What is done to a process."""

    log: str | None = None  # file that gets stdout and stderr
    writes: str | None = None  # file that gets the name of each file written atomically, one per line
    # Kill -9 instead of this `os.fsync`, from 1: odd ones are of a temporary file that is written
    # and not renamed, even ones of the folder after the rename.
    kill_at_fsync: int = 0
    kill_at_write: int = 0  # kill -9 instead of this call of `Storage.write_atomic`, from 1
    sleep_s: float = 0.0  # seconds that each batch takes


class _SlowPredictor(FakePredictor):
    def __init__(self, sleep_s: float, **options: Any) -> None:
        super().__init__(**options)
        self._sleep_s = sleep_s

    def predict(self, *args: Any, **kwargs: Any) -> Predictions:
        time.sleep(self._sleep_s)
        return super().predict(*args, **kwargs)


def fake_shared_predictor(sleep_s: float = 0.0) -> Callable[..., FakePredictor]:
    """Return a stand-in for `models.engines.predictor.shared_predictor`."""

    def make(model: ModelSource, *, batch_size: int, **_: object) -> FakePredictor:
        needs = model.spec.needs_demographics
        return _SlowPredictor(sleep_s, needs_demographics=needs, batch_size=batch_size)

    return make


def fake_choice(models: Sequence[ModelSource], **_: object) -> EngineChoice:
    """Stand in for `choose_engine`: no model is loaded to see what is fastest."""
    return EngineChoice(EngineName.TENSORFLOW, Device.CPU)


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def _hook_fsync(kill_at: int) -> None:
    original, n_calls = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == kill_at:
            _kill_self()
        original(descriptor)

    os.fsync = fsync


def _hook_writes(kill_at: int, writes: str | None) -> None:
    original, n_calls = Storage.write_atomic, 0

    def write_atomic(self: Storage, uri: str, data: bytes, *, private: bool = False) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == kill_at:
            _kill_self()
        original(self, uri, data, private=private)
        if writes is not None:
            with Path(writes).open("a") as stream:
                stream.write("/".join(uri.split("/")[-2:]) + "\n")

    Storage.write_atomic = write_atomic  # type: ignore[method-assign]


def run(argv: Sequence[str], hooks: Hooks) -> None:
    """Run a command in this process, which ends with it."""
    if hooks.log is not None:
        descriptor = os.open(hooks.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
    beam_jobs.scoring.job.shared_predictor = fake_shared_predictor(hooks.sleep_s)  # type: ignore[assignment]
    beam_jobs.run.resources.choose_engine = fake_choice  # type: ignore[assignment]
    if hooks.kill_at_fsync:
        _hook_fsync(hooks.kill_at_fsync)
    _hook_writes(hooks.kill_at_write, hooks.writes)
    code = lvm_ai.main(argv)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--writes")
    parser.add_argument("--kill-at-write", type=int, default=0)
    parser.add_argument("--sleep-s", type=float, default=0.0)
    parser.add_argument("argv", nargs="+")
    args = parser.parse_args()
    hooks = Hooks(None, args.writes, 0, args.kill_at_write, args.sleep_s)
    run(args.argv, hooks)


if __name__ == "__main__":
    main()
