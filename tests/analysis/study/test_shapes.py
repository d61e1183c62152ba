"""Extracts of three shapes: each gives what the same people give in our own tables.

The cohort is synthetic. `lvm-ai simulate --shape` makes an extract by SQL from our own tables; what
reads it shares no code with that.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

import lvm_ai
from analysis.report.build import results_of, topics_of
from analysis.study.data import read_study_data
from analysis.study.inputs import follow_up_of, load_study, read_inputs
from lvm_core.errors import LvmError, UsageError

ROOT = Path(__file__).parents[3]
N_PEOPLE = 3000
OUTCOMES = """\
outcomes:
- {{name: af, incident_sources: [{0}, death], prevalent_sources: [self_report]}}
- {{name: mi, incident_sources: [{0}, death], prevalent_sources: [self_report]}}
- {{name: heart_failure, incident_sources: [{0}, death], prevalent_sources: [self_report]}}
- {{name: ventricular_arrhythmia, incident_sources: [{0}, death]}}
primary_outcome: heart_failure
"""
OWN = """\
name: our own tables
inputs:
  predictions: cohort/predictions_drawn.parquet
  participants: cohort/participants.csv
  events: cohort/events.csv
  deaths: cohort/deaths.csv
  follow_up_ends: cohort/follow_up_ends.csv
  code_list: code_lists/outcomes.csv
"""
COMPARED = ["ecg_id", "index_date", "excluded", "status", "end_reason", "time_days", "exit_date", "event_after_death"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic cohort in our own tables and in the three shapes, with the studies that ship."""
    folder = tmp_path_factory.mktemp("shapes")
    shapes = ["--shape", "ukb-rap", "ehr", "omop"]
    made = ["--participants", str(N_PEOPLE), "--seed", "5", "--no-ecgs", *shapes, "--output", str(folder / "cohort")]
    assert lvm_ai.main(["simulate", *made]) == 0
    (folder / "code_lists").mkdir()
    for name in ("ukb_rap.yaml", "ehr.yaml", "omop.yaml", "code_lists/outcomes.csv"):
        (folder / name).write_text(files("studies").joinpath(name).read_text(encoding="utf-8"), encoding="utf-8")
    # What people said was said at the visit, which the events of the simulation do not state.
    events = pd.read_csv(folder / "cohort" / "events.csv", dtype=str)
    visits = pq.read_table(folder / "cohort" / "truth.parquet").to_pandas().set_index("participant_id")["recorded_at"]
    said = events["participant_id"].map(visits.dt.strftime("%Y-%m-%d")).where(events["source"] == "self_report")
    events.assign(reported_date=said).to_csv(folder / "reported.csv", index=False)
    return folder


def _people(folder: Path, text: str | None = None, name: str = "own.yaml") -> pd.DataFrame:
    """Return the follow-up of a study of the folder, by person and outcome."""
    if text is not None:
        (folder / name).write_text(text)
    found = follow_up_of(load_study(folder / name)).people
    return found.set_index(["participant_id", "outcome"]).sort_index()[COMPARED]


def _is_a_test(people: pd.DataFrame) -> None:
    """Fail where a comparison would compare next to nothing."""
    assert len(people) == 4 * N_PEOPLE
    analysed = people[people["excluded"].isna()]
    assert analysed["status"].value_counts().min() > 50
    assert {"prevalent", "lost_before_index"} <= set(people["excluded"].dropna())


def test_ukb_rap__equals_our_own_tables(folder: Path) -> None:
    own = _people(folder, OWN.replace("cohort/events.csv", "reported.csv") + OUTCOMES.format("hes"))
    _is_a_test(own)
    pd.testing.assert_frame_equal(_people(folder, name="ukb_rap.yaml"), own)


def test_ehr__equals_our_own_tables(folder: Path) -> None:
    own = OWN + "  encounters: cohort/encounters.csv\n" + OUTCOMES.format("hes") + "hospital: {grace_days: 90}\n"
    whole = _people(folder, own)
    assert (whole["end_reason"] == "lost").sum() > 100  # the last encounter ended follow-up
    pd.testing.assert_frame_equal(_people(folder, name="ehr.yaml"), whole)


def test_omop__equals_our_own_tables(folder: Path) -> None:
    own = _people(folder, OWN + OUTCOMES.format("hes"))
    _is_a_test(own)
    found = _people(folder, name="omop.yaml")
    # Who was lost before the index ECG has no observation period at that day.
    unseen = own["excluded"] == "lost_before_index"
    assert set(found.loc[unseen, "excluded"]) == {"no_usable_ecg"}
    pd.testing.assert_frame_equal(found[~unseen], own[~unseen])


def _in_duckdb(source: Path, target: Path) -> None:
    with duckdb.connect(str(target)) as database:
        for path in source.glob("*.csv"):
            database.execute(f"CREATE TABLE {path.stem.upper()} AS FROM read_csv('{path}')")


def _in_sqlite(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(target)) as database:
        for path in source.glob("*.csv"):
            pd.read_csv(path, dtype=str).to_sql(path.stem, database, index=False)


def _in_parquet(source: Path, target: Path) -> None:
    target.mkdir()
    for path in source.glob("*.csv"):
        (target / path.stem).mkdir()
        table = pd.read_csv(path)
        for part, rows in enumerate((table.iloc[::2], table.iloc[1::2])):
            rows.to_parquet(target / path.stem / f"part-{part}.parquet")


@pytest.mark.parametrize(
    ("write", "name"), [(_in_duckdb, "cdm.duckdb"), (_in_sqlite, "cdm.sqlite"), (_in_parquet, "cdm")]
)
def test_omop__may_be_a_database_or_parquet(folder: Path, write: Any, name: str) -> None:
    expected = _people(folder, name="omop.yaml")
    write(folder / "cohort" / "omop", folder / name)
    text = (folder / "omop.yaml").read_text().replace("extract: cohort/omop", f"extract: {name}")
    pd.testing.assert_frame_equal(_people(folder, text, "other.yaml"), expected)


@pytest.mark.parametrize(
    "row", ["313217,omop,descendants,af,hand,", "49436004,SNOMED CT,descendants,af,hand,", "313217,omop,exact,af,hand,"]
)
def test_omop__a_concept_finds_what_its_source_codes_find(folder: Path, row: str) -> None:
    header = "code,system,match,outcome,source,comment\n"
    rows = ("I48,ICD10CM,prefix", "427.3,icd9,prefix", "1471,self-report,exact", "1483,self-report,exact")
    codes = "".join(f"{one},af,x,\n" for one in rows)
    (folder / "by_code.csv").write_text(header + codes)
    (folder / "by_concept.csv").write_text(f"{header}{row}\n")
    af = "outcomes: [{name: af, incident_sources: [ehr, death], prevalent_sources: [self_report]}]\n"
    text = (folder / "omop.yaml").read_text().split("outcomes:")[0] + af + "primary_outcome: af\n"
    # The first cause of death is the only one in the table death, with its concept as others.
    found = [
        _people(folder, text.replace("code_lists/outcomes", name), "af.yaml") for name in ("by_code", "by_concept")
    ]
    assert found[0]["status"].eq(1).sum() > 50
    pd.testing.assert_frame_equal(found[1], found[0])


def test_descendants__need_omop(folder: Path) -> None:
    (folder / "set.csv").write_text("code,system,match,outcome,source,comment\n313217,omop,descendants,af,x,\n")
    text = (folder / "ukb_rap.yaml").read_text().replace("  code_list: code_lists/outcomes.csv", "  code_list: set.csv")
    (folder / "set.yaml").write_text(
        text.split("outcomes:")[0] + "outcomes: [{name: af, incident_sources: [hes]}]\nprimary_outcome: af\n"
    )
    with pytest.raises(UsageError, match="descendants, which need the tables of shape omop"):
        read_inputs(load_study(folder / "set.yaml"))


def test_ehr__times_in_utc_need_the_zone_of_the_hospital(folder: Path) -> None:
    text = (folder / "ehr.yaml").read_text()
    (folder / "zone.yaml").write_text("\n".join(line for line in text.splitlines() if "time_zone" not in line))
    with pytest.raises(LvmError, match=r"has times in UTC in \d+ rows.*write the zone of the hospital"):
        follow_up_of(load_study(folder / "zone.yaml"))
    (folder / "zone.yaml").write_text(text.replace("America/New_York", "New_York"))
    with pytest.raises(UsageError, match="'New_York' is no time zone"):
        load_study(folder / "zone.yaml")


def test_ecgs_by_record_number__stop_the_study_without_a_crosswalk(folder: Path) -> None:
    text = OWN.replace("predictions_drawn", "mixed") + OUTCOMES.format("hes")
    ours, numbers = (
        pd.read_parquet(folder / "cohort" / name) for name in ("predictions_drawn.parquet", "ehr/predictions.parquet")
    )
    pd.concat([ours[:1800], numbers[1800:]]).to_parquet(folder / "cohort" / "mixed.parquet")
    (folder / "mixed.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"40% of the people with ECGs are not among the participants") as refusal:
        follow_up_of(load_study(folder / "mixed.yaml"))
    assert "of the form A9999999, those that match of A9-9999999" in str(refusal.value)
    assert "inputs.crosswalk" in str(refusal.value)
    (folder / "mixed.yaml").write_text(text + "allow_unmatched: true\n")
    left = follow_up_of(load_study(folder / "mixed.yaml")).flow.set_index(["outcome", "reason"])["n_people"]
    assert left["af", "not_in_cohort"] == 1200
    names = "columns: {crosswalk: {participant_id: empi, record_id: mrn}}\n"
    crosswalk = "  code_list: code_lists/outcomes.csv\n  crosswalk: cohort/ehr/crosswalk.csv\n"
    mended = text.replace("  code_list: code_lists/outcomes.csv\n", crosswalk) + names
    pd.testing.assert_frame_equal(_people(folder, mended), _people(folder, OWN + OUTCOMES.format("hes")))


def test_ukb_rap_study__has_at_most_25_lines(folder: Path) -> None:
    text = (folder / "ukb_rap.yaml").read_text()
    assert len(text.splitlines()) <= 25
    assert f"<!-- studies/ukb_rap.yaml -->\n```yaml\n{text}```\n" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert {"af", "mi", "heart_failure", "ventricular_arrhythmia"} == {
        one.name for one in load_study(folder / "ukb_rap.yaml").outcomes
    }


def _results(folder: Path, name: str, text: str, *, topics: set[str] | None = None) -> pd.DataFrame:
    """Return the exact results of a study, of all topics or of some."""
    (folder / f"{name}.yaml").write_text(text + "bootstrap: 0\n")
    data = read_study_data(load_study(folder / f"{name}.yaml"))
    chosen = [one for one in topics_of(data) if topics is None or one.name in topics]
    assert chosen
    return results_of([made for one in chosen for made in one.aggregates(data)])


@pytest.mark.slow
def test_ukb_rap__gives_the_results_of_our_own_tables(folder: Path) -> None:
    """Hazard ratios, c-statistics and all else are equal."""
    visits = pq.read_table(folder / "cohort" / "truth.parquet").to_pandas().set_index("participant_id")["recorded_at"]
    cmr = pd.read_csv(folder / "cohort" / "cmr.csv", dtype=str)
    dates = cmr["participant_id"].map(visits.dt.strftime("%Y-%m-%d"))  # the extract knows the day of the visit
    cmr.assign(cmr_date=dates).to_csv(folder / "cmr.csv", index=False)
    text = (folder / "ukb_rap.yaml").read_text()
    tables = OWN.replace("cohort/events.csv", "reported.csv").partition("inputs:")[2] + "  cmr: cmr.csv\n"
    own = text.replace("shape: ukb-rap\n", "").split("inputs:")[0] + "inputs:" + tables
    found = _results(folder, "of_extract", text)
    pd.testing.assert_frame_equal(found, _results(folder, "of_own", own + "outcomes:" + text.partition("outcomes:")[2]))
    # The paper's analysis: per SD for age and sex; c-statistics beside the ECG rules.
    ratios = found[(found["measure"] == "hazard ratio") & (found["model"] == 2) & (found["contrast"] == "per SD")]
    assert set(ratios["outcome"]) >= {"af", "mi", "heart_failure", "ventricular_arrhythmia"}
    assert {"binary c-statistic", "difference in binary c-statistic"} <= set(found["measure"])


@pytest.mark.slow
def test_ehr__gives_the_hazard_ratios_of_our_own_tables(folder: Path) -> None:
    own = OWN + "  encounters: cohort/encounters.csv\n" + OUTCOMES.format("hes") + "hospital: {grace_days: 90}\n"
    found = _results(folder, "ehr_results", (folder / "ehr.yaml").read_text(), topics={"hazard ratios"})
    pd.testing.assert_frame_equal(found, _results(folder, "own_results", own, topics={"hazard ratios"}))


def test_omop__gives_the_hazard_ratios_of_our_own_tables(folder: Path) -> None:
    people = _people(folder, OWN + OUTCOMES.format("hes")).reset_index()
    unseen = people.loc[people["excluded"] == "lost_before_index", "participant_id"].unique()
    (folder / "unseen.txt").write_text("\n".join(unseen))
    own = OWN + "  excluded: unseen.txt\n" + OUTCOMES.format("hes")
    found = _results(folder, "omop_results", (folder / "omop.yaml").read_text(), topics={"hazard ratios"})
    pd.testing.assert_frame_equal(found, _results(folder, "own_results", own, topics={"hazard ratios"}))
