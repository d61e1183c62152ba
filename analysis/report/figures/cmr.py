"""Figures against CMR: predicted against measured mass, Bland-Altman, and ROC with the rules."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.report.figures.drawing import (
    GREY,
    ONE_COLUMN_IN,
    SERIES,
    Drawn,
    floats,
    in_style,
    key_line,
    legend_above,
    new_canvas,
    series_style,
    use_round_steps,
)
from analysis.report.words import number_text, percent_text

_HEX_HEIGHT_IN: Final = 3.3
_ROC_HEIGHT_IN: Final = 4.6
# Light for few people, dark for many: ordered in grey print too. Its lightest shades are left out.
_COLOURS: Final = "cividis_r"
_DASHED: Final = (0, (5, 2))
_DOTTED: Final = (0, (1.2, 1.4))

Numbers = NDArray[np.float64]


@in_style
def predicted_measured(rows: pd.DataFrame, *, intercept: float, slope: float, axis_name: str) -> Drawn:
    """Draw CMR mass against predicted mass in hexagons, with calibration and identity.

    `rows` are masked bins, at least one: x_g (predicted), y_g (CMR), width_g, n_people. Where the
    intercept (g) is NaN, no calibration line is drawn.
    """
    canvas = new_canvas(ONE_COLUMN_IN, _HEX_HEIGHT_IN, "constrained")
    axes = canvas.subplots()
    x, y, width = _drawn_hexagons(canvas, axes, rows)
    lo, hi = _range(np.concatenate([x, y]), width)
    identity: dict[str, Any] = {"color": "black", "linewidth": 1.1, "linestyle": _DASHED}
    axes.plot((lo, hi), (lo, hi), **identity)
    handles = [key_line("CMR = predicted", **identity)]
    line = "hidden"
    if np.isfinite(intercept) and np.isfinite(slope):
        ends = np.array(_range(x, width))
        style: dict[str, Any] = {"color": SERIES[1].colour, "linewidth": 2.0}
        axes.plot(ends, intercept + slope * ends, **style)
        line = f"CMR = {number_text(intercept, 1)} + {number_text(slope, 3)} × predicted"
        handles.append(key_line(f"calibration: {line}", **style))
    axes.set(xlim=(lo, hi), ylim=(lo, hi), aspect="equal")
    axes.set(xlabel=axis_name, ylabel="LV mass by CMR, g")
    use_round_steps(axes.xaxis)
    use_round_steps(axes.yaxis)
    legend_above(canvas, handles)
    alt = f"LV mass by CMR against {axis_name[0].lower()}{axis_name[1:]}, in {_hexagons_text(rows, 'CMR')}"
    return Drawn(canvas, f"{alt} Calibration line: {line}.")


@in_style
def bland_altman(rows: pd.DataFrame, *, bias: float, lower: float, upper: float) -> Drawn:
    """Draw the difference of prediction and CMR against their mean, with bias and limits in g.

    `rows` are masked bins, at least one: x_g (mean), y_g (difference), width_g, n_people. Where the
    bias is NaN, no lines are drawn.
    """
    canvas = new_canvas(ONE_COLUMN_IN, _HEX_HEIGHT_IN - 0.2, "constrained")
    axes = canvas.subplots()
    x, y, width = _drawn_hexagons(canvas, axes, rows)
    none: dict[str, Any] = {"color": "black", "linewidth": 0.9, "linestyle": _DOTTED}
    axes.axhline(0, **none)
    handles = [key_line("no difference", **none)]
    drawn, limits = np.array([0.0, *y]), "No limits."
    if np.isfinite([bias, lower, upper]).all():
        middle: dict[str, Any] = {"color": SERIES[1].colour, "linewidth": 2.0}
        outer: dict[str, Any] = {"color": SERIES[1].colour, "linewidth": 1.4, "linestyle": _DASHED}
        axes.axhline(bias, **middle)
        for limit in (lower, upper):
            axes.axhline(limit, **outer)
        handles += [
            key_line(f"bias {number_text(bias, 1)} g", **middle),
            key_line(f"95% limits of agreement {number_text(lower, 1)} and {number_text(upper, 1)} g", **outer),
        ]
        drawn = np.append(drawn, [lower, upper])
        limits = f"Bias {number_text(bias, 1)} g, limits {number_text(lower, 1)} and {number_text(upper, 1)} g."
    axes.set(xlim=_range(x, width), ylim=_range(drawn, width))
    axes.set(xlabel="Mean of predicted and CMR mass, g", ylabel="Predicted - CMR mass, g")
    use_round_steps(axes.xaxis)
    use_round_steps(axes.yaxis)
    legend_above(canvas, handles)
    alt = f"Difference of predicted and CMR mass against their mean, in {_hexagons_text(rows, 'difference')}"
    return Drawn(canvas, f"{alt} {limits}")


def _drawn_hexagons(canvas: Figure, axes: Axes, rows: pd.DataFrame) -> tuple[Numbers, Numbers, float]:
    """Draw the hexagons; return their centres and their width, g."""
    x, y, counts = (floats(rows, name) for name in ("x_g", "y_g", "n_people"))
    angles = np.pi / 6 + np.pi / 3 * np.arange(6)
    shape = np.column_stack([np.cos(angles), np.sin(angles)])
    radii = floats(rows, "width_g") / np.sqrt(3)
    corners = [centre + size * shape for centre, size in zip(np.column_stack([x, y]), radii, strict=True)]
    drawn = PolyCollection(corners, array=counts, cmap=_COLOURS, edgecolors="white", linewidths=0.3)
    drawn.set_clim(0, float(counts.max()))
    axes.add_collection(drawn)
    axes.set_axisbelow(True)
    bar = canvas.colorbar(drawn, ax=axes, label="People in a hexagon", shrink=0.7, pad=0.02)
    if bar.solids is not None:
        bar.solids.set_rasterized(False)  # no picture inside the SVG
        bar.solids.set_edgecolor("face")
    use_round_steps(bar.ax.yaxis, 6)
    return x, y, float(rows["width_g"].iloc[0])


def _range(values: Numbers, pad: float) -> tuple[float, float]:
    return float(values.min()) - pad, float(values.max()) + pad


def _hexagons_text(rows: pd.DataFrame, y_words: str) -> str:
    width = float(rows["width_g"].iloc[0])
    most = rows.loc[rows["n_people"].astype(float).idxmax()]
    return (
        f"{len(rows)} hexagons {width:g} g wide. Most people, {int(most['n_people']):,}, are around "
        f"{most['x_g']:.0f} g ({y_words} {most['y_g']:.0f} g)."
    )


@in_style
def roc(curves: pd.DataFrame, points: pd.DataFrame) -> Drawn:
    """Draw ROC curves of continuous markers with yes/no markers as points.

    Both have marker, sensitivity, specificity (0 to 1). Curves are in order; points are missing
    where hidden, and the figure says how many are.
    """
    canvas = new_canvas(ONE_COLUMN_IN, _ROC_HEIGHT_IN, "constrained")
    axes = canvas.subplots()
    chance: dict[str, Any] = {"color": GREY, "linewidth": 0.9, "linestyle": _DOTTED}
    axes.plot((0, 100), (0, 100), **chance)
    handles, texts, n_hidden = [], [], 0
    for place, (name, own) in enumerate(curves.groupby("marker", sort=False)):
        line: dict[str, Any] = {"color": series_style(place).colour, "linestyle": series_style(place).dashes}
        x, y = 1 - floats(own, "specificity"), floats(own, "sensitivity")
        axes.plot(100 * x, 100 * y, **line)
        handles.append(key_line(str(name), **line))
        # What the curve reaches at a specificity of 90%, by a straight line between its points.
        texts.append(f"{name}: sensitivity {100 * np.interp(0.1, x, y):.0f}% at specificity 90%")
    for place, row in enumerate(points.to_dict("records")):
        sensitivity, specificity = 100 * row["sensitivity"], 100 * row["specificity"]
        if pd.isna(sensitivity) or pd.isna(specificity):
            n_hidden += 1
            continue
        style = series_style(place)
        look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "markersize": 5.5, "linestyle": "none"}
        look["markeredgecolor"] = "white"
        axes.plot([100 * (1 - row["specificity"])], [sensitivity], **look)
        handles.append(key_line(row["marker"], **look))
        shares = [percent_text(share / 100) for share in (sensitivity, specificity)]
        texts.append(f"{row['marker']}: sensitivity {shares[0]}, specificity {shares[1]}")
    hidden = f" ({n_hidden} yes/no markers not shown)" if n_hidden else ""
    axes.set(xlim=(-1, 101), ylim=(-1, 101), aspect="equal")
    axes.set(xlabel="1 - specificity, %", ylabel="Sensitivity, %")
    legend_above(canvas, [*handles, key_line(f"chance{hidden}", **chance)])
    return Drawn(canvas, f"ROC curves of LVH by CMR, with yes/no markers as points. {'; '.join(texts)}.")
