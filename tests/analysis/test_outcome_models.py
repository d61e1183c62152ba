"""Hazard ratios of a study: rows, contrasts, and the truth of a synthetic cohort."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lvm_ai
from analysis.cox import fit_cox
from analysis.outcome_models import Contrast, analysed_sd, hazard_ratios
from lvm_core.synthetic_outcomes import OUTCOMES_TRUTH
from tests.analysis.references import close

STUDY = """\
name: synthetic
inputs:
  predictions: cohort/predictions_drawn.parquet
  participants: cohort/participants.csv
  deaths: cohort/deaths.csv
  events: cohort/events.csv
  follow_up_ends: cohort/follow_up_ends.csv
  code_list: codes.csv
outcomes:
- {name: af, incident_sources: [hes, death], prevalent_sources: [self_report]}
- {name: mi, incident_sources: [hes, death]}
primary_outcome: af
"""
CODES = """\
code,system,match,outcome,source,comment
I48,icd10,prefix,af,hand,
4273,icd9,prefix,af,hand,
I21,icd10,prefix,mi,hand,
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("study")
    arguments = [
        "--participants",
        "20000",
        "--seed",
        "9",
        "--no-ecgs",
        "--output",
        str(made / "cohort"),
    ]
    assert lvm_ai.main(["simulate", *arguments]) == 0
    (made / "codes.csv").write_text(CODES)
    (made / "study.yaml").write_text(STUDY)
    assert lvm_ai.main(["analyse", str(made / "study.yaml"), "--output", str(made / "out")]) == 0
    return made


@pytest.fixture(scope="module")
def results(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "out" / "restricted" / "hazard_ratios.csv")


def test_rows__every_outcome_contrast_and_model_once(results: pd.DataFrame) -> None:
    assert len(results) == 2 * 3 * 3
    assert not results.duplicated(["outcome", "contrast", "model"]).any()
    assert results["estimate"].between(results["lo"], results["hi"]).all()
    same_rows = results.groupby(["outcome", "contrast"])[["n_people", "n_events", "person_years"]]
    assert (same_rows.nunique() == 1).all(axis=None)


def test_per_sd__is_the_power_of_per_10(folder: Path, results: pd.DataFrame) -> None:
    """The SD is of everybody with an index ECG, also those who are prevalent."""
    drawn = pd.read_parquet(folder / "cohort" / "predictions_drawn.parquet")
    sd = drawn["lvmi_pred_g_m2"].astype(float).std(ddof=1)
    rows = results.set_index(["contrast", "outcome", "model"]).sort_index()
    close(rows.loc["per SD", "unit_value"], sd, rtol=1e-9)
    close(rows.loc["per SD", "estimate"], rows.loc["per 10", "estimate"] ** (sd / 10), rtol=1e-9)
    close(rows.loc["per SD", "p"], rows.loc["per 10", "p"], rtol=1e-9)


def test_estimates__equal_a_fit_by_hand_and_are_near_the_truth(
    folder: Path, results: pd.DataFrame
) -> None:
    people = pd.read_parquet(folder / "out" / "restricted" / "follow_up.parquet")
    drawn = pd.read_parquet(folder / "cohort" / "predictions_drawn.parquet")
    own = people[(people["outcome"] == "af") & people["excluded"].isna()]
    table = own.merge(drawn.drop(columns="participant_id"), on="ecg_id").assign(
        event=lambda t: t["status"] == 1, days=lambda t: t["time_days"].astype(int),
        male=lambda t: t["sex"] == "male",
    )  # fmt: skip
    fit = fit_cox(
        table, duration="days", event="event", covariates=["lvmi_pred_g_m2", "age_years", "male"]
    )
    row = results.set_index(["outcome", "contrast", "model"]).sort_index().loc[("af", "per 10", 2)]
    close(
        [np.log(row["estimate"]), row["se"]], fit.estimates.loc[0, ["coef", "se"]] * 10, rtol=1e-8
    )
    assert (row["n_people"], row["n_events"]) == (fit.n, fit.n_events)
    # Attenuated against the truth per 10 g/m2 of true index, and of its sign.
    assert 0 < np.log(row["estimate"]) < OUTCOMES_TRUTH["af"].lvmi_per_10_g_m2 + 2 * row["se"]


@pytest.mark.parametrize("rule", ["first", "all"])
@pytest.mark.skipif(shutil.which("Rscript") is None, reason="R is not installed")
def test_check_r__refits_every_hazard_ratio(folder: Path, tmp_path: Path, rule: str) -> None:
    (folder / "r.yaml").write_text(f"{STUDY}index: {{rule: {rule}}}\n")
    assert lvm_ai.main(["analyse", str(folder / "r.yaml"), "--output", str(tmp_path / "out")]) == 0
    command = ["Rscript", "check.R"]
    done = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "18 hazard ratios, 0 without an estimate left out" in done.stdout
    results = tmp_path / "out" / "restricted" / "hazard_ratios.csv"
    wrong = pd.read_csv(results)
    wrong.loc[3, "estimate"] *= 1.0001
    wrong.to_csv(results, index=False)
    assert subprocess.run(command, cwd=tmp_path / "out", capture_output=True).returncode == 1


def test_q_values__of_the_outcomes_that_are_not_primary(results: pd.DataFrame) -> None:
    assert results.loc[results["primary"], "q"].isna().all()
    others = results[~results["primary"]]
    close(others["q"], others["p"], rtol=1e-12)  # one outcome beside the primary one


def _people(n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "participant_id": [str(i // 2) for i in range(n)],
            "ecg_id": [str(i) for i in range(n)],
            "index_date": pd.Timestamp("2016-01-01"),
            "outcome": "af",
            "excluded": None,
            "status": rng.integers(0, 3, n),
            "time_days": rng.integers(1, 900, n),
            "x": rng.normal(size=n),
            "age_years": rng.uniform(50, 70, n),
            "sex": rng.choice(["female", "male"], n),
            "height_cm": rng.normal(170, 9, n),
            "weight_kg": rng.normal(80, 9, n),
        }
    )


def test_hazard_ratios__repeated_ecgs_have_errors_by_person() -> None:
    contrasts = [Contrast("x", "per 1", "1", 1.0)]
    once = hazard_ratios(_people(), contrasts, primary_outcome="af", repeated=False)
    again = hazard_ratios(_people(), contrasts, primary_outcome="af", repeated=True)
    assert (once["estimate"] == again["estimate"]).all()
    assert (once["se"] != again["se"]).all()
    assert again.loc[0, ["n_people", "n_ecgs", "se_type"]].tolist() == [100, 200, "by person"]


def test_hazard_ratios__what_has_no_estimate_says_why() -> None:
    table = _people().assign(x=lambda t: (t["status"] == 1).astype(float))
    rows = hazard_ratios(
        table, [Contrast("x", "yes", "1", 1.0)], primary_outcome="af", repeated=False
    )
    assert rows["estimate"].isna().all()
    assert rows["warnings"].str.contains("'x': none of the .* has an event").all()
    assert (rows["n_events"] == (table["status"] == 1).sum()).all()


def test_hazard_ratios__all_models_take_the_rows_that_the_largest_can() -> None:
    table = _people()
    table.loc[:9, "weight_kg"] = np.nan
    rows = hazard_ratios(
        table, [Contrast("x", "per 1", "1", 1.0)], primary_outcome="af", repeated=False
    )
    assert (rows["n_ecgs"] == 190).all()
    assert (rows["n_dropped_missing"] == 10).all()


def test_analysed_sd__takes_one_row_a_person_and_the_prevalent_too() -> None:
    table = _people(8).assign(x=[1.0, 50, 2, 50, 3, 50, 4, 50])
    table["excluded"] = ["prevalent", None, None, None, None, None, "withdrawn", None]
    table.loc[7, "excluded"] = "withdrawn"
    assert analysed_sd(table, "x") == pytest.approx(np.std([1, 2, 3], ddof=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="sex"), "predictions have no column sex, which hazard ratios"),
        (
            lambda t: t.assign(model_id=["a", "b"] * (len(t) // 2)),
            "of 2 models (a, b), expected one",
        ),
    ],
)
def test_command__refuses_predictions_without_what_it_needs(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, message: str
) -> None:
    drawn = pd.read_parquet(folder / "cohort" / "predictions_drawn.parquet")
    change(drawn).to_parquet(tmp_path / "p.parquet")
    text = STUDY.replace("cohort/predictions_drawn.parquet", str(tmp_path / "p.parquet"))
    (folder / "other.yaml").write_text(text)
    command = ["analyse", str(folder / "other.yaml"), "--output", str(tmp_path / "out")]
    assert lvm_ai.main(command) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]
