"""The Methods paragraphs and the warnings of a report, with the study's own numbers and choices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from analysis.outcome_models import models_of
from analysis.report.aggregates import EVERYBODY
from analysis.report.masking import HIDDEN, Masked
from analysis.report.study_data import StudyData
from analysis.study_settings import Study
from lvm_core.lvh import LvhPreset, Sex, lvh_limit_g_m2

_RULES: Final = {
    "first": "the first usable ECG",
    "last_on_or_before": "the last usable ECG on or before",
    "nearest_on_or_before": "the usable ECG nearest to, and not after,",
    "all": "every usable ECG, each with a follow-up of its own",
}
_KNOWN: Final = (
    "All statistics are computed by LVM-AI's own functions, each compared with R (survival, "
    "cmprsk, riskRegression, pROC and others) in its tests. The code lists, hazard ratios and "
    "errors in grams of Khurshid et al. 2021 are not known here, and which of the three "
    "published files gave its figures is not stated."
)


def methods(data: StudyData, masked: Mapping[str, Masked]) -> tuple[str, ...]:
    """Return what was done, in sentences, with masked numbers."""
    study = data.study
    return (
        _exposure(data),
        _index(study),
        _outcomes(study),
        _follow_up(study),
        _models(data),
        _risks(study),
        *_cmr(study),
        *_analysed(data, masked),
        _masking(study),
        _KNOWN,
    )


def _exposure(data: StudyData) -> str:
    study, about = data.study, data.about
    preset = LvhPreset(study.lvh_preset)
    limits = [f"{lvh_limit_g_m2(sex, preset):g} g/m2 ({sex.value})" for sex in Sex]
    convention = data.provenance.get("input_convention", "not recorded with the predictions")
    return (
        f"The exposure is {about.exposure_name} ({study.exposure}, {about.exposure_unit}) from "
        f"12-lead ECGs by model {about.model_id}; input convention: {convention}. Body surface "
        f"area is by the formula of {study.bsa_formula.value}. LVH is an index above "
        f"{' and '.join(limits)} (preset {preset.value}). ECGs with the flags "
        f"{', '.join(study.exclude_flags) or 'none'} are not used."
    )


def _index(study: Study) -> str:
    rule = _RULES[study.index.rule]
    bound = f" {study.index.date}" if study.index.rule.endswith("before") else ""
    since = f" on or after {study.index.date}" if study.index.rule == "first" and (
        study.index.date) else ""  # fmt: skip
    within = f", at most {study.index.max_days} days before" if study.index.max_days else ""
    history = (
        f" Records must reach back {study.min_history_days} days." if study.min_history_days else ""
    )
    size = (
        f" Height and weight more than {study.max_days_body_size} days from the ECG leave the "
        "index unknown." if study.max_days_body_size is not None else ""
    )  # fmt: skip
    return (
        f"The index ECG is {rule}{bound}{since}{within}; ties go by its identifier.{history}{size}"
    )


def _outcomes(study: Study) -> str:
    told = [
        f"{one.words} (incident: {', '.join(one.incident_sources)}; prevalent also: "
        f"{', '.join(one.prevalent_sources) or 'no others'})"
        for one in study.outcomes
    ]
    primary = next(one.words for one in study.outcomes if one.name == study.primary_outcome)
    window = (
        "all history" if study.prevalent_window_days is None
        else f"{study.prevalent_window_days} days"
    )  # fmt: skip
    return (
        f"Outcomes are {'; '.join(told)}. The primary outcome is {primary}. People with the "
        f"outcome on or before the index date (window: {window}) are left out for it, as are those "
        "with an "
        "outcome date that is missing or a placeholder, even where a later date is known, since "
        "the first may have been earlier (our convention)."
    )


def _follow_up(study: Study) -> str:
    hospital = (
        f" Follow-up ends {study.hospital.grace_days} days after the last encounter at the latest."
        if study.hospital else ""
    )  # fmt: skip
    return (
        "Follow-up ends at the outcome, death, loss, or the last day of records of the region over "
        "the sources that the outcome needs, that day included; on one day the outcome comes "
        f"before death. The clock starts {study.latency_days} days after the ECG.{hospital} Death "
        "competes."
    )


def _models(data: StudyData) -> str:
    study = data.study
    models = "; ".join(f"{one.number} {one.adjustment}" for one in models_of(study))
    scale = "attained age, with delayed entry" if study.time_scale == "attained_age" else (
        "time since the index ECG")  # fmt: skip
    errors = "robust, by person" if study.index.rule == "all" else "from the model"
    return (
        f"Cause-specific Cox models on {scale}, Efron's ties, errors {errors}; models: {models}. "
        f"One SD is {data.sd['exposure']:.3g} {data.about.exposure_unit} "
        f"({_sd_words(study)}). Quartiles are cut within sex. Q-values are Benjamini and "
        "Hochberg's over the outcomes that are not primary."
    )


def _sd_words(study: Study) -> str:
    return {
        "cohort": "n - 1, both sexes, one row a person, before outcomes",
        "by_sex": "hazard ratios use that of each sex",
    }.get(str(study.sd), "fixed in the study file")


def _risks(study: Study) -> str:
    return (
        "Cumulative incidence is Aalen and Johansen's, the subdistribution Fine and Gray's; "
        f"absolute risks have a horizon of {study.horizon_years:g} years, shortened to where at "
        f"least 50 people and 10 % are at risk. Random draws have the seed {study.seed}."
    )


def _cmr(study: Study) -> tuple[str, ...]:
    if study.cmr is None:
        return ()
    apart = study.cmr.max_days_ecg_cmr
    within = "CMR has no dates" if apart is None else f"at most {apart} days apart"
    return (
        f"Each person has one pair of ECG and CMR ({within}), the nearest. Difference is predicted "
        "less CMR; calibration is the regression of CMR on predicted. Overlap with the people whom "
        f"the model was trained on: {study.training.overlap}.",
    )


def _masking(study: Study) -> str:
    rule = study.masking
    if rule.k < 2 and rule.base < 2:
        return "Masking is off: counts are exact. Such a report must not leave where the data are."
    return (
        f"Counts of 1 to {rule.k - 1} are hidden ({HIDDEN}), with others where they could be found "
        f"from sums; counts are rounded to {rule.base}, person-years to 10. Rates and percentages "
        "are of the rounded counts. Estimates with fewer events in an arm are hidden."
    )


def _analysed(data: StudyData, masked: Mapping[str, Masked]) -> tuple[str, ...]:
    """How many people, events and person-years each outcome has, as the rates table shows them."""
    rates = masked.get("rates")
    if rates is None:
        return ()
    whole = (rates.rows["classification"] == EVERYBODY) & (rates.rows["group"] == EVERYBODY)
    shown = [rates.shown(name)[whole] for name in ("n_people", "n_events", "person_years")]
    told = [
        f"{people} people for {data.about.outcomes[outcome]} ({events} events in {years} "
        "person-years)"
        for outcome, people, events, years in zip(rates.rows.loc[whole, "outcome"], *shown,
                                                  strict=True)
    ]  # fmt: skip
    return (f"Analysed were {', '.join(told)}.",)


def banners(data: StudyData) -> tuple[str, ...]:
    """Return what a reader must see first."""
    told = []
    if data.about.is_demo:
        told.append(
            f"Synthetic data or demonstration model ({data.about.model_id}): these numbers mean "
            "nothing for patients."
        )
    if data.study.training.overlap == "unknown":
        told.append(
            "Training overlap unknown: the published models were trained in UK Biobank; people of "
            "the training set may be among those analysed. Give training.exclude_ids or "
            "training.exclude_imaged_before."
        )
    if data.study.masking.k < 2:
        told.append("Masking is off: this report must not leave where the data are.")
    return tuple(told)


def warnings(data: StudyData) -> tuple[str, ...]:
    """Return warnings that come from settings; those of sections come with them."""
    told = [f"The {data.about.exposure_name} is not calibrated to CMR of this cohort."]
    if data.study.recalibrated:
        told = []
    if data.study.model_strata:
        told.append(
            "Predictions of several models are allowed: SD and main hazard ratios are per model, "
            "everything else is of all of them together."
        )
    if data.study.masking.k > 1:
        told.append("Small counts are hidden and all counts rounded.")
    return tuple(told)
