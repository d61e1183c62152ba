"""Standardised differences of two groups: a point for each characteristic (a love plot)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure.masking import HIDDEN
from analysis.report.figures.drawing import (
    GREY,
    SERIES,
    SMALL_PT,
    WIDTH_IN,
    Drawn,
    floats,
    in_style,
    key_line,
    legend_above,
    new_canvas,
    use_round_steps,
    wrapped,
)
from analysis.report.words import number_text

_ROW_IN: Final = 0.17
_AROUND_IN: Final = 0.95
_LABEL_IN: Final = 2.4
# Austin PC, Stat Med 2009;28:3083: a difference below 0.1 is often taken as negligible.
NEGLIGIBLE: Final = 0.1


@in_style
def love_plot(rows: pd.DataFrame, *, compared: tuple[str, str]) -> Drawn:
    """Draw standardised differences, the largest first, with lines at 0 and at ±0.1.

    `rows`: `label`, `difference` of masked numbers, missing where hidden (not drawn, but named).
    `compared` names the two groups: the first less the second.
    """
    known = rows[np.isfinite(floats(rows, "difference"))]
    known = known.iloc[np.argsort(-np.abs(floats(known, "difference")), kind="stable")].reset_index(drop=True)
    canvas = new_canvas(WIDTH_IN, _AROUND_IN + _ROW_IN * max(len(known), 1), "constrained")
    axes = canvas.subplots()
    values, places = floats(known, "difference"), np.arange(len(known))
    none: dict[str, Any] = {"color": GREY, "linewidth": 0.8}
    small: dict[str, Any] = {"color": GREY, "linewidth": 0.8, "linestyle": (0, (4, 2))}
    points: dict[str, Any] = {"color": SERIES[0].colour, "marker": "o", "markersize": 4.5, "linestyle": "none"}
    axes.axvline(0, **none, zorder=0)
    for side in (-NEGLIGIBLE, NEGLIGIBLE):
        axes.axvline(side, **small, zorder=0)
    axes.hlines(places, 0, values, color=SERIES[0].colour, linewidth=0.9)
    axes.plot(values, places, **points)
    axes.set_yticks(places, [wrapped(str(text), _LABEL_IN, SMALL_PT) for text in known["label"]])
    axes.set_ylim(len(known) - 0.4, -0.6)
    use_round_steps(axes.xaxis)
    axes.set_xlabel(f"Standardised difference, {compared[0]} less {compared[1]}")
    first = key_line("standardised difference", **points)
    legend_above(canvas, [first, key_line(f"±{number_text(NEGLIGIBLE, 1)}", **small)])
    texts = [f"{row['label']} {number_text(row['difference'])}" for row in known.to_dict("records")]
    missing = [str(text) for text in rows.loc[~rows["label"].isin(known["label"]), "label"]]
    hidden = f" Not shown ({HIDDEN}): {', '.join(missing)}." if missing else ""
    alt = f"Standardised differences of {compared[0]} and {compared[1]}, largest first: {'; '.join(texts) or 'none'}."
    return Drawn(canvas, f"{alt}{hidden}")
