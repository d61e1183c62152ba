"""Calibration of absolute risk: observed against predicted by group of predicted risk."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from analysis.report.figures import (
    GREY,
    SERIES,
    count_text,
    floats,
    in_style,
    legend_above,
    new_canvas,
    use_round_steps,
    wrapped,
)
from analysis.report.masking import HIDDEN

_WIDTH_IN: Final = 4.6
_HEIGHT_IN: Final = 4.9
_MOST_ABOVE: Final = 1.6

Numbers = NDArray[np.float64]


@in_style
def calibration(rows: pd.DataFrame, *, horizon_years: float, title: str) -> Figure:
    """Return observed against predicted risk with the line of identity, both axes alike.

    Args:
        rows: masked; `group`, `n_people`, `predicted`, `observed`, `lo`, `hi` (0 to 1); groups
            with a missing value are not drawn, and the legend says how many.
        horizon_years: of the risks.
        title: above, or "".
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
    if title:
        axes.set_title(wrapped(title, _WIDTH_IN - 1), loc="left")
    legend_above(canvas, _handles(len(known), len(rows) - len(known)))
    return canvas


def _known(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[np.isfinite(floats(rows, "predicted")) & np.isfinite(floats(rows, "observed"))]


def _most(predicted: Numbers, observed: Numbers, hi: Numbers) -> float:
    """The end of both axes; a single wide limit may leave, so that the points stay apart."""
    points = np.concatenate([predicted, observed, [0.1]])
    limits = hi[np.isfinite(hi)]
    reach = max(float(limits.max()), float(points.max())) if len(limits) else float(points.max())
    return min(reach, float(points.max()) * _MOST_ABOVE) * 1.04


def _handles(n_shown: int, n_hidden: int) -> list[Line2D]:
    colour = SERIES[0].colour
    hidden = f" ({n_hidden} of {n_shown + n_hidden} not shown)" if n_hidden else ""
    return [
        Line2D([], [], color=colour, marker="o", markersize=5, label=f"groups of predicted risk, 95 % limits{hidden}"),
        Line2D([], [], color=GREY, linewidth=1, linestyle="dashed", label="observed = predicted"),
    ]


def calibration_alt(rows: pd.DataFrame, *, horizon_years: float, title: str) -> str:
    """Return what `calibration` shows, for who cannot see it; same arguments."""
    told = [
        f"{row['group']}: predicted {100 * row['predicted']:.1f} %, observed "
        f"{100 * row['observed']:.1f} % ({count_text(row['n_people'])} people)"
        for row in _known(rows).to_dict("records")
    ]
    n_hidden = len(rows) - len(_known(rows))
    hidden = f" Groups not shown ({HIDDEN}): {n_hidden}." if n_hidden else ""
    start = f"{title}. " if title else ""
    return (
        f"{start}Observed against predicted {horizon_years:.3g}-year risk by group of predicted "
        f"risk, with the line where they are equal. {'; '.join(told)}.{hidden}"
    )
