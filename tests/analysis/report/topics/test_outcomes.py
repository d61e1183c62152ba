"""Topics of outcomes: their numbers against the plain functions and against hand counts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from analysis.disclosure.masking import MaskingRule, mask_all
from analysis.report.build import analyse, results_of
from analysis.report.document import ReadTable, Section, Topic
from analysis.report.topics import (
    absolute_risk,
    added_value,
    baseline,
    cox_assumptions,
    hazard_ratios,
    measurement_error,
    rates,
    sensitivity,
)
from analysis.statistics.accuracy.concordance import delta_concordance
from analysis.statistics.design import Category
from analysis.statistics.survival import cumulative_incidence, fit_fine_gray, split_follow_up
from analysis.statistics.survival.cox import fit_cox
from analysis.statistics.survival.kaplan_meier import survival_curve
from analysis.statistics.survival.rates import incidence_rates
from analysis.study.data import StudyData
from analysis.study.settings import Release, Training
from lvm_core.medicine.body import Bsa, body_surface_area_m2
from tests.analysis.report.builders import study_data
from tests.analysis.report.outcome_rows import one

OFF = MaskingRule(0, 1)
SEX = Category("sex", reference="female")


@pytest.fixture(scope="module")
def data() -> StudyData:
    return study_data(n=4000, seed=2)


def rows_of(topic: Topic, data: StudyData, key: str) -> pd.DataFrame:
    found = {one.key: one.rows for one in topic.aggregates(data)}
    return found[f"results_{key}"]


def section_of(topic: Topic, data: StudyData, rule: MaskingRule = OFF) -> Section:
    found: Section | None = topic.present(mask_all(topic.aggregates(data), rule), data.about)
    assert found is not None
    return found


def cells(section: Section, key: str) -> pd.DataFrame:
    return next(one.cells for one in section.items if one.key == key and isinstance(one, ReadTable))


COVARIATES = ["height_cm", "weight_kg", "sbp_mmhg", "diabetes", "smoking"]


def test_standardised__samples_are_counted_where_the_first_model_has_none(data: StudyData) -> None:
    (found,) = absolute_risk.STANDARDISED.aggregates(data)
    rows = found.rows.assign(model_id="b")
    rows.loc[0, ["model_id", "level"]] = ["a", ""]
    made = mask_all([replace(found, rows=rows, counts={})], OFF)
    section = absolute_risk.STANDARDISED.present(made, data.about)
    assert section is not None
    assert f"Intervals from {found.rows['level'].iloc[0]}, " in section.items[0].notes[0]


def test_hazard_ratios__each_warning_is_a_sentence_of_its_own(data: StudyData) -> None:
    nobody = data.ecgs.assign(lvh=(np.arange(len(data.ecgs)) == 0).astype(float), quartile=1.0)
    section = section_of(hazard_ratios.TOPIC, replace(data, ecgs=nobody))
    subjects = ("covariate '", "column '", "no covariate has an estimate")
    texts = [text.split(": ", 1)[1] for text in section.warnings]
    assert any("left out of the likelihood" in text for text in texts)
    assert all(text.startswith(subjects) or "events for" in text or "may lie between" in text for text in texts)


def af(data: StudyData) -> pd.DataFrame:
    """The rows of the main analysis: complete for all models."""
    table = data.analysed("af")
    return table.dropna(subset=["exposure", "age_years", "sex", *COVARIATES])


def test_hazard_ratios__per_sd_is_the_fit_of_the_exposure_over_its_sd(data: StudyData) -> None:
    rows = rows_of(hazard_ratios.TOPIC, data, "hazard_ratios")
    table = af(data)
    table = table.assign(x=table["exposure"] / data.sd["exposure"])
    fit = fit_cox(table, duration="time_days", event="event", covariates=["x", "age_years", SEX])
    found = one(rows, outcome="af", contrast="per SD", model=2)
    assert_allclose(
        [math.log(found["estimate"]), found["se"]], fit.estimates.loc[0, ["coef", "se"]].astype(float), rtol=1e-7
    )
    assert found["n_events"] == fit.n_events
    assert found["n_dropped_missing"] == len(data.analysed("af")) - len(table)


def test_hazard_ratios__subgroups_hold_everybody_once(data: StudyData) -> None:
    rows = rows_of(hazard_ratios.TOPIC, data, "subgroups")
    own = rows[(rows["outcome"] == "af") & (rows["strata"] == "Sex")]
    own = own[own["contrast"] == "per SD"]
    assert own["level"].tolist() == ["female", "male", "interaction"]
    counts = own.set_index("level")["n_events"]
    assert counts["female"] + counts["male"] == counts["interaction"] == af(data)["event"].sum()


def test_hazard_ratios__a_planted_interaction_is_found(data: StudyData) -> None:
    """The index of men is turned round, so that its effect is too."""
    turned = data.ecgs["exposure"].where(data.ecgs["sex"] == "female", 150 - data.ecgs["exposure"])
    changed = replace(data, ecgs=data.ecgs.assign(exposure=turned))
    rows = rows_of(hazard_ratios.TOPIC, changed, "subgroups")
    assert one(rows, outcome="af", strata="Sex", level="interaction")["p"] < 1e-3
    ratios = rows[(rows["outcome"] == "af") & (rows["strata"] == "Sex")]
    ratios = ratios[ratios["contrast"] == "per SD"].set_index("level")
    assert ratios.loc["female", "estimate"] > 1 > ratios.loc["male", "estimate"]


def test_rates__are_garwoods_of_the_counts(data: StudyData) -> None:
    table = data.analysed("af").drop_duplicates("participant_id")
    expected = incidence_rates(table, duration="years", event="event", by="sex").rates
    shown = cells(section_of(rates.TOPIC, data), "rates")
    own = shown[(shown["Outcome"] == "atrial fibrillation") & (shown["Group"] == "Sex")]
    for text, row in zip(own.iloc[:, -1], expected.itertuples(), strict=True):
        assert text == f"{row.rate:.2f} ({row.rate_lo:.2f} to {row.rate_hi:.2f})"


def test_rates__curves_are_aalen_johansens_and_rows_at_risk_add_up(data: StudyData) -> None:
    aggregates = {a.key: a.rows for a in rates.TOPIC.aggregates(data)}
    curves = aggregates["incidence_curves"]
    table = data.analysed("af").drop_duplicates("participant_id")
    found = cumulative_incidence(table, duration="time_days", event="status_code", by="lvh_group")
    for group, own in curves[(curves["outcome"] == "af") & (curves["classification"] == "Predicted LVH")].groupby(
        "group"
    ):
        expected = found.curve[(found.curve["lvh_group"] == group) & (found.curve["cause"] == 1)]
        assert_allclose(own["incidence"].max(), expected["cumulative_incidence"].max(), rtol=1e-12)
    risk = aggregates["incidence_at_risk"]
    parts = risk[["n_at_risk", "n_censored", "n_events", "n_deaths"]].sum(axis=1)
    assert (parts == risk["n_people"]).all()


def test_added_value__is_the_difference_of_two_fits(data: StudyData) -> None:
    rows = rows_of(added_value.TOPIC, data, "added_value")
    columns = ["exposure", "age_years", "sex", "bmi_kg_m2", "mass_g", "bsa_m2", *COVARIATES]
    table = data.analysed("af").dropna(subset=columns)
    options: dict[str, Any] = {"duration": "time_days", "event": "event"}
    small = fit_cox(table, covariates=["age_years", SEX], **options)
    large = fit_cox(table, covariates=["exposure", "age_years", SEX], **options)
    gain = delta_concordance(large, small)
    contrast = data.about.exposure_name
    found = one(rows, outcome="af", contrast=contrast, adjustment="age, sex", measure=added_value.DELTA)
    assert_allclose([found["estimate"], found["lo"]], [gain.difference, gain.lo], rtol=1e-9)
    tested = one(rows, outcome="af", contrast=contrast, adjustment="age, sex", measure=added_value.LIKELIHOOD)
    assert_allclose(tested["p"], large.likelihood_ratio_test(small).p, rtol=1e-9)
    assert pd.isna(found["p"])  # no P value for the difference of nested models


def test_added_value__an_index_without_ecg_adds_less(data: StudyData) -> None:
    rows = rows_of(added_value.TOPIC, data, "added_value")
    tests = rows[(rows["outcome"] == "af") & (rows["measure"] == added_value.LIKELIHOOD)]
    chi2 = tests.set_index("contrast")["estimate"]
    assert chi2[data.about.exposure_name].max() > chi2["index without any ECG (negative control)"]


def test_competing__fine_gray_is_scaled_like_cox(data: StudyData) -> None:
    rows = rows_of(hazard_ratios.COMPETING, data, "competing")
    fit = fit_fine_gray(
        af(data),
        duration="time_days",
        event="status_code",
        event_of_interest=1,
        covariates=["exposure", "age_years", SEX],
    )
    found = one(rows, outcome="af", contrast="per 10", measure=hazard_ratios.SUBDISTRIBUTION)
    assert_allclose(math.log(found["estimate"]), 10 * fit.estimates.loc[0, "coef"], rtol=1e-9)
    dead = one(rows, outcome="af", contrast="per 10", measure=hazard_ratios.DEATH)
    assert dead["n_events"] == (af(data)["status_code"] == 2).sum()


def test_periods__are_those_of_split_follow_up(data: StudyData) -> None:
    rows = rows_of(cox_assumptions.PROPORTIONAL_HAZARDS, data, "proportional_hazards")
    split = split_follow_up(af(data), duration="time_days", event="event", cuts=[2 * 365.25, 5 * 365.25])
    for place, words in enumerate(("0 to 2", "2 to 5", "5+"), start=1):
        own = split[split["period"] == place]
        fit = fit_cox(
            own, duration="time_days", event="event", entry="entry", covariates=["exposure", "age_years", SEX]
        )
        found = one(rows, outcome="af", contrast="per SD", level=f"{words} years")
        assert_allclose(math.log(found["estimate"]), data.sd["exposure"] * fit.estimates.loc[0, "coef"], rtol=1e-7)
        assert found["n_events"] == fit.n_events


def test_sensitivity__variants_change_one_thing(data: StudyData) -> None:
    rows = rows_of(sensitivity.TOPIC, data, "sensitivity")
    own = rows[(rows["outcome"] == "af") & (rows["contrast"] == "per SD")].set_index("level")
    table = af(data)
    late = own.loc["clock starts 365 days after the ECG"]
    assert late["n_people"] == (table["time_days"] > 365).sum()
    assert late["n_events"] == (table["event"] & (table["time_days"] > 365)).sum()
    area = body_surface_area_m2(table["height_cm"].to_numpy(), table["weight_kg"].to_numpy(), Bsa.MOSTELLER)
    changed = table.assign(x=table["mass_g"] / area).dropna(subset=["x"])
    options: dict[str, Any] = {"duration": "time_days", "event": "event"}
    fit = fit_cox(changed, covariates=["x", "age_years", SEX], **options)
    found = math.log(own.loc["body surface area by mosteller", "estimate"])
    assert_allclose(found, data.sd["exposure"] * fit.estimates.loc[0, "coef"], rtol=1e-7)
    assert sensitivity.MAIN in own.index


def test_sensitivity__before_and_after_the_training_date_are_everybody(data: StudyData) -> None:
    middle = pd.Timestamp(data.ecgs["index_date"].quantile(0.5)).normalize()
    training = Training(is_uk_biobank=True, exclude_imaged_before=middle.date())
    study = data.study.model_copy(update={"training": training})
    rows = rows_of(sensitivity.TOPIC, replace(data, study=study), "sensitivity")
    own = rows[(rows["outcome"] == "af") & (rows["contrast"] == "per SD")].set_index("level")
    parts = own.filter(like="imaged", axis=0)
    assert len(parts) == 3
    assert parts["n_people"].sum() == own.loc[sensitivity.MAIN, "n_people"]


def test_dose_response__a_straight_line_is_straight(data: StudyData) -> None:
    """At the reference the ratio is 1, and the drawn effect of 0.35 per 10 g/m2 is found."""
    curve = {a.key: a.rows for a in cox_assumptions.DOSE_RESPONSE.aggregates(data)}["dose_response"]
    own = curve[curve["outcome"] == "af"]
    nearest = own.iloc[(own["value"] - own["reference"]).abs().argmin()]
    assert nearest["hr"] == pytest.approx(1, abs=0.05)
    middle = own[own["value"].between(*own["value"].quantile([0.25, 0.75]))]
    slope = np.polyfit(middle["value"], np.log(middle["hr"]), 1)[0]
    assert 10 * slope == pytest.approx(0.35, abs=0.2)


def _ends(data: StudyData) -> tuple[pd.Series, pd.Series]:
    release = data.study.release
    masked = mask_all(cox_assumptions.DOSE_RESPONSE.aggregates(data), MaskingRule(release.k, release.base))
    found = {key: one.rows for key, one in masked.items()}
    curve, bins = found["dose_response"], found["exposure_histogram"]
    own = curve[curve["outcome"] == "af"]["value"]
    ends = pd.Series({"low": own.min(), "high": own.max()})
    return ends, pd.Series({"low": bins["left"].min(), "high": bins["right"].max()})


def test_dose_response__shows_nothing_beyond_the_5th_and_95th_percentile_when_masked(data: StudyData) -> None:
    """To four digits, as every number; from 1 and from 0.5 % where nothing is hidden."""
    people = data.ecgs["exposure"].quantile([0.05, 0.95, 0.005, 0.995])
    complete = af(data)["exposure"].quantile([0.05, 0.95, 0.01, 0.99])
    curve, bins = _ends(data)
    assert_allclose(curve, complete.iloc[:2], rtol=1e-3)
    assert_allclose(bins, people.iloc[:2], rtol=1e-3)
    for value in (*curve, *bins):
        assert value == float(f"{value:.4g}")
    section = section_of(cox_assumptions.DOSE_RESPONSE, data, MaskingRule(10, 5))
    off = data.study.model_copy(update={"release": Release(rule="none")})
    curve, bins = _ends(replace(data, study=off))
    assert_allclose(curve, complete.iloc[2:], rtol=1e-3)
    assert_allclose(bins, people.iloc[2:], rtol=1e-3)
    assert "from the 5th to the 95th percentile" in section.paragraphs[0]


def test_absolute_risk__differences_of_nested_models_have_no_p_value(data: StudyData) -> None:
    rows = rows_of(absolute_risk.TOPIC, data, "absolute_risk")
    gains = rows[rows["adjustment"] == "difference"]
    assert len(gains) == 4
    assert gains["estimate"].notna().all()
    assert rows["p"].isna().all()
    section = section_of(absolute_risk.TOPIC, data)
    shown = cells(section, "absolute_risk")
    assert not [name for name in shown if str(name) == "P" or str(name).startswith("P ")]


def test_rates__curves_that_are_hidden_have_a_sentence_in_their_place(data: StudyData) -> None:
    masked = mask_all(rates.TOPIC.aggregates(data), OFF)
    curves = masked["incidence_curves"]
    is_hidden = (curves.rows["outcome"] == "af") & (curves.rows["classification"] == "Predicted LVH")
    rows = curves.rows.copy()
    rows.loc[is_hidden, ["incidence", "lo", "hi"]] = np.nan
    about = replace(data.about, k=10)
    section = rates.TOPIC.present(masked | {"incidence_curves": replace(curves, rows=rows)}, about)
    assert section is not None
    sentence = (
        "Cumulative incidence of atrial fibrillation by predicted LVH is not drawn: a group has fewer than 10 events."
    )
    assert sentence in section.paragraphs
    assert sum("is not drawn" in text for text in section.paragraphs) == 1
    assert "incidence_af_lvh" not in [item.key for item in section.items]


def test_rates__are_not_one_minus_kaplan_meier(data: StudyData) -> None:
    """Where death competes, the curve stays below what treats the dead as still at risk."""
    curves = {a.key: a.rows for a in rates.TOPIC.aggregates(data)}["incidence_curves"]
    table = data.analysed("af").drop_duplicates("participant_id")
    for group, own in curves[(curves["outcome"] == "af") & (curves["classification"] == "Predicted LVH")].groupby(
        "group"
    ):
        theirs = table[table["lvh_group"] == group]
        curve = survival_curve(theirs, duration="time_days", event="event").at([3000.0])
        assert own["incidence"].max() < 1 - float(curve["survival"].iloc[0]) - 1e-3


def test_absolute_risk__held_out_risks_are_calibrated_and_the_horizon_is_shortened(data: StudyData) -> None:
    rows = rows_of(absolute_risk.TOPIC, data, "absolute_risk")
    own = rows[(rows["outcome"] == "af") & (rows["adjustment"] == "age, sex, exposure")]
    ratio = one(own, measure="observed over expected risk")
    assert ratio["lo"] < 1.15
    assert ratio["hi"] > 0.85
    years = pd.DataFrame({"years": np.linspace(0.01, 10, 1000)})
    assert absolute_risk.horizon_years(years, 5.0) == 5.0
    # 100 of 1,000 are still followed at about 9 years.
    assert absolute_risk.horizon_years(years, 20.0) == pytest.approx(9.01, abs=0.02)
    assert absolute_risk.horizon_years(years.head(49), 5.0) == 0.0


def test_standardised__is_the_difference_that_the_hazards_make(data: StudyData) -> None:
    study = data.study.model_copy(update={"bootstrap": 0})
    rows = rows_of(absolute_risk.STANDARDISED, replace(data, study=study), "standardised")
    risks = rows.set_index("measure")["estimate"]
    assert risks["risk difference"] == pytest.approx(risks["risk if all had LVH"] - risks["risk if none had LVH"])
    table = data.analysed("af").dropna(subset=["lvh"])
    at = float(rows["unit_value"].iloc[0])
    observed = cumulative_incidence(table, duration="years", event="status_code").at([at])
    observed = observed.loc[observed["cause"] == 1, "cumulative_incidence"].iloc[0]
    share = table["lvh"].mean()
    mixed = share * risks["risk if all had LVH"] + (1 - share) * risks["risk if none had LVH"]
    assert mixed == pytest.approx(observed, rel=0.15)
    assert rows["se"].isna().all()


def test_negative_control__is_another_outcome_and_stays_out_of_the_others(data: StudyData) -> None:
    assert sensitivity.NEGATIVE_CONTROL.aggregates(data) == []
    main = rows_of(hazard_ratios.TOPIC, data, "hazard_ratios")
    assert set(main["outcome"]) == {"af", "heart_failure"}


def test_baseline__standardised_difference_by_hand(data: StudyData) -> None:
    shown = cells(section_of(baseline, data), "baseline")
    people = data.ecgs.drop_duplicates("participant_id")
    yes, no = (people.loc[people["lvh_group"] == g, "age_years"] for g in ("LVH", "no LVH"))
    expected = (yes.mean() - no.mean()) / math.sqrt((yes.var() + no.var()) / 2)
    assert float(shown.iloc[0, -1]) == pytest.approx(expected, abs=0.006)
    assert shown.iloc[0, 2] == f"{people['age_years'].mean():.1f} ({people['age_years'].std():.1f})"


def test_repeats__pairs_go_by_the_time_between() -> None:
    data = study_data(n=600, seed=1)
    known = data.predictions.dropna(subset=["lvmi_pred_g_m2"])
    first = known.drop_duplicates("participant_id").head(300)
    rng = np.random.default_rng(0)
    again = first.assign(
        ecg_id=first["ecg_id"] + "-2",
        recorded_at=first["recorded_at"] + pd.to_timedelta(np.repeat([100, 800, 3000], 100), "D"),
        lvmi_pred_g_m2=first["lvmi_pred_g_m2"] + rng.normal(0, 2.0, 300),
    )
    rows = rows_of(measurement_error.REPEATS, replace(data, predictions=pd.concat([first, again])), "repeats")
    own = rows[(rows["exposure"] == "lvmi_pred_g_m2") & (rows["measure"] == measurement_error.WITHIN)]
    assert own["n_people"].tolist() == [300, 100, 100, 100]
    assert_allclose(own["estimate"], 2.0 / math.sqrt(2), rtol=0.2)


def test_every_topic__shows_nothing_small_and_says_something(data: StudyData) -> None:
    found = analyse(data, lambda _: None)
    assert [section.key for section in found.export.report.sections][:3] == ["flow", "baseline", "follow_up"]
    for section in found.export.report.sections:
        assert section.items or section.paragraphs
    whole = results_of(found.aggregates)
    assert whole["analysis"].nunique() >= 10
    assert not whole.duplicated(
        ["analysis", "measure", "outcome", "exposure", "contrast", "model", "adjustment", "strata", "level"]
    ).any()
