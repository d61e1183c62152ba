"""Table 1: by LVH and by quartile within sex, one ECG per person, and what it hides."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.disclosure.masking import HIDDEN, MaskingRule, mask_all
from analysis.report.document import ReadTable
from analysis.report.topics import baseline
from analysis.study.data import StudyData
from tests.analysis.report.builders import study_data
from tests.analysis.report.hunt import Hunter

QUARTILES = [f"quartile {number}" for number in (1, 2, 3, 4)]


@pytest.fixture(scope="module")
def data() -> StudyData:
    return study_data(700, seed=3)


def rows_of(data: StudyData, key: str) -> pd.DataFrame:
    return next(one.rows for one in baseline.aggregates(data) if one.key == key)


def table_of(data: StudyData, key: str, rule: MaskingRule) -> ReadTable:
    section = baseline.present(mask_all(baseline.aggregates(data), rule), data.about)
    assert section is not None
    return next(one for one in section.items if one.key == key and isinstance(one, ReadTable))


def test_quartiles__are_of_both_sexes_in_equal_parts(data: StudyData) -> None:
    counts = rows_of(data, "baseline_quartile_counts")
    for sex in ("female", "male"):
        own = counts[(counts["variable"] == "Sex") & (counts["level"] == sex)]
        sizes = own.set_index("group")["n_people"]
        assert sizes[QUARTILES].max() - sizes[QUARTILES].min() <= 1
        assert sizes["everybody"] == sizes.drop("everybody").sum()


def test_quartiles__have_the_means_of_their_people(data: StudyData) -> None:
    numbers = rows_of(data, "baseline_quartile_numbers")
    own = numbers[numbers["variable"] == "Age, years"].set_index("group")
    for number in (1, 2, 3, 4):
        ages = data.ecgs.loc[data.ecgs["quartile"] == number, "age_years"]
        row = own.loc[f"quartile {number}"]
        assert (row["n_known"], row["mean"]) == (len(ages), pytest.approx(ages.mean()))


def test_quartiles__standardised_difference_is_of_the_fourth_and_the_first(data: StudyData) -> None:
    table = table_of(data, "baseline_quartile", MaskingRule(0, 1))
    first, fourth = (data.ecgs[data.ecgs["quartile"] == q]["age_years"] for q in (1, 4))
    expected = (fourth.mean() - first.mean()) / np.sqrt((fourth.var() + first.var()) / 2)
    row = table.cells[table.cells["Characteristic"] == "Age, years"].iloc[0]
    assert row["Standardised difference"] == f"{expected:.2f}"
    assert "cut within sex" in table.title


def test_table_1__takes_one_ecg_a_person(data: StudyData) -> None:
    """The first of the index ECGs, where each opens a follow-up of its own."""
    again = data.ecgs.assign(
        ecg_id=data.ecgs["ecg_id"] + "_later",
        age_years=data.ecgs["age_years"] + 9,
        index_date=data.ecgs["index_date"] + pd.Timedelta(days=9 * 365),
    )
    both = pd.concat([data.ecgs, again]).sort_values(["participant_id", "index_date"])
    several = replace(data, ecgs=both.reset_index(drop=True))
    for one, other in zip(baseline.aggregates(several), baseline.aggregates(data), strict=True):
        pd.testing.assert_frame_equal(one.rows, other.rows)


@pytest.mark.parametrize("place", [0, 40, 90])
def test_masking__a_rare_level_is_not_found_from_either_table(data: StudyData, place: int) -> None:
    """Six people of a region of their own, in one or several groups."""
    region = data.ecgs["region"].to_numpy(dtype=object, copy=True)
    order = np.argsort(data.ecgs["exposure"].to_numpy())
    region[order[place : place + 6]] = "Isle"
    rare = replace(data, ecgs=data.ecgs.assign(region=region))
    exact = {one.key: one.rows for one in baseline.aggregates(rare)}
    masked = mask_all(baseline.aggregates(rare), MaskingRule(10, 5))
    hunter = Hunter(10, 5)
    for name in ("baseline", "baseline_quartile"):
        shown = masked[f"{name}_counts"]
        texts = shown.shown("n_people").str.replace(",", "")
        for label, own in shown.rows.groupby(["variable", "level"]):
            keys = {}
            for at, group in own["group"].items():
                keys[group] = (*label, group) if group == "everybody" else (name, *label, group)
                hunter.see(keys[group], str(texts[at]))
            hunter.adds_up(keys.pop("everybody"), keys.values())
    thoughts = hunter.think()
    assert thoughts.is_possible()
    seen: Counter[str] = Counter()
    for name in ("baseline", "baseline_quartile"):
        rows = exact[f"{name}_counts"]
        for row in rows[(rows["n_people"] > 0) & (rows["n_people"] < 10)].itertuples():
            label = (row.variable, row.level, row.group)
            key = label if row.group == "everybody" else (name, *label)
            low, high = thoughts.range(key)
            assert min(high, 9) - max(low, 1) >= 3, key
            seen[row.level] += 1
    assert seen["Isle"] >= 3
    cells = table_of(rare, "baseline_quartile", MaskingRule(10, 5)).cells
    isle = cells[cells.iloc[:, 1] == "Isle"].iloc[0]
    assert isle.iloc[2] == HIDDEN
