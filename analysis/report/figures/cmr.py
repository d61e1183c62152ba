"""Figures against CMR: predicted against measured mass, Bland-Altman, and ROC with the rules."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from analysis.report.figures.drawing import (
    GREY,
    SERIES,
    WIDTH_IN,
    floats,
    in_style,
    legend_above,
    new_canvas,
    series_style,
    use_round_steps,
)
from analysis.report.words import number_text

_HEX_HEIGHT_IN: Final = 5.4
_ROC_SIZE_IN: Final = (5.2, 5.8)
# Light for few people, dark for many: ordered in grey print too. Its lightest shades are left out.
_COLOURS: Final = "cividis_r"
_DASHED: Final = (0, (5, 2))
_DOTTED: Final = (0, (1.2, 1.4))

Numbers = NDArray[np.float64]


def _hexagons(rows: pd.DataFrame) -> list[Numbers]:
    """Corners of each hexagon, in data units."""
    radius = floats(rows, "width_g") / np.sqrt(3)
    angles = np.pi / 6 + np.pi / 3 * np.arange(6)
    shape = np.column_stack([np.cos(angles), np.sin(angles)])
    centres = np.column_stack([floats(rows, "x_g"), floats(rows, "y_g")])
    return [centre + size * shape for centre, size in zip(centres, radius, strict=True)]


def _drawn_hexagons(canvas: Figure, axes: Axes, rows: pd.DataFrame) -> None:
    counts = floats(rows, "n_people")
    drawn = PolyCollection(_hexagons(rows), array=counts, cmap=_COLOURS, edgecolors="white", linewidths=0.3)
    drawn.set_clim(0, float(counts.max()))
    axes.add_collection(drawn)
    axes.set_axisbelow(True)
    bar = canvas.colorbar(drawn, ax=axes, label="People in a hexagon", shrink=0.8, pad=0.02)
    if bar.solids is not None:
        bar.solids.set_rasterized(False)  # no picture inside the SVG
    use_round_steps(bar.ax.yaxis, 6)


def _range(values: Numbers, pad: float) -> tuple[float, float]:
    return float(values.min()) - pad, float(values.max()) + pad


@in_style
def predicted_measured(rows: pd.DataFrame, *, intercept: float, slope: float, axis_name: str) -> Figure:
    """Return CMR mass against predicted mass in hexagons, with calibration and identity.

    Args:
        rows: masked bins: x_g (predicted), y_g (CMR), width_g, n_people; at least one.
        intercept: of the calibration line, g; NaN: none is drawn.
        slope: of it.
        axis_name: of the prediction with its unit, as "Predicted LV mass, g".
    """
    canvas = new_canvas(WIDTH_IN, _HEX_HEIGHT_IN, "constrained")
    axes = canvas.subplots()
    _drawn_hexagons(canvas, axes, rows)
    x, y = floats(rows, "x_g"), floats(rows, "y_g")
    width = float(rows["width_g"].iloc[0])
    lo, hi = _range(np.concatenate([x, y]), width)
    axes.plot((lo, hi), (lo, hi), color="black", linewidth=1.1, linestyle=_DASHED)
    handles = [Line2D([], [], color="black", linewidth=1.1, linestyle=_DASHED, label="CMR = predicted")]
    if np.isfinite(intercept) and np.isfinite(slope):
        ends = np.array(_range(x, width))
        style: dict[str, Any] = {"color": SERIES[1].colour, "linewidth": 2.0}
        axes.plot(ends, intercept + slope * ends, **style)
        words = f"calibration: CMR = {intercept:.1f} + {slope:.3f} x predicted"
        handles.append(Line2D([], [], label=words, **style))
    axes.set(xlim=(lo, hi), ylim=(lo, hi), aspect="equal")
    axes.set(xlabel=axis_name, ylabel="LV mass by CMR, g")
    use_round_steps(axes.xaxis)
    use_round_steps(axes.yaxis)
    legend_above(canvas, handles)
    return canvas


def predicted_measured_alt(rows: pd.DataFrame, *, intercept: float, slope: float, axis_name: str) -> str:
    """Return what `predicted_measured` shows, for who cannot see it; same arguments."""
    lines = f"CMR = {intercept:.1f} + {slope:.3f} x predicted" if np.isfinite(slope) else "hidden"
    return (
        f"LV mass by CMR against {axis_name[0].lower()}{axis_name[1:]}, in {_bins(rows)}. "
        f"{_fullest(rows, 'CMR')} Calibration line: {lines}."
    )


def _bins(rows: pd.DataFrame) -> str:
    width = float(rows["width_g"].iloc[0])
    return f"{len(rows)} hexagons {width:g} g wide"


def _fullest(rows: pd.DataFrame, y_words: str) -> str:
    most = rows.loc[rows["n_people"].astype(float).idxmax()]
    n = f"{int(most['n_people']):,}"
    return f"Most people, {n}, are around {most['x_g']:.0f} g ({y_words} {most['y_g']:.0f} g)."


@in_style
def bland_altman(rows: pd.DataFrame, *, bias: float, lower: float, upper: float) -> Figure:
    """Return the difference of prediction and CMR against their mean, with the limits.

    Args:
        rows: masked bins: x_g (mean), y_g (difference), width_g, n_people; at least one.
        bias: mean difference, g; NaN: no lines are drawn.
        lower: limit of agreement, g.
        upper: limit of agreement, g.
    """
    canvas = new_canvas(WIDTH_IN, _HEX_HEIGHT_IN - 0.6, "constrained")
    axes = canvas.subplots()
    _drawn_hexagons(canvas, axes, rows)
    x, y = floats(rows, "x_g"), floats(rows, "y_g")
    width = float(rows["width_g"].iloc[0])
    axes.axhline(0, color="black", linewidth=0.9, linestyle=_DOTTED)
    handles = [Line2D([], [], color="black", linewidth=0.9, linestyle=_DOTTED, label="no difference")]
    drawn = np.array([0.0, *y])
    if np.isfinite([bias, lower, upper]).all():
        colour = SERIES[1].colour
        axes.axhline(bias, color=colour, linewidth=2.0)
        for limit in (lower, upper):
            axes.axhline(limit, color=colour, linewidth=1.4, linestyle=_DASHED)
        handles += [
            Line2D([], [], color=colour, linewidth=2.0, label=f"bias {number_text(bias, 1)} g"),
            Line2D(
                [],
                [],
                color=colour,
                linewidth=1.4,
                linestyle=_DASHED,
                label=f"95 % limits of agreement {lower:.1f} and {upper:.1f} g",
            ),
        ]
        drawn = np.append(drawn, [lower, upper])
    axes.set(xlim=_range(x, width), ylim=_range(drawn, width))
    axes.set(xlabel="Mean of predicted and CMR mass, g", ylabel="Predicted - CMR mass, g")
    use_round_steps(axes.xaxis)
    use_round_steps(axes.yaxis)
    legend_above(canvas, handles)
    return canvas


def bland_altman_alt(rows: pd.DataFrame, *, bias: float, lower: float, upper: float) -> str:
    """Return what `bland_altman` shows, for who cannot see it; same arguments."""
    known = np.isfinite([bias, lower, upper]).all()
    lines = "No limits."
    if known:
        lines = f"Bias {number_text(bias, 1)} g, limits {lower:.1f} and {upper:.1f} g."
    return (
        f"Difference of predicted and CMR mass against their mean, in {_bins(rows)}. "
        f"{_fullest(rows, 'difference')} {lines}"
    )


@in_style
def roc(curves: pd.DataFrame, points: pd.DataFrame) -> Figure:
    """Return ROC curves of continuous markers with yes/no markers as points.

    Args:
        curves: marker, sensitivity, specificity (0 to 1), in order along each curve.
        points: marker, sensitivity, specificity; missing where hidden, and then counted.
    """
    canvas = new_canvas(*_ROC_SIZE_IN, "constrained")
    axes = canvas.subplots()
    axes.plot((0, 100), (0, 100), color=GREY, linewidth=0.9, linestyle=_DOTTED)
    handles = []
    for place, (name, own) in enumerate(curves.groupby("marker", sort=False)):
        style = series_style(place)
        x, y = 100 * (1 - floats(own, "specificity")), 100 * floats(own, "sensitivity")
        axes.plot(x, y, color=style.colour, linestyle=style.dashes)
        handles.append(Line2D([], [], color=style.colour, linestyle=style.dashes, label=str(name)))
    n_hidden = 0
    for place, row in enumerate(points.to_dict("records")):
        if pd.isna(row["sensitivity"]) or pd.isna(row["specificity"]):
            n_hidden += 1
            continue
        style = series_style(place)
        look: dict[str, Any] = {
            "color": style.colour,
            "marker": style.marker,
            "markersize": 7,
            "linestyle": "none",
            "markeredgecolor": "white",
        }
        axes.plot([100 * (1 - row["specificity"])], [100 * row["sensitivity"]], **look)
        handles.append(Line2D([], [], label=row["marker"], **look))
    handles.append(Line2D([], [], color=GREY, linewidth=0.9, linestyle=_DOTTED, label=_chance(n_hidden)))
    axes.set(xlim=(-1, 101), ylim=(-1, 101), aspect="equal")
    axes.set(xlabel="1 - specificity, %", ylabel="Sensitivity, %")
    legend_above(canvas, handles)
    return canvas


def _chance(n_hidden: int) -> str:
    said = "chance"
    return f"{said} ({n_hidden} yes/no markers not shown)" if n_hidden else said


def roc_alt(curves: pd.DataFrame, points: pd.DataFrame) -> str:
    """Return what `roc` shows, for who cannot see it; same arguments."""
    told = []
    for name, own in curves.groupby("marker", sort=False):
        # What the curve reaches at a specificity of 90 %, by a straight line between its points.
        x, y = 1 - floats(own, "specificity"), floats(own, "sensitivity")
        told.append(f"{name}: sensitivity {100 * np.interp(0.1, x, y):.0f} % at specificity 90 %")
    for row in points.to_dict("records"):
        if not (pd.isna(row["sensitivity"]) or pd.isna(row["specificity"])):
            told.append(
                f"{row['marker']}: sensitivity {100 * row['sensitivity']:.1f} %, specificity "
                f"{100 * row['specificity']:.1f} %"
            )
    return f"ROC curves of LVH by CMR, with yes/no markers as points. {'; '.join(told)}."
