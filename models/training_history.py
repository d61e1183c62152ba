"""The history of a run: history.csv, and the picture of its curves."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from models.saved_model import write_atomically

Row = dict[str, float]


def write_history(rows: Sequence[Row], best_epoch: int, folder: Path) -> None:
    """Write history.csv and history.svg; the same rows give the same table."""
    write_atomically(folder / "history.csv", history_csv(rows).encode())
    write_atomically(folder / "history.svg", history_svg(rows, best_epoch))


def history_csv(rows: Sequence[Row]) -> str:
    """Return the history as CSV: one line an epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["epoch"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def history_svg(rows: Sequence[Row], best_epoch: int) -> bytes:
    """Return a picture: losses on the left, correlation with CMR on the right.

    The same rows give the same bytes.
    """
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
