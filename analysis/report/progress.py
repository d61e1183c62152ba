"""How far an analysis is: a bar on a terminal, plain lines elsewhere, always on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Steps:
    """Steps of known or not yet known number, one after the other."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=None)
        self._done = -1
        self._total: int | None = None
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        """Show the bar."""
        if self._terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._terminal:
            self._bar.stop()

    def expect(self, total: int) -> None:
        """Say how many steps there are in all."""
        self._total = total
        self._bar.update(self._task, total=total)

    def start(self, name: str) -> None:
        """Say that a step begins, and with it that the one before is done."""
        self._done += 1
        if self._terminal:
            self._bar.update(self._task, completed=self._done, description=name)
            return
        of = "" if self._total is None else f" of {self._total}"
        seconds = time.monotonic() - self._since
        sys.stderr.write(f"analyse: {name} ({self._done + 1}{of}, after {seconds:.0f} s)\n")
