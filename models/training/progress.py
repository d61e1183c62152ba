"""How far a training run is: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_EVERY_S: Final = 60.0


def say(message: str) -> None:
    """Write a line for the user to standard error."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


class TrainingProgress:
    """Counts ECGs over all epochs and shows them; a context manager."""

    def __init__(self, total: int) -> None:
        """`total` is the number of ECGs of all epochs."""
        self._total, self._done, self._begun = total, 0, 0
        self._started_s = self._told_s = time.monotonic()
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("training"),
                BarColumn(),
                TextColumn("{task.percentage:.0f} %"),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("training", total=total)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start_at(self, n: int) -> None:
        """Note that `n` ECGs were done by an earlier call, and begin to measure the rate."""
        self._done = self._begun = n
        self._started_s = self._told_s = time.monotonic()

    def advance(self, n: int) -> None:
        """Count ECGs."""
        self._done += n
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)
        elif time.monotonic() - self._told_s >= _LINE_EVERY_S:
            self._told_s = time.monotonic()
            rate = (self._done - self._begun) / (self._told_s - self._started_s)
            left_min = (self._total - self._done) / rate / 60
            say(f"training: {self._done} of {self._total} ECGs, {rate:.1f} ECG/s, {left_min:.0f} min left at most")

    def epoch_done(self, row: dict[str, float], *, is_best: bool) -> None:
        """Show the line of an epoch."""
        text = (
            f"epoch {row['epoch']:.0f}: training loss {row['train_loss']:.4f}, validation loss "
            f"{row['valid_loss']:.4f}, r {row['valid_r']:.3f}, {row['seconds']:.0f} s"
            f"{' (best so far)' if is_best else ''}"
        )
        if self._bar is not None:
            self._bar.console.print(text)
        else:
            say(text)
