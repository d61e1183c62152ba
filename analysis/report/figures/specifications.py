"""Sensitivity analyses as a specification plot: each estimate, and below what was done for it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.disclosure.masking import HIDDEN
from analysis.report.figures.drawing import (
    BAND_ALPHA,
    GREY,
    SERIES,
    SMALL_PT,
    WIDTH_IN,
    Drawn,
    floats,
    in_style,
    key_line,
    legend_above,
    mid_sentence,
    new_canvas,
    ratio_range,
    use_ratio_axis,
    wrapped,
)
from analysis.report.words import interval_text, number_text

_ABOVE_IN: Final = 2.1
_ROW_IN: Final = 0.16
_AROUND_IN: Final = 0.55
_LABEL_IN: Final = 2.5


@in_style
def specification_plot(rows: pd.DataFrame, *, main: str, measure_name: str) -> Drawn:
    """Draw ratios in ascending order, each above a mark in the row of its specification.

    `rows` are masked: `specification` (in words, as the change of the main analysis), `estimate`,
    `lo`, `hi`. `main` is the specification of the main analysis, whose interval is a band behind
    the others. Rows that are hidden are named in the alternative text and not drawn.
    """
    known = rows[np.isfinite(floats(rows, "estimate"))]
    known = known.iloc[np.argsort(floats(known, "estimate"), kind="stable")].reset_index(drop=True)
    names = [main, *(name for name in dict.fromkeys(rows["specification"]) if name != main)]
    names = [name for name in names if (known["specification"] == name).any()]
    below_in = _ROW_IN * max(len(names), 1) + 0.15
    canvas = new_canvas(WIDTH_IN, _ABOVE_IN + below_in + _AROUND_IN, "constrained")
    above, below = canvas.subplots(2, 1, sharex=True, height_ratios=(_ABOVE_IN, below_in))
    _draw_estimates(above, known, main)
    above.set_ylabel(wrapped(f"{measure_name}, log scale", _ABOVE_IN))
    _draw_marks(below, known, names)
    own: dict[str, Any] = {"color": SERIES[1].colour, "marker": "D", "markersize": 5, "linestyle": "none"}
    other: dict[str, Any] = {"color": SERIES[0].colour, "marker": "o", "markersize": 4, "linestyle": "none"}
    legend_above(canvas, [key_line(main, **own), key_line("one change of it; 95% limits", **other)])
    texts = [f"{row['specification']}: {interval_text(row)}" for row in known.to_dict("records")]
    missing = [str(one) for one in rows["specification"] if one not in set(known["specification"])]
    hidden = f" Not shown ({HIDDEN}): {', '.join(missing)}." if missing else ""
    alt = f"{measure_name} in ascending order, log axis. {'; '.join(texts)}.{hidden}"
    return Drawn(canvas, f"Specification plot of {mid_sentence(alt)}")


def _draw_estimates(axes: Axes, known: pd.DataFrame, main: str) -> None:
    estimate, lo, hi = (floats(known, name) for name in ("estimate", "lo", "hi"))
    use_ratio_axis(axes, "y", ratio_range(estimate, lo, hi))
    axes.axhline(1, color=GREY, linewidth=0.8, zorder=0)
    is_main = (known["specification"] == main).to_numpy()
    if is_main.any() and np.isfinite([lo[is_main][0], hi[is_main][0]]).all():
        axes.axhspan(lo[is_main][0], hi[is_main][0], color=SERIES[1].colour, alpha=BAND_ALPHA, linewidth=0)
    for place, row in enumerate(known.to_dict("records")):
        style = SERIES[1] if row["specification"] == main else SERIES[0]
        axes.vlines([place], [row["lo"]], [row["hi"]], color=style.colour, linewidth=1.1)
        marker, size = ("D", 5.0) if style is SERIES[1] else ("o", 4.0)
        axes.plot([place], [row["estimate"]], color=style.colour, marker=marker, markersize=size, label="_estimate")
        axes.annotate(
            number_text(row["estimate"]),
            (place, row["estimate"]),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL_PT,
        )
    axes.set_xlim(-0.6, max(len(known), 1) - 0.2)
    axes.tick_params(axis="x", length=0)


def _draw_marks(axes: Axes, known: pd.DataFrame, names: list[str]) -> None:
    for place, name in enumerate(known["specification"]):
        colour = SERIES[1].colour if name == names[0] else SERIES[0].colour
        axes.plot([place], [names.index(name)], marker="s", markersize=5, color=colour, label="_mark")
    axes.set_yticks(range(len(names)), [wrapped(name, _LABEL_IN, SMALL_PT) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xticks([])
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
