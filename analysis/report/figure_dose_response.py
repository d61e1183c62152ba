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

from analysis.report.figures import (
    BAND_ALPHA,
    GREY,
    LIGHT,
    SERIES,
    WIDTH_IN,
    floats,
    in_style,
    legend_above,
    new_canvas,
    ratio_range,
    sentence,
    use_ratio_axis,
    wrapped,
)
from analysis.report.masking import HIDDEN

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
