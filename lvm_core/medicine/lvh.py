"""Left ventricular hypertrophy from the LV mass index and the sex; unknown in, unknown out."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

SEX_UNKNOWN_CODE: Final = -1


class Sex(StrEnum):
    """Sex as the participant table states it; an unknown sex is None."""

    FEMALE = "female"
    MALE = "male"


_SEX_BY_TEXT: Final = MappingProxyType({"female": Sex.FEMALE, "f": Sex.FEMALE, "male": Sex.MALE, "m": Sex.MALE})


class ThreeValued(NamedTuple):
    """True, False or unknown for each element, without objects or masks.

    Invariant: `value` is False wherever `known` is False.
    """

    value: NDArray[np.bool_]  # the answer where it is known
    known: NDArray[np.bool_]  # same shape


class LvhPreset(StrEnum):
    """The published pairs of thresholds on the CMR LV mass index.

    Never use thresholds for echocardiography (115 and 95 g/m2) on these indices.
    """

    KHURSHID2021 = "khurshid2021"
    PETERSEN2017 = "petersen2017"


class _Threshold(NamedTuple):
    men_g_m2: float
    women_g_m2: float
    strict: bool


# Khurshid S et al., Circ Cardiovasc Imaging 2021;14:e012281: above 72 and 55 g/m2.
# Petersen SE et al., J Cardiovasc Magn Reson 2017;19:18: 70 and 55 g/m2 or more, as another
# UK Biobank group reads its tables (inferred, not stated by the paper as a definition of LVH).
_THRESHOLDS: Final = MappingProxyType(
    {
        LvhPreset.KHURSHID2021: _Threshold(men_g_m2=72.0, women_g_m2=55.0, strict=True),
        LvhPreset.PETERSEN2017: _Threshold(men_g_m2=70.0, women_g_m2=55.0, strict=False),
    }
)


def parse_sex(text: str | None) -> Sex | None:
    """Return the sex that a text names, or None when it names none.

    `female`, `male`, `F` and `M` are understood, in any case and with blanks around. Anything
    else is unknown: `Unknown`, `NaN`, an empty text, and **every number**. 0, 1 and 2 are not
    interpreted because tables disagree (UK Biobank field 31: 0 female, 1 male; ISO/IEC 5218:
    1 male, 2 female): recode such a column to `female` and `male` before it is read.
    """
    return None if text is None else _SEX_BY_TEXT.get(text.strip().lower())


def sex_codes(sexes: Iterable[Sex | None]) -> NDArray[np.int8]:
    """Return one int8 code per person: 1 male, 0 female, -1 unknown (`is_male` elsewhere)."""
    return np.fromiter((SEX_UNKNOWN_CODE if sex is None else sex is Sex.MALE for sex in sexes), dtype=np.int8)


def check_sex_codes(is_male: NDArray[np.int8]) -> None:
    """Refuse codes of the sex that are not those of `sex_codes` with a ValueError."""
    bad = is_male[(is_male < SEX_UNKNOWN_CODE) | (is_male > 1)]
    if bad.size:
        raise ValueError(
            f"is_male holds {bad.flat[0]}, expected 1 (male), 0 (female) or -1 (unknown); "
            "lvm_core.medicine.lvh.sex_codes makes such an array"
        )


def lvh_limit_g_m2(sex: Sex, preset: LvhPreset = LvhPreset.KHURSHID2021) -> float:
    """Return the limit of the LV mass index, g/m2; whether it is included: see `lvh_arrays`."""
    limits = _THRESHOLDS[LvhPreset(preset)]
    return limits.men_g_m2 if Sex(sex) is Sex.MALE else limits.women_g_m2


def lvh_arrays(
    lvmi_g_m2: NDArray[np.float64], is_male: NDArray[np.int8], preset: LvhPreset = LvhPreset.KHURSHID2021
) -> ThreeValued:
    """Return for each person whether the LV mass index means hypertrophy.

    Args:
        lvmi_g_m2: (n,) LV mass index, g/m2; NaN where unknown.
        is_male: (n,) int8, 1 male, 0 female, -1 unknown.
        preset: the thresholds; store it beside the result.

    Returns:
        (n,) pair of bool arrays; unknown where the index or the sex is.

    Raises:
        ValueError: `is_male` holds another code; the preset is unknown.

    Source:
        `khurshid2021`, index > 72 (men) and > 55 g/m2 (women): Khurshid S et al., Circ Cardiovasc
        Imaging 2021;14:e012281. `petersen2017`, index >= 70 and >= 55 g/m2: Petersen SE et al.,
        J Cardiovasc Magn Reson 2017;19:18.
    """
    check_sex_codes(is_male)
    rule = _THRESHOLDS[LvhPreset(preset)]
    threshold_g_m2 = np.where(is_male == 1, rule.men_g_m2, rule.women_g_m2)
    above = lvmi_g_m2 > threshold_g_m2 if rule.strict else lvmi_g_m2 >= threshold_g_m2
    known = np.isfinite(lvmi_g_m2) & (is_male != SEX_UNKNOWN_CODE)
    return ThreeValued(above & known, known)
