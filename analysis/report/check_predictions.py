"""Predictions against themselves: index and LVH recomputed from mass, body size, sex and limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.study_settings import Study
from lvm_core.body import Bsa, body_surface_area_m2
from lvm_core.errors import UsageError
from lvm_core.lvh import LvhPreset, lvh_arrays, parse_sex, sex_codes

# float32 and tables rounded to a decimal are well within; the formulas differ by 0 to 4 %, by
# body size.
TOLERANCE: Final = 0.005
_PAIRS: Final = {"lvmi_pred_g_m2": ("lvm_pred_g", "lvh_pred"), "lvmi_recal_g_m2": ("lvm_recal_g", "lvh_recal")}

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def refuse_contradictions(study: Study, predictions: pd.DataFrame) -> None:
    """Refuse an index or LVH that is not what the stated formula and limits make of the mass.

    Footers tell how files of `lvm-ai score` were made; CSV and tables that went through other
    programs have none, and a mixture of formulas or presets shows in the values alone.

    Args:
        study: states formula and preset.
        predictions: masses, indexes and LVH, height, weight and sex; what is missing in a row is
            not compared in it.

    Raises:
        UsageError: it differs in some rows, by more than rounding explains.
    """
    for index, (mass, lvh) in _PAIRS.items():
        if {index, mass} <= set(predictions):
            _refuse_index(study, predictions, mass, index)
        if {index, lvh} <= set(predictions):
            _refuse_lvh(study, predictions, index, lvh)


def _refuse_index(study: Study, table: pd.DataFrame, mass: str, index: str) -> None:
    given = _floats(table, index)
    height, weight = (_above_0(_floats(table, name)) for name in ("height_cm", "weight_kg"))
    made = {one: _floats(table, mass) / body_surface_area_m2(height, weight, one) for one in Bsa}
    off = {formula: _differs(given, own) for formula, own in made.items()}
    wrong = off[study.bsa_formula]
    if wrong.any():
        raise UsageError(
            f"{index} is not {mass} / body surface area by the formula of "
            f"{study.bsa_formula.value} in {int(wrong.sum())} of {np.isfinite(given).sum()} ECGs "
            f"(more than {100 * TOLERANCE:g} % off){_others(wrong, off)}; expected one formula, "
            "that of bsa_formula. Score them alike"
        )


def _refuse_lvh(study: Study, table: pd.DataFrame, index: str, lvh: str) -> None:
    codes = sex_codes(parse_sex(None if pd.isna(one) else str(one)) for one in table["sex"])
    given, known = _floats(table, index), table[lvh].notna().to_numpy(dtype=bool)
    said = table[lvh].fillna(False).to_numpy(dtype=bool)
    off = {}
    for preset in LvhPreset:
        # Where rounding could move the index over the limit nothing is said.
        low = lvh_arrays(given * (1 - TOLERANCE), codes, preset)
        high = lvh_arrays(given * (1 + TOLERANCE), codes, preset)
        is_clear = low.known & high.known & (low.value == high.value)
        off[preset] = known & is_clear & (said != low.value)
    wrong = off[study.lvh_preset]
    if wrong.any():
        raise UsageError(
            f"{lvh} is not what the limits of {study.lvh_preset.value} make of {index} in "
            f"{int(wrong.sum())} of {int(known.sum())} ECGs{_others(wrong, off)}; expected one "
            "preset, that of lvh_preset. Score them alike"
        )


def _others(wrong: Flags, off: Mapping[Bsa, Flags] | Mapping[LvhPreset, Flags]) -> str:
    """The formulas or presets that explain all of the rows that the stated one does not."""
    fitting = [name.value for name, own in off.items() if not own[wrong].any()]
    return f", which fit {' and '.join(fitting)}" if fitting else ""


def _differs(given: Floats, made: Floats) -> Flags:
    both = np.isfinite(given) & np.isfinite(made)
    return both & (np.abs(given - made) > TOLERANCE * np.abs(made))


def _above_0(values: Floats) -> Floats:
    return np.where(values > 0, values, np.nan)


def _floats(table: pd.DataFrame, name: str) -> Floats:
    return np.asarray(table[name].astype("Float64").to_numpy(dtype=float, na_value=np.nan))
