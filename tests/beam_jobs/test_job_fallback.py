"""Rows that a model cannot score: rejected, or scored by the ECG-only model that is named."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.beam_jobs.job_helpers import (
    ECG_ONLY,
    FULL,
    assert_reconciles,
    fake_mass_g,
    lvm,
    masses,
    people,
    people_table,
    predictions,
    reject_counts,
    score,
    write_parquet,
    write_participants,
)

pytestmark = pytest.mark.usefixtures("fake")

WITHOUT = {0: "sex_unknown", 1: "age_missing", 5: "bmi_out_of_range", 9: "participant_missing"}
FALLBACK = ("--fallback-model", ECG_ONLY)


@pytest.fixture
def cohort(tmp_path: Path) -> dict[str, Any]:
    made = people(20)
    write_parquet(tmp_path / "in" / "a.parquet", people_table(made))
    kept = [i for i in range(20) if i != 9]
    known = dataclasses.replace(
        made,
        ecg_id=tuple(made.ecg_id[i] for i in kept),
        participant_id=tuple(made.participant_id[i] for i in kept),
        age_years=made.age_years[kept],
        sex=tuple(made.sex[i] for i in kept),
        height_cm=made.height_cm[kept],
        weight_kg=made.weight_kg[kept],
    )
    table = write_participants(tmp_path / "people.csv", known, sex_0="Unknown", age_years_1="", bmi_kg_m2_5=400)
    return {"ecgs": tmp_path / "in", "table": table}


def test_without_fallback__rows_are_rejected_by_reason(cohort: dict[str, Any], tmp_path: Path) -> None:
    more = ("--participants", cohort["table"], "--max-rejected-share", 0.5)
    assert score(cohort["ecgs"], tmp_path / "out", *more, model=FULL) == 0
    assert reject_counts(tmp_path / "out") == dict.fromkeys(WITHOUT.values(), 1)
    assert {row["model_id"] for row in predictions(tmp_path / "out")} == {FULL}
    assert_reconciles(tmp_path / "out", 20)


def test_fallback__each_row_says_which_model_scored_it(cohort: dict[str, Any], tmp_path: Path) -> None:
    more = ("--participants", cohort["table"], *FALLBACK)
    assert score(cohort["ecgs"], tmp_path / "out", *more, model=FULL) == 0
    made = people(20)
    by_id = {row["ecg_id"]: row for row in predictions(tmp_path / "out")}
    ids = {made.ecg_id[i] for i in WITHOUT}
    assert {e for e, row in by_id.items() if row["model_id"] == ECG_ONLY} == ids
    assert {e for e, row in by_id.items() if row["model_id"] == FULL} == set(made.ecg_id) - ids
    assert [row["ecg_id"] for row in predictions(tmp_path / "out")] == list(made.ecg_id)
    assert_reconciles(tmp_path / "out", 20)


def test_fallback__rows_get_the_mass_of_their_own_model(cohort: dict[str, Any], tmp_path: Path) -> None:
    more = ("--participants", cohort["table"], *FALLBACK)
    assert score(cohort["ecgs"], tmp_path / "out", *more, model=FULL) == 0
    made = people(20)
    actual, ecg_only_g = masses(tmp_path / "out"), fake_mass_g(made)
    for i, ecg_id in enumerate(made.ecg_id):
        bmi = float(np.float32(made.weight_kg[i]) / (np.float32(made.height_cm[i]) / 100) ** 2)
        added_g = made.age_years[i] / 10 + 20 * (made.sex[i].value == "male") + bmi / 10
        expected = ecg_only_g[ecg_id] + (0 if i in WITHOUT else added_g)
        assert actual[ecg_id] == pytest.approx(expected, abs=1e-4)


def test_fallback__score_is_null_where_the_model_has_no_lvh_head(cohort: dict[str, Any], tmp_path: Path) -> None:
    more = ("--participants", cohort["table"], *FALLBACK)
    assert score(cohort["ecgs"], tmp_path / "out", *more, model=FULL) == 0
    for row in predictions(tmp_path / "out"):
        assert (row["lvh_score"] is None) == (row["model_id"] == ECG_ONLY)


def test_fallback__index_and_lvh_stay_unknown_where_sex_or_size_is(cohort: dict[str, Any], tmp_path: Path) -> None:
    more = ("--participants", cohort["table"], *FALLBACK)
    assert score(cohort["ecgs"], tmp_path / "out", *more, model=FULL) == 0
    made = people(20)
    by_id = {row["ecg_id"]: row for row in predictions(tmp_path / "out")}
    no_sex, no_row = by_id[made.ecg_id[0]], by_id[made.ecg_id[9]]
    assert no_sex["lvmi_pred_g_m2"] is not None
    assert no_sex["lvh_pred"] is None
    assert no_row["lvmi_pred_g_m2"] is None
    assert no_row["lvh_pred"] is None
    out_of_range = by_id[made.ecg_id[5]]
    assert out_of_range["bmi_kg_m2"] is None
    assert "bmi_out_of_range" in out_of_range["quality_flags"]


def test_fallback__both_models_are_in_the_footer(cohort: dict[str, Any], tmp_path: Path) -> None:
    more = ("--participants", cohort["table"], *FALLBACK)
    assert score(cohort["ecgs"], tmp_path / "out", *more, model=FULL) == 0
    path = next((tmp_path / "out" / "predictions").iterdir())
    content = json.loads(pq.read_metadata(path).metadata[b"lvm_ai"])
    models = content["provenance"]["settings"]["models"]
    assert [m["model_id"] for m in models] == [FULL, ECG_ONLY]
    assert [len(m["sha256"]) for m in models] == [64, 64]


def test_fallback__without_participants_scores_everything_by_it(cohort: dict[str, Any], tmp_path: Path) -> None:
    assert score(cohort["ecgs"], tmp_path / "out", *FALLBACK, model=FULL) == 0
    assert {row["model_id"] for row in predictions(tmp_path / "out")} == {ECG_ONLY}
    assert masses(tmp_path / "out") == fake_mass_g(people(20))


def test_fallback__damaged_ecg_is_rejected_all_the_same(tmp_path: Path) -> None:
    made = people(8)
    counts = made.counts.copy()
    counts[3] = 0
    write_parquet(tmp_path / "in" / "a.parquet", people_table(dataclasses.replace(made, counts=counts)))
    more = (*FALLBACK, "--max-rejected-share", 0.5)
    assert score(tmp_path / "in", tmp_path / "out", *more, model=FULL) == 0
    assert reject_counts(tmp_path / "out") == {"lead_all_zero": 1}


def test_model_with_demographics__needs_participants_or_a_fallback(
    cohort: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(cohort["ecgs"], tmp_path / "out", model=FULL) == 2
    message = capsys.readouterr().err
    assert "--participants" in message
    assert "--fallback-model" in message
    assert not (tmp_path / "out").exists()


def test_fallback__model_that_needs_demographics_itself_is_refused(
    cohort: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(cohort["ecgs"], tmp_path / "out", "--fallback-model", FULL) == 2
    assert "expected an ECG-only model" in capsys.readouterr().err


def test_fallback__verify_computes_the_same_again(cohort: dict[str, Any], tmp_path: Path) -> None:
    more = ("--participants", cohort["table"], *FALLBACK)
    assert score(cohort["ecgs"], tmp_path / "out", *more, model=FULL) == 0
    assert lvm("verify", tmp_path / "out") == 0
