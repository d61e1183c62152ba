"""Pictures of what moves the predicted mass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lvm_core.beats import PHASES
from lvm_core.leads import LEADS_12
from models.spec import SAMPLING_RATE_HZ

# The layout of a paper ECG: columns of limb leads, augmented leads, V1 to V3, V4 to V6.
_GRID: Final = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
# Orange and purple are told apart with every kind of colour vision.
_COLOURS: Final = "PuOr_r"
_LABELS: Final = {
    "gradient": "change of predicted mass (g per 100 uV in one sample)",
    "integrated": "contribution to predicted mass (g per sample)",
}
_FACTORS: Final = {"gradient": 100.0, "integrated": 1.0}


@dataclass(frozen=True)
class Explained:
    """One ECG and what moves its predicted mass.

    Attributes:
        ecg_id: key of the recording.
        lvm_pred_g: predicted mass, grams.
        method: gradient or integrated.
        leads_uv: (12, 5000) microvolts, `LEADS_12` order.
        saliency: (12, 5000), grams per microvolt (gradient) or grams (integrated).
        peaks: samples of the R peaks.
    """

    ecg_id: str
    lvm_pred_g: float
    method: str
    leads_uv: NDArray[np.float64]
    saliency: NDArray[np.float32]
    peaks: NDArray[np.intp]


def beat_figure(
    one: Explained, trace_uv: NDArray[np.float64], saliency: NDArray[np.float64], n_before: int, label: str
) -> Figure:
    """Return the average beat of the twelve leads with the saliency behind the trace.

    Args:
        one: the ECG.
        trace_uv: (12, m) average beat, microvolts.
        saliency: (12, m) average over beats, in the unit of `one.saliency`.
        n_before: samples before R.
        label: model and its warning.
    """
    figure = Figure(figsize=(11.0, 7.0), layout="constrained")
    grid: Any = figure.subplots(3, 4, sharex=True, sharey=True)
    time_ms = (np.arange(trace_uv.shape[1]) - n_before) * 1000 / SAMPLING_RATE_HZ
    trace_mv = (trace_uv - np.median(trace_uv, axis=1, keepdims=True)) / 1000
    low, high = float(trace_mv.min()) - 0.1, float(trace_mv.max()) + 0.1
    shown = saliency * _FACTORS[one.method]
    limit = float(np.abs(shown).max()) or 1.0
    image: Any = None
    for axes, lead in zip(grid.ravel(), [name for row in _GRID for name in row], strict=True):
        k = LEADS_12.index(lead)
        image = axes.imshow(
            shown[None, k],
            cmap=_COLOURS,
            vmin=-limit,
            vmax=limit,
            aspect="auto",
            extent=(time_ms[0], time_ms[-1], low, high),
            interpolation="nearest",
        )
        axes.plot(time_ms, trace_mv[k], color="black", linewidth=1.1)
        axes.text(0.03, 0.93, lead, transform=axes.transAxes, va="top", weight="bold")
        axes.set(xlim=(time_ms[0], time_ms[-1]), ylim=(low, high))
        axes.set_xticks([-200, 0, 200, 400])
    figure.colorbar(image, ax=grid, shrink=0.7, label=_LABELS[one.method])
    figure.supxlabel("time from R (ms)")
    figure.supylabel("voltage (mV), average beat")
    title = f"{one.ecg_id}: predicted LV mass {one.lvm_pred_g:.0f} g, {one.peaks.size} beats"
    figure.suptitle(f"{title}\n{label}", fontsize=10)
    return figure


def shares_figure(
    table: NDArray[np.float64], time: NDArray[np.float64], n_ecgs: int, method: str, label: str
) -> Figure:
    """Return the shares of saliency by lead and phase.

    Args:
        table: (12, 5) shares, summing to 1.
        time: (5,) share of the samples in each phase.
        n_ecgs: ECGs behind the shares.
        method: gradient or integrated.
        label: model and its warning.
    """
    figure = Figure(figsize=(7.0, 7.0), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(100 * table, cmap="Blues", aspect="auto", vmin=0.0)
    names = [
        f"{phase}\n{100 * share:.0f} % of saliency\n{100 * of_time:.0f} % of time"
        for phase, share, of_time in zip(PHASES, table.sum(axis=0), time, strict=True)
    ]
    axes.set_xticks(range(len(PHASES)), names, fontsize=8)
    axes.set_yticks(range(len(LEADS_12)), LEADS_12)
    dark = 100 * table.max() / 2
    for (row, column), share in np.ndenumerate(100 * table):
        colour = "white" if share > dark else "black"
        axes.text(column, row, f"{share:.1f}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, shrink=0.7, label="share of saliency (%)")
    axes.set_title(f"{n_ecgs} ECGs, {method}\n{label}", fontsize=9, wrap=True)
    return figure
