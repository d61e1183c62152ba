"""The participant table of a run: mapped by a layout, judged as a whole, joined at planning."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lvm_core.synthetic.ecgs import SyntheticEcgs
from tests.beam_jobs.job_helpers import (
    CLINICAL_LEADS,
    FULL,
    counts,
    people,
    people_table,
    predictions,
    rejects,
    report,
    score,
    write_cohort,
    write_csv,
    write_parquet,
)
from tests.file_builders import cardiosoft_xml

pytestmark = pytest.mark.usefixtures("fake")
Row = dict[str, Any]


def _rows(made: SyntheticEcgs) -> list[Row]:
    return [
        {
            "participant_id": made.participant_id[i],
            "age_years": int(made.age_years[i]),
            "sex": made.sex[i].value,
            "height_cm": made.height_cm[i],
            "weight_kg": made.weight_kg[i],
        }
        for i in range(len(made.ecg_id))
    ]


def _run(tmp_path: Path, rows: list[Row], *extra: object, n: int = 20) -> int:
    if not (tmp_path / "in").exists():
        write_cohort(tmp_path / "in", n)
    table = write_csv(tmp_path / "p.csv", rows)
    return score(tmp_path / "in", tmp_path / "out", "--participants", table, *extra, model=FULL)


def _column(rows: list[Row], name: str) -> list[Any]:
    return [row[name] for row in rows]


def _each(change: Callable[[Row], Row]) -> list[Row]:
    return [row | change(row) for row in _rows(people(20))]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda row: {"weight_kg": row["weight_kg"] / 0.45359237}, "it looks like pounds"),
        (lambda row: {"height_cm": row["height_cm"] / 100}, "it looks like metres"),
        (lambda row: {"sex": "male" if row["sex"] == "female" else "female"}, "men are shorter than women"),
        (lambda row: {"bmi_kg_m2": 25}, "bmi_kg_m2 differs from weight_kg / height_cm squared"),
        (lambda row: {"age_years": row["age_years"] * 12}, "months or days"),
    ],
)
def test_table_that_cannot_be_right__stops_before_scoring(
    tmp_path: Path, change: Callable[[Row], Row], cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(tmp_path, _each(change)) == 2
    message = capsys.readouterr().err
    assert cause in message
    assert "--accept-people" in message
    assert not (tmp_path / "out").exists()


def test_accepted_table__is_scored_and_said_in_the_report(tmp_path: Path) -> None:
    rows = _each(lambda row: {"bmi_kg_m2": 25})
    assert _run(tmp_path, rows, "--accept-people") == 0
    accepted = report(tmp_path / "out")["people"]["accepted_problems"]
    assert len(accepted) == 1
    assert "bmi_kg_m2 differs" in accepted[0]


def test_layout_file__gives_the_same_results_as_our_own_names(tmp_path: Path) -> None:
    assert _run(tmp_path, _rows(people(20))) == 0
    ours = predictions(tmp_path / "out")
    other = [
        {
            "who": row["participant_id"],
            "age": row["age_years"],
            "gender": {"female": 2, "male": 1}[row["sex"]],
            "tall": row["height_cm"] / 100,
            "heavy": row["weight_kg"],
        }
        for row in _rows(people(20))
    ]
    layout = tmp_path / "layout.yaml"
    layout.write_text(
        "columns: {participant_id: who, age_years: age, sex: gender, height_cm: tall,\n"
        "  weight_kg: heavy}\nsex: {1: male, 2: female}\nunits: {height: m}\n"
    )
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "in").symlink_to(tmp_path / "in")
    assert _run(tmp_path / "other", other, "--participants-layout", layout) == 0
    theirs = predictions(tmp_path / "other" / "out")
    for name in ("ecg_id", "sex", "age_years", "lvh_pred"):
        assert _column(theirs, name) == _column(ours, name)
    for name in ("height_cm", "bmi_kg_m2", "lvmi_pred_g_m2"):
        assert _column(theirs, name) == pytest.approx(_column(ours, name), rel=1e-6)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--participants-layout", "no-such"], "neither a file nor a preset; expected a YAML file"),
        (["--participants-layout", "ukb-rap"], "was the layout ukb-rap meant"),
    ],
)
def test_layout_that_does_not_fit__is_refused(
    tmp_path: Path, extra: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"who": row["participant_id"], "x": 1} for row in _rows(people(20))]
    assert _run(tmp_path, rows, *extra) == 2
    assert message in capsys.readouterr().err


def test_layout_without_a_table__is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cohort(tmp_path / "in", 4)
    assert score(tmp_path / "in", tmp_path / "out", "--participants-layout", "ukb") == 2
    assert "--participants-layout is given without --participants" in capsys.readouterr().err


def test_omop_folder__is_a_participant_table(tmp_path: Path) -> None:
    made = write_cohort(tmp_path / "in", 4)
    cdm = tmp_path / "cdm"
    cdm.mkdir()
    write_csv(
        cdm / "PERSON.csv",
        [
            {
                "person_id": made.participant_id[i],
                "gender_concept_id": {"female": 8532, "male": 8507}[made.sex[i].value],
                "year_of_birth": 2000 - i,
                "month_of_birth": 5,
                "day_of_birth": 6,
            }
            for i in range(4)
        ],
    )
    sizes = [(3036277, made.height_cm, 8582), (3025315, made.weight_kg, 9529)]
    write_csv(
        cdm / "measurement.csv",
        [
            {
                "person_id": made.participant_id[i],
                "measurement_concept_id": concept,
                "measurement_date": "2019-01-01",
                "value_as_number": values[i],
                "unit_concept_id": unit,
            }
            for i in range(4)
            for concept, values, unit in sizes
        ],
    )
    arguments = ["--participants", cdm, "--participants-layout", "omop"]
    assert score(tmp_path / "in", tmp_path / "out", *arguments) == 0
    table = predictions(tmp_path / "out")
    assert _column(table, "sex") == [sex.value for sex in made.sex]
    assert _column(table, "height_cm") == pytest.approx(list(made.height_cm), rel=1e-6)
    file_instead = ["--participants", cdm / "PERSON.csv", "--participants-layout", "omop"]
    assert score(tmp_path / "in", tmp_path / "other", *file_instead) == 2


def test_planning__says_what_will_be_rejected_and_stops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = _rows(people(20))
    for row in rows[:3]:
        row["height_cm"] = 1.6
    rows[3]["sex"] = ""
    table = [row for row in rows if row is not rows[4]]
    assert _run(tmp_path, table) == 1
    message = capsys.readouterr().err
    assert "19 of 20 ECGs have a row in the table (95.0%)" in message
    assert "bmi_missing 3, participant_missing 1, sex_unknown 1" in message
    assert "25.0% of the ECGs would be rejected" in message
    assert "height_cm is 1.6, expected 100 to 250; BMI cannot be computed" in message
    assert not (tmp_path / "out" / "plan.json").exists()


def test_planning__forecast_is_what_happens(tmp_path: Path) -> None:
    rows = _rows(people(20))
    for row in rows[:3]:
        row["height_cm"] = 1.6
    rows[3]["sex"] = ""
    assert _run(tmp_path, rows[:19], "--max-rejected-share", 1) == 0
    forecast = report(tmp_path / "out")["people"]
    assert forecast["expected_rejects"] == counts(tmp_path / "out")["rejected"]
    assert (forecast["n_ecgs"], forecast["n_with_a_row"]) == (20, 19)
    details = _column(rejects(tmp_path / "out"), "detail")
    assert sum("BMI cannot be computed" in detail for detail in details) == 3
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert plan["people"] == forecast


def test_planning__dry_run_stops_too(tmp_path: Path) -> None:
    rows = _each(lambda row: {"age_years": ""})
    assert _run(tmp_path, rows, "--dry-run") == 1


def test_planning__lost_leading_zeros_are_suspected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = people(20)
    table = people_table(made, participant_id=[f"{i:05d}" for i in range(20)])
    write_parquet(tmp_path / "in" / "part-0.parquet", table)
    rows = [row | {"participant_id": str(i)} for i, row in enumerate(_rows(made))]
    rows[0]["participant_id"] = "00000"
    assert _run(tmp_path, rows) == 1
    assert "Identifiers agree once leading zeros are dropped" in capsys.readouterr().err


def test_planning__excluded_people_are_not_counted(tmp_path: Path) -> None:
    made = people(20)
    (tmp_path / "gone.txt").write_text("\n".join(made.participant_id[:10]) + "\n")
    extra = ["--exclude-participants", tmp_path / "gone.txt"]
    assert _run(tmp_path, _rows(made)[10:], *extra) == 0
    assert report(tmp_path / "out")["people"]["n_ecgs"] == 10


def test_planning__fallback_model_needs_no_demographics(tmp_path: Path) -> None:
    rows = _each(lambda row: {"age_years": ""})
    assert _run(tmp_path, rows, "--fallback-model", "demo-synthetic-ecg-only") == 0
    assert report(tmp_path / "out")["people"]["expected_rejects"] == {}


def test_planning__people_of_file_headers_are_known_once_read(tmp_path: Path) -> None:
    made = people(3)
    (tmp_path / "in").mkdir()
    for i in range(3):
        leads = dict(zip(CLINICAL_LEADS, made.counts[i], strict=True))
        content = cardiosoft_xml(leads, participant_id=made.participant_id[i])
        (tmp_path / "in" / f"{i}.xml").write_bytes(content)
    assert _run(tmp_path, _rows(made)) == 2  # nothing says who they are
    assert _run(tmp_path, _rows(made), "--id-from-header") == 0
    assert len(predictions(tmp_path / "out")) == 3
    found = report(tmp_path / "out")["people"]
    assert found["expected_rejects"] == {}
    assert found["person_known_once_read"] == 3


def test_planning__added_inputs_are_counted_with_those_before(tmp_path: Path) -> None:
    made = people(21)
    whole = people_table(made)
    write_parquet(tmp_path / "in" / "a.parquet", whole.slice(0, 20))
    assert _run(tmp_path, _rows(made)[:20]) == 0
    write_parquet(tmp_path / "in" / "b.parquet", whole.slice(20))
    assert _run(tmp_path, _rows(made)[:20]) == 0  # 1 of 21 has no row; of the added, 1 of 1
    found = report(tmp_path / "out")["people"]
    assert (found["n_ecgs"], found["expected_rejects"]) == (21, {"participant_missing": 1})
