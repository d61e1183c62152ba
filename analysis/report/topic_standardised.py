"""Standardised cumulative incidence: the risk were everybody, or nobody, to have predicted LVH."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.columns import TableRefused
from analysis.competing import cumulative_incidences
from analysis.cox_samples import CoxSamples
from analysis.limits import Z95
from analysis.outcome_models import SEX, Model, without_constant_sex
from analysis.outcome_rows import CLUSTER, FOLLOW_UP_TIME, HOUSEHOLD, fewest, followed
from analysis.report.aggregates import Aggregate, result, results
from analysis.report.document import About, ReadTable, Section
from analysis.report.masking import NOT_APPLICABLE, Masked
from analysis.report.study_data import StudyData
from analysis.report.topic_absolute_risk import horizon_years
from analysis.report.words import estimate_texts, row_labels

AVERAGED: Final = 4_000
_ROWS_OF_ALL_DRAWS: Final = 25_000_000
_FEWEST_DRAWS: Final = 50
_AGE_SEX: Final = Model(0, "age, sex", ("age_years", SEX))
_NEEDED: Final = ["lvh", "age_years", "sex"]
_COLUMNS: Final = ("participant_id", "event", "status_code", "time_days", "years", CLUSTER, HOUSEHOLD, *_NEEDED)
_MEASURES: Final = ("risk if all had LVH", "risk if none had LVH", "risk difference", "risk ratio")


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return the standardised risks of the primary outcome, with bootstrapped errors."""
    rows = [row for part in data.by_prediction_model() for row in _rows(part)]
    return [results("standardised", rows)]


def _rows(data: StudyData) -> list[dict[str, Any]]:
    study, outcome = data.study, data.study.primary_outcome
    table = data.analysed(outcome)
    table = table[[name for name in _COLUMNS if name in table]].drop_duplicates("participant_id")
    complete = table.dropna(subset=_NEEDED).reset_index(drop=True).astype({"sex": "category"})
    model = without_constant_sex(_AGE_SEX, complete)
    at = horizon_years(complete, study.horizon_years)
    arms = complete.groupby("lvh")["event"].sum().reindex([0.0, 1.0], fill_value=0)
    households = HOUSEHOLD in complete
    known = followed(complete, study) | {
        **data.keys(outcome),
        "exposure": study.lvh_column,
        "contrast": "LVH",
        "adjustment": model.adjustment,
        "unit": "years",
        "unit_value": at,
        "ties": "",
        "n_events_fewest": fewest(arms),
        "n_dropped_missing": len(table) - len(complete),
        "time_scale": FOLLOW_UP_TIME,
        "se_type": f"bootstrap by {'household' if households else 'person'}",
    }
    try:
        draws = study.bootstrap if arms.min() >= study.masking.k else 0  # it would be hidden
        estimate, errors, n_draws = _standardised(complete, model, at, draws, study.seed)
    except TableRefused as error:
        return [result("standardised", _MEASURES[0], **known, warnings=str(error))]
    rows = []
    for place, measure in enumerate(_MEASURES):
        value, se = float(estimate[place]), float(errors[place])
        half = Z95 * se
        limits = (value * np.exp(-half), value * np.exp(half)) if place != 2 else (value - half, value + half)
        drawn = {"se": se, "lo": float(limits[0]), "hi": float(limits[1])} if n_draws else {}
        told = f"{n_draws} bootstrap samples"
        rows.append(result("standardised", measure, **known, estimate=value, **drawn, level=told))
    return rows


def _standardised(table: pd.DataFrame, model: Model, at: float, draws: int, seed: int) -> tuple[Any, Any, int]:
    """Risks if all and if none had LVH, difference, ratio; errors (of logarithms but the third)."""
    if at <= 0:
        raise TableRefused("fewer than 50 people are followed, expected more for absolute risks")
    rng = np.random.default_rng(seed)
    sample = rng.permutation(len(table))[:AVERAGED]
    models = {
        cause: CoxSamples.of(
            table.assign(event=table["status_code"] == cause),
            duration="years",
            event="event",
            covariates=["lvh", *model.covariates],
        )
        for cause in (1, 2)
    }
    value = _risks(models, np.ones(len(table), dtype=np.int64), table.iloc[sample], at)
    n_draws = min(draws, max(_FEWEST_DRAWS, _ROWS_OF_ALL_DRAWS // len(table))) if draws else 0
    found = []
    for _ in range(n_draws):
        drawn = _drawn(table, rng)
        again = table.iloc[rng.choice(sample, len(sample))]
        try:
            found.append(_risks(models, drawn, again, at))
        except TableRefused:
            continue  # a sample without events in an arm; counted below
    if n_draws and len(found) < 0.95 * n_draws:
        raise TableRefused(
            f"{n_draws - len(found)} of {n_draws} bootstrap samples have no estimate, expected "
            "5 % at most; there are too few events in an arm"
        )
    scaled = [[np.log(a), np.log(b), a - b, np.log(a / b)] for a, b in found]
    errors = np.std(scaled, axis=0, ddof=1) if found else np.full(4, np.nan)
    return np.array([*value, value[0] - value[1], value[0] / value[1]]), errors, len(found)


def _drawn(table: pd.DataFrame, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each row is in a sample of people, or of households with all their people."""
    if HOUSEHOLD not in table:
        return np.bincount(rng.integers(0, len(table), len(table)), minlength=len(table))
    households = pd.factorize(table[CLUSTER])[0]
    n = int(households.max()) + 1
    return np.bincount(rng.integers(0, n, n), minlength=n)[households]


def _risks(
    models: Mapping[int, CoxSamples], drawn: NDArray[np.int64], people: pd.DataFrame, at: float
) -> tuple[float, float]:
    """Mean risk of the people if all and if none had LVH, by models fitted to a sample."""
    fits = {cause: model.repeated(drawn) for cause, model in models.items()}
    if any(fit.estimates["coef"].isna().any() for fit in fits.values()):
        raise TableRefused("an arm has no event, expected events with and without LVH")
    risks = [float(cumulative_incidences(fits, people.assign(lvh=lvh), [at])[0].mean()) for lvh in (1.0, 0.0)]
    return risks[0], risks[1]


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return one table."""
    found = masked.get("results_standardised")
    if found is None or not len(found.rows):
        return None
    labels, rows = row_labels(found, about), found.rows
    cells = pd.DataFrame(
        labels
        | {
            "Measure": rows["measure"],
            "Horizon, years": [f"{value:.3g}" if value else NOT_APPLICABLE for value in rows["unit_value"]],
            "Estimate (95 % interval)": estimate_texts(found, 4),
            "People": found.shown("n_people"),
            "Events": found.shown("n_events"),
        }
    ).reset_index(drop=True)
    drawn = ", ".join(dict.fromkeys(filter(None, rows["level"])))
    notes = (
        "g-formula: cause-specific Cox models of the outcome and of death with LVH, age and sex, "
        "their predicted incidence averaged over the age and sex of the people analysed (at most "
        f"{AVERAGED:,}, drawn at random). Intervals from {drawn or 'no samples'}, "
        "normal on the logarithm (difference: as it is).",
    )
    table = ReadTable(
        "standardised", "Standardised cumulative incidence by predicted LVH", cells, len(labels) + 1, notes
    )
    paragraph = (
        "What the incidence would be were everybody, or nobody, to have predicted LVH, age and sex "
        "staying as they are. Read as a description unless confounding can be excluded."
    )
    return Section("standardised", "Standardised risk", (paragraph,), (table,))
