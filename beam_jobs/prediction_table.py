"""The predictions table of a unit: index, hypertrophy and ECG rules beside the predicted mass."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from beam_jobs.blocks import AMPLITUDES, EcgRow
from beam_jobs.commit import table_of
from lvm_core import schemas
from lvm_core.body import Bsa, body_surface_area_m2, lv_mass_index_g_m2
from lvm_core.ecg_rules import ecg_rules
from lvm_core.lvh import LvhPreset, Sex, ThreeValued, lvh_arrays
from lvm_core.quality import AGE_RANGE_YEARS, BMI_RANGE_KG_M2, QualityFlag
from lvm_core.recalibration import Recalibration
from lvm_core.tables import Demographics

_SEX_TEXT = {0: Sex.FEMALE.value, 1: Sex.MALE.value}


@dataclass(slots=True)
class ScoredRow:
    """One accepted ECG; its hash and results are filled in when its batch is done."""

    ecg_id: str
    participant_id: str | None
    recorded_at: dt.datetime | None
    model_id: str
    age_years: float
    sex_code: int
    bmi_kg_m2: float
    height_cm: float
    weight_kg: float
    quality_flags: tuple[str, ...]
    amplitudes: tuple[float, ...]
    measured_by: str | None
    signal_sha256: str = ""
    lvm_pred_g: float = float("nan")
    lvh_score: float = float("nan")

    @classmethod
    def of(cls, row: EcgRow, people: Demographics, i: int, model_id: str, flags: tuple[str, ...] = ()) -> ScoredRow:
        """Return the row of an ECG without its results; `flags` are those of its signal."""
        return cls(
            row.ecg_id,
            people.participant_id[i],
            row.recorded_at,
            model_id,
            _inside(AGE_RANGE_YEARS, people.age_years[i]),
            int(people.sex_code[i]),
            _inside(BMI_RANGE_KG_M2, people.bmi_kg_m2[i]),
            float(people.height_cm[i]),
            float(people.weight_kg[i]),
            (*row.quality_flags, *flags, *people.flags[i]),
            row.amplitudes,
            row.measured_by,
        )


def _inside(limits: Any, value: np.float32) -> float:
    """Return a value, or NaN when it is implausible: its flag says so."""
    return float("nan") if limits.is_outside(float(value)) else float(value)


def predictions_table(
    rows: Sequence[ScoredRow], bsa: Bsa, preset: LvhPreset, recalibration: Recalibration | None = None
) -> pa.Table:
    """Return the predictions table.

    Args:
        rows: with results, in the order of the unit.
        bsa: formula of the body surface area.
        preset: thresholds of the LV mass index.
        recalibration: adds its columns, null for rows of another model than the one it is for.
    """
    numbers = {
        name: np.array([getattr(row, name) for row in rows], dtype=np.float32)
        for name in ("lvm_pred_g", "lvh_score", "age_years", "bmi_kg_m2", "height_cm", "weight_kg")
    }
    sex = np.array([row.sex_code for row in rows], dtype=np.int8)
    numbers["bsa_m2"] = np.asarray(
        body_surface_area_m2(_wide(numbers["height_cm"]), _wide(numbers["weight_kg"]), bsa)
    ).astype(np.float32)
    index = lv_mass_index_g_m2(_wide(numbers["lvm_pred_g"]), _wide(numbers["bsa_m2"]))
    numbers["lvmi_pred_g_m2"] = np.asarray(index).astype(np.float32)
    amplitudes = np.array([row.amplitudes for row in rows], dtype=np.float32)
    amplitudes = amplitudes.reshape(len(rows), len(AMPLITUDES))
    numbers.update({name: amplitudes[:, i] for i, name in enumerate(AMPLITUDES)})
    columns: dict[str, Any] = {name: _nullable(values) for name, values in numbers.items()}
    columns["lvh_pred"] = _three_valued(lvh_arrays(_wide(numbers["lvmi_pred_g_m2"]), sex, preset))
    columns.update(_rule_columns(numbers, sex))
    columns["sex"] = [_SEX_TEXT.get(code) for code in sex.tolist()]
    for name in ("ecg_id", "participant_id", "recorded_at", "model_id", "measured_by", "signal_sha256"):
        columns[name] = [getattr(row, name) for row in rows]
    columns["quality_flags"] = [
        (*row.quality_flags, *((QualityFlag.INDEX_UNKNOWN.value,) if unknown else ()))
        for row, unknown in zip(rows, np.isnan(numbers["lvmi_pred_g_m2"]).tolist(), strict=True)
    ]
    if recalibration is not None:
        is_its_model = np.array([row.model_id == recalibration.model_id for row in rows], dtype=bool)
        columns.update(_recalibrated(numbers, sex, is_its_model, preset, recalibration))
    schema = schemas.predictions_schema(recalibrated=recalibration is not None)
    return table_of(schema, columns)


def _recalibrated(
    numbers: dict[str, NDArray[np.float32]],
    sex: NDArray[np.int8],
    is_its_model: NDArray[np.bool_],
    preset: LvhPreset,
    recalibration: Recalibration,
) -> dict[str, Any]:
    """Return the columns of `schemas.RECALIBRATED`."""
    made = recalibration.apply(_wide(numbers["lvm_pred_g"]), sex, _wide(numbers["lvh_score"]))
    names = ("lvm_recal_g", "lvm_lo_g", "lvm_hi_g", "lvh_probability")
    wide = {name: np.where(is_its_model, getattr(made, name), np.nan) for name in names}
    index = np.asarray(lv_mass_index_g_m2(wide["lvm_recal_g"], _wide(numbers["bsa_m2"])))
    wide["lvmi_recal_g_m2"] = index
    narrow = {name: values.astype(np.float32) for name, values in wide.items()}
    lvh = lvh_arrays(_wide(narrow["lvmi_recal_g_m2"]), sex, preset)
    return {name: _nullable(values) for name, values in narrow.items()} | {"lvh_recal": _three_valued(lvh)}


def _rule_columns(numbers: dict[str, NDArray[np.float32]], sex: NDArray[np.int8]) -> dict[str, Any]:
    wanted = ("r_avl_uv", "s_v1_uv", "s_v3_uv", "r_v5_uv", "r_v6_uv")
    rules = ecg_rules(**{name: _wide(numbers[name]) for name in wanted}, is_male=sex)
    names = ("rule_avl", "rule_sokolow_lyon", "rule_cornell", "any_ecg_rule")
    return {name: _three_valued(getattr(rules, name)) for name in names}


def _wide(values: NDArray[np.float32]) -> NDArray[np.float64]:
    return values.astype(np.float64)


def _nullable(values: NDArray[np.float32]) -> pa.Array:
    return pa.array(values, pa.float32(), mask=np.isnan(values))


def _three_valued(answer: ThreeValued) -> pa.Array:
    return pa.array(answer.value, pa.bool_(), mask=~answer.known)
