from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.report.figures.drawing import svg_bytes
from analysis.report.figures.follow_up import cumulative_incidence
from tests.analysis.report.drawn_texts import drawn_texts, faults

_OPTIONS: dict[str, Any] = {"outcome_name": "heart failure", "group_name": "Predicted LVH", "horizon_years": 5.0}
_LONG = ["lowest quarter", "second quarter", "third quarter", "quarter of the highest prediction"]


def _points(groups: list[str], hidden: tuple[str, ...] = ()) -> pd.DataFrame:
    parts = []
    for place, group in enumerate(groups):
        incidence = np.array([0, 0.01, 0.03, 0.04]) * (place + 1)
        part = pd.DataFrame(
            {
                "group": group,
                "years": [0.0, 1.5, 4.0, 6.5],
                "incidence": incidence,
                "lo": incidence * 0.8,
                "hi": incidence * 1.3,
            }
        )
        part.loc[0, ["lo", "hi"]] = np.nan
        if group in hidden:
            part[["incidence", "lo", "hi"]] = np.nan
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _at_risk(groups: list[str], size: int = 1000, last: int = 8) -> pd.DataFrame:
    rows = [
        {
            "group": group,
            "years": float(year),
            "n_at_risk": size - year * size // 10,
            "n_censored": year * size // 20,
            "n_events": pd.NA if year == 1 else year * 10,
            "n_deaths": year * size // 20,
        }
        for group in groups
        for year in range(last + 1)
    ]
    counts = dict.fromkeys(("n_at_risk", "n_censored", "n_events", "n_deaths"), "Int64")
    return pd.DataFrame(rows).astype(counts)


def _draw(groups: list[str], hidden: tuple[str, ...] = (), **size: int) -> Figure:
    return cumulative_incidence(_points(groups, hidden), _at_risk(groups, **size), **_OPTIONS).canvas


@pytest.mark.parametrize(
    ("groups", "hidden", "size"),
    [
        (["everybody"], (), {}),
        (["no LVH", "LVH"], (), {}),
        (["no LVH", "LVH"], ("LVH",), {"size": 500_000}),
        (_LONG, (), {}),
        (_LONG, tuple(_LONG), {"size": 2_000_000}),
        (_LONG, (), {"last": 24}),
        (["no LVH", "LVH"], (), {"last": 0}),
    ],
)
def test_cumulative_incidence__no_text_is_cut_off_or_on_another(
    groups: list[str], hidden: tuple[str, ...], size: dict[str, int]
) -> None:
    assert faults(_draw(groups, hidden, **size)) == []


def test_cumulative_incidence__long_outcome_fits() -> None:
    options = _OPTIONS | {"outcome_name": "ventricular arrhythmia or cardiac arrest, all sources"}
    canvas = cumulative_incidence(_points(_LONG), _at_risk(_LONG), **options).canvas
    assert faults(canvas) == []


@pytest.mark.parametrize("groups", [["everybody"], ["no LVH", "LVH"], _LONG])
@pytest.mark.parametrize("size", [1000, 2_000_000])
def test_cumulative_incidence__numbers_stand_under_their_ticks(groups: list[str], size: int) -> None:
    canvas = _draw(groups, size=size)
    boxes = drawn_texts(canvas)
    axes = canvas.axes[0]
    ticks = axes.get_xticks()
    places = [axes.transData.transform((tick, 0))[0] for tick in ticks]
    for name in ("n_at_risk", "n_censored", "n_events"):
        for group in groups:
            row = [(text, box) for text, box in boxes if text.get_label() == f"_{name}:{group}"]
            assert len(row) == len(ticks) >= 2
            middles = [(box.x0 + box.x1) / 2 for _, box in row]
            np.testing.assert_allclose(middles, places, rtol=0, atol=1)
            assert np.ptp([text.get_transform().transform((0, 0))[1] for text, _ in row]) < 0.01


def test_cumulative_incidence__rows_hold_the_numbers_and_stars() -> None:
    canvas = _draw(["no LVH", "LVH"])
    of_row = [text.get_text() for text, _ in drawn_texts(canvas) if text.get_label() == "_n_events:LVH"]
    assert of_row == ["0", "*", "20", "30", "40", "50", "60", "70", "80"]


def test_cumulative_incidence__labels_of_rows_stand_left_of_the_numbers() -> None:
    boxes = drawn_texts(_draw(_LONG))
    numbers = [box for text, box in boxes if str(text.get_label()).startswith("_n_")]
    left, top = min(box.x0 for box in numbers), max(box.y1 for box in numbers)
    # The legend above names the groups too.
    names = [box for text, box in boxes if text.get_text() == "second quarter" and box.y1 < top]
    assert len(names) == 4  # at risk, events, deaths, censored
    assert all(box.x1 < left for box in names)


def test_cumulative_incidence__steps_come_after_their_event_and_end_with_those_at_risk() -> None:
    canvas = _draw(["no LVH", "LVH"])
    line = canvas.axes[0].lines[0]
    assert line.get_drawstyle() == "steps-post"
    np.testing.assert_allclose(line.get_xdata(), [0, 1.5, 4, 6.5, 8])
    np.testing.assert_allclose(line.get_ydata(), [0, 1, 3, 4, 4])


def test_cumulative_incidence__hidden_group_has_a_name_and_no_curve() -> None:
    canvas = _draw(["no LVH", "LVH"], ("LVH",))
    texts = [text.get_text() for text, _ in drawn_texts(canvas)]
    assert "LVH (not shown: few events)" in texts
    # One curve and the horizon.
    assert len(canvas.axes[0].lines) == 2


def test_cumulative_incidence__hidden_values_leave_no_trace_in_the_file() -> None:
    at_risk = _at_risk(["no LVH", "LVH"])
    other = _points(["no LVH", "LVH"], ("LVH",))
    other.loc[other["group"] == "LVH", "years"] = [0.0, 0.1, 0.2, 0.3]
    one = cumulative_incidence(_points(["no LVH", "LVH"], ("LVH",)), at_risk, **_OPTIONS).canvas
    assert svg_bytes(one) == svg_bytes(cumulative_incidence(other, at_risk, **_OPTIONS).canvas)


def test_cumulative_incidence_alt__gives_the_risk_at_the_horizon() -> None:
    groups = ["no LVH", "LVH"]
    alt = cumulative_incidence(_points(groups, ("LVH",)), _at_risk(groups), **_OPTIONS).alt
    assert "of heart failure by predicted LVH, with" in alt
    assert "At 5 years: no LVH 3.0% (2.4 to 3.9); LVH * (not shown)." in alt


def test_cumulative_incidence_alt__horizon_beyond_follow_up_is_not_named() -> None:
    options = _OPTIONS | {"horizon_years": 20.0}
    alt = cumulative_incidence(_points(["a"]), _at_risk(["a"]), **options).alt
    assert "At 8 years: a 4.0% (3.2 to 5.2)." in alt


def _ends(figure: Figure) -> list[float]:
    return [float(np.asarray(line.get_xdata())[-1]) for line in figure.axes[0].get_lines()[:2]]


def test_cumulative_incidence__curves_end_with_their_last_row_or_the_last_tick_at_risk() -> None:
    """Masking has taken away the rows of curves after which too few are at risk."""
    groups = ["no LVH", "LVH"]
    at_risk = _at_risk(groups, last=8)
    nobody = (at_risk["group"] == "LVH") & (at_risk["years"] > 4)
    at_risk.loc[nobody, "n_at_risk"] = 0
    points = _points(groups)
    points = points[(points["group"] == "no LVH") | (points["years"] <= 4)]
    figure = cumulative_incidence(points, at_risk, **_OPTIONS).canvas
    assert _ends(figure) == [8.0, 4.0]
    heights = [np.asarray(line.get_ydata()).max() for line in figure.axes[0].get_lines()[:2]]
    assert heights == pytest.approx([4.0, 6.0])  # per cent


def test_cumulative_incidence__with_no_tick_but_0_is_drawn_to_its_end() -> None:
    assert _ends(_draw(["no LVH", "LVH"], last=0)) == [6.5, 6.5]


def test_cumulative_incidence__height_is_that_of_what_the_axis_shows() -> None:
    """A step after the last tick, with a wide interval, does not press the curves down."""
    late = pd.DataFrame({"group": "LVH", "years": [9.5], "incidence": [0.2], "lo": [0.05], "hi": [0.9]})
    points = pd.concat([_points(["no LVH", "LVH"]), late], ignore_index=True)
    canvas = cumulative_incidence(points, _at_risk(["no LVH", "LVH"]), **_OPTIONS).canvas
    assert canvas.axes[0].get_ylim()[1] < 15  # per cent; the highest limit before is 0.08 * 1.3
