from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.report.figures.follow_up import calendar
from tests.analysis.report.drawn_texts import drawn_texts, faults

_MONTHS = [f"{year}-{month:02d}" for year in range(2006, 2023) for month in range(1, 13)]
_QUARTERS = [f"{year}-Q{quarter}" for year in range(2018, 2023) for quarter in range(1, 5)]
_YEARS = [str(year) for year in range(2014, 2023)]
_REGIONS = ["England", "Scotland", "Wales", "a region with a rather long name of its own"]


def _rows(periods: list[str], regions: list[str], hidden: int = 0) -> pd.DataFrame:
    rows = [
        {"period": period, "region": region, "n_events": 10 + 5 * (place % 7)}
        for region in regions
        for place, period in enumerate(periods)
    ]
    made = pd.DataFrame(rows).astype({"n_events": "Int64"})
    if hidden:
        made.loc[::hidden, "n_events"] = pd.NA
    return made


@pytest.mark.parametrize("periods", [_MONTHS, _MONTHS[3:20], _QUARTERS, _YEARS, ["2020"]])
@pytest.mark.parametrize("n_regions", [1, 2, 4])
@pytest.mark.parametrize("hidden", [0, 3, 1])
def test_calendar__no_text_is_cut_off_or_on_another(periods: list[str], n_regions: int, hidden: int) -> None:
    rows = _rows(periods, _REGIONS[:n_regions], hidden)
    assert faults(calendar(rows, outcome_name="ventricular arrhythmia or arrest").canvas) == []


def test_calendar__periods_of_other_words_keep_their_order() -> None:
    words = [f"the {place}th wave of the time" for place in range(40, 20, -1)]
    canvas = calendar(_rows(words, ["one"]), outcome_name="AF").canvas
    assert faults(canvas) == []
    first = next(text.get_text() for text, _ in drawn_texts(canvas) if "wave" in text.get_text())
    assert first == words[0]


def test_calendar__rows_in_any_order_come_in_that_of_time() -> None:
    rows = _rows(_MONTHS, ["England", "Wales"])
    mixed = rows.sample(frac=1, random_state=1).sort_values("region", kind="stable")
    plots = [calendar(table, outcome_name="AF").canvas.axes for table in (rows, mixed)]
    for one, other in zip(*plots, strict=True):
        bars = sorted((bar.get_x(), bar.get_height()) for bar in other.patches)
        expected = [(bar.get_x(), bar.get_height()) for bar in one.patches]
        np.testing.assert_allclose(bars, expected, rtol=0, atol=1e-9)


def test_calendar__bars_are_the_counts_and_scales_are_equal() -> None:
    rows = _rows(_QUARTERS, ["England", "Wales"])
    rows.loc[rows["region"] == "Wales", "n_events"] = 10
    england, wales = calendar(rows, outcome_name="AF").canvas.axes
    assert [bar.get_height() for bar in england.patches[:3]] == [10, 15, 20]
    assert england.get_ylim() == wales.get_ylim()


def test_calendar__months_are_labelled_by_year() -> None:
    canvas = calendar(_rows(_MONTHS, ["England"]), outcome_name="AF").canvas
    axes = canvas.axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    places = [int(tick) for tick in axes.get_xticks()]
    assert [_MONTHS[place] for place in places] == [f"{label}-01" for label in labels]
    assert labels[0] == "2006"
    assert len(labels) >= 5


def test_calendar__hidden_months_are_gaps_with_marks_and_words() -> None:
    rows = _rows(_MONTHS[:12], ["England"])
    rows.loc[[2, 5], "n_events"] = pd.NA
    rows.loc[7, "n_events"] = 0
    canvas = calendar(rows, outcome_name="AF").canvas
    grounds = [one for one in canvas.axes[0].patches if one.get_label() == "_hidden"]
    assert [one.get_x() + 0.5 for one in grounds] == [2, 5]
    assert any("not shown" in text.get_text() for text, _ in drawn_texts(canvas))
    whole = calendar(_rows(_MONTHS[:12], ["England"]), outcome_name="AF").canvas
    assert not any("not shown" in text.get_text() for text, _ in drawn_texts(whole))


def test_calendar__marks_are_above_all_bars() -> None:
    axes = calendar(_rows(_MONTHS, ["England"], 3), outcome_name="AF").canvas.axes[0]
    (marks,) = axes.lines
    top = max(bar.get_height() for bar in axes.patches if bar.get_label() != "_hidden")
    assert axes.transData.inverted().transform(marks.get_transform().transform([(0, marks.get_ydata()[0])]))[0, 1] > top


def test_calendar_alt__gives_the_highest_and_the_hidden() -> None:
    rows = _rows(["2020-02", "2020-03", "2020-04"], ["England", "Wales"])
    rows.loc[1, "n_events"] = pd.NA
    rows.loc[rows["region"] == "Wales", "n_events"] = pd.NA
    alt = calendar(rows, outcome_name="AF").alt
    assert "2020-02 to 2020-04" in alt
    assert "England: at most 20 events, in 2020-04, periods hidden: 1" in alt
    assert "Wales: no period is shown, periods hidden: 3" in alt
