"""Whether a participant table as a whole can be right: its units, its sexes, its ages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lvm_core.body import bmi_kg_m2
from lvm_core.tables.layout import NUMBERS

# The limits of this table are the project's own, not a paper's: wide enough for the median of any
# cohort of adults, narrow enough for pounds, metres, inches, months and swapped columns.
MEDIAN_BMI_KG_M2: Final = (18.0, 40.0)
MEDIAN_HEIGHT_CM: Final = (140.0, 195.0)
# From the limits of BMI: 18 kg/m2 at 150 cm are 40 kg, 40 kg/m2 at 180 cm are 130 kg.
MEDIAN_WEIGHT_KG: Final = (40.0, 130.0)
# 12-lead ECGs of adults; a cohort with a median beyond is one of children, or of another unit.
MEDIAN_AGE_YEARS: Final = (18.0, 100.0)
# A given BMI is rounded or of another day than height and weight; half of a table does not differ
# by more than this of BMI.
LARGEST_MEDIAN_BMI_DIFFERENCE: Final = 0.05
# With five of each sex, normal heights 13 cm apart and spreads of 7 and 6.5 cm, the medians are the
# wrong way round in 1 of 176 samples (400,000 drawn; a test draws 20,000).
LEAST_OF_EACH_SEX: Final = 5
LEAST_KNOWN: Final = 5


@dataclass(frozen=True)
class TableJudgement:
    """What a participant table looks like as a whole.

    Attributes:
        medians: median of each number that enough people have; `height_cm_women` and `_men` too.
        share_women: of people whose sex is known; None where nobody's is.
        problems: why it cannot be right, each with the likely cause.
    """

    medians: dict[str, float]
    share_women: float | None
    problems: tuple[str, ...]


def judge_people(table: pa.Table) -> TableJudgement:
    """Judge a participant table before anybody in it is scored.

    Args:
        table: columns of `schemas.PARTICIPANTS`, values as given, also implausible ones.
    """
    numbers = {name: _floats(table[name]) for name in NUMBERS}
    sex = np.array([text or "" for text in table["sex"].to_pylist()], dtype=np.str_)
    computed = bmi_kg_m2(_positive(numbers["height_cm"]), _positive(numbers["weight_kg"]))
    given = numbers["bmi_kg_m2"]
    numbers["bmi_kg_m2"] = np.where(np.isnan(given), computed, given)
    medians = {name: _median(values) for name, values in numbers.items()}
    heights = numbers["height_cm"]
    for word, code in (("women", "female"), ("men", "male")):
        medians[f"height_cm_{word}"] = _median(heights[sex == code], LEAST_OF_EACH_SEX)
    known = {name: median for name, median in medians.items() if median is not None}
    problems = _height_and_weight(known) or _bmi(known, given, computed)
    problems += [*_age(known), *_sexes(known)]
    n_sex = int(np.count_nonzero(sex != ""))
    share = int(np.count_nonzero(sex == "female")) / n_sex if n_sex else None
    return TableJudgement({n: round(m, 2) for n, m in known.items()}, share, tuple(problems))


def _height_and_weight(medians: dict[str, float]) -> list[str]:
    height, weight = medians.get("height_cm"), medians.get("weight_kg")
    low, high = MEDIAN_HEIGHT_CM
    problems = []
    if height is not None and not low <= height <= high:
        if 1.3 <= height <= 2.2:
            cause = "it looks like metres: set `units: {height: m}` in --participants-layout"
        elif 55 <= height <= 78 and weight is not None and weight < low:
            cause = "it looks like inches: set `units: {height: in}` in --participants-layout"
        elif weight is not None and low <= weight <= high:
            cause = "are height_cm and weight_kg swapped?"
        else:
            cause = "is it another quantity or unit?"
        problems.append(_outside("height_cm", height, MEDIAN_HEIGHT_CM, "cm", cause))
    low, high = MEDIAN_WEIGHT_KG
    if weight is not None and not low <= weight <= high:
        cause = "is it another quantity or unit, as pounds or grams?"
        if 1.8 * low <= weight <= 2.3 * high:
            cause = (
                "it looks like pounds: set `units: {weight: lb}` in --participants-layout, unless columns are swapped"
            )
        problems.append(_outside("weight_kg", weight, MEDIAN_WEIGHT_KG, "kg", cause))
    return problems


def _bmi(medians: dict[str, float], given: NDArray[np.float64], computed: NDArray[np.float64]) -> list[str]:
    median = medians.get("bmi_kg_m2")
    low, high = MEDIAN_BMI_KG_M2
    problems = []
    if median is not None and not low <= median <= high:
        cause = "is weight in pounds, or is the column another quantity than BMI?"
        problems.append(_outside("bmi_kg_m2", median, MEDIAN_BMI_KG_M2, "kg/m2", cause))
    both = ~np.isnan(given) & ~np.isnan(computed)
    if np.count_nonzero(both) >= LEAST_KNOWN:
        apart = float(np.median(np.abs(given[both] - computed[both]) / computed[both]))
        if apart > LARGEST_MEDIAN_BMI_DIFFERENCE:
            problems.append(
                f"bmi_kg_m2 differs from weight_kg / height_cm squared by {100 * apart:.0f} % on "
                f"the median of {np.count_nonzero(both)} people, expected at most "
                f"{100 * LARGEST_MEDIAN_BMI_DIFFERENCE:g} %; are they of other people, another day "
                "or another unit?"
            )
    return problems


def _age(medians: dict[str, float]) -> list[str]:
    median = medians.get("age_years")
    low, high = MEDIAN_AGE_YEARS
    if median is None or low <= median <= high:
        return []
    cause = "are these children?"
    if median > high:
        cause = "is it in months or days?" if median < 5000 else "is it in days?"
    return [_outside("age_years", median, MEDIAN_AGE_YEARS, "years", cause)]


def _sexes(medians: dict[str, float]) -> list[str]:
    women, men = medians.get("height_cm_women"), medians.get("height_cm_men")
    if women is None or men is None or men >= women:
        return []
    return [
        f"men are shorter than women on the median ({men:.4g} and {women:.4g} cm); are the codes "
        "of sex the wrong way round?"
    ]


def _outside(name: str, value: float, limits: tuple[float, float], unit: str, cause: str) -> str:
    return (
        f"the median of {name} is {value:.4g} {unit}, expected {limits[0]:g} to {limits[1]:g} "
        f"{unit} in a cohort of adults; {cause}"
    )


def _median(values: NDArray[np.float64], least: int = LEAST_KNOWN) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) >= least else None


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values > 0, values, np.nan)


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(pc.fill_null(pc.cast(column, pa.float64()), np.nan))
