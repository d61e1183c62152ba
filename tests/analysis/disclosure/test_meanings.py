"""What counts count: each count column is described, and tables that share people say so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.disclosure import meanings
from analysis.disclosure.aggregates import NEVER, Aggregate, Kind, result, results
from analysis.disclosure.counts import ECGS, PEOPLE_OF_ECGS, YEARS, Count
from analysis.disclosure.meanings import LEFT, MODELS, followed
from analysis.report.build import topics_of
from analysis.report.topics import sensitivity
from analysis.report.topics.hazard_ratios import DEATH
from analysis.report.topics.sensitivity import variants
from tests.analysis.report.builders import study, study_data

AF = followed("af")


@pytest.fixture(scope="module")
def tables() -> dict[str, Aggregate]:
    """All tables of the drawn study."""
    data = study_data(n=900)
    return {one.key: one for topic in topics_of(data) for one in topic.aggregates(data)}


def counts_of(table: Aggregate, column: str, **where: object) -> set[Count | None]:
    """What the rows with these values count in a column."""
    chosen = table.rows[list(where)].eq(list(where.values())).all(axis=1)
    assert chosen.any(), where
    return {table.counts[column][place] for place in chosen.to_numpy().nonzero()[0]}


def described(counted: meanings.Analysed | None, **values: object) -> dict[str, Count]:
    """The counts of one row of results."""
    row = result("topic", "measure", **{"n_people": 90, "n_ecgs": 90, "counted": counted, **values})
    return {name: own[0] for name, own in results("topic", [row]).counts.items() if own[0] is not None}


def test_results__people_are_those_who_are_not_dropped() -> None:
    made = described(meanings.analysed("af", ""))
    assert made["n_people"] == made["n_ecgs"] == AF.complete(MODELS)
    assert made["n_dropped_missing"] == AF.lacking(MODELS)
    assert made["n_events"] == meanings.ended(AF.complete(MODELS), "outcome")
    assert made["person_years"].unit == YEARS
    of_lvh = described(meanings.analysed("af", "", lvh=True))
    assert of_lvh["n_people"] == AF.complete(MODELS, "lvh")


def test_results__people_with_several_ecgs() -> None:
    several = described(meanings.analysed("af", ""), n_ecgs=120)
    assert (several["n_people"].unit, several["n_ecgs"].unit) == (PEOPLE_OF_ECGS, ECGS)
    assert several["n_dropped_missing"] == AF.of(ECGS).lacking(MODELS)
    assert "person_years" not in several  # they are added over ECGs


def test_results__models_of_predictions_are_parts_of_everybody() -> None:
    assert described(meanings.Analysed(meanings.of_model(AF, "m")))["n_people"] == AF.part("model of predictions", "m")


def test_results__rows_without_people_are_not_described() -> None:
    assert described(None) == {}


def test_subgroups__are_the_groups_of_the_rates(tables: dict[str, Aggregate]) -> None:
    of_rates = counts_of(tables["rates"], "n_people", outcome="af", classification="Sex", group="male")
    (male,) = counts_of(tables["results_subgroups"], "n_people", outcome="af", strata="Sex", level="male")
    assert of_rates == {AF.level("sex", "male")}
    assert male == AF.level("sex", "male").complete(MODELS)


def test_periods__people_are_those_at_risk_at_their_beginning(tables: dict[str, Aggregate]) -> None:
    periods = tables["results_proportional_hazards"]
    of_sd = {"outcome": "af", "contrast": "per SD", "strata": "period"}
    (later,) = counts_of(periods, "n_people", **of_sd, level="2 to 5 years")
    (first,) = counts_of(periods, "n_events", **of_sd, level="0 to 2 years")
    assert later == AF.after(2.0).complete(MODELS)
    assert first == meanings.ended(AF.complete(MODELS), "outcome").by(2.0)
    assert counts_of(periods, "person_years", **of_sd) == {None}
    ticks = {"outcome": "af", "group": "LVH", "years": 2.0}
    assert counts_of(tables["incidence_at_risk"], "n_at_risk", **ticks) == {AF.level("lvh", "LVH").after(2.0)}


def test_competing__events_of_death_are_deaths(tables: dict[str, Aggregate]) -> None:
    (events,) = counts_of(tables["results_competing"], "n_events", outcome="af", measure=DEATH, contrast="per SD")
    assert events is not None
    assert ("status", "death") in events.path


def test_sensitivity__variants_are_parts_of_the_main_analysis(tables: dict[str, Aggregate]) -> None:
    def people(level: str) -> set[Count | None]:
        return counts_of(tables["results_sensitivity"], "n_people", outcome="af", level=level, contrast="per SD")

    assert people("main analysis") == {AF.complete(MODELS)}
    assert people("clock starts 365 days after the ECG") == {AF.after(365 / 365.25).complete(MODELS)}
    other = "body surface area by mosteller"
    assert people(other) == {AF.complete(other, MODELS)}


def test_sensitivity__a_later_clock_counts_from_that_of_the_study() -> None:
    data = study_data(n=300, study=study(latency_days=30))
    (one,) = (one for one in variants(replace(data, follow_up_from_index=data.follow_up)) if "365" in one.words)
    assert one.people is not None
    assert one.people(AF) == AF.after(335 / 365.25)


def test_sensitivity__people_of_an_earlier_clock_are_not_related() -> None:
    data = study_data(n=300, study=study(latency_days=30))
    table = sensitivity.TOPIC.aggregates(replace(data, follow_up_from_index=data.follow_up))[0]
    assert counts_of(table, "n_people", level="clock starts at the ECG") == {None}


def test_absolute_risk__people_are_judged_by_a_horizon(tables: dict[str, Aggregate]) -> None:
    found = tables["results_absolute_risk"]
    people, events = (
        counts_of(found, name, outcome="af", measure="AUC at the horizon") for name in ("n_people", "n_events")
    )
    (judged,), (cases,) = people, events
    assert judged is not None
    assert cases is not None
    assert cases.ended is not None
    assert cases.ended[1:] == (5.0, 5.0)
    assert counts_of(tables["calibration"], "n_people", outcome="af", group=1) == {judged.part("tenth of risk", 1)}


def test_table_1__quartiles_are_those_of_the_rates(tables: dict[str, Aggregate]) -> None:
    groups = tables["baseline_quartile_counts"]
    assert counts_of(groups, "n_group", group="quartile 1") == {LEFT.level("quartile", "Q1")}
    assert counts_of(groups, "n_group", group="quartile unknown") == {LEFT.lacking("quartile")}
    missing = counts_of(groups, "n_people", group="everybody", variable="Sex", level="missing")
    assert missing == {LEFT.lacking("sex")}


def test_paired__people_imaged_before_the_date_are_not_among_those_compared() -> None:
    before = meanings.paired("imaged", "before 2015-01-01", labelled=True, is_before=True)
    assert before.path[1:] == (("imaged", "before"), ("label", "known"))
    assert meanings.paired("imaged", "on or after 2015-01-01", is_before=False) == meanings.COMPARED
    ruled = meanings.paired("imaged", "before 2015-01-01", with_rules=True, is_before=True)
    assert ruled.path[-1] == ("rules", "all three")


# Of records, to which nothing else is related.
_ALONE = {("code_hits", "n_records")}


def test_counts__of_every_table_are_described(tables: dict[str, Aggregate]) -> None:
    """But those of tables that leave small rows out, and what is never exported."""
    seen = 0
    for one in tables.values():
        for name in one.names(Kind.COUNT):
            is_open = name not in NEVER and one.rows[name].notna().any() and one.small == "hide"
            if is_open and (one.key, name) not in _ALONE:
                assert name in one.counts, (one.key, name)
                seen += 1
    assert seen > 60
