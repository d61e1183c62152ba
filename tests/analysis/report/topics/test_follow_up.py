"""Follow-up: durations by hand, ends that add up, periods that are not too short, masking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.disclosure.aggregates import Aggregate
from analysis.disclosure.masking import HIDDEN, Masked, MaskingRule, mask, mask_all
from analysis.report.document import ReadFigure, ReadTable
from analysis.report.topics import rates
from analysis.report.topics.follow_up import END_REASONS, aggregates, present
from analysis.study.data import StudyData
from tests.analysis.report.builders import study, study_data
from tests.analysis.report.shown_counts import left_for

RULE = MaskingRule(10, 5)
STATUS = {"outcome": 1, "death": 2, "lost": 0, "administrative_end": 0}
AF_ALONE = study(outcomes=study().outcomes[:1])
Person = tuple[str, float, int]


def followed(
    people: Sequence[Person], *, dates: Sequence[str] | None = None, regions: Sequence[str] | None = None
) -> StudyData:
    """Data of people who are given by how follow-up ended, after how many years, and LVH."""
    n = len(people)
    ids = [f"P{place:04d}" for place in range(n)]
    ends = [one[0] for one in people]
    follow_up = pd.DataFrame(
        {
            "participant_id": ids,
            "ecg_id": ids,
            "index_date": pd.Timestamp("2010-01-01"),
            "outcome": "af",
            "excluded": None,
            "status": pd.array([STATUS[end] for end in ends], dtype="Int64"),
            "end_reason": ends,
            "time_days": pd.array([round(one[1] * 365.25) for one in people], dtype="Int64"),
            "exit_date": pd.to_datetime(list(dates) if dates is not None else ["2015-06-01"] * n),
        }
    )
    lvh = pd.Series([float(one[2]) for one in people])
    ecgs = pd.DataFrame(
        {
            "participant_id": ids,
            "ecg_id": ids,
            "index_date": pd.Timestamp("2010-01-01"),
            "region": regions if regions is not None else "England",
            "lvh": lvh,
            "lvh_group": lvh.map({1.0: "LVH", 0.0: "no LVH"}),
            "quartile": 1.0 + np.arange(n) % 4,
            "sex": "female",
            "age_band": "50-59",
        }
    )
    return study_data(n=300, study=AF_ALONE, follow_up=follow_up, ecgs=ecgs)


def of(made: Sequence[Aggregate], key: str) -> Aggregate:
    return next(one for one in made if one.key == key)


def rows_of(table: pd.DataFrame, **values: str) -> pd.DataFrame:
    """Rows that have these labels."""
    kept = pd.Series(True, table.index)
    for name, value in values.items():
        kept &= table[name] == value
    return table[kept]


def ends_of(masked: Masked, group: str) -> dict[str, str]:
    texts = masked.rows.assign(text=masked.shown("n_people"))
    own = rows_of(texts, group=group)
    return dict(zip(own["end"], own["text"], strict=True))


def test_durations__are_reverse_kaplan_meier_by_hand() -> None:
    """Ends at 4, 12 and 16 years and an outcome at 8.

    Of 4, one ends at 4: 3/4 are left; the outcome leaves without an end; of 2, one ends at 12: 3/8;
    the last at 16: 0. So the median is 12, the third quartile 16; the curve rests at 3/4 from 4 to
    12, of which the middle is 8.
    """
    data = followed([("lost", 4, 0), ("outcome", 8, 0), ("administrative_end", 12, 0), ("administrative_end", 16, 0)])
    row = rows_of(of(aggregates(data), "follow_up_years").rows, group="everybody").iloc[0]
    found = row[["q1_years", "median_years", "q3_years"]].to_numpy(dtype=float)
    np.testing.assert_allclose(found, [8, 12, 16], rtol=1e-12)
    assert (row["n_people"], row["n_events"]) == (4, 1)


def test_durations__death_is_no_end_of_what_could_have_been_followed() -> None:
    data = followed([("death", 1, 0)] * 3 + [("administrative_end", 8, 0)])
    row = rows_of(of(aggregates(data), "follow_up_years").rows, group="everybody").iloc[0]
    assert row["median_years"] == 8


def test_ends__by_hand_and_by_lvh() -> None:
    data = followed(
        [
            ("outcome", 1, 1),
            ("outcome", 2, 0),
            ("death", 3, 1),
            ("lost", 4, 1),
            ("lost", 5, 0),
            ("lost", 6, 0),
            ("administrative_end", 7, 0),
        ]
    )
    rows = of(aggregates(data), "follow_up_ends").rows
    counts = rows.set_index(["group", "end"])["n_people"].loc[["everybody", "LVH", "no LVH"]]
    assert counts["everybody"].to_dict() == {"outcome": 2, "death": 1, "lost": 3, "administrative_end": 1}
    assert counts["LVH"].to_dict() == {"outcome": 1, "death": 1, "lost": 1, "administrative_end": 0}
    assert rows_of(rows, group="no LVH")["n_group"].eq(4).all()


def test_ends__add_up_to_the_people_of_each_group() -> None:
    rows = of(aggregates(study_data()), "follow_up_ends").rows
    groups = rows.groupby(["outcome", "classification", "group"])
    assert (groups["n_people"].sum() == groups["n_group"].first()).all()
    assert len(groups) == 2 * (1 + 2 + 4)


def test_ends__a_few_lost_can_be_any_small_number_of_people() -> None:
    """The 4 lost of 154: what is left of the others' intervals has room for 1 to 9."""
    people = [("outcome", 1, 0)] * 30 + [("death", 2, 0)] * 20 + [("lost", 3, 0)] * 4
    people += [("administrative_end", 4, 0)] * 100
    data = followed(people)
    masked = mask_all([*aggregates(data), *rates.TOPIC.aggregates(data)], RULE)
    ends = ends_of(masked["follow_up_ends"], "no LVH")
    assert ends["lost"] == HIDDEN
    own = masked["follow_up_ends"]
    total = own.shown("n_group")[own.rows["group"] == "no LVH"].iloc[0]
    known = [text for end, text in ends.items() if end != "lost" and text != HIDDEN]
    low, high = left_for(total, *known)
    assert low <= 1 or len(known) < 3
    assert high >= 9


def test_ends__a_few_outcomes_cannot_be_found_from_the_ends_and_the_rates() -> None:
    people = [("outcome", 1, 0)] * 6 + [("death", 2, 0)] * 20 + [("lost", 3, 0)] * 40
    people += [("administrative_end", 4, 0)] * 100
    data = followed(people)
    made = [one for one in [*aggregates(data), *rates.TOPIC.aggregates(data)] if one.key in ("follow_up_ends", "rates")]
    masked = mask_all(made, MaskingRule(10, 1))
    ends = ends_of(masked["follow_up_ends"], "everybody")
    masked_rates = masked["rates"]
    deaths = masked_rates.shown("n_deaths")[masked_rates.rows["group"] == "everybody"].item()
    known = [ends["death"] if deaths == HIDDEN else deaths, ends["lost"], ends["administrative_end"]]
    assert ends["outcome"] == HIDDEN
    assert HIDDEN in known


@pytest.mark.parametrize(("a_month", "first", "n_periods"), [(25, "2015-01", 24), (8, "2015-Q1", 8), (2, "2015", 2)])
def test_events__periods_are_as_long_as_the_counts_need(a_month: int, first: str, n_periods: int) -> None:
    """At k = 10, 20 events in the middle: 25 a month, 24 a quarter, 24 a year."""
    months = pd.period_range("2015-01", "2016-12", freq="M")
    dates = [f"{month}-15" for month in months for _ in range(a_month)]
    data = followed([("outcome", 1, 0)] * len(dates), dates=dates)
    rows = of(aggregates(data), "events_by_period").rows
    assert rows["period"].iloc[0] == first
    assert len(rows) == n_periods
    assert rows["n_events"].sum() == len(dates)


def test_events__are_months_where_nothing_is_masked() -> None:
    dates = ["2015-01-15", "2015-04-15"]
    data = followed([("outcome", 1, 0)] * 2, dates=dates)
    rows = of(aggregates(replace(data, about=replace(data.about, k=0))), "events_by_period").rows
    counts = dict(zip(rows["period"], rows["n_events"], strict=True))
    assert counts == {"2015-01": 1, "2015-02": 0, "2015-03": 0, "2015-04": 1}


def test_events__of_a_small_region_do_not_hide_those_of_a_large_one() -> None:
    dates = ["2015-02-01", "2016-02-01"] * 33
    regions = ["England"] * 60 + ["Wales"] * 6
    data = followed([("outcome", 1, 0)] * 66, dates=dates, regions=regions)
    masked = mask(of(aggregates(data), "events_by_period"), RULE)
    by_region = masked.rows.assign(text=masked.shown("n_events")).groupby("region")["text"]
    assert by_region.agg(list).to_dict() == {"England": ["30", "30"], "Wales": [HIDDEN, HIDDEN]}


def test_events__a_lone_small_period_does_not_follow_from_the_others() -> None:
    """5 of 55: 55±10 less 20 and 30, or one of the two hidden with them."""
    dates = ["2015-02-01"] * 5 + ["2016-02-01"] * 20 + ["2017-02-01"] * 30
    data = followed([("outcome", 1, 0)] * 55, dates=dates)
    masked = mask_all(aggregates(data), RULE)
    periods, years = masked["events_by_period"], masked["follow_up_years"]
    first, *others = periods.shown("n_events").tolist()
    assert first == HIDDEN
    everybody = years.shown("n_events")[years.rows["group"] == "everybody"].item()
    low, high = left_for(everybody, *(text for text in others if text != HIDDEN))
    assert low <= 1 or HIDDEN in others
    assert high >= 9


def test_history__percentiles_and_people_without_records() -> None:
    data = study_data()
    days = pd.array([*range(0, 101), None, None, None], dtype="Int64") * 36525 // 100
    ecgs = data.ecgs.head(104).assign(history_days=days)
    made = of(aggregates(replace(data, ecgs=ecgs, follow_up=data.follow_up.head(0))), "history")
    row = made.rows.iloc[0]
    assert (row["n_ecgs"], row["n_known"], row["n_unknown"]) == (104, 101, 3)
    found = row[["p5_years", "p25_years", "p50_years", "p75_years", "p95_years"]]
    np.testing.assert_allclose(found.to_numpy(dtype=float), [5, 25, 50, 75, 95], atol=0.003)
    masked = mask(made, RULE)
    assert masked.shown("n_unknown").tolist() == [HIDDEN]
    # 103 to 107 less 98 to 102: every number from 1 to 9.
    assert masked.shown("n_known").tolist() == ["100"]
    assert masked.shown("n_ecgs").tolist() == ["105"]


def test_index_years__count_people_and_ecgs() -> None:
    data = study_data()
    again = data.ecgs.head(30).assign(ecg_id=lambda t: t["ecg_id"] + "-again")
    both = replace(data, ecgs=pd.concat([data.ecgs, again], ignore_index=True))
    rows = of(aggregates(replace(both, follow_up=data.follow_up.head(0))), "index_years").rows
    assert rows["n_people"].sum() == len(data.ecgs)
    assert rows["n_ecgs"].sum() == len(data.ecgs) + 30
    years = pd.to_datetime(data.ecgs["index_date"]).dt.year.value_counts()
    assert dict(zip(rows["year"], rows["n_people"], strict=True)) == years.to_dict()


def test_durations__are_hidden_where_few_ends_were_seen() -> None:
    """Their quartiles would be the times of single people."""
    data = followed([("outcome", 1, 0)] * 60 + [("lost", 5, 0)] * 7)
    masked = mask(of(aggregates(data), "follow_up_years"), RULE)
    everybody = masked.rows["group"] == "everybody"
    assert masked.hidden.loc[everybody, "median_years"].all()
    assert not masked.hidden.loc[everybody, "n_people"].any()


def _section_items(data: StudyData) -> dict[str, Any]:
    section = present(mask_all(aggregates(data), RULE), data.about)
    assert section is not None
    assert (section.key, section.title) == ("follow_up", "Follow-up")
    return {item.key: item for item in section.items}


def test_present__names_outcomes_and_ends_and_draws_each_outcome() -> None:
    items = _section_items(study_data(n=3000))
    ends = items["follow_up_ends"]
    assert isinstance(ends, ReadTable)
    assert list(ends.cells.columns) == ["Outcome", "Group", "Level", *END_REASONS.values()]
    assert set(ends.cells["Outcome"]) == {"atrial fibrillation", "heart failure"}
    assert isinstance(items["events_af"], ReadFigure)
    assert isinstance(items["events_heart_failure"], ReadFigure)
    assert set(items) >= {"follow_up_years", "index_years", "history"}


def test_present__percentages_are_of_the_rounded_counts() -> None:
    people = [("outcome", 1, 0)] * 33 + [("lost", 3, 0)] * 12 + [("administrative_end", 4, 0)] * 101
    cells = _section_items(followed(people))["follow_up_ends"].cells
    group = cells[cells["Level"] == "no LVH"].iloc[0]
    assert group["With the outcome"] == "35 (24.1%)"  # of 146: 145
    assert group["Lost"] == "10 (6.9%)"


def test_present__says_where_events_are_too_few_to_be_drawn() -> None:
    dates = ["2015-02-01"] * 3 + ["2016-02-01"] * 4 + ["2015-06-01"] * 50
    people = [("outcome", 1, 0)] * 7 + [("administrative_end", 5, 0)] * 50
    data = followed(people, dates=dates)
    section = present(mask_all(aggregates(data), RULE), data.about)
    assert section is not None
    assert "events_af" not in {item.key for item in section.items}
    assert any("atrial fibrillation" in text for text in section.paragraphs)
    assert present({}, data.about) is None
