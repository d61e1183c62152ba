from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.report.figures.models import schoenfeld
from tests.analysis.report.drawn_texts import drawn_texts, faults

_OPTIONS: dict[str, Any] = {
    "hr_log": 0.4,
    "lo_log": 0.3,
    "hi_log": 0.5,
    "outcome_name": "heart failure",
    "exposure_name": "predicted LV mass index, per SD",
}
_HIDDEN: dict[str, Any] = {"hr_log": np.nan, "lo_log": np.nan, "hi_log": np.nan}


def _rows(n: int = 12) -> pd.DataFrame:
    beta = 0.4 + 0.1 * (-1.0) ** np.arange(n)
    return pd.DataFrame(
        {
            "years": np.linspace(0.5, 7.5, n),
            "beta": beta,
            "lo": beta - 0.4,
            "hi": beta + 0.4,
            "n_events": pd.array([20] * n, dtype="Int64"),
        }
    )


@pytest.mark.parametrize("n", [0, 1, 2, 4, 12])
@pytest.mark.parametrize(
    "other", [{}, _HIDDEN, {"outcome_name": "ventricular arrhythmia or cardiac arrest, all the sources"}]
)
def test_schoenfeld__no_text_is_cut_off_or_on_another(n: int, other: dict[str, Any]) -> None:
    assert faults(schoenfeld(_rows(n), **(_OPTIONS | other)).canvas) == []


def test_schoenfeld__cox_and_no_association_are_level_lines() -> None:
    axes = schoenfeld(_rows(), **_OPTIONS).canvas.axes[0]
    levels = [line.get_ydata() for line in axes.lines[:2]]
    assert levels == [[0, 0], [0.4, 0.4]]
    np.testing.assert_allclose(axes.lines[2].get_ydata(), _rows()["beta"])
    (band,) = axes.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((0.3, 0.5))


def test_schoenfeld__right_axis_is_the_ratio_at_the_same_height() -> None:
    left, right = schoenfeld(_rows(), **_OPTIONS).canvas.axes
    assert left.get_ylim() == right.get_ylim()
    labels = [float(label.get_text()) for label in right.get_yticklabels()]
    np.testing.assert_allclose(np.exp(right.get_yticks()), labels, rtol=1e-12)


def test_schoenfeld__hidden_bins_and_hidden_ratio_are_not_drawn() -> None:
    rows = _rows()
    rows.loc[:4, ["years", "beta", "lo", "hi"]] = np.nan
    axes = schoenfeld(rows, **(_OPTIONS | _HIDDEN)).canvas.axes[0]
    assert not axes.patches
    assert len(axes.lines[-1].get_xdata()) == 7


def test_schoenfeld__exposure_is_named() -> None:
    texts = [text.get_text() for text, _ in drawn_texts(schoenfeld(_rows(), **_OPTIONS).canvas)]
    assert "Predicted LV mass index, per SD" in texts


def test_schoenfeld_alt__gives_ends_and_the_ratio() -> None:
    alt = schoenfeld(_rows(), **_OPTIONS).alt
    assert "12 bins of events over time, first and last: 0.50 at 0.5 years; 0.30 at 7.5" in alt
    assert "Cox model is 0.40 (0.30 to 0.50)." in alt
    assert "Cox model is not shown." in schoenfeld(_rows(), **(_OPTIONS | _HIDDEN)).alt
