"""Hazard ratios of a study: each outcome, exposure and model as a row of one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import stats

from analysis.columns import TableRefused
from analysis.cox import CoxFit, fit_cox, proportional_hazards_test
from analysis.design import Category, Covariate

_DAYS_PER_YEAR: Final = 365.25
# Khurshid et al. 2021 adjust for age and sex; height and weight as in the study rules, section 4.
MODELS: Final[tuple[tuple[str, tuple[str | Covariate, ...]], ...]] = (
    ("unadjusted", ()),
    ("age, sex", ("age_years", Category("sex", reference="female"))),
    (
        "age, sex, height, weight",
        ("age_years", Category("sex", reference="female"), "height_cm", "weight_kg"),
    ),
)
_COVARIATES: Final = ("age_years", "sex", "height_cm", "weight_kg")
# Exclusions that come before anything about an outcome: the others are in the cohort of the SD.
_BEFORE_INDEX: Final = (
    "not_in_cohort", "withdrawn", "excluded_by_list", "no_usable_ecg", "missing_exposure",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Contrast:
    """What an exposure is compared by.

    Attributes:
        exposure: column of the predictions.
        name: of the contrast.
        unit: of the exposure.
        size: one step; the log hazard ratio is multiplied by it.
    """

    exposure: str
    name: str
    unit: str
    size: float


def analysed_sd(people: pd.DataFrame, exposure: str) -> float:
    """Return the standard deviation that "per SD" means.

    Args:
        people: the follow-up table of all outcomes with the exposure.
        exposure: its column.

    Returns:
        SD with n - 1, both sexes together, one row a person (the first ECG), after the choice of
        the index ECG and before anything about an outcome.
    """
    eligible = people[~people["excluded"].isin(_BEFORE_INDEX)]
    first = eligible.sort_values(["index_date", "ecg_id"]).drop_duplicates("participant_id")
    return float(first[exposure].astype(float).std(ddof=1))


def hazard_ratios(
    people: pd.DataFrame, contrasts: Sequence[Contrast], *, primary_outcome: str, repeated: bool
) -> pd.DataFrame:
    """Fit every outcome, contrast and model, all models on the same complete rows.

    Args:
        people: the follow-up table with the exposures, age_years, sex, height_cm and weight_kg of
            the index ECG.
        contrasts: of exposures.
        primary_outcome: has no q-value; those of the others are Benjamini and Hochberg's over
            outcomes, for each contrast and model.
        repeated: people have several rows (each ECG opens follow-up): errors by person.

    Returns:
        One row an estimate: outcome, primary, exposure, contrast, unit, unit_value, model,
        adjustment, n_people, n_ecgs, n_events, person_years, estimate (hazard ratio), se (of its
        logarithm), lo, hi, p, p_ph (of the exposure), p_ph_global, q, ties, se_type, time_scale,
        n_dropped_missing, warnings.

    Source:
        Cause-specific Cox models: `analysis.cox.fit_cox`. Benjamini Y, Hochberg Y, J R Stat Soc B
        1995;57:289. R: `coxph`, `cox.zph`, `p.adjust(p, "BH")`.
    """
    rows = []
    analysed = people[people["excluded"].isna()]
    for outcome, own in analysed.groupby("outcome", sort=False):
        for contrast in contrasts:
            complete = own.dropna(subset=[contrast.exposure, *_COVARIATES])
            for number, (adjustment, covariates) in enumerate(MODELS, start=1):
                row = {
                    "outcome": outcome,
                    "primary": outcome == primary_outcome,
                    "exposure": contrast.exposure,
                    "contrast": contrast.name,
                    "unit": contrast.unit,
                    "unit_value": contrast.size,
                    "model": number,
                    "adjustment": adjustment,
                    "n_dropped_missing": len(own) - len(complete),
                }
                rows.append(row | _estimate(complete, contrast, covariates, repeated=repeated))
    return _with_q(pd.DataFrame(rows))


def _estimate(
    table: pd.DataFrame,
    contrast: Contrast,
    covariates: Sequence[str | Covariate],
    *,
    repeated: bool,
) -> dict[str, Any]:
    followed = {
        "n_people": table["participant_id"].nunique(),
        "n_ecgs": len(table),
        "n_events": int((table["status"] == 1).sum()),
        "person_years": float(table["time_days"].sum() / _DAYS_PER_YEAR),
        "ties": "efron",
        "se_type": "by person" if repeated else "model",
        "time_scale": "days since the index ECG",
    }
    data = table.assign(
        days=table["time_days"].astype(float),
        event=table["status"] == 1,
        **{contrast.exposure: table[contrast.exposure].astype(float)},
    )
    try:
        fit = fit_cox(
            data, duration="days", event="event", covariates=[contrast.exposure, *covariates],
            cluster="participant_id" if repeated else None,
        )  # fmt: skip
    except TableRefused as error:
        return followed | _no_estimate(str(error))
    return followed | _per_unit(fit, contrast)


def _no_estimate(reason: str) -> dict[str, Any]:
    names = ("estimate", "se", "lo", "hi", "p", "p_ph", "p_ph_global")
    return dict.fromkeys(names, np.nan) | {"warnings": reason}


def _per_unit(fit: CoxFit, contrast: Contrast) -> dict[str, Any]:
    first = fit.estimates.iloc[0]
    if np.isnan(first["coef"]):
        return _no_estimate("; ".join(fit.warnings))
    tests = proportional_hazards_test(fit).set_index("term")["p"]
    return {
        "estimate": float(np.exp(first["coef"] * contrast.size)),
        "se": float(first["se"] * contrast.size),
        "lo": float(first["hr_lo"] ** contrast.size),
        "hi": float(first["hr_hi"] ** contrast.size),
        "p": float(first["p"]),
        "p_ph": float(tests[contrast.exposure]),
        "p_ph_global": float(tests["GLOBAL"]),
        "warnings": "; ".join(fit.warnings),
    }


def _with_q(results: pd.DataFrame) -> pd.DataFrame:
    results["q"] = np.nan
    others = results[~results["primary"] & results["p"].notna()]
    for _, rows in others.groupby(["exposure", "contrast", "model"]):
        results.loc[rows.index, "q"] = stats.false_discovery_control(rows["p"], method="bh")
    return results
