"""Sensitivity analyses as a specification plot."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.report.figures.specifications import specification_plot
from tests.analysis.report.drawn_texts import faults

MAIN = "main analysis"
ROWS = pd.DataFrame(
    {
        "specification": [MAIN, "clock starts 365 days after the ECG", "raw prediction", "few people"],
        "estimate": [1.23, 1.31, 1.18, np.nan],
        "lo": [1.08, 1.1, 1.01, np.nan],
        "hi": [1.4, 1.56, 1.38, np.nan],
    }
)


def test_specification_plot__estimates_ascend_and_marks_name_them() -> None:
    drawn = specification_plot(ROWS, main=MAIN, measure_name="Hazard ratio per SD")
    above, below = drawn.canvas.axes
    heights = [float(line.get_ydata()[0]) for line in above.lines if line.get_label() == "_estimate"]
    assert heights == [1.18, 1.23, 1.31]
    names = [text.get_text() for text in below.get_yticklabels()]
    assert names == [MAIN, "clock starts 365 days after the ECG", "raw prediction"]
    marks = [(line.get_xdata()[0], line.get_ydata()[0]) for line in below.lines if line.get_label() == "_mark"]
    assert marks == [(0, 2), (1, 0), (2, 1)]  # raw, main, landmark


def test_specification_plot__what_is_hidden_is_named_and_not_drawn() -> None:
    alt = specification_plot(ROWS, main=MAIN, measure_name="Hazard ratio per SD").alt
    assert "raw prediction: 1.18 (1.01 to 1.38); main analysis: 1.23 (1.08 to 1.40)" in alt
    assert alt.endswith("Not shown (*): few people.")


@pytest.mark.parametrize("n", [1, 12])
def test_specification_plot__texts_stay_apart(n: int) -> None:
    rows = pd.DataFrame({"specification": [MAIN, *(f"another way {i}" for i in range(1, n))], "lo": 1.0, "hi": 2.0})
    rows = rows.assign(estimate=np.linspace(1.1, 1.9, n))
    canvas = specification_plot(rows, main=MAIN, measure_name="Hazard ratio per SD").canvas
    assert faults(canvas) == []
    assert canvas.get_size_inches()[0] == pytest.approx(178 / 25.4)
