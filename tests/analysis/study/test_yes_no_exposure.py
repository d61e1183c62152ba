"""A yes/no exposure: yes against no with the people and events of both, and never per 10."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from analysis.disclosure.masking import MaskingRule, mask_all
from analysis.report.build import analyse, results_of
from analysis.statistics.design import Category
from analysis.statistics.survival.cox import fit_cox
from analysis.study.data import StudyData, read_study_data
from analysis.study.inputs import load_study
from tests.analysis.report import small_study

OFF = "masking: {k: 0, base: 1}\nbootstrap: 0\n"


def _read(folder: Path, *, column: str = "any_ecg_rule", kind: str = "parquet") -> tuple[StudyData, pd.Series[Any]]:
    """A study with a yes/no column: every third person yes, the last unknown."""
    small_study.write(folder)
    yes = pd.Series([number % 3 == 0 for number in range(small_study.N_PEOPLE)], dtype="boolean")
    yes.iloc[-1] = pd.NA
    scored = small_study.predictions().assign(**{column: yes})
    name = f"predictions.{kind}"
    if kind == "parquet":
        scored.to_parquet(folder / name)
    else:
        scored.assign(**{column: yes.map({True: "true", False: "false"})}).to_csv(folder / name, index=False)
    events = pd.read_csv(folder / "events.csv", dtype=str)
    more = events.assign(participant_id=small_study.IDS[10:18], date="2019-03-01")
    pd.concat([events, more]).to_csv(folder / "events.csv", index=False)
    path = small_study.settle(folder, f"exposure: {column}\n{OFF}", predictions=name)
    return read_study_data(load_study(path)), yes


@pytest.mark.parametrize(
    ("column", "kind"),
    [("any_ecg_rule", "parquet"), ("any_ecg_rule", "csv"), ("lvh_cmr", "csv"), ("lvh_cmr", "parquet")],
)
def test_yes_no__is_compared_as_yes_against_no(tmp_path: Path, column: str, kind: str) -> None:
    data, yes = _read(tmp_path, column=column, kind=kind)
    assert (data.follow_up["excluded"] == "missing_exposure").sum() == 1
    found = analyse(data, lambda _: None)
    rows = results_of(found.aggregates)
    ratios = rows[(rows["analysis"] == "hazard_ratios") & (rows["exposure"] == column)]
    assert set(ratios["contrast"]) == {"yes against no"}
    everything = " ".join(map(str, rows["contrast"]))
    assert "per 10" not in everything
    assert "per SD" not in everything
    assert "quartile" not in everything
    # Against a plain fit of the same people.
    table = data.analysed("af").assign(
        x=lambda t: t["participant_id"].map(dict(zip(small_study.IDS, yes, strict=True))).astype(float)
    )
    model = ["x", "age_years", Category("sex", reference="female")]
    fit = fit_cox(table, duration="time_days", event="event", covariates=model)
    own = ratios[ratios["model"] == 2].iloc[0]
    assert_allclose(math.log(own["estimate"]), fit.estimates["coef"][0], rtol=1e-7)
    arms = next(one.rows for one in found.aggregates if one.key == "hazard_ratio_arms")
    arms = arms[arms["exposure"] == column]
    by_hand = table.groupby("x")["event"].agg(["size", "sum"])
    assert arms["level"].tolist() == ["no", "yes"]
    assert arms["n_people"].tolist() == by_hand["size"].tolist()
    assert arms["n_events"].tolist() == by_hand["sum"].tolist()


def test_yes_no__table_1_and_curves_are_by_the_exposure(tmp_path: Path) -> None:
    data, yes = _read(tmp_path)
    aggregates = {one.key: one for one in analyse(data, lambda _: None).aggregates}
    groups = aggregates["baseline_exposure_numbers"].rows
    ages = groups[groups["variable"] == "Age, years"].set_index("group")["n_people"]
    assert ages["yes"] == yes.sum() == 13
    assert "baseline_quartile_numbers" not in aggregates
    curves = aggregates["incidence_curves"].rows
    assert "Exposure" in set(curves["classification"])
    assert np.isfinite(curves["incidence"]).all()
    assert mask_all(list(aggregates.values()), MaskingRule(10, 5))


def test_lvh_of_the_prediction__is_no_exposure(tmp_path: Path) -> None:
    small_study.write(tmp_path)
    path = small_study.settle(tmp_path, "exposure: lvh_pred\n")
    with pytest.raises(Exception, match="lvh_pred is compared in every study"):
        load_study(path)
