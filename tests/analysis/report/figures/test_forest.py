from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.report.figures.forest import forest
from tests.analysis.report.drawn_texts import drawn_texts, faults

_NAMES = ["group", "label", "estimate", "lo", "hi", "n_text", "p_interaction_text"]
_MEASURE = "Hazard ratio per SD (95% CI)"


def _rows(*rows: tuple[Any, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=_NAMES)


def _many() -> pd.DataFrame:
    return _rows(
        ("Sex", "female", 1.53, 1.27, 1.84, "1,235", "P for interaction 0.03"),
        ("Sex", "male", 2.1, 1.7, 2.6, "235", ""),
        (
            "Age at the index ECG, in years, by tenth of the distribution",
            "below 55",
            np.nan,
            np.nan,
            np.nan,
            "*",
            "P for interaction <0.001",
        ),
        (
            "Age at the index ECG, in years, by tenth of the distribution",
            "55 or more",
            0.8,
            0.001,
            1.2,
            "1,000,000",
            "",
        ),
        ("BMI", "18.5 to 25, which some guidelines call normal weight", 3.5, 0.4, 3000, "15", "*"),
        ("", "everybody", 1.1, 1.0, 1.2, "2,345", ""),
    )


@pytest.mark.parametrize("n_rows", [1, 2, 4, 6])
def test_forest__no_text_is_cut_off_or_on_another(n_rows: int) -> None:
    assert faults(forest(_many().iloc[:n_rows], measure_name=_MEASURE).canvas) == []


def test_forest__many_rows_fit() -> None:
    rows = pd.concat([_many()] * 6, ignore_index=True)
    assert faults(forest(rows, measure_name="Odds ratio").canvas) == []


def test_forest__text_is_beside_its_square() -> None:
    canvas = forest(_many(), measure_name=_MEASURE).canvas
    boxes = {text.get_text(): box for text, box in drawn_texts(canvas)}
    axes = canvas.axes[0]
    first = next(line for line in axes.lines if line.get_label() == "_estimate")
    square = axes.transData.transform((first.get_xdata()[0], first.get_ydata()[0]))
    for words in ("female", "1,235", "1.53 (1.27 to 1.84)"):
        assert abs((boxes[words].y0 + boxes[words].y1) / 2 - square[1]) < 3
    assert first.get_xdata()[0] == 1.53
    assert first.get_marker() == "s"


def test_forest__hidden_estimate_is_a_star_without_a_square() -> None:
    canvas = forest(_many().iloc[[2]], measure_name=_MEASURE).canvas
    texts = [text.get_text() for text, _ in drawn_texts(canvas)]
    # Of the estimate and of the number of events.
    assert texts.count("*") == 2
    assert not [line for line in canvas.axes[0].lines if line.get_label() == "_estimate"]


def test_forest__limits_beyond_the_axis_end_in_arrows() -> None:
    axes = forest(_many(), measure_name=_MEASURE).canvas.axes[0]
    arrows = [line for line in axes.lines if line.get_label() == "_arrow"]
    assert [line.get_marker() for line in arrows] == ["<", ">"]
    low, high = axes.get_xlim()
    assert [line.get_xdata()[0] for line in arrows] == [low, high]
    assert low < 0.8 < 3.5 < high


def test_forest__infinite_and_zero_limits_are_arrows() -> None:
    rows = _rows(("", "a", 2.0, 0.0, np.inf, "12", ""))
    axes = forest(rows, measure_name="Hazard ratio").canvas.axes[0]
    assert len([line for line in axes.lines if line.get_label() == "_arrow"]) == 2


def test_forest__reference_is_one_on_a_log_axis() -> None:
    axes = forest(_many().iloc[:1], measure_name="Hazard ratio").canvas.axes[0]
    assert axes.get_xscale() == "log"
    assert list(axes.lines[0].get_xdata()) == [1, 1]
    assert 1 in axes.get_xticks()


def test_forest__all_hidden_is_drawn() -> None:
    rows = _many().iloc[[2, 2]]
    assert faults(forest(rows, measure_name=_MEASURE).canvas) == []


def test_forest__interaction_is_in_the_heading() -> None:
    canvas = forest(_many(), measure_name=_MEASURE).canvas
    boxes = {text.get_text(): box for text, box in drawn_texts(canvas)}
    middles = [(boxes[words].y0 + boxes[words].y1) / 2 for words in ("Sex", "P for interaction 0.03")]
    assert abs(middles[0] - middles[1]) < 3


def test_forest_alt__gives_each_row() -> None:
    alt = forest(_many().iloc[:3], measure_name="hazard ratio").alt
    assert "Sex, female: 1.53 (1.27 to 1.84) [P for interaction 0.03]; Sex, male: 2.10" in alt
    assert "below 55: * [P for interaction <0.001]. *: not shown." in alt


def test_forest__a_heading_appears_once_and_rows_keep_their_order() -> None:
    rows = _rows(
        ("per SD", "AF", 1.5, 1.2, 1.9, "50", ""),
        ("LVH", "AF", 2.5, 1.2, 4.9, "50", ""),
        ("per SD", "MI", 1.1, 0.9, 1.3, "40", ""),
        ("LVH", "MI", 1.6, 1.0, 2.4, "40", ""),
    )
    canvas = forest(rows, measure_name=_MEASURE).canvas
    texts = [text.get_text() for text, _ in drawn_texts(canvas)]
    assert (texts.count("per SD"), texts.count("LVH")) == (1, 1)
    squares = [line for line in canvas.axes[0].lines if line.get_label() == "_estimate"]
    down = sorted((line.get_ydata()[0], line.get_xdata()[0]) for line in squares)
    assert [value for _, value in down] == [1.5, 1.1, 2.5, 1.6]
    assert "per SD, MI: 1.10 (0.90 to 1.30); LVH, AF" in forest(rows, measure_name="HR").alt


def test_forest__without_events_there_is_a_dash() -> None:
    rows = _rows(("", "below 50", np.nan, np.nan, np.nan, "0", ""))
    texts = [t.get_text() for t, _ in drawn_texts(forest(rows, measure_name="HR").canvas)]
    assert "–" in texts
    assert "*" not in texts
    assert forest(rows, measure_name="HR").alt.endswith("below 50: –.")
