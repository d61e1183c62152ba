"""Scaled Schoenfeld residuals in bins of events: how a log hazard ratio moves with time."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from numpy.typing import NDArray

from analysis.report.figures import (
    BAND_ALPHA,
    GREY,
    SERIES,
    WIDTH_IN,
    floats,
    in_style,
    legend_above,
    new_canvas,
    ratio_ticks,
    sentence,
    wrapped,
)

_HEIGHT_IN: Final = 3.9


@in_style
def schoenfeld(
    rows: pd.DataFrame,
    *,
    hr_log: float,
    lo_log: float,
    hi_log: float,
    exposure_name: str,
    outcome_name: str,
    is_age: bool = False,
) -> Figure:
    """Return mean residuals by time beside the log hazard ratio of the Cox model.

    Args:
        rows: masked, a row a bin of events; `years` (their mean time), `beta` (mean scaled
            residual, log hazard ratio), `lo`, `hi`, `n_events`.
        hr_log: log hazard ratio of the Cox model; NaN where it is hidden.
        lo_log: its lower 95 % limit.
        hi_log: its upper 95 % limit.
        exposure_name: with its step, as "predicted LV mass index, per SD".
        outcome_name: in words.
        is_age: `years` are attained age, and not time since the index ECG.
    """
    canvas = new_canvas(WIDTH_IN, _HEIGHT_IN, "constrained")
    axes = canvas.subplots()
    known = rows[np.isfinite(floats(rows, "beta"))]
    years, beta = floats(known, "years"), floats(known, "beta")
    axes.axhline(0, color=GREY, linewidth=0.8, linestyle="dotted", zorder=0)
    orange, blue = SERIES[1].colour, SERIES[0].colour
    if np.isfinite([hr_log, lo_log, hi_log]).all():
        axes.axhspan(lo_log, hi_log, color=orange, alpha=BAND_ALPHA, linewidth=0)
        axes.axhline(hr_log, color=orange, linestyle=SERIES[1].dashes)
    axes.vlines(years, floats(known, "lo"), floats(known, "hi"), color=blue, linewidth=1.2)
    axes.plot(years, beta, color=blue, linestyle="none", marker="o", markersize=5)
    _time_axis(axes, years, is_age=is_age)
    axes.margins(y=0.08)
    axes.set_ylabel(wrapped(f"Log hazard ratio of {outcome_name}", 2.6))
    _ratio_axis(axes)
    legend_above(canvas, _handles(), sentence(exposure_name))
    return canvas


def _time_axis(axes: Axes, years: NDArray[np.float64], *, is_age: bool) -> None:
    """From the index ECG on; an axis of ages has no reason to begin at birth."""
    if is_age:
        room = 0.05 * float(np.ptp(years)) + 0.5 if len(years) else 0.5
        low, high = (float(years.min()), float(years.max())) if len(years) else (40.0, 90.0)
        axes.set_xlim(low - room, high + room)
        axes.set_xlabel("Attained age, years")
    else:
        axes.set_xlim(left=0, right=float(years.max()) * 1.05 if len(years) else 1)
        axes.set_xlabel("Years since the index ECG")


def _ratio_axis(axes: Axes) -> None:
    """Give the same heights as hazard ratios at the right."""
    right = axes.twinx()
    low, high = axes.get_ylim()
    right.set_ylim(low, high)
    ticks = ratio_ticks(float(np.exp(low)), float(np.exp(high)))
    right.yaxis.set_major_locator(FixedLocator([float(np.log(tick)) for tick in ticks]))
    right.yaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
    right.yaxis.set_minor_locator(NullLocator())
    right.spines["right"].set_visible(True)
    right.set_ylabel("Hazard ratio")


def _handles() -> list[Line2D]:
    orange = SERIES[1].colour
    return [
        Line2D(
            [],
            [],
            color=SERIES[0].colour,
            marker="o",
            markersize=5,
            label="mean scaled residual of a bin of events, 95 % limits",
        ),
        Line2D([], [], color=orange, linestyle=SERIES[1].dashes, label="Cox model, 95 % limits"),
        Line2D([], [], color=GREY, linewidth=0.8, linestyle="dotted", label="no association"),
    ]


def schoenfeld_alt(
    rows: pd.DataFrame,
    *,
    hr_log: float,
    lo_log: float,
    hi_log: float,
    exposure_name: str,
    outcome_name: str,
    is_age: bool = False,
) -> str:
    """Return what `schoenfeld` shows, for who cannot see it; same arguments."""
    known = rows[np.isfinite(floats(rows, "beta"))]
    at = "age {years:.1f}" if is_age else "{years:.1f} years"
    told = [
        f"{row['beta']:.2f} at {at.format(years=row['years'])}"
        for row in known.iloc[sorted({0, len(known) - 1}) if len(known) else []].to_dict("records")
    ]
    cox = f"{hr_log:.2f} ({lo_log:.2f} to {hi_log:.2f})" if np.isfinite([hr_log, lo_log, hi_log]).all() else "not shown"
    return (
        f"Mean scaled Schoenfeld residuals of {exposure_name} for {outcome_name} in {len(known)} "
        f"bins of events over {'attained age' if is_age else 'time'}, first and last: "
        f"{'; '.join(told) or 'not shown'}. The log hazard ratio of the Cox model is {cox}."
    )
