"""The ECG rules for left ventricular hypertrophy, from amplitudes and durations that were measured.

Amplitudes are magnitudes in microvolts: S is not negative. A wave that is absent is 0; a wave that
was not measured is NaN, and then every rule that needs it is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
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
# Okin PM et al., JAMA 2004;292:2343-2349 (LIFE): above 2440 mm ms, after 6 mm are added in women.
CORNELL_PRODUCT_LIMIT_UV_MS: Final = 244_000.0
CORNELL_ADDED_WOMEN_UV: Final = 600.0
# Okin PM et al., J Am Coll Cardiol 1995;25:417-423; 3710 mm ms as later studies cite it, such as
# table 1 of PMC4750022.
SOKOLOW_LYON_PRODUCT_LIMIT_UV_MS: Final = 371_000.0
# Peguero JG et al., J Am Coll Cardiol 2017;69:1694-1703: 2.3 mV or more in women, 2.8 in men.
PEGUERO_LIMIT_MEN_UV: Final = 2800.0
PEGUERO_LIMIT_WOMEN_UV: Final = 2300.0
# Gubner R, Ungerleider HE, Arch Intern Med 1943;72:196-209: above 25 mm (Hancock EW et al., J Am
# Coll Cardiol 2009;53:992-1002, which lists this limit and the two below).
_GUBNER_LIMIT_UV: Final = 2500.0
# Lewis T, Heart 1914;5:367-402: above 17 mm.
_LEWIS_LIMIT_UV: Final = 1700.0
# Siegel RJ, Roberts WC, Am Heart J 1982;103:210-221: above 175 mm.
_VOLTAGE_SUM_LIMIT_UV: Final = 17_500.0
_N_LEADS: Final = 12


@dataclass(frozen=True, slots=True)
class EcgRules:
    """The paper's three rules and their union, each true, false or unknown for every ECG.

    `any_ecg_rule` is true when one measured rule is positive, false only when all three are
    measured and negative, else unknown.
    """

    rule_avl: ThreeValued  # (n,) R in aVL above 1100 uV
    rule_sokolow_lyon: ThreeValued  # (n,) Sokolow-Lyon voltage above 3500 uV
    rule_cornell: ThreeValued  # (n,) Cornell voltage above 2000 uV (women) or 2800 uV (men)
    any_ecg_rule: ThreeValued


@dataclass(frozen=True, slots=True)
class MoreEcgRules:
    """Rules beside the paper's three, each true, false or unknown for every ECG."""

    rule_cornell_product: ThreeValued  # (n,) above 244,000 uV ms, after 600 uV are added in women
    rule_sokolow_lyon_product: ThreeValued  # (n,) above 371,000 uV ms
    rule_peguero_lo_presti: ThreeValued  # (n,) 2300 uV or more (women), 2800 uV or more (men)
    rule_gubner: ThreeValued  # (n,) above 2500 uV
    rule_lewis: ThreeValued  # (n,) above 1700 uV
    rule_voltage_sum: ThreeValued  # (n,) above 17,500 uV


def _check_magnitudes(name: str, values: Quantity) -> None:
    value = np.atleast_1d(np.asarray(values, dtype=np.float64))
    bad = value[~np.isnan(value) & ~((value >= 0) & (value < np.inf))]
    if bad.size:
        unit, hint = ("ms", "") if name.endswith("_ms") else ("uV", "; S waves are given as positive magnitudes")
        raise ValueError(
            f"{name} is {bad[0]:g} {unit}, expected a finite magnitude of 0 or more, or NaN where not measured{hint}"
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


def cornell_product_uv_ms(
    cornell_voltage_uv: NDArray[np.float64], qrs_duration_ms: NDArray[np.float64], is_male: NDArray[np.int8]
) -> NDArray[np.float64]:
    """Return the Cornell product: voltage, in women 600 uV more, times the duration of QRS.

    Args:
        cornell_voltage_uv: (n,) of `cornell_voltage_uv`.
        qrs_duration_ms: (n,) milliseconds; NaN where not measured.
        is_male: (n,) int8, 1 male, 0 female, -1 unknown.

    Returns:
        (n,) uV ms; 100 mm ms are 10,000 uV ms. NaN where a part or the sex is not known.

    Raises:
        ValueError: a duration is negative or infinite, or `is_male` holds another code.

    Source:
        Molloy TJ et al., J Am Coll Cardiol 1992;20:1180-1186; the 6 mm of women as in Okin PM et
        al., JAMA 2004;292:2343-2349.
    """
    check_sex_codes(is_male)
    _check_magnitudes("qrs_duration_ms", qrs_duration_ms)
    added_uv = np.select([is_male == 1, is_male == 0], [0.0, CORNELL_ADDED_WOMEN_UV], np.nan)
    return np.asarray((cornell_voltage_uv + added_uv) * qrs_duration_ms)


def sokolow_lyon_product_uv_ms(sokolow_lyon_uv: Quantity, qrs_duration_ms: Quantity) -> Quantity:
    """Return the Sokolow-Lyon product: voltage times the duration of QRS, uV ms.

    NaN where either is; a duration that is negative or infinite is refused with a ValueError.

    Source:
        Okin PM et al., J Am Coll Cardiol 1995;25:417-423.
    """
    _check_magnitudes("qrs_duration_ms", qrs_duration_ms)
    return sokolow_lyon_uv * qrs_duration_ms


def peguero_lo_presti_uv(s_deepest_uv: Quantity, s_v4_uv: Quantity) -> Quantity:
    """Return the Peguero-Lo Presti voltage: the deepest S of any lead plus S in V4, microvolts.

    Where V4 has the deepest S it counts twice. NaN where either is; a negative or infinite value is
    refused with a ValueError.

    Source:
        Peguero JG et al., J Am Coll Cardiol 2017;69:1694-1703.
    """
    _check_magnitudes("s_deepest_uv", s_deepest_uv)
    _check_magnitudes("s_v4_uv", s_v4_uv)
    return s_deepest_uv + s_v4_uv


def gubner_uv(r_i_uv: Quantity, s_iii_uv: Quantity) -> Quantity:
    """Return the Gubner voltage, R(I) + S(III), microvolts.

    NaN where either is; a negative or infinite value is refused with a ValueError.

    Source:
        Gubner R, Ungerleider HE, Arch Intern Med 1943;72:196-209.
    """
    _check_magnitudes("r_i_uv", r_i_uv)
    _check_magnitudes("s_iii_uv", s_iii_uv)
    return r_i_uv + s_iii_uv


def lewis_uv(r_i_uv: Quantity, s_i_uv: Quantity, r_iii_uv: Quantity, s_iii_uv: Quantity) -> Quantity:
    """Return the Lewis index, R(I) + S(III) - R(III) - S(I), microvolts; it may be negative.

    NaN where one of the four is; a negative or infinite value is refused with a ValueError.

    Source:
        Lewis T, Heart 1914;5:367-402.
    """
    _check_magnitudes("s_i_uv", s_i_uv)
    _check_magnitudes("r_iii_uv", r_iii_uv)
    return gubner_uv(r_i_uv, s_iii_uv) - r_iii_uv - s_i_uv


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


def more_ecg_rules(measured: Mapping[str, NDArray[np.float64]], is_male: NDArray[np.int8]) -> MoreEcgRules:
    """Return the rules beside the paper's three for each ECG.

    Args:
        measured: (n,) arrays by the names of `lvm_core.signal.ecg.Measurements`: R and S of all
            twelve leads and qrs_voltage_sum_uv in microvolts, qrs_duration_ms in milliseconds; NaN
            where not measured. The deepest S is not known where one S is not.
        is_male: (n,) int8, 1 male, 0 female, -1 unknown: Cornell product and Peguero-Lo Presti are
            unknown then.

    Raises:
        ValueError: a value is negative or infinite, an S is missing, or a code of the sex is.
    """
    every_s_uv = [values for name, values in measured.items() if name.startswith("s_")]
    if len(every_s_uv) != _N_LEADS:
        raise ValueError(f"measured has the S of {len(every_s_uv)} leads, expected {_N_LEADS}")
    cornell_uv = cornell_voltage_uv(measured["r_avl_uv"], measured["s_v3_uv"])
    sokolow_uv = sokolow_lyon_uv(measured["s_v1_uv"], measured["r_v5_uv"], measured["r_v6_uv"])
    duration_ms = measured["qrs_duration_ms"]
    peguero_uv = peguero_lo_presti_uv(np.max(every_s_uv, axis=0), measured["s_v4_uv"])
    limit_uv = np.select([is_male == 1, is_male == 0], [PEGUERO_LIMIT_MEN_UV, PEGUERO_LIMIT_WOMEN_UV], np.nan)
    four = (measured[name] for name in ("r_i_uv", "s_i_uv", "r_iii_uv", "s_iii_uv"))
    sum_uv = measured["qrs_voltage_sum_uv"]
    _check_magnitudes("qrs_voltage_sum_uv", sum_uv)
    return MoreEcgRules(
        _above(cornell_product_uv_ms(cornell_uv, duration_ms, is_male), CORNELL_PRODUCT_LIMIT_UV_MS),
        _above(sokolow_lyon_product_uv_ms(sokolow_uv, duration_ms), SOKOLOW_LYON_PRODUCT_LIMIT_UV_MS),
        ThreeValued(peguero_uv >= limit_uv, ~np.isnan(peguero_uv + limit_uv)),
        _above(gubner_uv(measured["r_i_uv"], measured["s_iii_uv"]), _GUBNER_LIMIT_UV),
        _above(lewis_uv(*four), _LEWIS_LIMIT_UV),
        _above(sum_uv, _VOLTAGE_SUM_LIMIT_UV),
    )


def _above(values: NDArray[np.float64], limit: float) -> ThreeValued:
    return ThreeValued(values > limit, ~np.isnan(values))
