from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.report.figures.models import dose_response
from tests.analysis.report.drawn_texts import drawn_texts, faults

_OPTIONS: dict[str, Any] = {
    "knots": [38.0, 44.0, 48.0, 57.0],
    "reference": 46.0,
    "limits_by_sex": {"female": 55.0, "male": 72.0},
    "exposure_name": "predicted LV mass index",
    "exposure_unit": "g/m2",
    "outcome_name": "heart failure",
}


def _curve(width: float = 0.02) -> pd.DataFrame:
    value = np.linspace(36, 62, 27)
    log_hr = 0.05 * (value - 46)
    half = width * np.abs(value - 46)
    return pd.DataFrame(
        {"value": value, "hr": np.exp(log_hr), "lo": np.exp(log_hr - half), "hi": np.exp(log_hr + half)}
    )


def _histogram() -> pd.DataFrame:
    edges = np.linspace(34, 66, 17)
    n = pd.array([15 + 100 * place for place in range(16)], dtype="Int64")
    return pd.DataFrame({"left": edges[:-1], "right": edges[1:], "n_people": n})


def _draw(**other: Any) -> Figure:
    return dose_response(_curve(), _histogram(), **(_OPTIONS | other)).canvas


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"limits_by_sex": {}},
        {"limits_by_sex": {"women": 55.0, "men": 55.0}},
        {"knots": []},
        {"outcome_name": "ventricular arrhythmia or cardiac arrest, from all the sources"},
        {"exposure_name": "LV mass index predicted from the ECG, recalibrated to CMR " * 2},
    ],
)
def test_dose_response__no_text_is_cut_off_or_on_another(other: dict[str, Any]) -> None:
    assert faults(_draw(**other)) == []


def test_dose_response__curve_is_drawn_on_a_log_axis() -> None:
    above = _draw().axes[0]
    assert above.get_yscale() == "log"
    np.testing.assert_allclose(above.lines[0].get_ydata(), _curve()["hr"])
    assert 1 in above.get_yticks()


def test_dose_response__reference_knots_and_limits_are_at_their_values() -> None:
    above, below = _draw().axes
    (reference,) = [line for line in above.lines if line.get_label() == "_reference"]
    assert (reference.get_xdata()[0], reference.get_ydata()[0]) == (46, 1)
    (knots,) = [one for one in above.collections if one.get_label() == "_knots"]
    assert [segment[0, 0] for segment in knots.get_segments()] == [38, 44, 48, 57]
    for axes in (above, below):
        lines = {line.get_label(): line for line in axes.lines}
        assert lines["_limit:female"].get_xdata()[0] == 55
        assert lines["_limit:male"].get_xdata()[0] == 72
        assert lines["_limit:female"].get_linestyle() != lines["_limit:male"].get_linestyle()
        assert axes.get_xlim()[1] > 72


def test_dose_response__limits_are_named() -> None:
    texts = [text.get_text() for text, _ in drawn_texts(_draw())]
    assert "LVH limit, female: 55 g/m2" in texts
    assert "LVH limit, male: 72 g/m2" in texts
    assert "hazard ratio 1 at 46 g/m2" in texts


def test_dose_response__bars_are_the_histogram() -> None:
    below = dose_response(_curve(), _histogram(), **_OPTIONS).canvas.axes[1]
    bars = [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in below.patches]
    assert bars[0] == (34, 2, 15)
    assert len(bars) == 16


def test_dose_response__wide_limits_leave_the_axis() -> None:
    above = dose_response(_curve(0.5), _histogram(), **_OPTIONS).canvas.axes[0]
    assert above.get_ylim()[1] < 10 < _curve(0.5)["hi"].max()


def test_dose_response__hidden_parts_and_no_bins_are_no_error() -> None:
    curve = _curve()
    curve.loc[:3, ["hr", "lo", "hi"]] = np.nan
    canvas = dose_response(curve, _histogram().iloc[:0], **_OPTIONS).canvas
    assert faults(canvas) == []
    assert len(canvas.axes[0].lines[0].get_xdata()) == 23


def test_dose_response_alt__gives_the_ends_and_the_limits() -> None:
    alt = dose_response(_curve(), _histogram(), **_OPTIONS).alt
    assert "1 at 46 g/m2" in alt
    # exp(0.05 x -10), exp(0.05 x 16).
    assert "0.61 (0.50 to 0.74) at 36 g/m2" in alt
    assert "2.23 (1.62 to 3.06) at 62 g/m2" in alt
    assert "The limit of LVH is 72 g/m2 (male)." in alt
    assert "from 34 to 66 g/m2" in alt
    none = _curve().assign(hr=np.nan)
    assert "limits: *." in dose_response(none, _histogram().iloc[:0], **_OPTIONS).alt
