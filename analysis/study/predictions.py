"""The predictions of a study: its usable ECGs; mixtures of models or formulas are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from analysis.follow_up.loading import LoadedTable, load_table, nothing_in_common, quoted
from analysis.study.inputs import prediction_files, prediction_paths
from analysis.study.settings import PREDICTED, Study
from lvm_core.errors import UsageError
from lvm_core.medicine.body import Bsa, body_surface_area_m2
from lvm_core.medicine.lvh import LvhPreset, Sex, lvh_arrays, parse_sex, sex_codes
from lvm_core.tables import schemas

_NEEDED: Final = tuple(
    "ecg_id participant_id recorded_at model_id lvm_pred_g age_years sex height_cm weight_kg".split()
)
_IDS: Final = ("ecg_id", "participant_id")
_TEXTS: Final = ("model_id", "measured_by")
_FLAGS: Final = (
    "lvh_pred",
    "lvh_recal",
    "lvh_cmr",
    *(name for name in schemas.PREDICTIONS.names if name.startswith("rule_")),
    "any_ecg_rule",
)
# What only rules need is in the rules already.
_UNUSED: Final = (*schemas.MORE_MEASUREMENTS, *schemas.RHYTHM)
_NOT_READ: Final = frozenset({"quality_flags", "signal_sha256", *(column.name for column in _UNUSED)})
_SEXES: Final = {"female": Sex.FEMALE, "f": Sex.FEMALE, "male": Sex.MALE, "m": Sex.MALE}
_CONVENTIONS: Final = ("input_convention", "bsa", "lvh_preset")
_STATED: Final = {"bsa": "bsa_formula", "lvh_preset": "lvh_preset"}
# Mass and LVH of each index.
_OF_INDEX: Final = {"lvmi_pred_g_m2": ("lvm_pred_g", "lvh_pred"), "lvmi_recal_g_m2": ("lvm_recal_g", "lvh_recal")}
# float32, and tables rounded to a decimal, are well within; the formulas differ by 0 to 4 %, by
# body size.
_TOLERANCE: Final = 0.005

_Floats = NDArray[np.float64]
_Flags = NDArray[np.bool_]


def read_predictions(study: Study, usable: pd.Series[str]) -> pd.DataFrame:
    """Return the usable ECGs of the cohort; `usable` is `FollowUp.usable_ecgs`.

    There is a row per ECG, sorted by ecg_id: the columns that the predictions have, recorded_at as
    a local time, numbers as floats, yes/no as nullable booleans, sex as female or male; and
    lvm_ecg_only_g where the study has predictions of the model that sees the ECG alone. Raise
    UsageError where predictions are of several models, of another formula or preset than the study
    states, or contradict themselves.
    """
    path, date_format = study.inputs.predictions, study.date_formats.get("predictions")
    table = _read(path, PREDICTED - _NOT_READ | {study.exposure}, study.columns.predictions, date_format)
    missing = [name for name in (*_NEEDED, study.exposure) if name not in table.columns]
    if missing:
        raise UsageError(
            f"predictions have no column {', '.join(missing)}, which the analysis needs; expected "
            "those of lvm-ai score, other names in columns: predictions, or `report: false` and "
            "`hazard_ratios: false` for follow-up alone"
        )
    table = table[table["ecg_id"].isin(usable)]
    for name in set(_FLAGS) & set(table.columns):
        table[name] = table[name].astype("boolean")
    models = sorted(table["model_id"].dropna().unique())
    if len(models) > 1 and not study.model_strata:
        raise UsageError(
            f"predictions are of {len(models)} models ({', '.join(map(str, models))}), expected "
            "one; or set `model_strata: true`, and SD and hazard ratios are by model"
        )
    _refuse_contradictions(study, table)
    if study.inputs.predictions_ecg_only is not None:
        only = _ecg_only(study.inputs.predictions_ecg_only)
        ours, theirs = table["ecg_id"], only["ecg_id"]
        if len(ours) and len(theirs) and not ours.isin(theirs).any():
            tables = "predictions and predictions_ecg_only"
            raise UsageError(nothing_in_common(tables, "ecg_id", ours.min(), theirs.min()))
        table = table.merge(only, on="ecg_id", how="left")
    return pd.DataFrame(table.sort_values("ecg_id").reset_index(drop=True))


def _read(
    path: Path, names: frozenset[str], own: Mapping[str, str] | None = None, date_format: str | None = None
) -> pd.DataFrame:
    """Return those columns that a table has, each with its values read."""
    wanted = sorted(names)
    with duckdb.connect() as connection:
        raw = load_table(
            connection, "predictions", prediction_files(path), wanted, optional=wanted, own=own, date_format=date_format
        )
        taken = [f"{_expression(raw, name)} AS {quoted(name)}" for name in wanted if name in raw.types]
        return connection.sql(f"SELECT {', '.join(taken)} FROM raw_predictions").df() if taken else pd.DataFrame()


def _expression(raw: LoadedTable, name: str) -> str:
    if name in _IDS:
        return raw.identifier(name)
    if name in _TEXTS:
        return f"trim({name}::VARCHAR)"
    if name == "recorded_at":
        return raw.moment(name)
    if name == "sex":
        return raw.word(name, _SEXES)
    return raw.yes_no(name) if name in _FLAGS else raw.number(name)


def _ecg_only(given: Path) -> pd.DataFrame:
    """Return the masses of the ECG-only model, by ECG."""
    table = _read(given, frozenset({"ecg_id", "lvm_pred_g", "model_id"}))
    problems = [f"no column {name}" for name in ("ecg_id", "lvm_pred_g") if name not in table]
    if not problems and table["ecg_id"].duplicated().any():
        problems = ["an ecg_id twice"]
    if not problems and "model_id" in table and table["model_id"].nunique() > 1:
        problems = [f"several models ({', '.join(sorted(table['model_id'].dropna().unique()))})"]
    if problems:
        raise UsageError(
            f"predictions_ecg_only {given} has {', '.join(problems)}; expected one row per ECG, of one model"
        )
    return table[["ecg_id", "lvm_pred_g"]].rename(columns={"lvm_pred_g": "lvm_ecg_only_g"})


def footers_of(study: Study) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return how the predictions were made, from the footers of their files.

    These are input_convention, bsa, lvh_preset and model_sha256 where a footer states them; and a
    sentence where files have no footer, so that their input convention is not known.
    Raise UsageError where the predictions are a mixture, or of another formula or preset than the
    study states.
    """
    paths = [path for path in prediction_paths(study.inputs.predictions) if path.suffix == ".parquet"]
    contents = [(pq.read_metadata(path).metadata or {}).get(schemas.FOOTER_KEY) for path in paths]
    made: dict[str, set[str]] = {}
    for content in filter(None, contents):
        settings = json.loads(content)["provenance"]["settings"]
        for name in _CONVENTIONS:
            made.setdefault(name, set()).add(str(settings[name]))
        checksums = ", ".join(model["sha256"] for model in settings["models"])
        made.setdefault("model_sha256", set()).add(checksums)
    for name, values in made.items():
        _refuse_conventions(study, name, values)
    silent: tuple[str, ...] = ()
    if not contents or None in contents:
        some = "some of the predictions do" if made else "the predictions do"
        silent = (
            f"{some} not record how they were made: that all ECGs were scored with one input "
            "convention cannot be checked; body surface area and LVH were recomputed",
        )
    return {name: ", ".join(sorted(values)) for name, values in made.items()}, silent


def _refuse_conventions(study: Study, name: str, values: set[str]) -> None:
    if len(values) > 1 and not (name == "model_sha256" and study.model_strata):
        raise UsageError(
            f"predictions were made with several {name}: {', '.join(sorted(values))}; expected one. "
            "Score all ECGs in the same way"
        )
    stated: Any = getattr(study, _STATED[name]).value if name in _STATED else None
    if stated is not None and values != {stated}:
        raise UsageError(
            f"predictions were made with {name} {min(values)}, but the study states "
            f"{stated}; write `{_STATED[name]}: {min(values)}`, or score the ECGs again"
        )


def _refuse_contradictions(study: Study, predictions: pd.DataFrame) -> None:
    """Refuse an index or LVH that does not follow from the mass by the stated formula and limits.

    CSV, and tables that went through other programs, have no footers: there the values alone show a
    mixture of formulas or presets. Values that are missing in a row are not compared.
    """
    for index, (mass, lvh) in _OF_INDEX.items():
        if {index, mass} <= set(predictions):
            _refuse_index(study, predictions, mass, index)
        if {index, lvh} <= set(predictions):
            _refuse_lvh(study, predictions, index, lvh)


def _refuse_index(study: Study, table: pd.DataFrame, mass: str, index: str) -> None:
    given = _values(table, index)
    sizes = (_values(table, name) for name in ("height_cm", "weight_kg"))
    height, weight = (np.where(size > 0, size, np.nan) for size in sizes)
    made = {one: _values(table, mass) / body_surface_area_m2(height, weight, one) for one in Bsa}
    off = {formula: _differs(given, own) for formula, own in made.items()}
    wrong = off[study.bsa_formula]
    if wrong.any():
        raise UsageError(
            f"{index} is not {mass} / body surface area by the formula of "
            f"{study.bsa_formula.value} in {int(wrong.sum())} of {np.isfinite(given).sum()} ECGs "
            f"(more than {100 * _TOLERANCE:g} % off){_others(wrong, off)}; expected one formula, "
            "that of bsa_formula. Score all ECGs in the same way"
        )


def _refuse_lvh(study: Study, table: pd.DataFrame, index: str, lvh: str) -> None:
    codes = sex_codes(parse_sex(None if pd.isna(one) else str(one)) for one in table["sex"])
    given, known = _values(table, index), table[lvh].notna().to_numpy(dtype=bool)
    said = table[lvh].fillna(False).to_numpy(dtype=bool)
    off = {}
    for preset in LvhPreset:
        # An index that rounding could move over the limit is not compared.
        low = lvh_arrays(given * (1 - _TOLERANCE), codes, preset)
        high = lvh_arrays(given * (1 + _TOLERANCE), codes, preset)
        is_clear = low.known & high.known & (low.value == high.value)
        off[preset] = known & is_clear & (said != low.value)
    wrong = off[study.lvh_preset]
    if wrong.any():
        raise UsageError(
            f"{lvh} is not what the limits of {study.lvh_preset.value} make of {index} in "
            f"{int(wrong.sum())} of {int(known.sum())} ECGs{_others(wrong, off)}; expected one "
            "preset, that of lvh_preset. Score all ECGs in the same way"
        )


def _others(wrong: _Flags, off: Mapping[Bsa, _Flags] | Mapping[LvhPreset, _Flags]) -> str:
    """Name the formulas or presets that explain all rows that the stated one does not."""
    fitting = [name.value for name, own in off.items() if not own[wrong].any()]
    return f", which fit {' and '.join(fitting)}" if fitting else ""


def _differs(given: _Floats, made: _Floats) -> _Flags:
    both = np.isfinite(given) & np.isfinite(made)
    return both & (np.abs(given - made) > _TOLERANCE * np.abs(made))


def _values(table: pd.DataFrame, name: str) -> _Floats:
    return np.asarray(table[name].astype("Float64").to_numpy(dtype=float, na_value=np.nan))
