"""Dose-response: the hazard ratio along an exposure, above a histogram of the exposure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from numpy.typing import NDArray

from analysis.disclosure.masking import HIDDEN
from analysis.report.figures.drawing import (
    BAND_ALPHA,
    GREY,
    LIGHT,
    SERIES,
    WIDTH_IN,
    count_text,
    floats,
    in_style,
    legend_above,
    new_canvas,
    ratio_range,
    ratio_ticks,
    sentence,
    use_ratio_axis,
    use_round_steps,
    wrapped,
)

_HEIGHT_IN: Final = 4.9
# Limits are vertical, the curve is not; black and grey, so that they differ from it in colour.
_LIMIT_STYLES: Final = ("dashed", "dashdot", "dotted")
_KNOT_TOP: Final = 0.05


@in_style
def dose_response(
    curve: pd.DataFrame,
    histogram: pd.DataFrame,
    *,
    knots: Sequence[float],
    reference: float,
    limits_by_sex: Mapping[str, float],
    exposure_name: str,
    exposure_unit: str,
    outcome_name: str,
) -> Figure:
    """Return a spline of the hazard ratio (log axis) above the histogram of the exposure.

    Args:
        curve: masked; `value`, `hr`, `lo`, `hi`, ascending.
        histogram: masked; `left`, `right`, `n_people` (or `n`); bins of few people are not there.
        knots: of the spline, in the exposure's unit: short lines on the axis.
        reference: value of hazard ratio 1.
        limits_by_sex: limits of LVH, by sex in words; {} where the exposure has none.
        exposure_name: in words.
        exposure_unit: as g/m2.
        outcome_name: in words.
    """
    canvas = new_canvas(WIDTH_IN, _HEIGHT_IN, "constrained")
    above, below = canvas.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    known = curve[np.isfinite(floats(curve, "hr"))]
    value, hr = floats(known, "value"), floats(known, "hr")
    lo, hi = floats(known, "lo"), floats(known, "hi")
    use_ratio_axis(above, "y", ratio_range(hr, lo, hi))
    blue = SERIES[0].colour
    above.fill_between(value, lo, hi, color=blue, alpha=BAND_ALPHA, linewidth=0)
    above.plot(value, hr, color=blue)
    above.axhline(1, color=GREY, linewidth=0.8, zorder=0)
    above.plot([reference], [1], marker="o", color="black", markersize=5, label="_reference")
    above.vlines(
        list(knots), 0, _KNOT_TOP, transform=above.get_xaxis_transform(), color="black", linewidth=1.6, label="_knots"
    )
    _draw_histogram(below, histogram)
    limits = _draw_limits((above, below), limits_by_sex, exposure_unit)
    above.set_ylabel(wrapped(f"Hazard ratio of {outcome_name}, log scale", 2.5))
    below.set_xlabel(wrapped(f"{sentence(exposure_name)}, {exposure_unit}", WIDTH_IN - 1))
    legend_above(canvas, [*_handles(reference, exposure_unit, bool(len(knots))), *limits])
    return canvas


def _handles(reference: float, unit: str, has_knots: bool) -> list[Any]:
    blue = SERIES[0].colour
    band = Patch(facecolor=blue, alpha=BAND_ALPHA, label="95 % limits")
    at = Line2D(
        [],
        [],
        color="black",
        marker="o",
        markersize=5,
        linestyle="none",
        label=f"hazard ratio 1 at {reference:.3g} {unit}",
    )
    knot = Line2D([], [], color="black", marker="|", markersize=8, markeredgewidth=1.6, linestyle="none", label="knots")
    line = Line2D([], [], color=blue, label="hazard ratio")
    return [line, band, at, *([knot] if has_knots else [])]


def _draw_histogram(axes: Axes, histogram: pd.DataFrame) -> None:
    left, right = floats(histogram, "left"), floats(histogram, "right")
    axes.bar(left, _people(histogram), width=right - left, align="edge", color=LIGHT, edgecolor=GREY, linewidth=0.6)
    axes.set_ylabel("People")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.locator_params(axis="y", nbins=3, integer=True)


def _people(histogram: pd.DataFrame) -> Any:
    name = "n_people" if "n_people" in histogram.columns else "n"
    return np.nan_to_num(floats(histogram, name))


def _draw_limits(both: tuple[Axes, Axes], limits_by_sex: Mapping[str, float], unit: str) -> list[Line2D]:
    handles = []
    for place, (sex, limit) in enumerate(limits_by_sex.items()):
        how: dict[str, Any] = {
            "color": "black" if place % 2 == 0 else GREY,
            "linewidth": 1.2,
            "linestyle": _LIMIT_STYLES[place % len(_LIMIT_STYLES)],
        }
        for axes in both:
            axes.axvline(limit, **how, label=f"_limit:{sex}")
        handles.append(Line2D([], [], **how, label=f"LVH limit, {sex}: {limit:g} {unit}"))
    return handles


def dose_response_alt(
    curve: pd.DataFrame,
    histogram: pd.DataFrame,
    *,
    knots: Sequence[float],
    reference: float,
    limits_by_sex: Mapping[str, float],
    exposure_name: str,
    exposure_unit: str,
    outcome_name: str,
) -> str:
    """Return what `dose_response` shows, for who cannot see it; same arguments."""
    known = curve[np.isfinite(floats(curve, "hr"))]
    places = sorted({0, len(known) // 2, len(known) - 1}) if len(known) else []
    told = [
        f"{row['hr']:.2f} ({row['lo']:.2f} to {row['hi']:.2f}) at {row['value']:.3g} {exposure_unit}"
        for row in known.iloc[places].to_dict("records")
    ]
    limits = "".join(f" The limit of LVH is {limit:g} {exposure_unit} ({sex})." for sex, limit in limits_by_sex.items())
    shown = floats(histogram, "left"), floats(histogram, "right")
    spread = (
        f" Below, a histogram from {shown[0].min():.3g} to {shown[1].max():.3g} {exposure_unit}."
        if len(histogram)
        else ""
    )
    return (
        f"Curve of the hazard ratio of {outcome_name} along {exposure_name}, 1 at "
        f"{reference:.3g} {exposure_unit}, log axis, with 95 % limits: "
        f"{'; '.join(told) or HIDDEN}. {len(knots)} knots.{limits}{spread}"
    )


_HEIGHT_IN_FIGURE_SCHOENFELD: Final = 3.9


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
    canvas = new_canvas(WIDTH_IN, _HEIGHT_IN_FIGURE_SCHOENFELD, "constrained")
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
    legend_above(canvas, _handles_figure_schoenfeld(), sentence(exposure_name))
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


def _handles_figure_schoenfeld() -> list[Line2D]:
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


_WIDTH_IN: Final = 4.6
_MOST_ABOVE: Final = 1.6

Numbers = NDArray[np.float64]


@in_style
def calibration(rows: pd.DataFrame, *, horizon_years: float) -> Figure:
    """Return observed against predicted risk with the line of identity, both axes alike.

    Args:
        rows: masked; `group`, `n_people`, `predicted`, `observed`, `lo`, `hi` (0 to 1); groups
            with a missing value are not drawn, and the legend says how many.
        horizon_years: of the risks.
    """
    canvas = new_canvas(_WIDTH_IN, _HEIGHT_IN, "constrained")
    axes = canvas.subplots()
    known = _known(rows)
    predicted, observed = 100 * floats(known, "predicted"), 100 * floats(known, "observed")
    lo, hi = 100 * floats(known, "lo"), 100 * floats(known, "hi")
    most = _most(predicted, observed, hi)
    axes.plot((0, most), (0, most), color=GREY, linewidth=1, linestyle="dashed", zorder=0)
    colour = SERIES[0].colour
    axes.vlines(predicted, lo, hi, color=colour, linewidth=1.2)
    axes.plot(predicted, observed, color=colour, linestyle="none", marker="o", markersize=5)
    use_round_steps(axes.xaxis, 6)
    use_round_steps(axes.yaxis, 6)
    axes.set(xlim=(0, most), ylim=(0, most), aspect="equal")
    axes.set_xlabel(f"Predicted {horizon_years:.3g}-year risk, %")
    axes.set_ylabel(f"Observed {horizon_years:.3g}-year risk, %")
    legend_above(canvas, _handles_figure_calibration(len(known), len(rows) - len(known)))
    return canvas


def _known(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[np.isfinite(floats(rows, "predicted")) & np.isfinite(floats(rows, "observed"))]


def _most(predicted: Numbers, observed: Numbers, hi: Numbers) -> float:
    """The end of both axes; a single wide limit may leave, so that the points stay apart."""
    points = np.concatenate([predicted, observed, [0.1]])
    limits = hi[np.isfinite(hi)]
    reach = max(float(limits.max()), float(points.max())) if len(limits) else float(points.max())
    return min(reach, float(points.max()) * _MOST_ABOVE) * 1.04


def _handles_figure_calibration(n_shown: int, n_hidden: int) -> list[Line2D]:
    colour = SERIES[0].colour
    hidden = f" ({n_hidden} of {n_shown + n_hidden} not shown)" if n_hidden else ""
    return [
        Line2D([], [], color=colour, marker="o", markersize=5, label=f"groups of predicted risk, 95 % limits{hidden}"),
        Line2D([], [], color=GREY, linewidth=1, linestyle="dashed", label="observed = predicted"),
    ]


def calibration_alt(rows: pd.DataFrame, *, horizon_years: float) -> str:
    """Return what `calibration` shows, for who cannot see it; same arguments."""
    told = [
        f"{row['group']}: predicted {100 * row['predicted']:.1f} %, observed "
        f"{100 * row['observed']:.1f} % ({count_text(row['n_people'])} people)"
        for row in _known(rows).to_dict("records")
    ]
    n_hidden = len(rows) - len(_known(rows))
    hidden = f" Groups not shown ({HIDDEN}): {n_hidden}." if n_hidden else ""
    return (
        f"Observed against predicted {horizon_years:.3g}-year risk by group of predicted "
        f"risk, with the line where they are equal. {'; '.join(told)}.{hidden}"
    )
