from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.report.figures.models import calibration
from tests.analysis.report.drawn_texts import drawn_texts, faults


def _rows(n: int = 10) -> pd.DataFrame:
    predicted = 0.01 * np.arange(1, n + 1)
    return pd.DataFrame(
        {
            "group": range(1, n + 1),
            "n_people": pd.array([2000] * n, dtype="Int64"),
            "predicted": predicted,
            "observed": predicted * 1.1,
            "lo": predicted * 0.9,
            "hi": predicted * 1.3,
        }
    )


@pytest.mark.parametrize("n", [1, 2, 4, 10])
def test_calibration__no_text_is_cut_off_or_on_another(n: int) -> None:
    assert faults(calibration(_rows(n), horizon_years=5).canvas) == []


def test_calibration__points_in_per_cent_on_equal_axes() -> None:
    axes = calibration(_rows(), horizon_years=5).canvas.axes[0]
    identity, points = axes.lines
    np.testing.assert_allclose(points.get_xdata(), np.arange(1, 11))
    np.testing.assert_allclose(points.get_ydata(), 1.1 * np.arange(1, 11))
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_aspect() == 1
    np.testing.assert_array_equal(identity.get_xdata(), identity.get_ydata())


def test_calibration__hidden_groups_are_counted_not_drawn() -> None:
    rows = _rows()
    rows.loc[:1, ["predicted", "observed", "lo", "hi"]] = np.nan
    canvas = calibration(rows, horizon_years=5).canvas
    assert len(canvas.axes[0].lines[1].get_xdata()) == 8
    assert any("(2 of 10 not shown)" in text.get_text().replace("\n", " ") for text, _ in drawn_texts(canvas))
    assert "Groups not shown (*): 2." in calibration(rows, horizon_years=5).alt


def test_calibration__missing_limits_draw_no_bar() -> None:
    rows = _rows(3)
    rows.loc[1, ["lo", "hi"]] = np.nan
    bars = calibration(rows, horizon_years=5).canvas.axes[0].collections[0].get_segments()
    drawn = [bar for bar in bars if np.isfinite(bar).all() and len(bar)]
    assert len(drawn) == 2


def test_calibration__all_hidden_and_one_wide_limit_are_no_error() -> None:
    rows = _rows(3)
    rows.loc[2, "hi"] = 1.0
    axes = calibration(rows, horizon_years=5).canvas.axes[0]
    assert axes.get_xlim()[1] < 10
    rows[["predicted", "observed", "lo", "hi"]] = np.nan
    assert faults(calibration(rows, horizon_years=2.5).canvas) == []


def test_calibration_alt__gives_each_group() -> None:
    alt = calibration(_rows(2), horizon_years=5.0).alt
    assert alt.startswith("Observed against predicted 5-year risk")
    assert "1: predicted 1.0%, observed 1.1% (2,000 people); 2: predicted 2.0%" in alt
