"""What the user sees while a command works: lines, and how far it is."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from lvm_core.errors import LvmError
from lvm_core.wording import counted

_LINE_EVERY_S: Final = 30.0
_COUNT_EVERY_S: Final = 1.0
# Counting may list a folder of many thousand files: it takes at most this share of a thread's time.
_MOST_COUNTING: Final = 0.05


def say(message: str) -> None:
    """Write a line for the user to standard error."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


@contextmanager
def showing(total: int, label: str, count: Callable[[], int], every_s: float | None = None) -> Iterator[None]:
    """Show progress while the block runs: a bar on a terminal, plain lines otherwise.

    `total` are the ECGs to do. `count` returns how many are done; it is called in another thread,
    `every_s` seconds apart (None where it is quick). Where it fails for now, the count before is
    shown.
    """
    stop = threading.Event()
    show = _bar if sys.stderr.isatty() else _lines
    counts = _Counts(count, every_s or _COUNT_EVERY_S)
    thread = threading.Thread(target=show, args=(total, label, counts, stop), name="lvm-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class _Counts:
    """Counts again and again, but not all the time."""

    def __init__(self, count: Callable[[], int], every_s: float) -> None:
        self._count = count
        self._every_s = every_s
        self._next_s = 0.0
        self._n = 0

    def now(self, *, last: bool = False) -> int:
        """Return the newest count; `last` counts again."""
        started = time.monotonic()
        if last or started >= self._next_s:
            with suppress(LvmError):  # the worker meets the same fault and reports it
                self._n = self._count()
            took_s = time.monotonic() - started
            self._next_s = time.monotonic() + max(self._every_s, took_s / _MOST_COUNTING)
        return self._n


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("- ECG/s" if not task.speed else f"{task.speed:.1f} ECG/s")


def _bar(total: int, label: str, counts: _Counts, stop: threading.Event) -> None:
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
            progress.update(task, completed=counts.now())
        progress.update(task, completed=counts.now(last=True))


def _lines(total: int, label: str, counts: _Counts, stop: threading.Event) -> None:
    started = time.monotonic()
    while not stop.wait(_LINE_EVERY_S):
        n, seconds = counts.now(), time.monotonic() - started
        rate = n / seconds
        left = f"{(total - n) / rate / 60:.0f} min left" if rate > 0 else "time left not known"
        say(f"{label}: {n} of {counted(total, 'ECG')}, {rate:.1f} ECG/s, {left}")
