from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection

from analysis.disclosure.masking import MaskingRule
from analysis.report.figures.cmr import bland_altman, predicted_measured, roc
from analysis.report.topics.cmr import aggregates, hexagon_counts, present, roc_steps
from analysis.study.settings import Release
from tests.analysis.report.builders import study, study_data
from tests.analysis.report.cmr_people import masked_of
from tests.analysis.report.drawn_texts import drawn_texts, faults


def _bins() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    x = rng.normal(90, 20, 3000)
    bins = hexagon_counts(x, x + rng.normal(0, 12, 3000), 8.0).assign(width_g=8.0)
    return bins.rename(columns={"x": "x_g", "y": "y_g"})


def _curve() -> pd.DataFrame:
    fpr = np.linspace(0, 1, 30)
    return pd.DataFrame(
        {"marker": "predicted index / limit of the sex", "sensitivity": fpr**0.4, "specificity": 1 - fpr}
    )


def _points() -> pd.DataFrame:
    names = ["Predicted LVH", "R in aVL", "Sokolow-Lyon", "Cornell voltage", "Any of the three ECG rules"]
    return pd.DataFrame(
        {"marker": names, "sensitivity": [0.5, 0.1, 0.2, np.nan, 0.3], "specificity": [0.9, 0.97, 0.9, 0.9, np.nan]}
    )


def test_hexagons__everybody_is_in_the_one_with_the_nearest_centre() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.uniform(-40, 40, (2, 500))
    width, height = 7.0, 7.0 * np.sqrt(3)
    for one, two in zip(x, y, strict=True):
        made = hexagon_counts(np.array([one]), np.array([two]), width)
        assert made["n_people"].tolist() == [1]
        steps = range(-15, 16)
        centres = [
            (i * width + h * width / 2, j * height + h * height / 2) for i, j, h in product(steps, steps, (0, 1))
        ]
        nearest = min(np.hypot(a - one, b - two) for a, b in centres)
        own = np.hypot(made["x"][0] - one, made["y"][0] - two)
        assert own == pytest.approx(nearest)


def test_hexagons__counts_add_up_and_centres_are_there_once() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(90, 20, (2, 2000))
    made = hexagon_counts(x, y, 5.0)
    assert made["n_people"].sum() == 2000
    assert not made[["x", "y"]].duplicated().any()


def test_hexagons__small_ones_are_dropped() -> None:
    data = study_data(600)
    rows = masked_of(data, MaskingRule(10, 5))["cmr_hexagons"].rows
    assert len(rows)
    assert (rows["n_people"] >= 10).all()


def test_roc_steps__by_hand() -> None:
    table = pd.DataFrame({"lvh_cmr": [1, 0, 1, 0, 1, 0.0], "m": [6.0, 5, 4, 3, 2, 1]})
    every = roc_steps(table, "m", 1)
    # From the highest marker down: LVH, not, LVH, not, LVH, not.
    assert every.to_numpy().tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert roc_steps(table, "m", 2).to_numpy().tolist() == [[0, 0], [3, 3]]


def test_roc_steps__move_by_enough_people_of_both_kinds() -> None:
    rng = np.random.default_rng(4)
    lvh = (rng.random(2000) < 0.2).astype(float)
    table = pd.DataFrame({"lvh_cmr": lvh, "m": rng.normal(lvh, 1.0)})
    points = roc_steps(table, "m", 10)
    assert points.iloc[0].tolist() == [0, 0]
    assert points.iloc[-1].tolist() == [lvh.sum(), 2000 - lvh.sum()]
    assert (points.diff().iloc[1:] >= 10).all(axis=None)


def test_roc__of_a_study_lies_on_the_exact_curve() -> None:
    data = study_data(900, study=study(release=Release(rule="none")))
    rows = masked_of(data)["cmr_roc"].rows
    own = rows[rows["marker"].str.startswith("predicted")]
    assert (own["tp"] + own["fn"] == own["n_lvh"]).all()
    assert (own["fp"] + own["tn"] == own["n_no_lvh"]).all()
    assert own["place"].tolist() == list(range(len(own)))


def test_figures__of_a_study_have_no_faults() -> None:
    data = study_data(1500)
    made = present(masked_of(data, MaskingRule(10, 5)), data.about)
    assert made is not None
    figures = {one.key: one for one in made.items if hasattr(one, "canvas")}
    assert set(figures) == {"cmr_mass", "cmr_bland_altman", "cmr_roc"}
    for one in figures.values():
        assert faults(one.canvas) == []  # type: ignore[union-attr]
    assert aggregates(data)[2].small == "drop"


@pytest.mark.parametrize(("intercept", "slope"), [(-3.0, 1.05), (np.nan, np.nan)])
def test_predicted_measured__lines_and_hexagons(intercept: float, slope: float) -> None:
    bins = _bins()
    kept = {"intercept": intercept, "slope": slope}
    canvas = predicted_measured(bins, axis_name="Predicted LV mass, g", **kept).canvas
    axes = canvas.axes[0]
    assert faults(canvas) == []
    assert axes.get_xlim() == axes.get_ylim()
    hexagons = next(one for one in axes.collections if isinstance(one, PolyCollection))
    assert len(hexagons.get_paths()) == len(bins)
    corners = hexagons.get_paths()[0].vertices
    assert np.ptp(np.asarray(corners)[:, 0]) == pytest.approx(8.0)
    assert len(axes.lines) == (2 if np.isfinite(slope) else 1)
    if np.isfinite(slope):
        x, y = (np.asarray(v) for v in axes.lines[1].get_data())
        np.testing.assert_allclose(y, intercept + slope * x)
    alt = predicted_measured(bins, axis_name="Predicted LV mass, g", **kept).alt
    assert "hexagons 8 g wide" in alt
    assert ("hidden" in alt) == bool(np.isnan(slope))


@pytest.mark.parametrize("bias", [1.5, np.nan])
def test_bland_altman__bias_and_limits(bias: float) -> None:
    bins = _bins()
    bins["y_g"] -= 90
    lines = {"bias": bias, "lower": bias - 20, "upper": bias + 20}
    canvas = bland_altman(bins, **lines).canvas
    assert faults(canvas) == []
    heights = [float(np.asarray(line.get_ydata())[0]) for line in canvas.axes[0].lines]
    assert heights == ([0.0, 1.5, -18.5, 21.5] if np.isfinite(bias) else [0.0])
    assert ("No limits." in bland_altman(bins, **lines).alt) == bool(np.isnan(bias))


def test_roc__points_that_are_hidden_are_counted_not_drawn() -> None:
    canvas = roc(_curve(), _points()).canvas
    assert faults(canvas) == []
    axes = canvas.axes[0]
    drawn = [line for line in axes.lines if line.get_marker() not in ("None", "", None)]
    places = [(float(np.asarray(one.get_xdata())[0]), float(np.asarray(one.get_ydata())[0])) for one in drawn]
    np.testing.assert_allclose(places, [(10, 50), (3, 10), (10, 20)])
    assert any("(2 yes/no markers not shown)" in text.get_text() for text, _ in drawn_texts(canvas))
    alt = roc(_curve(), _points()).alt
    assert "Predicted LVH: sensitivity 50.0%, specificity 90.0%" in alt
    assert "Cornell" not in alt
