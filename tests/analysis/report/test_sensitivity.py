"""Sensitivity analyses: each changes one thing, on the scale that it says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from analysis.report.topics import sensitivity
from analysis.statistics.design import Category
from analysis.statistics.survival.cox import fit_cox
from analysis.study.data import StudyData, standard_deviations
from lvm_core.medicine.body import Bsa, body_surface_area_m2
from tests.analysis.report.builders import study_data
from tests.analysis.report.outcome_rows import COMPLETE, one, rows_of, section_of, table_of
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
