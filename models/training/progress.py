"""What a training run shows: messages, a progress bar, its history as table and picture."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from models.catalogue.saved_model import write_atomically

_LINE_EVERY_S: Final = 60.0

Row = dict[str, float]
"""One epoch of the history: values by the column names of history.csv."""


def say(message: str) -> None:
    """Write a line for the user to standard error."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


class TrainingProgress:
    """Shows how many ECGs of all epochs are done, with a bar on a terminal, or else with lines."""

    def __init__(self, total: int) -> None:
        """Start with none of `total` ECGs done."""
        self._total, self._done, self._begun = total, 0, 0
        self._started_s = self._shown_s = time.monotonic()
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
        self._started_s = self._shown_s = time.monotonic()

    def advance(self, n: int) -> None:
        """Count ECGs."""
        self._done += n
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)
        elif time.monotonic() - self._shown_s >= _LINE_EVERY_S:
            self._shown_s = time.monotonic()
            rate = (self._done - self._begun) / (self._shown_s - self._started_s)
            left_min = (self._total - self._done) / rate / 60
            say(f"training: {self._done} of {self._total} ECGs, {rate:.1f} ECG/s, {left_min:.0f} min left at most")

    def epoch_done(self, row: Row, *, is_best: bool) -> None:
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


def write_history(rows: Sequence[Row], best_epoch: int, folder: Path) -> None:
    """Write history.csv and history.svg; the same rows give the same bytes."""
    write_atomically(folder / "history.csv", _history_csv(rows).encode())
    write_atomically(folder / "history.svg", _history_svg(rows, best_epoch))


def _history_csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["epoch"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _history_svg(rows: Sequence[Row], best_epoch: int) -> bytes:
    """Return a picture: losses on the left, correlation with CMR on the right."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, r = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    losses.plot(epochs, [row["train_loss"] for row in rows], "o-", label="training", color="0.55")
    losses.plot(epochs, [row["valid_loss"] for row in rows], "o-", label="validation", color="C0")
    losses.set(xlabel="epoch", ylabel="loss (log scale)", yscale="log", title="Loss")
    r.plot(epochs, [row["valid_r"] for row in rows], "o-", color="C0", label="validation")
    r.set(xlabel="epoch", ylabel="correlation r", title="Predicted and CMR LV mass")
    r.set_ylim(top=1)
    for axes in (losses, r):
        axes.axvline(best_epoch, color="C1", linewidth=1, linestyle="--", label="best epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    losses.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    losses.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    losses.yaxis.set_minor_formatter(NullFormatter())
    sink = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "lvm-ai"}):  # else the ids inside are random
        figure.savefig(sink, format="svg", metadata={"Date": None})
    return sink.getvalue()
