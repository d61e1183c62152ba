"""Error of the prediction: regression calibration of the primary outcome from a CMR subset."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.disclosure.masking import HIDDEN, MaskingRule, mask_all
from analysis.report.topics import measurement_error
from analysis.statistics.agreement.measurement_error import ASSUMPTIONS
from analysis.statistics.design import Category
from analysis.statistics.survival.cox import fit_cox
from analysis.study.cmr import pair_with_cmr
from analysis.study.data import StudyData
from tests.analysis.report.builders import study_data
from tests.analysis.report.outcome_rows import COMPLETE, rows_of, section_of, table_of
from tests.analysis.report.shown_counts import left_for
from tests.analysis.report.variations import with_study

SEX = Category("sex", reference="female")


@pytest.fixture(scope="module")
def data() -> StudyData:
    return with_study(study_data(n=1500, seed=12), bootstrap=100)


def _table(data: StudyData) -> pd.DataFrame:
    """The main analysis's rows with the CMR index where the CMR is near enough."""
    assert data.cmr is not None
    ecgs = data.ecgs[["ecg_id", "participant_id", "recorded_at", "lvm_pred_g"]]
    mass = pair_with_cmr(ecgs, data.cmr, max_days=90).set_index("ecg_id")["lvm_cmr_g"]
    table = data.analysed("af").dropna(subset=COMPLETE)
    return table.assign(cmr=table["ecg_id"].map(mass) / table["bsa_m2"])


def test_ratios__are_of_the_prediction_and_of_what_a_regression_expects_from_it(data: StudyData) -> None:
    table = _table(data)
    male = (table["sex"] == "male").astype(float)
    x = np.column_stack([np.ones(len(table)), table["exposure"], table["age_years"], male])
    known = table["cmr"].notna().to_numpy()
    slopes = np.linalg.lstsq(x[known], table["cmr"][known], rcond=None)[0]
    options = {"duration": "time_days", "event": "event"}
    rows = rows_of(data, "calibrated").set_index("measure")
    for name, values in (("naive", table["exposure"]), ("calibrated", x @ slopes)):
        covariates = ["x", "age_years", SEX]
        fit = fit_cox(table.assign(x=values), covariates=covariates, **options)
        found = rows.loc[f"hazard ratio, {name}"]
        assert math.log(found["estimate"]) == pytest.approx(10 * fit.estimates["coef"][0])
        if name == "naive":
            assert found["se"] == pytest.approx(10 * fit.estimates["se"][0])
    assert rows["se_type"].tolist() == ["model", "bootstrap by person"]


def test_table__has_the_people_with_a_cmr_and_the_assumptions(data: StudyData) -> None:
    section = section_of(data, "calibrated")
    table = table_of(section, "calibrated")
    n = int(_table(data)["cmr"].notna().sum())
    assert table.cells["People with CMR"].tolist() == [f"{n:,}"] * 2
    assert table.notes == ASSUMPTIONS


def test_few_people_with_a_cmr__are_hidden(data: StudyData) -> None:
    """Also few without: their number would follow from that of the others."""
    aggregates = {a.key: a for a in measurement_error.CALIBRATED.aggregates(data)}
    people = aggregates["calibrated_people"]
    for n_cmr in (7, int(people.rows["n_people"].iloc[0]) - 7):
        rows = people.rows.assign(n_cmr=n_cmr, n_no_cmr=people.rows["n_people"] - n_cmr)
        masked = mask_all([replace(people, rows=rows)], MaskingRule(10, 5))["calibrated_people"]
        few, other = ("n_cmr", "n_no_cmr") if n_cmr < 10 else ("n_no_cmr", "n_cmr")
        assert masked.shown(few).tolist() == [HIDDEN]
        total, others = masked.shown("n_people").item(), masked.shown(other).item()
        low, high = (0, 10) if others == HIDDEN else left_for(total, others)
        assert low <= 1 < 9 <= high


@pytest.mark.parametrize("change", [{"bootstrap": 99}, {"cmr": None}])
def test_topic__is_left_out_without_cmr_or_draws(data: StudyData, change: dict[str, object]) -> None:
    assert measurement_error.CALIBRATED.aggregates(with_study(data, **change)) == []


def test_too_few_measurements__are_a_warning(data: StudyData) -> None:
    assert data.cmr is not None
    few = replace(data, cmr=data.cmr.head(30))
    rows = rows_of(few, "calibrated")
    assert rows["estimate"].isna().all()
    assert "measurements for 4 parameters of the calibration" in rows["warnings"].iloc[0]


def test_people_imaged_before_the_date_of_training__are_no_measurements(data: StudyData) -> None:
    """By hand: an early CMR of 1 g is one that the calibration must not see."""
    assert data.cmr is not None
    paired = _table(data).dropna(subset=["cmr"])["participant_id"]
    early = data.cmr["participant_id"].isin(paired.iloc[::2])
    date = data.cmr["cmr_date"].min() - pd.Timedelta(days=1)
    days = data.cmr["cmr_date"].mask(early, date - pd.Timedelta(days=1))
    training = data.study.training.model_copy(update={"exclude_imaged_before": date.date()})
    ecgs = data.ecgs.assign(
        recorded_at=data.ecgs["recorded_at"].mask(data.ecgs["participant_id"].isin(paired[::2]), date)
    )
    cmr = data.cmr.assign(cmr_date=days, lvm_cmr_g=data.cmr["lvm_cmr_g"].mask(early, 1.0))
    made = with_study(replace(data, cmr=cmr, ecgs=ecgs), training=training)
    expected = rows_of(replace(data, cmr=data.cmr[~early]), "calibrated")
    found = rows_of(made, "calibrated")
    assert found["estimate"].tolist() == expected["estimate"].tolist()
    table = table_of(section_of(made, "calibrated"), "calibrated")
    assert set(table.cells["People with CMR"]) == {f"{len(paired) - len(paired[::2]):,}"}
