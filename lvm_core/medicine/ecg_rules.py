"""The voltage rules for left ventricular hypertrophy, from wave amplitudes that were measured.

Amplitudes are magnitudes in microvolts: S is not negative. A wave that is absent is 0; a wave that
was not measured is NaN, and then every rule that needs it is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.medicine.body import Quantity
from lvm_core.medicine.lvh import SEX_UNKNOWN_CODE, ThreeValued, check_sex_codes

# Sokolow M, Lyon TP, Am Heart J 1949;37:161-186: R in aVL above 11 mm (1 mm is 100 uV).
_R_AVL_LIMIT_UV: Final = 1100.0
# Sokolow M, Lyon TP, Am Heart J 1949;37:161-186, used as "above 35 mm" by Khurshid et al. 2021.
_SOKOLOW_LYON_LIMIT_UV: Final = 3500.0
# Casale PN et al., Circulation 1987;75:565-572: above 28 mm in men, above 20 mm in women.
CORNELL_LIMIT_MEN_UV: Final = 2800.0
CORNELL_LIMIT_WOMEN_UV: Final = 2000.0


@dataclass(frozen=True, slots=True)
class EcgRules:
    """The three rules and their union, each true, false or unknown for every ECG.

    `any_ecg_rule` is true when one measured rule is positive, false only when all three are
    measured and negative, else unknown.
    """

    rule_avl: ThreeValued  # (n,) R in aVL above 1100 uV
    rule_sokolow_lyon: ThreeValued  # (n,) Sokolow-Lyon voltage above 3500 uV
    rule_cornell: ThreeValued  # (n,) Cornell voltage above 2000 uV (women) or 2800 uV (men)
    any_ecg_rule: ThreeValued


def _check_magnitudes(name: str, values: Quantity) -> None:
    value = np.atleast_1d(np.asarray(values, dtype=np.float64))
    bad = value[~np.isnan(value) & ~((value >= 0) & (value < np.inf))]
    if bad.size:
        raise ValueError(
            f"{name} is {bad[0]:g} uV, expected a finite magnitude of 0 or more, or NaN "
            "where not measured; S waves are given as positive magnitudes"
        )


def sokolow_lyon_uv(s_v1_uv: Quantity, r_v5_uv: Quantity, r_v6_uv: Quantity) -> Quantity:
    """Return the Sokolow-Lyon voltage, S(V1) + max(R(V5), R(V6)).

    Args:
        s_v1_uv: microvolts, magnitude; NaN where not measured.
        r_v5_uv: microvolts; NaN where not measured.
        r_v6_uv: microvolts; NaN where not measured.

    Returns:
        Microvolts, same shape; NaN when any of the three is, also when the two others alone
        exceed the limit: a maximum of which one part is unknown is not a measurement.

    Raises:
        ValueError: a value is negative or infinite.

    Source:
        Sokolow M, Lyon TP, Am Heart J 1949;37:161-186.
    """
    for name, value in (("s_v1_uv", s_v1_uv), ("r_v5_uv", r_v5_uv), ("r_v6_uv", r_v6_uv)):
        _check_magnitudes(name, value)
    voltage_uv: Quantity = s_v1_uv + np.maximum(r_v5_uv, r_v6_uv)
    return voltage_uv


def cornell_voltage_uv(r_avl_uv: Quantity, s_v3_uv: Quantity) -> Quantity:
    """Return the Cornell voltage, R(aVL) + S(V3).

    Args:
        r_avl_uv: microvolts; NaN where not measured.
        s_v3_uv: microvolts, magnitude; NaN where not measured.

    Returns:
        Microvolts, same shape; NaN when either is.

    Raises:
        ValueError: a value is negative or infinite.

    Source:
        Casale PN et al., Circulation 1987;75:565-572.
    """
    _check_magnitudes("r_avl_uv", r_avl_uv)
    _check_magnitudes("s_v3_uv", s_v3_uv)
    return r_avl_uv + s_v3_uv


def any_rule(*rules: ThreeValued) -> ThreeValued:
    """Return true where a known rule is true, false where all are known and false, else unknown."""
    positive = np.logical_or.reduce([rule.value & rule.known for rule in rules])
    all_known = np.logical_and.reduce([rule.known for rule in rules])
    return ThreeValued(positive, positive | all_known)


def ecg_rules(
    *,
    r_avl_uv: NDArray[np.float64],
    s_v1_uv: NDArray[np.float64],
    s_v3_uv: NDArray[np.float64],
    r_v5_uv: NDArray[np.float64],
    r_v6_uv: NDArray[np.float64],
    is_male: NDArray[np.int8],
) -> EcgRules:
    """Return the three rules and their union for each ECG.

    Args:
        r_avl_uv: (n,) microvolts; NaN where not measured, as for the four others.
        s_v1_uv: (n,) microvolts, magnitude.
        s_v3_uv: (n,) microvolts, magnitude.
        r_v5_uv: (n,) microvolts.
        r_v6_uv: (n,) microvolts.
        is_male: (n,) int8, 1 male, 0 female, -1 unknown: the Cornell rule is unknown then.

    Returns:
        Four (n,) three-valued arrays. All comparisons are strict.

    Raises:
        ValueError: an amplitude is negative or infinite, or `is_male` holds another code.

    Source:
        Khurshid S et al., Circ Cardiovasc Imaging 2021;14:e012281 (the union); the limits cite
        their papers above.
    """
    check_sex_codes(is_male)
    cornell_uv = cornell_voltage_uv(r_avl_uv, s_v3_uv)
    sokolow_uv = sokolow_lyon_uv(s_v1_uv, r_v5_uv, r_v6_uv)
    limit_uv = np.where(is_male == 1, CORNELL_LIMIT_MEN_UV, CORNELL_LIMIT_WOMEN_UV)
    cornell_known = ~np.isnan(cornell_uv) & (is_male != SEX_UNKNOWN_CODE)

    avl = ThreeValued(r_avl_uv > _R_AVL_LIMIT_UV, ~np.isnan(r_avl_uv))
    sokolow = ThreeValued(sokolow_uv > _SOKOLOW_LYON_LIMIT_UV, ~np.isnan(sokolow_uv))
    cornell = ThreeValued((cornell_uv > limit_uv) & cornell_known, cornell_known)
    return EcgRules(avl, sokolow, cornell, any_rule(avl, sokolow, cornell))
