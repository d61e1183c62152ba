"""What counts count: every count column says it, and words that tables share mean the same."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.disclosure import meanings
from analysis.disclosure.aggregates import NEVER, ColumnsAddUp, Kind, RowsAddUp, result
from analysis.disclosure.counts import ECGS, PEOPLE_OF_ECGS, YEARS, Count
from analysis.disclosure.meanings import LEFT, followed
from analysis.report.build import public_checksums, topics_of
from tests.analysis.report.builders import study_data

AF = followed("af")
_NEEDS = "what models need"


def described(analysis: str, measure: str = "hazard ratio", **values: object) -> dict[str, Count]:
    """The counts of one row of results."""
    known = {"outcome": "af", "n_people": 90, "n_ecgs": 90, "n_dropped_missing": 3, **values}
    counts = meanings.of_outcomes([result(analysis, measure, **known)], latency_days=0)
    return {name: own[0] for name, own in counts.items() if own[0] is not None}


def test_of_outcomes__people_are_those_who_are_not_dropped() -> None:
    made = described("hazard_ratios")
    assert made["n_people"] == made["n_ecgs"] == AF.complete(_NEEDS)
    assert made["n_dropped_missing"] == AF.lacking(_NEEDS)
    assert made["n_events"] == meanings.ended(AF.complete(_NEEDS), "outcome")
    assert made["person_years"].unit == YEARS


def test_of_outcomes__a_subgroup_is_the_group_of_the_rates() -> None:
    rates = pd.DataFrame({"outcome": ["af"], "classification": ["Sex"], "group": ["male"]})
    own = described("subgroups", strata="Sex", level="male", n_dropped_missing=None)
    assert [own["n_people"]] == meanings.by_group(rates, {"n": "people"})["n"]


def test_of_outcomes__people_of_a_period_are_those_at_risk() -> None:
    ticks = pd.DataFrame({"outcome": ["af"], "classification": ["everybody"], "group": ["everybody"], "years": [2.0]})
    at_risk = meanings.at_risk(ticks)
    later = described("proportional_hazards", strata="period", level="2 to 5 years", n_dropped_missing=None)
    first = described("proportional_hazards", strata="period", level="0 to 2 years", n_dropped_missing=None)
    assert [later["n_people"]] == at_risk["n_at_risk"]
    assert [first["n_events"]] == at_risk["n_events"]
    assert "person_years" not in later


def test_of_outcomes__deaths_and_several_ecgs() -> None:
    dead = described("competing", "cause-specific hazard ratio of death without the outcome")
    assert ("status", "death") in dead["n_events"].path
    several = described("hazard_ratios", n_ecgs=120)
    assert (several["n_people"].unit, several["n_ecgs"].unit) == (PEOPLE_OF_ECGS, ECGS)
    assert several["n_dropped_missing"] == AF.of(ECGS).lacking(_NEEDS)
    assert "person_years" not in several  # they are added over ECGs


@pytest.mark.parametrize(
    ("level", "who"),
    [
        ("main analysis", AF),
        ("clock starts 365 days after the ECG", AF.after(365 / 365.25)),
        ("imaged before 2015-01-01", AF.part("imaged", "imaged before 2015-01-01")),
        ("LVH by petersen2017", AF.complete("LVH by petersen2017")),
        ("clock starts at the ECG", None),
    ],
)
def test_of_outcomes__variants(level: str, who: Count | None) -> None:
    own = described("sensitivity", strata="variant", level=level, n_dropped_missing=None)
    assert own.get("n_people") == who


def test_of_outcomes__a_later_clock_counts_from_that_of_the_study() -> None:
    row = result(
        "sensitivity",
        "hazard ratio",
        outcome="af",
        strata="variant",
        n_people=9,
        level="clock starts 365 days after the ECG",
    )
    made = meanings.of_outcomes([row], latency_days=30)
    assert made["n_people"] == [AF.after(335 / 365.25)]


def test_of_outcomes__risks_are_judged_by_a_horizon() -> None:
    judged = described("absolute_risk", unit_value=5.0, estimate=0.7)
    events = judged["n_events"]
    assert events.ended is not None
    assert events.ended[1:] == (5.0, 5.0)
    tenths = pd.DataFrame({"outcome": ["af"], "model_id": [""], "group": [1], "horizon_years": [5.0]})
    tenth = meanings.calibration(tenths)["n_people"][0]
    assert tenth == judged["n_people"].part("tenth of risk", 1)


def test_of_outcomes__models_of_predictions_are_parts_of_everybody() -> None:
    own = described("hazard_ratios", model_id="m", n_dropped_missing=None)
    assert own["n_people"] == AF.part("model of predictions", "m")


def test_of_outcomes__rows_without_an_outcome_are_not_described() -> None:
    assert described("cmr", outcome="") == {}


def test_table_1__quartiles_are_those_of_the_rates() -> None:
    rows = pd.DataFrame(
        {
            "variable": ["Sex"] * 3,
            "level": ["male", "missing", "male"],
            "group": ["quartile 1", "everybody", "quartile unknown"],
        }
    )
    groups = meanings.baseline_counts(rows)
    assert groups["n_group"] == [LEFT.level("quartile", "Q1"), LEFT, LEFT.lacking("quartile")]
    assert groups["n_people"][1] == LEFT.lacking("sex")


def test_paired__people_imaged_before_the_date_are_not_among_those_compared() -> None:
    before = meanings.paired("imaged", "before 2015-01-01", labelled=True, is_before=True)
    assert before.path[1:] == (("imaged", "before"), ("label", "known"))
    assert meanings.paired("imaged", "on or after 2015-01-01", is_before=False) == meanings.COMPARED
    ruled = meanings.paired("imaged", "before 2015-01-01", with_rules=True, is_before=True)
    assert ruled.path[-1] == ("rules", "all three")


def test_checksums__none_of_a_list_of_people() -> None:
    told = {"sha256 predictions": "a", "sha256 of ids and masses": "b", "model_sha256": "c"}
    lists = {"sha256 withdrawn": "d", "sha256 deaths": "e", "sha256 participants": "f"}
    assert public_checksums(told | lists | {"python": "3"}) == told


# Of records, to which nothing else is related.
_ALONE = {("code_hits", "n_records")}


def test_counts__of_every_table_are_described_or_add_up() -> None:
    """But those of tables that leave small rows out, and what is never exported."""
    data = study_data(n=900)
    seen = 0
    for one in (a for topic in topics_of(data) for a in topic.aggregates(data)):
        added = {name for sums in one.sums for name in columns_that_add_up(sums)}
        for name in one.names(Kind.COUNT):
            is_open = name not in NEVER and one.rows[name].notna().any() and one.small == "hide"
            if is_open and (one.key, name) not in _ALONE:
                assert name in one.counts or name in added, (one.key, name)
                seen += 1
    assert seen > 60


def columns_that_add_up(sums: RowsAddUp | ColumnsAddUp) -> tuple[str, ...]:
    return sums.counts if isinstance(sums, RowsAddUp) else (sums.total, *sums.parts)
