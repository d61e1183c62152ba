"""How far a run is: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter as Totals
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from lvm_core.errors import LvmError

_LINE_EVERY_S: Final = 30.0


class Counter:
    """What happened in this process; workers of other processes are seen in the run folder.

    Attributes:
        first_s: monotonic time at which the first unit began, or None.
        first_cpu_s: processor time of this process until then.
        failures: messages of units that the storage failed.
        stages_s: seconds that finished units spent in each stage.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Start anew."""
        with self._lock:
            self._n = 0
            self.first_s: float | None = None
            self.first_cpu_s = 0.0
            self.failures: list[str] = []
            self.stages_s: Totals[str] = Totals()

    def begin_unit(self) -> None:
        """Note that a unit begins."""
        with self._lock:
            if self.first_s is None:
                self.first_s, self.first_cpu_s = time.monotonic(), time.process_time()

    def advance(self, n: int) -> None:
        """Add ECGs."""
        with self._lock:
            self._n += n

    def add_stages(self, stages_s: Mapping[str, float]) -> None:
        """Add the seconds of a finished unit."""
        with self._lock:
            self.stages_s.update(stages_s)

    def fail(self, message: str) -> None:
        """Note that a unit failed."""
        with self._lock:
            self.failures.append(message)

    @property
    def n(self) -> int:
        """ECGs so far."""
        return self._n


PROGRESS: Final = Counter()


def say(message: str) -> None:
    """Write a line for the user to standard error."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("- ECG/s" if not task.speed else f"{task.speed:.1f} ECG/s")


@contextmanager
def showing(total: int, label: str) -> Iterator[None]:
    """Show progress over `total` ECGs while the block runs."""
    PROGRESS.reset()
    show = _bar if sys.stderr.isatty() else _lines
    with _beside(lambda stop: show(total, label, stop), "lvm-progress"):
        yield


@contextmanager
def every(seconds: float, call: Callable[[], None]) -> Iterator[None]:
    """Call something again and again while the block runs, in a thread of its own.

    Args:
        seconds: between two calls; the first is after as many.
        call: an error in it is told once, and ends the calls.
    """

    def run(stop: threading.Event) -> None:
        while not stop.wait(seconds):
            try:
                call()
            except LvmError as error:
                say(f"warning: {error}")
                return

    with _beside(run, "lvm-ticker"):
        yield


@contextmanager
def _beside(run: Callable[[threading.Event], None], name: str) -> Iterator[None]:
    """Run something in a thread of its own until the block ends, which sets the event."""
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(stop,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _bar(total: int, label: str, stop: threading.Event) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=120) as progress:
        task = progress.add_task(label, total=total)
        while not stop.wait(0.5):
            progress.update(task, completed=PROGRESS.n)
        progress.update(task, completed=PROGRESS.n)


def _lines(total: int, label: str, stop: threading.Event) -> None:
    started = time.monotonic()
    while not stop.wait(_LINE_EVERY_S):
        n, seconds = PROGRESS.n, time.monotonic() - started
        rate = n / seconds
        left = f"{(total - n) / rate / 60:.0f} min left" if rate > 0 else "time left not known"
        say(f"{label}: {n} of {total} ECGs, {rate:.1f} ECG/s, {left}")
