"""Sensitivity analyses: each a row of one table beside the main estimate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from analysis.outcome_models import Contrast, complete_rows, contrasts_of, estimate, models_of
from analysis.report.aggregates import Aggregate, result, results
from analysis.report.document import About, ReadTable, Section
from analysis.report.masking import Masked
from analysis.report.study_data import StudyData
from analysis.report.topic_cmr_pairs import before, imaged_of, on_or_after
from analysis.report.topic_hazard_ratios import HAZARD_RATIO
from analysis.report.words import estimate_texts, side_by_side
from lvm_core.body import Bsa, body_surface_area_m2
from lvm_core.lvh import LvhPreset, lvh_arrays, parse_sex, sex_codes

MAIN: Final = "main analysis"
NOT_IMAGED: Final = "never imaged, or at an unknown date"
_LATENCIES_DAYS: Final = (30, 365)
_OTHER_VALUES: Final = {
    "lvmi_pred_g_m2": "lvmi_recal_g_m2", "lvm_pred_g": "lvm_recal_g",
    "lvmi_recal_g_m2": "lvmi_pred_g_m2", "lvm_recal_g": "lvm_pred_g",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Variant:
    """A change of the main analysis.

    Attributes:
        words: what is changed.
        change: from the rows of an outcome to those of the variant; `exposure` and `lvh` are the
            columns that are analysed.
        contrast: "per SD" or "LVH".
        size: of one step where it is not that of the main analysis.
        exposure: name in the results where it is another one.
    """

    words: str
    change: Callable[[pd.DataFrame], pd.DataFrame]
    contrast: str = "per SD"
    size: float | None = None
    exposure: str | None = None


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return the main estimate and each variant for every outcome, model 2."""
    model = models_of(data.study)[1]
    main = contrasts_of(data.study, data.sd, data.about.exposure_unit)
    by_name = {"per SD": main[0], "LVH": main[2]}
    rows = []
    for outcome in (one.name for one in data.study.outcomes):
        table = data.analysed(outcome)
        for variant in variants(data):
            contrast = _of(by_name[variant.contrast], variant)
            changed = variant.change(table)
            complete = complete_rows(changed, [contrast.column], [model])
            rows.append(
                result(
                    "sensitivity", HAZARD_RATIO, **estimate(complete, data.study, contrast, model),
                    outcome=outcome, primary=outcome == data.study.primary_outcome,
                    strata="variant", level=variant.words,
                    n_dropped_missing=len(changed) - len(complete),
                )
            )  # fmt: skip
    return [replace(results("sensitivity", rows), sums=(), together=None)]


def _of(contrast: Contrast, variant: Variant) -> Contrast:
    return replace(
        contrast,
        size=variant.size or contrast.size,
        exposure=variant.exposure or contrast.exposure,
    )


def variants(data: StudyData) -> list[Variant]:
    """Return the variants that the study's data allow; the main analysis first."""
    made = [Variant(MAIN, _as_it_is), Variant(MAIN, _as_it_is, "LVH"),
            *_latencies(data.study.latency_days), *_body_size(data), *_presets(data)]  # fmt: skip
    other = _OTHER_VALUES.get(data.study.exposure)
    if other is not None and other in data.ecgs and data.ecgs[other].notna().any():
        words = "raw prediction" if data.study.recalibrated else "recalibrated prediction"
        made.append(Variant(words, _replaced(other), exposure=other))
    date = data.study.training.exclude_imaged_before
    if date is not None:
        made += _imaged(data, {before(date): f"imaged before {date}", on_or_after(date):
                               f"imaged on or after {date}", "": NOT_IMAGED})  # fmt: skip
    if "lvm_ecg_only_g" in data.ecgs:
        first = data.ecgs.drop_duplicates("participant_id")["lvm_ecg_only_g"]
        made.append(Variant("LV mass of the ECG-only model, per SD of it",
                            _replaced("lvm_ecg_only_g"), size=float(first.std(ddof=1)),
                            exposure="lvm_ecg_only_g"))  # fmt: skip
    return made


def _imaged(data: StudyData, words: Mapping[str, str]) -> list[Variant]:
    """People by their first CMR; those before the date may be of the training set."""

    def of(group: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
        return lambda t: t[imaged_of(data, t["participant_id"]).fillna("") == group]

    return [Variant(text, of(group)) for group, text in words.items()]


def _as_it_is(table: pd.DataFrame) -> pd.DataFrame:
    return table


def _replaced(column: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table.assign(exposure=table[column].astype(float))


def _latencies(base_days: int) -> list[Variant]:
    """Landmarks: who has an event, dies or ends within L days is left out, the clock starts at L.

    `exit_age_days` and `entry_age_days` of the scale of attained age: only the entry moves.
    """

    def after(days: int) -> Callable[[pd.DataFrame], pd.DataFrame]:
        def change(table: pd.DataFrame) -> pd.DataFrame:
            later = days - base_days
            own = table[table["time_days"] > later]
            own = own.assign(time_days=own["time_days"] - later)
            if "entry_age_days" in own:
                own = own.assign(entry_age_days=own["entry_age_days"] + later)
            return own

        return change

    later = [days for days in _LATENCIES_DAYS if days > base_days]
    return [Variant(f"clock starts {days} days after the ECG", after(days)) for days in later]


def _body_size(data: StudyData) -> list[Variant]:
    """The index with the other formula of body surface area."""
    if data.study.exposure != data.study.index_column:
        return []
    other = Bsa.MOSTELLER if data.study.bsa_formula is Bsa.DUBOIS else Bsa.DUBOIS

    def change(table: pd.DataFrame) -> pd.DataFrame:
        area = body_surface_area_m2(
            table["height_cm"].to_numpy(float), table["weight_kg"].to_numpy(float), other
        )
        return table.assign(exposure=table["mass_g"].to_numpy(float) / area)

    return [Variant(f"body surface area by {other.value}", change)]


def _presets(data: StudyData) -> list[Variant]:
    """LVH by the other limits."""
    others = [preset for preset in LvhPreset if preset is not data.study.lvh_preset]

    def by(preset: LvhPreset) -> Callable[[pd.DataFrame], pd.DataFrame]:
        def change(table: pd.DataFrame) -> pd.DataFrame:
            is_male = sex_codes(parse_sex(text) for text in table["sex"])
            found = lvh_arrays(table["index_g_m2"].to_numpy(float), is_male, preset)
            return table.assign(lvh=np.where(found.known, found.value.astype(float), np.nan))

        return change

    return [Variant(f"LVH by {preset.value}", by(preset), "LVH") for preset in others]


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return one table: a row a variant, a column an outcome."""
    found = masked.get("results_sensitivity")
    if found is None or not len(found.rows):
        return None
    rows = found.rows.assign(
        text=estimate_texts(found), Events=found.shown("n_events"), Analysis=found.rows["level"],
        Contrast=found.rows["contrast"], name=found.rows["outcome"].map(about.outcomes),
    )  # fmt: skip
    cells = side_by_side(rows, by=["Contrast", "Analysis"], over="name", values=["text", "Events"])
    cells.columns = cells.columns.str.replace(": text", "").str.replace(": Events", ", events")
    ordered = cells.sort_values("Contrast", key=lambda c: c != "per SD", kind="stable")
    notes = (
        "Hazard ratios adjusted for age and sex, one change of the main analysis at a time; the SD "
        "is that of the main analysis unless said otherwise.",
    )
    table = ReadTable("sensitivity", "Sensitivity analyses", ordered.reset_index(drop=True), 2,
                      notes)  # fmt: skip
    return Section("sensitivity", "Sensitivity analyses", items=(table,))
