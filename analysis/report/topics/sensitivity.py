"""Sensitivity analyses: each a row of one table beside the main estimate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure.aggregates import Aggregate, label, result, results
from analysis.disclosure.counts import Count
from analysis.disclosure.masking import Masked
from analysis.disclosure.meanings import Analysed, analysed
from analysis.report.document import ReadTable, Section, Topic
from analysis.report.topics.cmr_pairs import before, imaged_of, on_or_after
from analysis.report.topics.exposure_sds import ecg_only_sd
from analysis.report.topics.hazard_ratios import HAZARD_RATIO
from analysis.report.words import MODEL_WORDS, estimate_texts, row_counts, row_labels, side_by_side, sorted_as_met
from analysis.study.data import ECG_ONLY, SEXES, About, StudyData, sd_key
from analysis.study.outcomes import Contrast, contrasts_of, estimates, models_of, read_columns
from lvm_core.medicine.body import Bsa, body_surface_area_m2
from lvm_core.medicine.lvh import LvhPreset, lvh_arrays, parse_sex, sex_codes
from lvm_core.units import DAYS_PER_YEAR

MAIN: Final = "main analysis"
NOT_IMAGED: Final = "never imaged, or at an unknown date"
_LATENCIES_DAYS: Final = (0, 30, 365)
_OTHER_VALUES: Final = {
    "lvmi_pred_g_m2": "lvmi_recal_g_m2",
    "lvm_pred_g": "lvm_recal_g",
    "lvmi_recal_g_m2": "lvmi_pred_g_m2",
    "lvm_recal_g": "lvm_pred_g",
}

# Of StudyData.analysed: what variants read, where it is there.
_READ: Final = (
    "exposure",
    "exposure_in_sd_of_sex",
    "lvh",
    "mass_g",
    "index_g_m2",
    "index_date",
    ECG_ONLY,
    *_OTHER_VALUES,
)


@dataclass(frozen=True, slots=True)
class Variant:
    """A change of the main analysis.

    Attributes:
        words: what is changed.
        change: from the rows of an outcome to those of the variant; `exposure` and `lvh` are the
            columns that are analysed.
        is_lvh: whether LVH is compared, and not steps of the exposure.
        sd: what one SD is, by `sd_key`, where it is not that of the main analysis.
        exposure: name in the results where it is another one.
        unit: of the exposure where it is another one.
        from_index: whether it changes rows whose clock starts at the index ECG.
        people: of those of the main analysis; None: those of whom what is changed is known.
    """

    words: str
    change: Callable[[pd.DataFrame], pd.DataFrame]
    is_lvh: bool = False
    sd: Mapping[str, float] | None = None
    exposure: str | None = None
    unit: str | None = None
    from_index: bool = False
    people: Callable[[Count], Count] | None = None


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return the main estimates and each variant for every outcome, model 2."""
    rows = []
    for outcome in (one.name for one in data.study.outcomes):
        for part in data.by_prediction_model():
            rows += [
                result("sensitivity", HAZARD_RATIO, **row, **part.keys(outcome))
                for variant in variants(part)
                for row in _rows(part, outcome, variant)
            ]
    return [replace(results("sensitivity", rows), together=None)]


def _counted(data: StudyData, outcome: str, variant: Variant) -> Analysed | None:
    """The people of a variant; those of an earlier clock are not part of the main analysis."""
    if variant.words == MAIN:
        return analysed(outcome, data.model_id, lvh=variant.is_lvh)
    if variant.from_index:
        return None
    main = analysed(outcome, data.model_id)
    who = variant.people(main.who) if variant.people else main.who.complete(variant.words)
    return replace(main, who=who, has_own_clock=True)


def _rows(data: StudyData, outcome: str, variant: Variant) -> list[dict[str, Any]]:
    """Per SD and per 10 of the exposure, or LVH, on the complete rows of all models."""
    study, sd = data.study, variant.sd or data.sd
    table = data.analysed(outcome, from_index=variant.from_index)
    changed = variant.change(read_columns(table, study, _READ))
    if study.sd == "by_sex":
        own = changed["sex"].map({sex: sd.get(sd_key(sex=sex), np.nan) for sex in SEXES})
        changed = changed.assign(exposure_in_sd_of_sex=changed["exposure"] / own)
    found = estimates(changed, study, _contrasts(data, variant, sd), [models_of(study)[1]])
    known = {"strata": "variant", "level": variant.words, "counted": _counted(data, outcome, variant)}
    return [row | known for row in found]


def _contrasts(data: StudyData, variant: Variant, sd: Mapping[str, float]) -> Sequence[Contrast]:
    *steps, lvh = contrasts_of(data.study, sd, variant.unit or data.about.exposure_unit)
    if variant.is_lvh:
        return (lvh,)
    return [replace(one, exposure=variant.exposure or one.exposure) for one in steps]


def variants(data: StudyData) -> list[Variant]:
    """Return the variants that the study's data allow; the main analysis first.

    Args:
        data: of one model of the predictions.
    """
    made = [
        Variant(MAIN, _as_it_is),
        Variant(MAIN, _as_it_is, is_lvh=True),
        *_latencies(data),
        *_body_size(data),
        *_presets(data),
    ]
    other = _OTHER_VALUES.get(data.study.exposure)
    if other is not None and other in data.ecgs and data.ecgs[other].notna().any():
        words = "raw prediction" if data.study.recalibrated else "recalibrated prediction"
        made.append(Variant(words, _replaced(other), exposure=other))
    date = data.study.training.exclude_imaged_before
    if date is not None:
        made += _imaged(
            data,
            {before(date): f"imaged before {date}", on_or_after(date): f"imaged on or after {date}", "": NOT_IMAGED},
        )
    if ECG_ONLY in data.ecgs:
        made.append(
            Variant(
                "LV mass of the ECG-only model, per SD of it",
                _replaced(ECG_ONLY),
                sd=ecg_only_sd(data),
                exposure=ECG_ONLY,
                unit="g",
            )
        )
    return made


def _imaged(data: StudyData, words: Mapping[str, str]) -> list[Variant]:
    """People by their first CMR; those before the date may be of the training set."""

    def of(group: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
        return lambda t: t[imaged_of(data, t["participant_id"]).fillna("") == group]

    return [
        Variant(text, of(group), people=partial(Count.part, name="imaged", value=text)) for group, text in words.items()
    ]


def _as_it_is(table: pd.DataFrame) -> pd.DataFrame:
    return table


def _replaced(column: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table.assign(exposure=table[column].astype(float))


def _latencies(data: StudyData) -> list[Variant]:
    """Landmarks of 0, 30 and 365 days but the study's own.

    Later ones follow from the rows as they are; earlier ones need who ended before the study's.
    """
    base, made = data.study.latency_days, []
    for days in _LATENCIES_DAYS:
        words = f"clock starts {days} days after the ECG" if days else "clock starts at the ECG"
        if days > base:
            people = partial(Count.after, years=(days - base) / DAYS_PER_YEAR)
            made.append(Variant(words, _after(days - base), people=people))
        elif days < base and data.follow_up_from_index is not None:
            made.append(Variant(words, _after(days), from_index=True))
    return made


def _after(days: int) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Leave out who has an event, dies or ends within so many days; the clock starts then.

    `exit_age_days` and `entry_age_days` of the scale of attained age: only the entry moves.
    """

    def change(table: pd.DataFrame) -> pd.DataFrame:
        own = table[table["time_days"] > days]
        own = own.assign(time_days=own["time_days"] - days)
        if "entry_age_days" in own:
            own = own.assign(entry_age_days=own["entry_age_days"] + days)
        return own

    return change


def _body_size(data: StudyData) -> list[Variant]:
    """The index with the other formula of body surface area."""
    if data.study.exposure != data.study.index_column:
        return []
    other = Bsa.MOSTELLER if data.study.bsa_formula is Bsa.DUBOIS else Bsa.DUBOIS

    def change(table: pd.DataFrame) -> pd.DataFrame:
        area = body_surface_area_m2(table["height_cm"].to_numpy(float), table["weight_kg"].to_numpy(float), other)
        return table.assign(exposure=table["mass_g"].to_numpy(float) / area)

    return [Variant(f"body surface area by {other.value}", change)]


def _presets(data: StudyData) -> list[Variant]:
    """LVH by the other limits."""
    others = [preset for preset in LvhPreset if preset is not data.study.lvh_preset]

    def by(preset: LvhPreset) -> Callable[[pd.DataFrame], pd.DataFrame]:
        def change(table: pd.DataFrame) -> pd.DataFrame:
            codes, texts = pd.factorize(table["sex"])
            known = sex_codes([*map(parse_sex, texts), None])  # the last is for -1, unknown
            found = lvh_arrays(table["index_g_m2"].to_numpy(float), known[codes], preset)
            return table.assign(lvh=np.where(found.known, found.value.astype(float), np.nan))

        return change

    return [Variant(f"LVH by {preset.value}", by(preset), is_lvh=True) for preset in others]


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return one table: a row an outcome, contrast and variant."""
    found = masked.get("results_sensitivity")
    if found is None or not len(found.rows):
        return None
    labels, rows = row_labels(found, about), found.rows
    cells = pd.DataFrame(
        labels
        | {"Contrast": rows["contrast"], "Analysis": rows["level"]}
        | row_counts(found, about)
        | {"Hazard ratio (95 % interval)": estimate_texts(found)}
    )
    by = [*labels, "Contrast"]
    notes = (
        "Hazard ratios adjusted for age and sex, one change of the main analysis at a time; the SD "
        "is that of the main analysis unless said otherwise.",
    )
    table = ReadTable("sensitivity", "Sensitivity analyses", sorted_as_met(cells, by), len(by) + 1, notes)
    return Section("sensitivity", "Sensitivity analyses", items=(table,))


def _negative_control_aggregates(data: StudyData) -> list[Aggregate]:
    """Return the hazard ratios of the negative control, or nothing where the study has none."""
    control = data.study.negative_control
    if control is None:
        return []
    rows = []
    for part in data.by_prediction_model():
        contrasts = contrasts_of(part.study, part.sd, part.about.exposure_unit)
        found = estimates(part.analysed(control.name), part.study, contrasts, models_of(part.study))
        known = part.keys(control.name)
        for row in found:
            who = analysed(control.name, part.model_id, lvh=row["exposure"] == part.study.lvh_column)
            rows.append(result("negative_control", HAZARD_RATIO, **row, **known, counted=who))
    name = pd.DataFrame({"outcome": [control.name], "words": [control.words]})
    columns = (label("outcome", "of the code list"), label("words", "the outcome in words"))
    return [results("negative_control", rows), Aggregate("negative_control", name, columns)]


def _present_negative_control(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the table, or None without a negative control."""
    found, name = masked.get("results_negative_control"), masked.get("negative_control")
    if found is None or name is None:
        return None
    words = str(name.rows["words"].iloc[0])
    labels = [label for label in row_labels(found, about) if label != "Outcome"]
    counts = row_counts(found, about)
    rows = found.rows.assign(
        **row_labels(found, about),
        **counts,
        Contrast=found.rows["contrast"],
        text=estimate_texts(found),
        model_name=found.rows["model"].map(MODEL_WORDS),
    )
    cells = side_by_side(rows, by=[*labels, "Contrast", *counts], over="model_name", values=["text"])
    table = ReadTable("negative_control", f"Hazard ratios of {words} (negative control)", cells, len(labels) + 1)
    paragraph = (
        f"LV mass should have nothing to do with {words}. A hazard ratio away from 1 points to "
        "confounding or to a bias of selection or recording that the other outcomes share."
    )
    return Section("negative_control", "Negative control", (paragraph,), (table,))


TOPIC: Final = Topic("sensitivity", aggregates, present)
NEGATIVE_CONTROL: Final = Topic("negative control", _negative_control_aggregates, _present_negative_control)
