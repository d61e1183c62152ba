"""Love plots of standardised differences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.report.figures.differences import love_plot
from tests.analysis.report.drawn_texts import drawn_texts, faults

ROWS = pd.DataFrame(
    {"label": ["Age, years", "Height, cm", "Weight, kg", "Sex: female"], "difference": [0.17, -1.13, np.nan, 0.48]}
)


def test_love_plot__largest_first_and_hidden_ones_are_named_not_drawn() -> None:
    drawn = love_plot(ROWS, compared=("LVH", "no LVH"))
    axes = drawn.canvas.axes[0]
    points = next(line for line in axes.lines if line.get_marker() == "o")
    np.testing.assert_allclose(points.get_xdata(), [-1.13, 0.48, 0.17])
    assert [text.get_text() for text in axes.get_yticklabels()] == ["Height, cm", "Sex: female", "Age, years"]
    assert "Height, cm -1.13; Sex: female 0.48; Age, years 0.17." in drawn.alt
    assert drawn.alt.endswith("Not shown (*): Weight, kg.")


def test_love_plot__lines_at_zero_and_a_tenth() -> None:
    axes = love_plot(ROWS, compared=("LVH", "no LVH")).canvas.axes[0]
    upright = {float(np.asarray(line.get_xdata())[0]) for line in axes.lines if line.get_marker() == "None"}
    assert upright == {0.0, -0.1, 0.1}


@pytest.mark.parametrize("n", [0, 1, 30])
def test_love_plot__texts_stay_apart(n: int) -> None:
    rows = pd.DataFrame({"label": [f"Characteristic {i}: level" for i in range(n)], "difference": 0.01 * np.arange(n)})
    canvas = love_plot(rows, compared=("quartile 4", "quartile 1")).canvas
    assert faults(canvas) == []
    assert canvas.get_size_inches()[0] == pytest.approx(178 / 25.4)
    assert len(drawn_texts(canvas)) >= n
