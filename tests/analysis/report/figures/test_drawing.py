from __future__ import annotations

import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.report.figures.drawing import (
    FONTS,
    SERIES,
    SMALL_PT,
    floats,
    in_style,
    mid_sentence,
    new_canvas,
    ratio_range,
    ratio_ticks,
    save,
    series_style,
    svg_bytes,
    text_width_in,
    wrapped,
)
from analysis.report.figures.follow_up import cumulative_incidence
from analysis.report.words import count_text
from tests.analysis.report.drawn_texts import drawn_texts, faults


@in_style
def _simple(text: str = "years") -> Figure:
    canvas = new_canvas(3, 2, "constrained")
    axes = canvas.subplots()
    axes.fill_between([0, 1, 2], [0, 1, 4], alpha=0.3)
    axes.plot([0, 1, 2], [0, 1, 4], label="one")
    axes.set_xlabel(text)
    canvas.legend(loc="outside upper left")
    return canvas


def test_save__same_figure_gives_same_bytes(tmp_path: Path) -> None:
    for number in (1, 2):
        save(_simple(), tmp_path / f"{number}.svg", tmp_path / f"{number}.png")
    assert (tmp_path / "1.svg").read_bytes() == (tmp_path / "2.svg").read_bytes()
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


def test_save__drawing_twice_gives_same_bytes() -> None:
    canvas = _simple()
    first = svg_bytes(canvas)
    assert svg_bytes(canvas) == first


def test_svg_bytes__text_is_text_in_fonts_that_are_everywhere_and_no_date_is_told() -> None:
    svg = svg_bytes(_simple()).decode()
    assert "<dc:date" not in svg
    assert "Matplotlib v" not in svg
    assert "<image" not in svg
    families = set(re.findall(r"font-family: ([^;\"]*)", svg)) | set(re.findall(r"font: [\d.]+px ([^;\"]*)", svg))
    assert families == {FONTS}
    assert FONTS.startswith("Arial, Helvetica")
    assert FONTS.endswith("sans-serif")


def test_save__png_is_at_print_size(tmp_path: Path) -> None:
    save(_simple(), tmp_path / "a.svg", tmp_path / "a.png")
    head = (tmp_path / "a.png").read_bytes()[16:24]
    assert (int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")) == (900, 600)
    assert b"Matplotlib" not in (tmp_path / "a.png").read_bytes()


def test_in_style__user_settings_do_not_matter_and_stay() -> None:
    plain = svg_bytes(_simple())
    with mpl.rc_context({"font.size": 20, "font.family": "DejaVu Serif", "lines.linewidth": 9}):
        assert svg_bytes(_simple()) == plain
        assert mpl.rcParams["font.size"] == 20


def test_in_style__dollars_are_not_mathematics() -> None:
    texts = [text.get_text() for text, _ in drawn_texts(_simple("cost of $5 and $6"))]
    assert "cost of $5 and $6" in texts
    assert not faults(_simple("cost of $5 and $6"))


def test_series_style__groups_differ_in_colour_dashes_and_marker() -> None:
    for name in ("colour", "dashes", "marker"):
        assert len({getattr(style, name) for style in SERIES}) == len(SERIES)
    assert series_style(len(SERIES)) == SERIES[0]


def test_faults__finds_what_is_planted() -> None:
    canvas = new_canvas(3, 2)
    canvas.text(0.5, 0.5, "first text")
    canvas.text(0.52, 0.5, "second text")
    canvas.text(0.9, 0.1, "leaves the canvas")
    canvas.text(0.1, 0.9, "small", fontsize=6)
    assert faults(canvas) == [
        "'leaves the canvas' is cut off",
        "'first text' lies on 'second text'",
        "'small' is small",
    ]


def test_text_width_in__is_the_width_drawn() -> None:
    canvas = new_canvas(6, 1)
    canvas.text(0.1, 0.5, "1,234 people of 5,678", fontsize=SMALL_PT)
    ((_, box),) = drawn_texts(canvas)
    assert text_width_in("1,234 people of 5,678", SMALL_PT) == pytest.approx(box.width / canvas.dpi, abs=0.04)


def test_wrapped__no_line_is_wider_and_no_word_is_lost() -> None:
    text = "ventricular arrhythmia or cardiac arrest, resuscitated or not"
    made = wrapped(text, 1.5, SMALL_PT)
    assert made.count("\n") >= 2
    assert made.replace("\n", " ") == text
    assert text_width_in(made, SMALL_PT) <= 1.5


def test_wrapped__no_break_space_keeps_words_together() -> None:
    assert wrapped("risk,\u00a0%", 0.1) == "risk,\u00a0%"
    assert wrapped("", 1) == ""


@pytest.mark.parametrize(
    ("lowest", "highest", "expected"),
    [
        (0.4, 12, [0.5, 1, 2, 5, 10]),
        (0.9, 2.1, [1, 1.2, 1.4, 1.6, 1.8, 2]),
        (0.001, 1000, [0.001, 0.01, 0.1, 1, 10, 100, 1000]),
        (0.9, 1.15, [0.9, 0.95, 1, 1.05, 1.1, 1.15]),
    ],
)
def test_ratio_ticks__are_round(lowest: float, highest: float, expected: list[float]) -> None:
    assert ratio_ticks(lowest, highest) == pytest.approx(expected)


def test_ratio_range__one_wide_interval_does_not_press_the_others() -> None:
    estimates = np.array([1.5, 2.0, np.nan])
    low, high = ratio_range(estimates, np.array([1.2, 0.001, np.nan]), np.array([1.9, 4000, np.nan]))
    assert low == pytest.approx(1 / 3 / 1.05)
    assert high == pytest.approx(6 * 1.05)


def test_ratio_range__one_is_inside_and_zero_and_infinity_do_no_harm() -> None:
    low, high = ratio_range(np.array([3.0]), np.array([0.0]), np.array([np.inf]))
    assert 0 < low < 1
    assert 3 < high < np.inf
    assert ratio_range(*(np.array([np.nan]),) * 3) == pytest.approx((0.9, 1.1))


def test_floats__missing_of_every_kind_is_nan() -> None:
    for column in (
        pd.Series([1, pd.NA], dtype="Int64"),
        pd.Series([1.0, np.nan]),
        pd.Series([1, None], dtype=object),
        pd.Series([1, pd.NA], dtype=object),
    ):
        np.testing.assert_array_equal(floats(pd.DataFrame({"n": column}), "n"), [1, np.nan])


def test_count_text__hidden_is_a_star() -> None:
    assert [count_text(value) for value in (1235, 0, pd.NA, np.nan, None)] == ["1,235", "0", "*", "*", "*"]


def test_mid_sentence__abbreviations_stay() -> None:
    assert mid_sentence("Predicted LVH") == "predicted LVH"
    assert mid_sentence("LVH by preset") == "LVH by preset"
    assert mid_sentence("") == ""


def test_svg_bytes__names_inside_are_unique_and_without_blanks() -> None:
    groups = ["no LVH", "LVH"]
    points = pd.DataFrame({"group": groups, "years": 1.0, "incidence": 0.1, "lo": 0.05, "hi": 0.2})
    at_risk = pd.DataFrame(
        [
            {"group": group, "years": year, "n_at_risk": 50, "n_censored": 20, "n_events": 10, "n_deaths": 0}
            for group in groups
            for year in (0.0, 1.0)
        ]
    )
    canvas = cumulative_incidence(points, at_risk, outcome_name="AF", group_name="LVH", horizon_years=1).canvas
    names = re.findall(r' id="([^"]*)"', svg_bytes(canvas).decode())
    assert len(names) == len(set(names)) > 10
    assert not [name for name in names if " " in name]
