"""The Methods paragraphs and the warnings of a report, with the study's own numbers and choices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pandas as pd

from analysis.disclosure.counts import EVERYBODY
from analysis.disclosure.masking import HIDDEN, Masked
from analysis.report.topics.measurement_error import FEWEST_DRAWS
from analysis.report.words import of_model
from analysis.study.data import RELEASE, StudyData, sd_key
from analysis.study.outcomes import models_of
from analysis.study.settings import Outcome, Study
from lvm_core.medicine.body import Bsa
from lvm_core.medicine.lvh import LvhPreset, Sex, lvh_limit_g_m2

_RULES: Final = {
    "first": "the first usable ECG",
    "last_on_or_before": "the last usable ECG on or before",
    "nearest_on_or_before": "the usable ECG nearest to, and not after,",
    "all": "every usable ECG, each with a follow-up of its own",
}
_FINDINGS: Final = {
    "paced": "is paced",
    "lbbb": "has left bundle branch block",
    "rbbb": "has right bundle branch block",
    "other_block": "has another block",
    "qrs_120": "has a QRS of 120 ms or more",
}
_ROWS: Final = {
    "same": "All models used the same rows, complete for the largest.",
    "all": "Each model used all rows that are complete for its own covariates.",
}
_SHAPES: Final = {"ukb-rap": "UK Biobank's platform", "ehr": "a hospital's records", "omop": "OMOP's common data model"}
_EVENTS: Final = {
    "records": "one row per record",
    "ukb_wide": "UK Biobank's wide fields",
    "ml4h": "ml4h's disease tables, of which only the dates are read",
}
_KNOWN: Final = (
    "Statistics are computed by LVM-AI's own functions, each compared with R (survival, "
    "cmprsk, riskRegression, pROC and others) in its tests. The code lists, hazard ratios and "
    "errors in grams of Khurshid et al. 2021 are not known here, and which of the three "
    "published files gave its figures is not stated."
)
_BSA: Final = {Bsa.DUBOIS: "Du Bois and Du Bois", Bsa.MOSTELLER: "Mosteller"}


def methods(data: StudyData, masked: Mapping[str, Masked]) -> tuple[str, ...]:
    """Return what was done, a paragraph each, with masked numbers; last what only software says."""
    study = data.study
    return (*author_methods(data, masked), _files(data), _training(study), _masking(study), _KNOWN)


def author_methods(data: StudyData, masked: Mapping[str, Masked]) -> tuple[str, ...]:
    """Return the paragraphs that authors can take over into a manuscript."""
    study = data.study
    return (
        _index(study) + _calendar(data, masked),
        _exposure(data),
        _outcomes(study),
        _follow_up(data),
        *_analysed(data, masked),
        _models(data),
        _risks(data, masked),
        *_cmr(study),
    )


def _exposure(data: StudyData) -> str:
    study, about = data.study, data.about
    preset = LvhPreset(study.lvh_preset)
    limits = [f"{lvh_limit_g_m2(sex, preset):g} g/m2 ({sex.value})" for sex in Sex]
    strata = " Predictions of several models were analysed apart." if study.model_strata else ""
    flags = "No ECG was left out for its quality flags."
    if study.exclude_flags:
        flags = f"ECGs flagged {', '.join(study.exclude_flags)} were not used."
    alone = (
        " Predictions of the model that sees the ECG alone stand beside it."
        if study.inputs.predictions_ecg_only is not None
        else ""
    )
    return (
        f"The exposure was {about.exposure_name} ({about.exposure_unit}), predicted from the 12-lead ECG by model "
        f"{about.model_id}. Body surface area was computed by the formula of "
        f"{_BSA[study.bsa_formula]}. Predicted left ventricular hypertrophy (LVH) was an index "
        f"above {' and '.join(limits)} ({preset.value}). {flags}{strata}{alone}"
    )


def _files(data: StudyData) -> str:
    study = data.study
    convention = data.provenance.get("input_convention", "not recorded with the predictions")
    lists = {
        "who withdrew": study.inputs.withdrawn,
        "to leave out": study.inputs.excluded,
        "of the training set": study.training.exclude_ids,
    }
    given = [words for words, path in lists.items() if path is not None]
    lists_given = f"Lists of people {' and '.join(given)} were"
    if not given:
        lists_given = "No list of people who withdrew or are to be left out was"
    formats = "; ".join(f"{table} {text}" for table, text in study.date_formats.items())
    return (
        f"{lists_given} given.{_extract(study)} The exposure is the column {study.exposure}; input convention: "
        f"{convention}. Events are read as {_EVENTS[study.events_format]}, dates as "
        f"{f'YYYY-MM-DD but for {formats}' if formats else 'YYYY-MM-DD'}. Random draws have the seed {study.seed}."
    )


def _extract(study: Study) -> str:
    shape = "" if study.shape is None else f" Tables were taken from an extract of {_SHAPES[study.shape]}."
    zone = "" if study.time_zone is None else f" Times with a zone were taken as of the day in {study.time_zone}."
    return shape + zone


def _calendar(data: StudyData, masked: Mapping[str, Masked]) -> str:
    """The years of index ECGs, of the masked table, and the last days of records."""
    text, years = "", masked.get("index_years")
    if years is not None and len(years.rows):
        known = sorted(map(int, years.rows["year"]))
        span = f"from {known[0]} to {known[-1]}" if known[0] != known[-1] else f"in {known[0]}"
        text = f" Index ECGs were recorded {span}."
    return text + _last_days(data)


def _last_days(data: StudyData) -> str:
    """The administrative ends that follow-up met: days of records, and not of people."""
    rows = data.follow_up
    if data.study.hospital is not None or "region" not in data.ecgs:  # with encounters, ends are people's own
        return ""
    is_main = (rows["outcome"] == data.study.primary_outcome) & rows["excluded"].isna()
    ends = rows[is_main & (rows["end_reason"] == "administrative_end")]
    regions = ends["ecg_id"].map(data.ecgs.set_index("ecg_id")["region"])
    days = ends.groupby(regions, observed=True)["exit_date"].max()
    if not len(days):
        return ""
    texts = [f"{pd.Timestamp(day).day} {pd.Timestamp(day):%B %Y} ({region})" for region, day in days.items()]
    return f" Follow-up was complete to {', '.join(texts)}."


def _index(study: Study) -> str:
    rule = _RULES[study.index.rule]
    bound = ""
    if study.index.date is not None:
        is_latest = study.index.rule.endswith("before")
        bound = f" {study.index.date}" if is_latest else f", on or after {study.index.date}"
    within = f", at most {study.index.max_days} days before" if study.index.max_days is not None else ""
    begin = "with the days of inputs.history_starts"
    if study.inputs.history_starts is None:
        begin = "with the first event or encounter"
    history = (
        f" Records had to reach back {study.min_history_days} days; they begin {begin}."
        if study.min_history_days
        else ""
    )
    size = (
        f" Height and weight more than {study.max_days_body_size} days from the ECG left the index unknown."
        if study.max_days_body_size is not None
        else " Height and weight were used whatever their distance from the ECG."
    )
    return (
        f"The index ECG was {rule}{bound}{within}; ties were broken by its identifier.{_findings(study)}{history}{size}"
    )


def _findings(study: Study) -> str:
    if not study.exclude_ecg:
        return ""
    asked = [words for finding, words in _FINDINGS.items() if finding in study.exclude_ecg]
    paired = " The same holds for the ECG that is paired with CMR." if study.cmr is not None else ""
    return (
        f" People whose index ECG {' or '.join(asked)} were left out, and no other ECG of theirs took its place; "
        f"people of whom this is unknown stayed and were counted.{paired}"
    )


def _outcomes(study: Study) -> str:
    primary = next(one.words for one in study.outcomes if one.name == study.primary_outcome)
    control = study.negative_control
    window = "all history" if study.prevalent_window_days is None else f"{study.prevalent_window_days} days"
    return (
        f"Outcomes were {'; '.join(map(_outcome, study.outcomes))}. The primary outcome was "
        f"{primary}.{f' The negative control was {_outcome(control)}.' if control else ''} People "
        f"with the outcome on or before the index date (window: {window}) were left out for it, as "
        "were those with an outcome date that is missing or a placeholder, even where a later date "
        "is known, since the first may have been earlier (our convention)."
    )


def _outcome(one: Outcome) -> str:
    on_ecg = "; AF stated on the index ECG is prevalent" if one.af_on_ecg else ""
    return (
        f"{one.words} (incident: {', '.join(one.incident_sources)}; prevalent also: "
        f"{', '.join(one.prevalent_sources) or 'no others'}{on_ecg})"
    )


def _follow_up(data: StudyData) -> str:
    study, hospital = data.study, data.study.hospital
    seen = (
        f" Follow-up ended {hospital.grace_days} days after the last encounter at the latest; "
        f"{hospital.min_encounters} encounters had to come before the index ECG."
        if hospital
        else ""
    )
    release = data.provenance.get(RELEASE, "not stated")
    return (
        "Follow-up ended at the outcome, death, loss, or the last day of records of the region over "
        f"the sources that the outcome needs (release of the ends: {release}), that day included; "
        f"on one day the outcome came before death. {_clock(study)}{seen} Death was a competing event."
    )


def _clock(study: Study) -> str:
    if not study.latency_days:
        return "Time ran from the index ECG."
    return (
        f"Time ran from a landmark {study.latency_days} days after the index ECG; people whose follow-up ended before "
        "it were left out."
    )


def _models(data: StudyData) -> str:
    study = data.study
    if not study.hazard_ratios:
        return "No Cox models were fitted."
    models = "; ".join(
        f"model {one.number} was {f'adjusted for {one.adjustment}' if one.number > 1 else 'unadjusted'}"
        for one in models_of(study)
    )
    scale = "attained age, with delayed entry" if study.time_scale == "attained_age" else ("time since the index ECG")
    errors = "from the model"
    if study.household is not None:
        errors = f"robust, by household ({study.household})"
    elif study.index.rule == "all":
        errors = "robust, by person"
    cut = "sex and prediction model" if study.model_strata else "sex"
    steps = f"One SD is {_sd_text(data)}. Quartiles were cut within {cut}."
    if study.is_yes_no:
        steps = "The exposure was compared as yes against no."
    return (
        f"Hazard ratios were estimated by cause-specific Cox models on {scale} (Efron's ties, errors {errors}): "
        f"{models}. "
        f"{_ROWS[study.rows]}{_imputed(study)} {_covariates(study)} {steps} {_subgroups(study)}{_score(study)} "
        "Dose-response was modelled by restricted cubic splines with four knots. Proportional hazards were "
        "examined by scaled Schoenfeld residuals and by hazard ratios in periods of follow-up. For the outcomes that "
        "are not primary, q-values are Benjamini and Hochberg's."
    )


def _imputed(study: Study) -> str:
    if study.missing == "complete":
        return ""
    return (
        f" Missing covariates were also imputed {study.imputations} times by chained equations, with the outcome and "
        "the Nelson-Aalen estimate of the cumulative hazard in the imputation models, and pooled by Rubin's rules."
    )


def _score(study: Study) -> str:
    if study.clinical_score is None:
        return ""
    return f" What the ECG adds to {study.clinical_score.words}, and this to age and sex beside it, was examined too."


def _subgroups(study: Study) -> str:
    groups = "sex, age and body mass index"
    test = "Wald tests" if study.household is not None or study.index.rule == "all" else "likelihood-ratio tests"
    return (
        f"Hazard ratios under model 2 are also given by {groups}; interactions were tested by {test} of the "
        "products of the exposure with the levels of the group, levels in the model."
    )


def _covariates(study: Study) -> str:
    """Types, reference levels and mediators of the study's covariates."""
    levels = ["female", *(f"{one.reference} ({one.words})" for one in study.covariates if one.reference is not None)]
    linear = [one.words for one in study.covariates if one.kind == "number"]
    mediators = [one.words for one in study.covariates if one.mediator]
    own = "no" if study.is_yes_no else "quartile 1"
    texts = [f"Reference levels were {', '.join(levels)}, no LVH and {own}."]
    if linear:
        texts.append(f"Linear terms were used for {', '.join(linear)}.")
    if mediators:
        texts.append(f"Likely mediators were {', '.join(mediators)}.")
    return " ".join(texts)


def _sd_text(data: StudyData) -> str:
    """Every SD that hazard ratios use: over all, by sex, by prediction model, or as stated."""
    study, unit = data.study, data.about.exposure_unit
    if isinstance(study.sd, float | int):
        return f"{study.sd:g} {unit} (fixed in the study file)"
    models = sorted(data.ecgs["model_id"].dropna().unique()) if study.model_strata else [""]
    sexes = [sex.value for sex in Sex] if study.sd == "by_sex" else [""]
    found = []
    for parts in ((model, sex) for model in models for sex in sexes):
        key = sd_key(model=parts[0], sex=parts[1])
        whose = ", ".join(filter(None, parts))
        if key in data.sd:
            found.append(f"{data.sd[key]:.3g} {unit}{f' ({whose})' if whose else ''}")
    used = "hazard ratios use that of each sex" if study.sd == "by_sex" else "both sexes"
    return f"{' and '.join(found)} (n - 1, one row per person, before outcomes; {used})"


def _risks(data: StudyData, masked: Mapping[str, Masked]) -> str:
    study = data.study
    incidence = "Cumulative incidence was estimated by the method of Aalen and Johansen"
    if not study.hazard_ratios:
        return f"{incidence}."
    draws = f"with at most {study.bootstrap} draws"
    if study.bootstrap < FEWEST_DRAWS:
        draws += ", too few for the latter" if study.bootstrap else ": neither is given"
    return (
        f"{incidence} and compared by Gray's test; subdistribution hazards are Fine and Gray's. "
        f"Absolute risks had a horizon of {study.horizon_years:g} years, shortened to where at "
        f"least 50 people and 10% are at risk{_horizons(data, masked)}. The limits "
        "of standardised risks and the correction for the error of the prediction were bootstrapped "
        f"{draws}."
    )


def _horizons(data: StudyData, masked: Mapping[str, Masked]) -> str:
    """The horizons that absolute risks have in the end, where they are not the wanted one."""
    found = masked.get("results_absolute_risk")
    if found is None:
        return ""
    used = found.rows[["outcome", "model_id", "unit_value"]].drop_duplicates()
    texts = [
        f"{f'{float(years):.3g} years' if years else 'none'} for {data.about.outcomes[outcome]}{of_model(model)}"
        for outcome, model, years in used.itertuples(index=False)
        if float(years) != data.study.horizon_years
    ]
    return f": {', '.join(texts)}" if texts else ", which was not needed"


def _cmr(study: Study) -> tuple[str, ...]:
    if study.cmr is None:
        return ()
    apart, date = study.cmr.max_days_ecg_cmr, study.training.exclude_imaged_before
    within = "CMR has no dates" if apart is None else f"at most {apart} days apart"
    whom = (
        f" Results are of people whose first CMR is on or after {date}; before and after stand beside them."
        if date is not None
        else ""
    )
    return (
        f"Each person had one pair of ECG and CMR ({within}), the nearest.{whom} Differences are "
        "predicted less CMR; calibration is the regression of CMR on predicted. Binary c-statistics, the mean of "
        "sensitivity and specificity, were compared by DeLong's test.",
    )


def _training(study: Study) -> str:
    where = "in UK Biobank" if study.training.is_uk_biobank else "outside UK Biobank"
    return f"The study is {where}; overlap with the people whom the model was trained on: {study.training.overlap}."


def _masking(study: Study) -> str:
    rule = study.release
    if rule.k < 2:
        return "Counts are exact, and nothing is hidden."
    if rule.rule == "standard":
        others = "others are exact" if rule.base == 1 else f"others are rounded to {rule.base}"
        return (
            f"Counts of 1 to {rule.k - 1} are hidden ({HIDDEN}), and counts from which they would follow by "
            f"subtraction; {others}. Rates, percentages, curves and tests of groups with fewer than {rule.k} events "
            f"are hidden; coefficients of models are shown where every group of the contrast has {rule.k} people and "
            f"an event. Curves end where fewer than {rule.k} people are at risk."
        )
    return (
        f"Counts of 1 to {rule.k - 1} are hidden ({HIDDEN}); others are rounded to {rule.base}, "
        "and more (±) or hidden where a hidden count could be found from them. Rates and "
        "percentages are of the rounded counts. Estimates that rest on a hidden count are hidden."
    )


def _analysed(data: StudyData, masked: Mapping[str, Masked]) -> tuple[str, ...]:
    """How many people, events and person-years each outcome has, as the rates table shows them."""
    rates = masked.get("rates")
    if rates is None:
        return ()
    whole = (rates.rows["classification"] == EVERYBODY) & (rates.rows["group"] == EVERYBODY)
    shown = [rates.shown(name)[whole] for name in ("n_people", "n_events", "person_years")]
    texts = [
        f"{people} people for {data.about.outcomes[outcome]} ({events} events in {years} person-years)"
        for outcome, people, events, years in zip(rates.rows.loc[whole, "outcome"], *shown, strict=True)
    ]
    return (f"We analysed {', '.join(texts)}.",)


def banners(data: StudyData) -> tuple[str, ...]:
    """Return what a reader must see first."""
    texts = []
    if data.about.is_demo:
        texts.append(
            f"Synthetic data or demonstration model ({data.about.model_id}): these numbers mean nothing for patients."
        )
    if data.study.training.overlap == "unknown":
        texts.append(
            "Training overlap unknown: the published models were trained in UK Biobank; people of "
            "the training set may be among those analysed. Give training.exclude_ids or "
            "training.exclude_imaged_before."
        )
    if data.study.release.k < 2 and not data.about.is_restricted:
        texts.append("Nothing is hidden (release: none): every count is exact.")
    return tuple(texts)


def warnings(data: StudyData) -> tuple[str, ...]:
    """Return warnings that come from settings; those of sections come with them."""
    texts = [f"Inputs: {note}." for note in data.notes]
    if not data.study.recalibrated:
        texts.append(f"The {data.about.exposure_name} is not calibrated to CMR of this cohort.")
    if data.study.model_strata:
        texts.append(
            "Predictions of several models are allowed: SD, quartiles and every estimate about "
            "outcomes are by model; counts of people, rates, curves, comparisons with CMR and "
            "repeats are of all of them together."
        )
    if data.study.release.k > 1:
        rounded = " and all counts rounded" if data.study.release.base > 1 else ""
        texts.append(f"Small counts are hidden{rounded}.")
    return tuple(texts)
