from __future__ import annotations

from itertools import pairwise
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from analysis.report.figures.flow import flow_diagram
from tests.analysis.report.drawn_texts import drawn_texts, faults

_ROWS: list[tuple[str, str, Any]] = [
    ("all", "people in the participants table", 500_000),
    ("not_in_cohort", "not in the cohort", 0),
    ("withdrawn", "withdrawn", 0),
    ("no_usable_ecg", "no usable ECG", 455_000),
    ("missing_exposure", "exposure missing", None),
    (
        "prevalent",
        "heart failure on or before the index date, in any of the sources that count "
        "for prevalence, self-report included",
        1235,
    ),
    ("no_follow_up_time", "no follow-up time", 0),
    ("analysed", "analysed for heart failure", 43_000),
]


def _rows(*places: int) -> pd.DataFrame:
    made = pd.DataFrame(_ROWS, columns=["reason", "label", "n_people"])
    made = made.astype({"n_people": "Int64"})
    return made.iloc[list(places)] if places else made


def _texts(canvas: Figure) -> list[str]:
    return [text.get_text().replace("\n", " ").replace("\u00a0", " ") for text, _ in drawn_texts(canvas)]


def _boxes(canvas: Figure) -> list[Rectangle]:
    return [one for one in canvas.axes[0].patches if isinstance(one, Rectangle)]


@pytest.mark.parametrize("places", [(), (0, 7), (0, 3, 7), (0, 1, 2, 7), (0, 3, 4, 5, 7)])
def test_flow_diagram__no_text_is_cut_off_or_on_another(places: tuple[int, ...]) -> None:
    assert faults(flow_diagram(_rows(*places)).canvas) == []


def test_flow_diagram__each_text_lies_in_its_box() -> None:
    canvas = flow_diagram(_rows()).canvas
    axes = canvas.axes[0]
    texts = drawn_texts(canvas)
    boxes = [box.get_window_extent() for box in _boxes(canvas)]
    assert len(texts) == len(boxes) == 6
    for (_, text), box in zip(texts, boxes, strict=True):
        assert box.x0 < text.x0 < text.x1 < box.x1
        assert box.y0 < text.y0 < text.y1 < box.y1
    assert axes.get_xlim() == pytest.approx((0, 178 / 25.4))  # two columns of a journal


def test_flow_diagram__nobody_met_is_one_box() -> None:
    texts = _texts(flow_diagram(_rows()).canvas)
    assert "Nobody (n = 0): not in the cohort; withdrawn; no follow-up time" in texts
    assert texts[0] == "People in the participants table n = 500,000"
    assert texts[-1] == "Analysed for heart failure n = 43,000"
    assert "No usable ECG: n = 455,000" in texts


def test_flow_diagram__hidden_is_a_star() -> None:
    canvas = flow_diagram(_rows()).canvas
    assert "Exposure missing: n = *" in _texts(canvas)


def test_flow_diagram__an_arrow_to_each_exclusion_and_one_down() -> None:
    canvas = flow_diagram(_rows()).canvas
    arrows = [one for one in canvas.axes[0].patches if isinstance(one, FancyArrowPatch)]
    assert len(arrows) == len(_boxes(canvas)) - 1


def test_flow_diagram__boxes_do_not_overlap() -> None:
    boxes = _boxes(flow_diagram(_rows()).canvas)
    for above, below in pairwise(boxes):
        assert above.get_y() + above.get_height() < below.get_y()


def test_flow_diagram_alt__gives_all_rows() -> None:
    alt = flow_diagram(_rows()).alt
    assert alt.startswith("Flow diagram. people in the participants table 500,000; left out")
    assert "withdrawn 0; no usable ECG 455,000; exposure missing *;" in alt
    assert alt.endswith("analysed for heart failure 43,000. *: a small number, not shown.")
    assert "left out: nobody;" in flow_diagram(_rows(0, 7)).alt
