"""Hazard ratios of a study: rows, contrasts, and the truth of a synthetic cohort."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lvm_ai
from analysis.report.write import check_script
from analysis.statistics.survival.cox import fit_cox
from analysis.study.outcomes import (
    Contrast,
    Model,
    columns_of,
    complete_rows,
    estimate,
    fewest_with_event,
    models_of,
    people_with_event,
    without_constant_sex,
)
from analysis.study.settings import Study
from lvm_core.synthetic.outcomes import OUTCOMES_TRUTH
from tests.analysis.statistics.r_packages import lacking
from tests.analysis.statistics.references import close

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
report: false
"""
MODEL_4 = """\
covariates:
- {name: sbp_mmhg, kind: number}
- {name: diabetes, kind: yes_no}
- {name: region, kind: category, reference: England}
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
    arguments = ["--participants", "20000", "--seed", "9", "--no-ecgs", "--output", str(made / "cohort")]
    assert lvm_ai.main(["simulate", *arguments]) == 0
    (made / "codes.csv").write_text(CODES)
    (made / "study.yaml").write_text(STUDY)
    assert lvm_ai.main(["analyse", str(made / "study.yaml"), "--output", str(made / "out")]) == 0
    return made


@pytest.fixture(scope="module")
def results(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "out" / "restricted" / "hazard_ratios.csv")


def test_rows__every_outcome_contrast_and_model_once(results: pd.DataFrame) -> None:
    contrasts = {"per SD", "per 10", "LVH", "trend over quartiles"}
    contrasts |= {"quartile 1 (reference)", *(f"quartile {q} against 1" for q in (2, 3, 4))}
    assert set(results["contrast"]) == contrasts
    assert len(results) == 2 * len(contrasts) * 3
    assert not results.duplicated(["outcome", "contrast", "model"]).any()
    fitted = results[results["contrast"] != "quartile 1 (reference)"]
    assert fitted["estimate"].between(fitted["lo"], fitted["hi"]).all()
    assert set(results["estimate"][results["contrast"] == "quartile 1 (reference)"]) == {1.0}
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


def test_estimates__equal_a_fit_by_hand_and_are_near_the_truth(folder: Path, results: pd.DataFrame) -> None:
    people = pd.read_parquet(folder / "out" / "restricted" / "follow_up.parquet")
    drawn = pd.read_parquet(folder / "cohort" / "predictions_drawn.parquet")
    own = people[(people["outcome"] == "af") & people["excluded"].isna()]
    table = own.merge(drawn.drop(columns="participant_id"), on="ecg_id").assign(
        event=lambda t: t["status"] == 1, days=lambda t: t["time_days"].astype(int), male=lambda t: t["sex"] == "male"
    )
    fit = fit_cox(table, duration="days", event="event", covariates=["lvmi_pred_g_m2", "age_years", "male"])
    row = results.set_index(["outcome", "contrast", "model"]).sort_index().loc[("af", "per 10", 2)]
    close([np.log(row["estimate"]), row["se"]], fit.estimates.loc[0, ["coef", "se"]] * 10, rtol=1e-8)
    assert (row["n_people"], row["n_events"]) == (fit.n, fit.n_events)
    # Attenuated against the truth per 10 g/m2 of true index, and of its sign.
    assert 0 < np.log(row["estimate"]) < OUTCOMES_TRUTH["af"].lvmi_per_10_g_m2 + 2 * row["se"]


@pytest.mark.parametrize(
    ("more", "n"),
    [
        ("", 48),
        pytest.param(f"time_scale: attained_age\n{MODEL_4}", 64, marks=pytest.mark.slow),
        pytest.param("sd: by_sex\nlatency_days: 30\n", 48, marks=pytest.mark.slow),
    ],
)
@pytest.mark.skipif(lacking("survival") != "", reason=lacking("survival"))
def test_check_r__refits_every_hazard_ratio(folder: Path, tmp_path: Path, more: str, n: int) -> None:
    (folder / "r.yaml").write_text(f"{STUDY}{more}")
    out = tmp_path / "out"
    assert lvm_ai.main(["analyse", str(folder / "r.yaml"), "--output", str(out)]) == 0
    (out / "export").mkdir()
    (out / "export" / "check.R").write_text(check_script())
    command = ["Rscript", str(out / "export" / "check.R")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{n} hazard ratios, 0 without an estimate left out" in done.stdout
    results = out / "restricted" / "hazard_ratios.csv"
    wrong = pd.read_csv(results)
    wrong.loc[3, "estimate"] *= 1.0001
    wrong.to_csv(results, index=False)
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 1


def test_q_values__of_the_outcomes_that_are_not_primary(results: pd.DataFrame) -> None:
    assert results.loc[results["primary"], "q"].isna().all()
    others = results[~results["primary"]]
    close(others["q"], others["p"], rtol=1e-12)  # one outcome beside the primary one


def test_quartiles__are_cut_within_sex_over_everybody_with_an_index_ecg(folder: Path) -> None:
    data = pd.read_csv(folder / "out" / "restricted" / "analysis_data.csv")
    drawn = pd.read_parquet(folder / "cohort" / "predictions_drawn.parquet")
    for sex, own in drawn.groupby("sex"):
        bounds = own["lvmi_pred_g_m2"].astype(float).quantile([0.25, 0.5, 0.75])
        theirs = data[data["sex"] == sex]
        for quartile, part in theirs.groupby("quartile"):
            low = -np.inf if quartile == 1 else bounds.iloc[int(quartile) - 2]
            high = np.inf if quartile == 4 else bounds.iloc[int(quartile) - 1]
            assert part["exposure"].between(low - 1e-5, high + 1e-5).all()


def test_negative_control_and_latency__follow_the_same_people(folder: Path) -> None:
    """A landmark of 365 days drops who has an event, dies or ends by then; the clock moves."""
    (folder / "late.yaml").write_text(f"{STUDY}latency_days: 365\n")
    command = ["analyse", str(folder / "late.yaml"), "--output", str(folder / "late")]
    assert lvm_ai.main(command) == 0
    whole, late = (pd.read_csv(folder / name / "restricted" / "analysis_data.csv") for name in ("out", "late"))
    own = whole[(whole["outcome"] == "af") & (whole["time_days"] > 365)]
    theirs = late[late["outcome"] == "af"]
    assert sorted(theirs["time_days"]) == sorted(own["time_days"] - 365)
    assert theirs["status"].eq(1).sum() == own["status"].eq(1).sum()


def _people(n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    status = rng.integers(0, 3, n)
    return pd.DataFrame(
        {
            "participant_id": [str(i // 2) for i in range(n)],
            "event": status == 1,
            "time_days": rng.integers(1, 900, n).astype(float),
            "x": rng.normal(size=n),
            "age_years": rng.uniform(50, 70, n),
            "sex": rng.choice(["female", "male"], n),
            "height_cm": rng.normal(170, 9, n),
            "weight_kg": rng.normal(80, 9, n),
        }
    )


def _study(**settings: Any) -> Study:
    inputs = dict.fromkeys(("predictions", "participants", "events", "follow_up_ends", "code_list"), "x")
    outcome = {"name": "af", "incident_sources": ["hes"]}
    return Study.model_validate(
        {"name": "s", "inputs": inputs, "outcomes": [outcome], "primary_outcome": "af", **settings}
    )


PER_1 = Contrast("x", "x", "per 1", "1", 1.0)
MODEL_2 = models_of(_study())[1]


def test_estimate__repeated_ecgs_have_errors_by_person() -> None:
    once = estimate(_people(), _study(), PER_1, MODEL_2)
    again = estimate(_people(), _study(index={"rule": "all"}), PER_1, MODEL_2)
    assert once["estimate"] == again["estimate"]
    assert once["se"] != again["se"]
    assert (again["n_people"], again["n_ecgs"], again["se_type"]) == (100, 200, "by person")


def test_estimate__without_one_the_warning_says_why() -> None:
    table = _people().assign(x=lambda t: t["event"].astype(float))
    row = estimate(table, _study(), Contrast("x", "x", "yes", "1", 1.0, yes_no=True), MODEL_2)
    assert "estimate" not in row
    assert re.search("'x': none of the .* has an event", row["warnings"])
    assert row["n_events"] == table["event"].sum()
    assert row["n_events_fewest"] == table["event"].sum()  # the other arm has none to hide


def test_estimate__a_single_event_has_no_test_of_proportional_hazards() -> None:
    table = _people().assign(event=lambda t: t.index == 3)
    row = estimate(table, _study(), PER_1, Model(1, "unadjusted", ()))
    assert "p_ph" not in row


def test_complete_rows__are_those_that_the_largest_model_can_take() -> None:
    table = _people()
    table.loc[:9, "weight_kg"] = np.nan
    found = complete_rows(table, _study(), ["x"])
    assert len(found) == 190
    assert found["sex"].dtype == "category"
    assert set(found) == {
        "participant_id",
        "event",
        "time_days",
        "x",
        *columns_of(one for model in models_of(_study()) for one in model.covariates),
    }


def test_complete_rows__need_both_ages_on_the_scale_of_age() -> None:
    table = _people().assign(entry_age_days=20_000.0, exit_age_days=21_000.0)
    table.loc[:4, "entry_age_days"] = None
    table.loc[5:7, "exit_age_days"] = None
    study = _study(time_scale="attained_age")
    assert len(complete_rows(table, study, ["x"])) == 192
    assert len(complete_rows(table, _study(), ["x"])) == 200


def test_counts__of_events_are_people_where_they_have_several_ecgs() -> None:
    """Two rows a person: by hand, of 100 people."""
    table = _people().assign(arm=lambda t: (t["x"] > 0).astype(float))
    every = _study(index={"rule": "all"})
    people = {one for one, event in zip(table["participant_id"], table["event"], strict=True) if event}
    assert people_with_event(table, every) == len(people) < table["event"].sum()
    assert people_with_event(table, _study()) == table["event"].sum()
    arms = [set(table.loc[table["event"] & (table["arm"] == arm), "participant_id"]) for arm in (0, 1)]
    assert fewest_with_event(table, every, "arm") == min(map(len, arms))


def test_without_constant_sex__only_where_all_are_of_one() -> None:
    assert without_constant_sex(MODEL_2, _people()) == MODEL_2
    made = without_constant_sex(MODEL_2, _people().assign(sex="male"))
    assert made.covariates == ("age_years",)
    assert made.adjustment == "age, sex (sex is left out: all are male)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="sex"), "predictions have no column sex, which the analysis needs"),
        (lambda t: t.assign(model_id=["a", "b"] * (len(t) // 2)), "of 2 models (a, b), expected one"),
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
