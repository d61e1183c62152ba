"""Sensitivity analyses: each a row of one table beside the main estimate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure.aggregates import Aggregate, label, results
from analysis.disclosure.counts import Count
from analysis.disclosure.masking import Masked
from analysis.disclosure.meanings import ALL_ROWS, Analysed, analysed
from analysis.report.document import ReadFigure, ReadTable, Section, Topic
from analysis.report.figures.specifications import specification_plot
from analysis.report.topics.cmr_pairs import before, imaged_of, on_or_after
from analysis.report.topics.hazard_ratios import ecg_only_sd
from analysis.report.topics.tables import (
    INTERVAL,
    OUTCOME,
    cells_by_model,
    contrasts_of_study,
    figures_by_outcome,
    needs_of,
    outcomes_and_parts,
    result_table,
    results_about,
    results_of,
)
from analysis.report.words import estimate_texts, of_model, row_counts, row_labels
from analysis.statistics.survival.splines import restricted_cubic_spline
from analysis.study.data import ECG_ONLY, SEXES, About, StudyData, sd_key
from analysis.study.outcomes import SEX, Contrast, Model, contrasts_of, estimates, models_of, read_columns
from lvm_core.medicine.body import Bsa, body_surface_area_m2
from lvm_core.medicine.lvh import LvhPreset, lvh_arrays, parse_sex, sex_codes
from lvm_core.units import DAYS_PER_YEAR

MAIN: Final = "main analysis"
AGE_SPLINE: Final = "age as a spline of four knots"
ATTAINED_AGE: Final = "attained age as the time scale"
SINCE_ECG: Final = "time since the index ECG as the time scale, age as a covariate"
_FEWEST_EXACT: Final = 0.5
EVERY_ROW: Final = "all rows with age and sex, whether the covariates of model 4 are known or not"
NOT_IMAGED: Final = "never imaged, or at an unknown date"
_LATENCIES_DAYS: Final = (0, 30, 365)
_OTHER_VALUES: Final = {
    "lvmi_pred_g_m2": "lvmi_recal_g_m2",
    "lvm_pred_g": "lvm_recal_g",
    "lvmi_recal_g_m2": "lvmi_pred_g_m2",
    "lvm_recal_g": "lvm_pred_g",
}

# Columns of StudyData.analysed that variants read, where they are there.
_COLUMNS: Final = (
    "age_years",
    "entry_age_days",
    "exit_age_days",
    "exposure",
    "exposure_in_sd_of_sex",
    "lvh",
    "mass_g",
    "index_g_m2",
    "index_date",
    ECG_ONLY,
)
_READ: Final = (*_COLUMNS, *_OTHER_VALUES)


@dataclass(frozen=True, slots=True)
class Variant:
    """A change of the main analysis."""

    words: str  # what is changed
    # From the rows of an outcome to those of the variant; `exposure` and `lvh` are the columns
    # that are analysed.
    change: Callable[[pd.DataFrame], pd.DataFrame]
    is_lvh: bool = False  # whether LVH is compared, and not steps of the exposure
    sd: Mapping[str, float] | None = None  # what one SD is, by `sd_key`, where it is not the main one
    exposure: str | None = None  # name in the results where it is another one
    unit: str | None = None  # of the exposure where it is another one
    # The model in place of model 2, from the rows of the variant.
    model: Callable[[pd.DataFrame], Model] | None = None
    time_scale: str | None = None  # of the Cox model, where it is another one
    every_row: bool = False  # whether all rows are taken that model 2 can take, not the same as of model 4
    from_index: bool = False  # whether it changes rows whose clock starts at the index ECG
    # That remain of the main analysis; None: those for whom what is changed is known.
    people: Callable[[Count], Count] | None = None


def _aggregates(data: StudyData) -> list[Aggregate]:
    """Return the main estimates and each variant for every outcome, model 2."""
    rows = []
    for outcome, part in outcomes_and_parts(data):
        for variant in variants(part):
            rows += results_about(outcome, "sensitivity", part, _rows(part, outcome, variant))
    return [replace(results("sensitivity", rows), together=None)]


def _counted(data: StudyData, outcome: str, variant: Variant) -> Analysed | None:
    """The people of a variant; those of an earlier clock are not part of the main analysis."""
    if variant.words == MAIN:
        return analysed(outcome, data.model_id, needs_of(data.study), lvh=variant.is_lvh)
    if variant.every_row:
        return analysed(outcome, data.model_id, ALL_ROWS.format(2), lvh=variant.is_lvh)
    if variant.from_index:
        return None
    of_lvh = variant.is_lvh and variant.words in (AGE_SPLINE, ATTAINED_AGE, SINCE_ECG)
    main = analysed(outcome, data.model_id, needs_of(data.study), lvh=of_lvh)
    who = variant.people(main.who) if variant.people else main.who.complete(variant.words)
    return replace(main, who=who, has_own_clock=True)


def _rows(data: StudyData, outcome: str, variant: Variant) -> list[dict[str, Any]]:
    """Per SD and per 10 of the exposure, or LVH, on the complete rows of all models."""
    study, sd = data.study, variant.sd or data.sd
    if variant.every_row:
        study = study.model_copy(update={"rows": "all"})
    if variant.time_scale is not None:
        study = study.model_copy(update={"time_scale": variant.time_scale})
    table = data.analysed(outcome, from_index=variant.from_index)
    changed = variant.change(read_columns(table, study, _READ))
    if study.sd == "by_sex":
        own = changed["sex"].map({sex: sd.get(sd_key(sex=sex), np.nan) for sex in SEXES})
        changed = changed.assign(exposure_in_sd_of_sex=changed["exposure"] / own)
    model = models_of(study)[1] if variant.model is None else variant.model(changed)
    found = estimates(changed, study, _contrasts(data, variant, sd), [model])
    known = {"strata": "variant", "level": variant.words, "counted": _counted(data, outcome, variant)}
    return [row | known for row in found]


def _contrasts(data: StudyData, variant: Variant, sd: Mapping[str, float]) -> Sequence[Contrast]:
    *steps, lvh = contrasts_of(data.study, sd, variant.unit or data.about.exposure_unit)
    if variant.is_lvh:
        return (lvh,)
    return [replace(one, exposure=variant.exposure or one.exposure) for one in steps]


def variants(data: StudyData) -> list[Variant]:
    """Return the variants that data of one model of the predictions allow; the main first."""
    study = data.study
    made = [Variant(MAIN, lambda table: table), Variant(MAIN, lambda table: table, is_lvh=True), *_latencies(data)]
    if study.covariates and study.rows == "same":
        made += [Variant(EVERY_ROW, lambda table: table, is_lvh=one, every_row=True) for one in (False, True)]
    made += _ages(data)
    if study.exposure == study.index_column:
        formula = Bsa.MOSTELLER if study.bsa_formula is Bsa.DUBOIS else Bsa.DUBOIS
        made.append(Variant(f"body surface area by {formula.value}", partial(_with_area, formula=formula)))
    for preset in LvhPreset:
        if preset is not study.lvh_preset:
            made.append(Variant(f"LVH by {preset.value}", partial(_with_limits, preset=preset), is_lvh=True))
    other = _OTHER_VALUES.get(study.exposure)
    if other is not None and other in data.ecgs and data.ecgs[other].notna().any():
        words = "raw prediction" if study.recalibrated else "recalibrated prediction"
        made.append(Variant(words, partial(_replaced, column=other), exposure=other))
    date = study.training.exclude_imaged_before
    if date is not None:
        groups = {group: f"imaged {group}" for group in (before(date), on_or_after(date))} | {"": NOT_IMAGED}
        for group, words in groups.items():
            people = partial(Count.part, name="imaged", value=words)
            made.append(Variant(words, partial(_imaged, data=data, group=group), people=people))
    if ECG_ONLY in data.ecgs:
        words, change = "LV mass of the ECG-only model, per SD of it", partial(_replaced, column=ECG_ONLY)
        made.append(Variant(words, change, sd=ecg_only_sd(data), exposure=ECG_ONLY, unit="g"))
    return made


def _latencies(data: StudyData) -> list[Variant]:
    """Landmarks of 0, 30 and 365 days but the study's own.

    Later ones follow from the rows; earlier ones need people who end before the study's landmark.
    """
    base, made = data.study.latency_days, []
    for days in _LATENCIES_DAYS:
        words = f"clock starts {days} days after the ECG" if days else "clock starts at the ECG"
        if days > base:
            people = partial(Count.after, years=(days - base) / DAYS_PER_YEAR)
            made.append(Variant(words, partial(_after, days=days - base), people=people))
        elif days < base and data.follow_up_from_index is not None:
            made.append(Variant(words, partial(_after, days=days), from_index=True))
    return made


def _ages(data: StudyData) -> list[Variant]:
    """Age as a spline, and on the other time scale: a line in age may not hold its effect.

    Attained age needs ages that are not whole years.
    """
    study, made = data.study, []

    def pair(words: str, **options: Any) -> list[Variant]:
        change = options.pop("change", lambda table: table)
        return [Variant(words, change, is_lvh=one, **options) for one in (False, True)]

    if study.time_scale == "attained_age":
        return pair(SINCE_ECG, time_scale="follow_up")
    made += pair(AGE_SPLINE, model=_with_spline_of_age)
    exact = pd.to_numeric(data.ecgs["age_years"]).dropna() % 1 != 0
    if study.index.rule != "all" and ("entry_age_days" in data.follow_up or exact.mean() > _FEWEST_EXACT):
        made += pair(ATTAINED_AGE, time_scale="attained_age", change=_with_ages)
    return made


def _with_spline_of_age(table: pd.DataFrame) -> Model:
    spline = restricted_cubic_spline(table.dropna(subset=["age_years"]), column="age_years")
    return Model(2, "age (spline of four knots), sex", (spline, SEX))


# Changes of the rows of an outcome.


def _with_ages(table: pd.DataFrame) -> pd.DataFrame:
    """Add the ages at entry and exit, in days, where births were not read."""
    if "entry_age_days" in table and table["entry_age_days"].notna().any():
        return table
    entry = (table["age_years"] * DAYS_PER_YEAR).round()
    return table.assign(entry_age_days=entry, exit_age_days=entry + table["time_days"])


def _replaced(table: pd.DataFrame, *, column: str) -> pd.DataFrame:
    return table.assign(exposure=table[column].astype(float))


def _imaged(table: pd.DataFrame, *, data: StudyData, group: str) -> pd.DataFrame:
    """People by their first CMR; those before the date may be of the training set."""
    return table[imaged_of(data, table["participant_id"]).fillna("") == group]


def _after(table: pd.DataFrame, *, days: int) -> pd.DataFrame:
    """Leave out people who have an event, die or end within so many days; the clock starts then.

    `exit_age_days` and `entry_age_days` of the scale of attained age: only the entry moves.
    """
    own = table[table["time_days"] > days]
    own = own.assign(time_days=own["time_days"] - days)
    return own.assign(entry_age_days=own["entry_age_days"] + days) if "entry_age_days" in own else own


def _with_area(table: pd.DataFrame, *, formula: Bsa) -> pd.DataFrame:
    """The index with another formula of body surface area."""
    area = body_surface_area_m2(table["height_cm"].to_numpy(float), table["weight_kg"].to_numpy(float), formula)
    return table.assign(exposure=table["mass_g"].to_numpy(float) / area)


def _with_limits(table: pd.DataFrame, *, preset: LvhPreset) -> pd.DataFrame:
    """LVH by other limits."""
    codes, texts = pd.factorize(table["sex"])
    known = sex_codes([*map(parse_sex, texts), None])  # the last is for -1, unknown
    found = lvh_arrays(table["index_g_m2"].to_numpy(float), known[codes], preset)
    return table.assign(lvh=np.where(found.known, found.value.astype(float), np.nan))


def _present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return one table: a row per outcome, contrast and variant."""
    found = results_of(masked, "sensitivity")
    if found is None:
        return None
    table = result_table(
        found,
        about,
        "sensitivity",
        "Sensitivity analyses",
        {"Contrast": found.rows["contrast"], "Analysis": found.rows["level"]},
        row_counts(found, about) | {INTERVAL: estimate_texts(found)},
        (
            "Hazard ratios adjusted for age and sex, one change of the main analysis at a time; the SD "
            "is that of the main analysis unless said otherwise.",
        ),
        sort_by=["Contrast"],
    )
    figures = figures_by_outcome(found, about, _specifications)
    return Section("sensitivity", "Sensitivity analyses", items=(table, *figures))


def _specifications(rows: pd.DataFrame, outcome: str, model: str, key: str) -> ReadFigure | None:
    """Ratios per SD of the main analysis and its variants, in order of size."""
    own = rows[rows["contrast"].str.startswith("per SD")]
    own = own.assign(specification=own["level"])[["specification", "estimate", "lo", "hi"]]
    if own["estimate"].notna().sum() < 2:
        return None
    drawn = specification_plot(own.reset_index(drop=True), main=MAIN, measure_name="Hazard ratio per SD")
    title = f"Hazard ratio per SD for {outcome}{of_model(model)} in the main analysis and with one change of it"
    return ReadFigure(f"specifications{key}", title, drawn.alt, drawn.canvas)


# The negative control.


def _negative_control_aggregates(data: StudyData) -> list[Aggregate]:
    """Return the hazard ratios of the negative control, or nothing where the study has none."""
    control = data.study.negative_control
    if control is None:
        return []
    rows = []
    for part in data.by_prediction_model():
        found = estimates(part.analysed(control.name), part.study, contrasts_of_study(part), models_of(part.study))
        rows += results_about(control.name, "negative_control", part, found)
    name = pd.DataFrame({"outcome": [control.name], "words": [control.words]})
    columns = (OUTCOME, label("words", "the outcome in words"))
    return [results("negative_control", rows), Aggregate("negative_control", name, columns)]


def _present_negative_control(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the table, or None without a negative control."""
    found, name = masked.get("results_negative_control"), masked.get("negative_control")
    if found is None or name is None:
        return None
    words = str(name.rows["words"].iloc[0])
    labels = [one for one in row_labels(found, about) if one != "Outcome"]
    cells = cells_by_model(found, about, labels=labels)
    table = ReadTable("negative_control", f"Hazard ratios of {words} (negative control)", cells, len(labels) + 1)
    paragraph = (
        f"LV mass should have nothing to do with {words}. A hazard ratio away from 1 points to "
        "confounding or to a bias of selection or recording that the other outcomes share."
    )
    return Section("negative_control", "Negative control", (paragraph,), (table,))


TOPIC: Final = Topic("sensitivity", _aggregates, _present)
NEGATIVE_CONTROL: Final = Topic("negative control", _negative_control_aggregates, _present_negative_control)
