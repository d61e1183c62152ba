"""Against CMR: what its figures are drawn from: hexagonal bins of people, and a ROC curve."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.report.aggregates import Aggregate, ColumnsAddUp, count, label
from analysis.report.counts import Count
from analysis.report.meanings_cmr import with_lvh
from analysis.report.study_data import StudyData
from analysis.report.topic_cmr_lvh import LABEL, RELATIVE_CORNELL, RELATIVE_INDEX
from analysis.report.topic_cmr_pairs import people_of
from analysis.roc import roc_curve

PREDICTED_MEASURED: Final = "predicted against measured"
BLAND_ALTMAN: Final = "difference against mean"
_WIDTHS_G: Final = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0, 20.0)
_SHOWN_SHARE: Final = 0.85
_FIRST_STEP: Final = 1

Floats = NDArray[np.float64]


def hexagon_counts(x: Floats, y: Floats, width: float) -> pd.DataFrame:
    """Return how many points each regular hexagon holds; a point goes to its nearest centre.

    Args:
        x: (n,) values.
        y: (n,) values in the same unit.
        width: of a hexagon between two opposite upright sides; a centre lies at 0, 0.

    Returns:
        x and y of the centres, n_people; only hexagons that hold a point, from left to right.
    """
    height = width * np.sqrt(3)
    even = np.round(x / width) * width, np.round(y / height) * height
    odd = (np.floor(x / width) + 0.5) * width, (np.floor(y / height) + 0.5) * height
    nearer = (x - even[0]) ** 2 + (y - even[1]) ** 2 <= (x - odd[0]) ** 2 + (y - odd[1]) ** 2
    # Whole numbers of half widths and heights, so that one centre is one key.
    columns = np.rint(np.where(nearer, even[0], odd[0]) / (width / 2)).astype(int)
    rows = np.rint(np.where(nearer, even[1], odd[1]) / (height / 2)).astype(int)
    found = pd.DataFrame({"column": columns, "row": rows}).value_counts(sort=False).sort_index()
    places = found.index.to_frame(index=False)
    return pd.DataFrame(
        {"x": places["column"] * width / 2, "y": places["row"] * height / 2, "n_people": found.to_numpy()}
    )


def hexagons(data: StudyData, pairs: pd.DataFrame) -> Aggregate:
    """Return the bins of predicted against measured mass, and of difference against mean.

    The width is the smallest of a few with which most people lie in bins that may be shown.

    Args:
        data: of the study.
        pairs: of `cmr_pairs`.
    """
    table = pairs[["mass_g", "mass_cmr_g"]].dropna()
    made, truth = (table[name].to_numpy(dtype=float) for name in table)
    drawn = {PREDICTED_MEASURED: (made, truth), BLAND_ALTMAN: ((made + truth) / 2, made - truth)}
    parts = [
        _fitting(x, y, data.study.masking.k).assign(figure=figure) for figure, (x, y) in drawn.items() if len(table)
    ]
    columns = (
        label("figure", "which it is drawn in"),
        label("x_g", "centre of the hexagon, g"),
        label("y_g", "centre of the hexagon, g"),
        label("width_g", "of the hexagon between upright sides, g"),
        count("n_people", "people in it"),
    )
    names = [column.name for column in columns]
    rows = pd.concat(parts)[names] if parts else pd.DataFrame(columns=names)
    return Aggregate("cmr_hexagons", rows.reset_index(drop=True), columns, small="drop")


def _fitting(x: Floats, y: Floats, k: int) -> pd.DataFrame:
    bins = pd.DataFrame()
    for width in _WIDTHS_G:
        bins = hexagon_counts(x, y, width).assign(width_g=width)
        shown = bins.loc[bins["n_people"] >= k, "n_people"].sum()
        if shown >= _SHOWN_SHARE * len(x):
            break
    return bins.rename(columns={"x": "x_g", "y": "y_g"})


def roc_steps(table: pd.DataFrame, marker: str, step: int) -> pd.DataFrame:
    """Return a ROC curve as counts, from nobody to everybody positive, thinned.

    Args:
        table: complete in the marker and LVH by CMR, with people of both kinds.
        marker: column; higher means LVH.
        step: fewest people with, and fewest people without LVH, between two points.

    Returns:
        tp and fp of each point; the first is 0 and 0, the last has everybody.
    """
    curve = roc_curve(table, label=LABEL, marker=marker)
    points = curve.points.iloc[::-1]
    tp = np.rint(points["sensitivity"].to_numpy() * curve.n_positive).astype(int)
    fp = np.rint((1 - points["specificity"].to_numpy()) * curve.n_negative).astype(int)
    kept = [(0, 0)]
    for one in zip(tp.tolist(), fp.tolist(), strict=True):
        if one[0] >= kept[-1][0] + step and one[1] >= kept[-1][1] + step:
            kept.append(one)
    last = (curve.n_positive, curve.n_negative)
    while len(kept) > 1 and (kept[-1][0] > last[0] - step or kept[-1][1] > last[1] - step):
        kept.pop()
    return pd.DataFrame([*kept, last], columns=["tp", "fp"])


def roc_aggregate(data: StudyData, pairs: pd.DataFrame) -> Aggregate:
    """Return the ROC curves of the continuous markers; [] points where there is one class only.

    Where all three ECG rules are measured in somebody, of these people, so that the rules lie in
    the same figure as the curve.

    Args:
        data: of the study.
        pairs: of `cmr_pairs`.
    """
    own = pairs[pairs["all_three"]] if pairs["all_three"].any() else pairs
    step = max(data.study.masking.k, _FIRST_STEP)
    rows: list[dict[str, Any]] = []
    for marker, words in (("relative_index", RELATIVE_INDEX), ("relative_cornell", RELATIVE_CORNELL)):
        table = own[[LABEL, marker]].dropna()
        n_lvh = int(table[LABEL].sum())
        if min(n_lvh, len(table) - n_lvh) > 0:
            known = {"marker": words, "n_lvh": n_lvh, "n_no_lvh": len(table) - n_lvh}
            for place, (tp, fp) in enumerate(roc_steps(table, marker, step).to_numpy().tolist()):
                rows.append(
                    known | {"place": place, "tp": tp, "fn": n_lvh - tp, "fp": fp, "tn": len(table) - n_lvh - fp}
                )
    columns = (
        label("marker", "continuous marker"),
        count("n_lvh", "people with LVH by CMR"),
        count("n_no_lvh", "people without"),
        label("place", "of the point along the curve"),
        count("tp", "with LVH and a marker at least as high"),
        count("fn", "with LVH and a lower one"),
        count("fp", "without LVH, with a marker at least as high"),
        count("tn", "without LVH, with a lower one"),
    )
    names = [column.name for column in columns]
    sums = (ColumnsAddUp("n_lvh", ("tp", "fn")), ColumnsAddUp("n_no_lvh", ("fp", "tn")))
    table = pd.DataFrame(rows, columns=names)
    return Aggregate("cmr_roc", table, columns, sums, counts=_margins(table))


def _margins(table: pd.DataFrame) -> dict[str, list[Count | None]]:
    """What the people with and without LVH are, who are those of the paired test too."""
    who = [people_of("", "", labelled=True, with_rules=True).complete(marker) for marker in table["marker"]]
    return {"n_lvh": [with_lvh(one) for one in who], "n_no_lvh": [with_lvh(one, "no") for one in who]}
