"""A command watched from outside: when it was ready, how long it took, what it cost."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

READY, DONE = "READY", "DONE"
_EVERY_S = 0.1


@dataclass(frozen=True)
class Watched:
    """What a command cost.

    Attributes:
        code: exit code.
        startup_s: from its start to the line READY.
        scoring_s: from READY to the line DONE.
        cpu_s: processor time of it and its children between the two.
        peak_mb: largest memory of it and its children together, each page counted once a process.
        n: the number that DONE states.
        tail: last lines of its errors.
    """

    code: int
    startup_s: float
    scoring_s: float
    cpu_s: float
    peak_mb: float
    n: int
    tail: str

    @property
    def ecg_per_s(self) -> float:
        """ECGs per second, start-up apart."""
        return self.n / self.scoring_s if self.scoring_s > 0 else 0.0


class _Tree:
    """Processor time and memory of a process and all that it started."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._cpu_s: dict[int, float] = {}
        self.peak_mb = 0.0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self.sample()

    def sample(self) -> float:
        """Look once and return the processor seconds so far."""
        rss = 0.0
        with self._lock:
            processes = []
            with contextlib.suppress(psutil.NoSuchProcess):
                processes = [self._root, *self._root.children(recursive=True)]
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    times = process.cpu_times()
                    self._cpu_s[process.pid] = times.user + times.system
                    rss += process.memory_info().rss
            self.peak_mb = max(self.peak_mb, rss / 1e6)
            return sum(self._cpu_s.values())

    def stop(self) -> None:
        """End the sampling."""
        self._stop.set()
        self._thread.join()


def watch(command: Sequence[str], log: Path, *, kill_after_s: float | None = None) -> Watched:
    """Run a command that writes READY and `DONE n` to standard output.

    Args:
        command: to run.
        log: where its errors go.
        kill_after_s: kill it and all that it started that long after READY.
    """
    started = time.perf_counter()
    with log.open("w") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    tree = _Tree(child.pid)
    ready = done = started
    cpu_ready = cpu_done = 0.0
    n = 0
    assert child.stdout is not None
    for line in child.stdout:
        word, _, rest = line.strip().partition(" ")
        if word == READY:
            ready, cpu_ready = time.perf_counter(), tree.sample()
            if kill_after_s is not None:
                threading.Timer(kill_after_s, _kill, (child.pid,)).start()
        elif word == DONE:
            done, cpu_done, n = time.perf_counter(), tree.sample(), int(rest)
    code = child.wait()
    tree.stop()
    tail = log.read_text(errors="replace").strip().splitlines()[-3:]
    return Watched(
        code, ready - started, max(0.0, done - ready), max(0.0, cpu_done - cpu_ready), tree.peak_mb, n, "\n".join(tail)
    )


def _kill(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
