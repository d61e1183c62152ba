"""Sensitivity analyses: each changes one thing, on the scale that it says."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from analysis.disclosure.masking import MaskingRule, mask_all
from analysis.report.topics import sensitivity
from analysis.statistics.design import Category
from analysis.statistics.survival.cox import fit_cox
from analysis.statistics.survival.splines import restricted_cubic_spline
from analysis.study.data import StudyData, standard_deviations
from lvm_core.medicine.body import Bsa, body_surface_area_m2
from tests.analysis.report.builders import study_data
from tests.analysis.report.outcome_rows import COMPLETE, TOPICS, one, rows_of, section_of, table_of
from tests.analysis.report.variations import with_study

SEX = Category("sex", reference="female")
OWN_SD = "per SD of the own sex"


@pytest.fixture(scope="module")
def data() -> StudyData:
    """With an ECG-only model whose mass differs in spread, and a recalibrated index."""
    made = study_data(n=2500, seed=8)
    rng = np.random.default_rng(8)
    only = made.ecgs["mass_g"] * 1.4 + rng.normal(0, 25, len(made.ecgs))
    recalibrated = 12 + 1.3 * made.ecgs["exposure"] - 0.2 * made.ecgs["age_years"]
    ecgs = made.ecgs.assign(lvm_ecg_only_g=only, lvmi_recal_g_m2=recalibrated)
    return replace(made, ecgs=ecgs, sd=standard_deviations(made.study, ecgs))


def _log_hr(table: pd.DataFrame, values: pd.Series | np.ndarray) -> float:
    fit = fit_cox(
        table.assign(x=np.asarray(values, dtype=float)).dropna(subset=["x"]),
        duration="time_days",
        event="event",
        covariates=["x", "age_years", SEX],
    )
    return float(fit.estimates["coef"][0])


def _per_own_sd(table: pd.DataFrame, values: pd.Series, sds: pd.Series) -> pd.Series:
    return values / table["sex"].map(sds)


def test_sd_by_sex__every_variant_is_per_sd_of_the_own_sex(data: StudyData) -> None:
    own = with_study(data, sd="by_sex")
    table = own.analysed("af").dropna(subset=COMPLETE)
    main = pd.Series({sex: own.sd[f"exposure, {sex}"] for sex in ("female", "male")})
    area = body_surface_area_m2(table["height_cm"].to_numpy(float), table["weight_kg"].to_numpy(float), Bsa.MOSTELLER)
    people = own.ecgs.drop_duplicates("participant_id")
    expected = {
        sensitivity.MAIN: (table["exposure"], main),
        "body surface area by mosteller": (table["mass_g"] / area, main),
        "recalibrated prediction": (table["lvmi_recal_g_m2"], main),
        "LV mass of the ECG-only model, per SD of it": (
            table["lvm_ecg_only_g"],
            people.groupby("sex")["lvm_ecg_only_g"].std(),
        ),
    }
    rows = rows_of(own, "sensitivity")
    for words, (values, sds) in expected.items():
        found = one(rows, outcome="af", level=words, contrast=OWN_SD)
        wanted = _log_hr(table, _per_own_sd(table, values, sds))
        assert_allclose(math.log(found["estimate"]), wanted, rtol=1e-7, err_msg=words)


def test_ecg_only__is_per_its_own_sd_and_per_10_g(data: StudyData) -> None:
    rows = rows_of(data, "sensitivity")
    table = data.analysed("af").dropna(subset=COMPLETE)
    sd = data.ecgs.drop_duplicates("participant_id")["lvm_ecg_only_g"].std()
    slope = _log_hr(table, table["lvm_ecg_only_g"])
    own = rows[(rows["outcome"] == "af") & (rows["exposure"] == "lvm_ecg_only_g")]
    assert_allclose(np.log(own["estimate"].astype(float)), [slope * sd, slope * 10], rtol=1e-7)
    assert own["unit"].tolist() == ["g", "g"]


def test_every_variant_of_the_exposure__is_also_per_10(data: StudyData) -> None:
    rows = rows_of(data, "sensitivity")
    own = rows[(rows["outcome"] == "af") & (rows["contrast"] != "LVH")]
    ten = own[own["contrast"] == "per 10"].set_index("level")["estimate"].astype(float)
    sd = own[own["contrast"] == "per SD"].set_index("level")
    assert list(ten.index) == list(sd.index)
    power = ten ** (sd["unit_value"].astype(float) / 10)
    assert_allclose(power, sd["estimate"].astype(float), rtol=1e-9)


@pytest.mark.parametrize(("base", "others"), [(0, [30, 365]), (30, [0, 365]), (365, [0, 30])])
def test_landmarks__are_0_30_and_365_days_whatever_the_study_s_own(
    data: StudyData, base: int, others: list[int]
) -> None:
    """The clock of the drawn study starts at the ECG; that of the others is moved by hand."""
    whole = data.follow_up
    late = whole["excluded"].isna() & (whole["time_days"] <= base)
    moved = whole.assign(
        excluded=whole["excluded"].mask(late, "no_follow_up_time"),
        time_days=(whole["time_days"] - base).mask(late),
        status=whole["status"].mask(late),
    )
    made = replace(data, follow_up=moved, follow_up_from_index=whole if base else None)
    made = with_study(made, latency_days=base)
    rows = rows_of(made, "sensitivity")
    own = rows[(rows["outcome"] == "af") & (rows["contrast"] == "per SD")].set_index("level")
    table = data.analysed("af").dropna(subset=COMPLETE)
    for days in (0, 30, 365):
        words = f"clock starts {days} days after the ECG" if days else "clock starts at the ECG"
        found = own.loc[sensitivity.MAIN if days == base else words]
        after = table[table["time_days"] > days]
        after = after.assign(time_days=after["time_days"] - days)
        assert found["n_people"] == len(after)
        wanted = data.sd["exposure"] * _log_hr(after, after["exposure"])
        assert_allclose(math.log(found["estimate"]), wanted, rtol=1e-7)
    assert own.index.str.startswith("clock").sum() == len(others)


def test_table__has_people_and_events_of_each_row(data: StudyData) -> None:
    shown = table_of(section_of(data, "sensitivity"), "sensitivity").cells
    assert list(shown.columns) == ["Outcome", "Contrast", "Analysis", "People", "Events", "Hazard ratio (95% CI)"]
    rows = rows_of(data, "sensitivity")
    assert len(shown) == len(rows)
    main = shown[(shown["Analysis"] == sensitivity.MAIN) & (shown["Contrast"] == "per SD")]
    found = one(rows, outcome="af", level=sensitivity.MAIN, contrast="per SD")
    assert main["People"].iloc[0] == f"{found['n_people']:,}"


def test_age__as_a_spline_and_on_its_own_scale_are_plain_fits(data: StudyData) -> None:
    rows = rows_of(data, "sensitivity")
    table = data.analysed("af").dropna(subset=COMPLETE)
    scaled = table.assign(x=table["exposure"] / data.sd["exposure"])
    spline = restricted_cubic_spline(scaled, column="age_years")
    options: dict[str, Any] = {"duration": "time_days", "event": "event"}
    by_spline = fit_cox(scaled, covariates=["x", spline, SEX], **options)
    ages = {"duration": "exit_age_days", "entry": "entry_age_days", "event": "event"}
    by_age = fit_cox(scaled, covariates=["x", SEX], **ages)
    for words, fit in ((sensitivity.AGE_SPLINE, by_spline), (sensitivity.ATTAINED_AGE, by_age)):
        row = one(rows, outcome="af", contrast="per SD", level=words)
        assert_allclose(math.log(row["estimate"]), fit.estimates["coef"][0], rtol=1e-6)
        assert row["n_people"] == len(table)
        assert one(rows, outcome="af", contrast="LVH", level=words)["estimate"] > 0
    assert (
        one(rows, outcome="af", contrast="per SD", level=sensitivity.ATTAINED_AGE)["time_scale"] == "attained age, days"
    )


def test_age__of_whole_years_has_no_scale_of_its_own(data: StudyData) -> None:
    without = replace(data, follow_up=data.follow_up.drop(columns=["entry_age_days", "exit_age_days"]))
    without = replace(without, ecgs=without.ecgs.drop(columns="entry_age_days"))
    words = {one.words for one in sensitivity.variants(without)}
    assert sensitivity.AGE_SPLINE in words
    assert sensitivity.ATTAINED_AGE not in words
    exact = replace(without, ecgs=without.ecgs.assign(age_years=lambda t: t["age_years"] + 0.37))
    rows = rows_of(exact, "sensitivity")
    row = one(rows, outcome="af", contrast="per SD", level=sensitivity.ATTAINED_AGE)
    assert row["estimate"] > 0


def test_every_row__is_model_2_of_all_who_have_age_and_sex(data: StudyData) -> None:
    rows = rows_of(data, "sensitivity")
    table = data.analysed("af").dropna(subset=["exposure", "age_years", "sex"])
    row = one(rows, outcome="af", contrast="per SD", level=sensitivity.EVERY_ROW)
    assert (
        row["n_people"] == len(table) > one(rows, outcome="af", contrast="per SD", level=sensitivity.MAIN)["n_people"]
    )
    expected = _log_hr(table, table["exposure"] / data.sd["exposure"])
    assert_allclose(math.log(row["estimate"]), expected, rtol=1e-6)


def test_rows__of_each_model_are_those_that_it_can_take(data: StudyData) -> None:
    own = with_study(data, rows="all")
    rows = rows_of(own, "hazard_ratios").query("outcome == 'af' and contrast == 'per SD'").set_index("model")
    table = data.analysed("af")
    needs = {1: ["exposure"], 2: ["exposure", "age_years", "sex"], 4: COMPLETE}
    for number, columns in needs.items():
        assert rows.loc[number, "n_people"] == table[columns].notna().all(axis=1).sum()
        assert rows.loc[number, "n_people"] + rows.loc[number, "n_dropped_missing"] == len(table)
    assert rows.loc[2, "n_people"] > rows.loc[4, "n_people"]
    assert sensitivity.EVERY_ROW not in set(rows_of(own, "sensitivity")["level"])
    assert mask_all([part for topic in TOPICS.values() for part in topic.aggregates(own)], MaskingRule(10, 5))


def test_rows_left_out__are_counted_by_what_is_missing(data: StudyData) -> None:
    section = section_of(data, "hazard_ratios")
    cells = table_of(section, "rows_left_out").cells
    own = cells[cells["Outcome"] == "atrial fibrillation"].set_index("Missing")["Rows without it"]
    table = data.analysed("af")
    assert own["systolic pressure, mmHg"] == str(table["sbp_mmhg"].isna().sum()) != "0"
    assert own["any of these"] == str(table[COMPLETE].isna().any(axis=1).sum())
