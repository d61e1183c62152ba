"""Figures of models: dose-response, scaled Schoenfeld residuals, and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from numpy.typing import NDArray

from analysis.disclosure.masking import HIDDEN
from analysis.report.figures.drawing import (
    BAND_ALPHA,
    GREY,
    LIGHT,
    ONE_COLUMN_IN,
    SERIES,
    Drawn,
    floats,
    in_style,
    key_line,
    legend_above,
    new_canvas,
    ratio_range,
    ratio_ticks,
    use_ratio_axis,
    use_round_steps,
    wrapped,
)
from analysis.report.words import counted_text, limits_text, number_text, percent_text, sentence

Numbers = NDArray[np.float64]

_BLUE: Final = SERIES[0].colour
_ORANGE: Final = SERIES[1].colour
_DOSE_IN: Final = 4.2
_SCHOENFELD_IN: Final = 3.6
_CALIBRATION_IN: Final = 3.7
# Limits are vertical, the curve is not; black and grey, so that they differ from it in colour.
_LIMIT_STYLES: Final = ("dashed", "dashdot", "dotted")
_KNOT_TOP: Final = 0.05
_MOST_ABOVE: Final = 1.6


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
) -> Drawn:
    """Draw a spline of the hazard ratio (log axis) above the histogram of the exposure.

    `curve` is masked: `value`, `hr`, `lo`, `hi`, ascending; `histogram` is masked: `left`, `right`,
    `n_people`, without bins of few people. `knots` are short lines on the axis, and `reference` is
    the value of hazard ratio 1, in the exposure's unit. `limits_by_sex` are limits of LVH, by sex
    in words; {} where the exposure has none.
    """
    canvas = new_canvas(ONE_COLUMN_IN, _DOSE_IN, "constrained")
    above, below = canvas.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    known = curve[np.isfinite(floats(curve, "hr"))]
    _draw_curve(above, known, knots, reference)
    _draw_histogram(below, histogram)
    limits = _draw_limits((above, below), limits_by_sex, exposure_unit)
    above.set_ylabel(wrapped(f"Hazard ratio of {outcome_name}, log scale", 2.0))
    below.set_xlabel(wrapped(f"{sentence(exposure_name)}, {exposure_unit}", ONE_COLUMN_IN - 0.7))
    point: dict[str, Any] = {"color": "black", "linestyle": "none"}
    handles: list[Any] = [
        key_line("hazard ratio", color=_BLUE),
        Patch(facecolor=_BLUE, alpha=BAND_ALPHA, label="95% limits"),
        key_line(f"hazard ratio 1 at {reference:.3g} {exposure_unit}", marker="o", markersize=5, **point),
        *([key_line("knots", marker="|", markersize=8, markeredgewidth=1.6, **point)] if len(knots) else []),
    ]
    legend_above(canvas, [*handles, *limits])

    limit_texts = (f" The limit of LVH is {limit:g} {exposure_unit} ({sex})." for sex, limit in limits_by_sex.items())
    left, right = floats(histogram, "left"), floats(histogram, "right")
    below_text = f" Below, a histogram from {left.min():.3g} to {right.max():.3g} {exposure_unit}." if len(left) else ""
    alt = (
        f"Curve of the hazard ratio of {outcome_name} along {exposure_name}, 1 at "
        f"{reference:.3g} {exposure_unit}, log axis, with 95% limits: "
        f"{_points_text(known, exposure_unit) or HIDDEN}. {len(knots)} knots.{''.join(limit_texts)}{below_text}"
    )
    return Drawn(canvas, alt)


def _draw_curve(axes: Axes, known: pd.DataFrame, knots: Sequence[float], reference: float) -> None:
    value, hr, lo, hi = (floats(known, name) for name in ("value", "hr", "lo", "hi"))
    use_ratio_axis(axes, "y", ratio_range(hr, lo, hi))
    axes.fill_between(value, lo, hi, color=_BLUE, alpha=BAND_ALPHA, linewidth=0)
    axes.plot(value, hr, color=_BLUE)
    axes.axhline(1, color=GREY, linewidth=0.8, zorder=0)
    axes.plot([reference], [1], marker="o", color="black", markersize=5, label="_reference")
    on_axis = axes.get_xaxis_transform()
    axes.vlines(list(knots), 0, _KNOT_TOP, transform=on_axis, color="black", linewidth=1.6, label="_knots")


def _draw_histogram(axes: Axes, histogram: pd.DataFrame) -> None:
    left, right, people = (floats(histogram, name) for name in ("left", "right", "n_people"))
    bars: dict[str, Any] = {"width": right - left, "align": "edge", "color": LIGHT, "edgecolor": GREY, "linewidth": 0.6}
    axes.bar(left, np.nan_to_num(people), **bars)
    axes.set_ylabel("People")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.locator_params(axis="y", nbins=3, integer=True)


def _draw_limits(both: tuple[Axes, Axes], limits_by_sex: Mapping[str, float], unit: str) -> list[Any]:
    handles = []
    for place, (sex, limit) in enumerate(limits_by_sex.items()):
        how: dict[str, Any] = {
            "color": "black" if place % 2 == 0 else GREY,
            "linewidth": 1.2,
            "linestyle": _LIMIT_STYLES[place % len(_LIMIT_STYLES)],
        }
        for axes in both:
            axes.axvline(limit, **how, label=f"_limit:{sex}")
        handles.append(key_line(f"LVH limit, {sex}: {limit:g} {unit}", **how))
    return handles


def _points_text(known: pd.DataFrame, unit: str) -> str:
    """The first, the middle and the last point of a curve."""
    places = sorted({0, len(known) // 2, len(known) - 1}) if len(known) else []
    return "; ".join(
        f"{number_text(row['hr'])} ({limits_text(row['lo'], row['hi'])}) at {row['value']:.3g} {unit}"
        for row in known.iloc[places].to_dict("records")
    )


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
) -> Drawn:
    """Draw mean residuals by time beside the log hazard ratio of the Cox model.

    `rows` are masked, a row per bin of events: `years` (their mean time), `beta` (mean scaled
    residual, log hazard ratio), `lo`, `hi`, `n_events`. `hr_log` is NaN where it is hidden;
    `lo_log` and `hi_log` are its 95% limits. `exposure_name` includes its step, as "predicted LV
    mass index, per SD". With `is_age`, `years` are attained age, and not time since the index ECG.
    """
    canvas = new_canvas(ONE_COLUMN_IN, _SCHOENFELD_IN, "constrained")
    axes = canvas.subplots()
    known = rows[np.isfinite(floats(rows, "beta"))]
    years = floats(known, "years")
    none: dict[str, Any] = {"color": GREY, "linewidth": 0.8, "linestyle": "dotted"}
    cox: dict[str, Any] = {"color": _ORANGE, "linestyle": SERIES[1].dashes}
    points: dict[str, Any] = {"color": _BLUE, "marker": "o", "markersize": 5}
    axes.axhline(0, **none, zorder=0)
    has_ratio = bool(np.isfinite([hr_log, lo_log, hi_log]).all())
    if has_ratio:
        axes.axhspan(lo_log, hi_log, color=_ORANGE, alpha=BAND_ALPHA, linewidth=0)
        axes.axhline(hr_log, **cox)
    axes.vlines(years, floats(known, "lo"), floats(known, "hi"), color=_BLUE, linewidth=1.2)
    axes.plot(years, floats(known, "beta"), linestyle="none", **points)
    _time_axis(axes, years, is_age=is_age)
    axes.margins(y=0.08)
    axes.set_ylabel(wrapped(f"Log hazard ratio of {outcome_name}", 2.0))
    _ratio_axis(axes)
    handles = [
        key_line("mean scaled residual of a bin of events, 95% limits", **points),
        key_line("Cox model, 95% limits", **cox),
        key_line("no association", **none),
    ]
    legend_above(canvas, handles, sentence(exposure_name))

    at = "age {years:.1f}" if is_age else "{years:.1f} years"
    ends = known.iloc[sorted({0, len(known) - 1}) if len(known) else []].to_dict("records")
    texts = [f"{number_text(row['beta'])} at {at.format(years=row['years'])}" for row in ends]
    ratio = f"{number_text(hr_log)} ({limits_text(lo_log, hi_log)})" if has_ratio else "not shown"
    alt = (
        f"Mean scaled Schoenfeld residuals of {exposure_name} for {outcome_name} in {len(known)} "
        f"bins of events over {'attained age' if is_age else 'time'}, first and last: "
        f"{'; '.join(texts) or 'not shown'}. The log hazard ratio of the Cox model is {ratio}."
    )
    return Drawn(canvas, alt)


def _time_axis(axes: Axes, years: Numbers, *, is_age: bool) -> None:
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


@in_style
def calibration(rows: pd.DataFrame, *, horizon_years: float) -> Drawn:
    """Draw observed against predicted risk with the line of identity, both axes alike.

    `rows` are masked: `group`, `n_people`, `predicted`, `observed`, `lo`, `hi` (0 to 1). Groups
    with a missing value are not drawn, and the legend says how many.
    """
    canvas = new_canvas(ONE_COLUMN_IN, _CALIBRATION_IN, "constrained")
    axes = canvas.subplots()
    known = rows[np.isfinite(floats(rows, "predicted")) & np.isfinite(floats(rows, "observed"))]
    predicted, observed, lo, hi = (100 * floats(known, name) for name in ("predicted", "observed", "lo", "hi"))
    most = _most(predicted, observed, hi)
    identity: dict[str, Any] = {"color": GREY, "linewidth": 1, "linestyle": "dashed"}
    points: dict[str, Any] = {"color": _BLUE, "marker": "o", "markersize": 5}
    axes.plot((0, most), (0, most), **identity, zorder=0)
    axes.vlines(predicted, lo, hi, color=_BLUE, linewidth=1.2)
    axes.plot(predicted, observed, linestyle="none", **points)
    use_round_steps(axes.xaxis, 6)
    use_round_steps(axes.yaxis, 6)
    axes.set(xlim=(0, most), ylim=(0, most), aspect="equal")
    axes.set_xlabel(f"Predicted {horizon_years:.3g}-year risk, %")
    axes.set_ylabel(f"Observed {horizon_years:.3g}-year risk, %")
    n_hidden = len(rows) - len(known)
    hidden = f" ({n_hidden} of {len(rows)} not shown)" if n_hidden else ""
    groups = key_line(f"groups of predicted risk, 95% limits{hidden}", **points)
    legend_above(canvas, [groups, key_line("observed = predicted", **identity)])

    texts = [
        f"{row['group']}: predicted {percent_text(row['predicted'])}, observed "
        f"{percent_text(row['observed'])} ({counted_text(row, 'n_people')} people)"
        for row in known.to_dict("records")
    ]
    hidden = f" Groups not shown ({HIDDEN}): {n_hidden}." if n_hidden else ""
    alt = (
        f"Observed against predicted {horizon_years:.3g}-year risk by group of predicted "
        f"risk, with the line where they are equal. {'; '.join(texts)}.{hidden}"
    )
    return Drawn(canvas, alt)


def _most(predicted: Numbers, observed: Numbers, hi: Numbers) -> float:
    """The end of both axes; a single wide limit may leave, so that the points stay apart."""
    points = np.concatenate([predicted, observed, [0.1]])
    limits = hi[np.isfinite(hi)]
    reach = max(float(limits.max()), float(points.max())) if len(limits) else float(points.max())
    return min(reach, float(points.max()) * _MOST_ABOVE) * 1.04
