"""Multiple imputation by chained equations, for fits that `missing.pool_rubin` pools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import linalg, special

from analysis.statistics.columns import TableRefused

Floats = NDArray[np.float64]
Kind = Literal["number", "yes_no", "category"]
_DONORS: Final = 5
_CYCLES: Final = 10
_RIDGE: Final = 1e-5  # of the variance, as in mice
_NEWTON_STEPS: Final = 30
_MOST_MISSING: Final = 0.5


@dataclass(frozen=True, slots=True)
class Target:
    """A column whose missing values are imputed."""

    column: str  # numbers; 1 and 0; or text
    kind: Kind


def imputed_tables(
    table: pd.DataFrame, targets: Sequence[Target], predictors: Sequence[str], *, m: int, seed: int
) -> Iterator[pd.DataFrame]:
    """Yield m tables in which the missing values of the targets are drawn.

    Ten cycles of chained equations each: numbers by predictive mean matching with five donors,
    yes/no by logistic regression, categories by one logistic regression for each level against
    those after it. Parameters are drawn too, so that fits differ as much as is unknown.

    Args:
        table: one row per person; rows are kept.
        targets: columns with missing values; complete ones serve as predictors.
        predictors: complete columns of numbers: the exposure, event, Nelson-Aalen hazard, and the
            other covariates.
        m: imputations, 2 or more.
        seed: of the draws.

    Raises:
        TableRefused: a predictor is missing somewhere, or a target in more than half of the rows.
        ValueError: m is below 2.

    Source:
        van Buuren S, Groothuis-Oudshoorn K, J Stat Softw 2011;45(3). R: `mice::mice(data, m,
        method = c("pmm", "logreg"), maxit = 10)`.
    """
    if m < 2:
        raise ValueError(f"m is {m}, expected 2 or more imputations")
    gaps = {name: int(table[name].isna().sum()) for name in predictors if table[name].isna().any()}
    if gaps:
        raise TableRefused(f"predictors {gaps} have missing values, expected none; impute them or leave rows out")
    for one in targets:
        share = float(table[one.column].isna().mean())
        if share > _MOST_MISSING:
            raise TableRefused(
                f"column {one.column!r} is missing in {share:.0%} of the rows, expected at most {_MOST_MISSING:.0%}"
            )
    rng = np.random.default_rng(seed)
    fixed = table[list(predictors)].to_numpy(dtype=float)
    for _ in range(m):
        yield _imputed(table, targets, fixed, rng)


def _imputed(table: pd.DataFrame, targets: Sequence[Target], fixed: Floats, rng: np.random.Generator) -> pd.DataFrame:
    made = table.copy()
    absent = {one.column: table[one.column].isna().to_numpy() for one in targets}
    for name, is_absent in absent.items():  # to begin with, values of others
        known = table.loc[~is_absent, name].to_numpy()
        values = made[name].astype(object)
        values[is_absent] = rng.choice(known, int(is_absent.sum()))
        made[name] = values.astype(table[name].dtype)
    unknown = sorted((one for one in targets if absent[one.column].any()), key=lambda one: absent[one.column].sum())
    for _ in range(_CYCLES if len(unknown) > 1 else 1):
        for one in unknown:
            others = [_columns(made, two) for two in targets if two is not one]
            x = np.column_stack([np.ones(len(made)), fixed, *others])
            drawn = _drawn(table[one.column], absent[one.column], x, one.kind, rng)
            values = made[one.column].astype(object)
            values[absent[one.column]] = drawn
            made[one.column] = values.astype(table[one.column].dtype)
    return made


def _columns(table: pd.DataFrame, target: Target) -> Floats:
    """A target as predictor: numbers, or an indicator of each level but the first."""
    if target.kind != "category":
        return table[[target.column]].to_numpy(dtype=float)
    values = table[target.column].to_numpy(dtype=object)
    levels = sorted(set(values))
    return np.column_stack([(values == level).astype(float) for level in levels[1:]] or [np.zeros(len(values))])


def _drawn(column: pd.Series[Any], absent: NDArray[np.bool_], x: Floats, kind: Kind, rng: np.random.Generator) -> Any:
    x = _scaled(x)
    there, gone = x[~absent], x[absent]
    if kind == "number":
        return _matched(column[~absent].to_numpy(dtype=float), there, gone, rng)
    if kind == "yes_no":
        chance = _chances(column[~absent].to_numpy(dtype=float), there, gone, rng)
        return (rng.random(len(gone)) < chance).astype(float)
    known = column[~absent].to_numpy(dtype=object)
    levels = sorted(set(known))
    drawn = np.full(len(gone), levels[-1], dtype=object)
    open_rows, left = np.ones(len(gone), dtype=bool), np.ones(len(known), dtype=bool)
    for level in levels[:-1]:
        chance = _chances((known[left] == level).astype(float), there[left], gone, rng)
        hit = open_rows & (rng.random(len(gone)) < chance)
        drawn[hit] = level
        open_rows &= ~hit
        left &= known != level
    return drawn


def _scaled(x: Floats) -> Floats:
    """Standardise the columns, so that the ridge is one of the scale; constant ones are dropped."""
    spread = x[:, 1:].std(axis=0)
    kept = spread > 0
    return np.column_stack([x[:, :1], (x[:, 1:][:, kept] - x[:, 1:][:, kept].mean(axis=0)) / spread[kept]])


def _matched(y: Floats, there: Floats, gone: Floats, rng: np.random.Generator) -> Floats:
    """Match predictive means: by drawn parameters for the missing, by estimates for donors."""
    products = there.T @ there
    products[np.diag_indices_from(products)] *= 1 + _RIDGE
    bread = linalg.inv(products)
    estimate = bread @ (there.T @ y)
    residual = y - there @ estimate
    df = max(len(y) - there.shape[1], 1)
    sigma = np.sqrt((residual @ residual) / rng.chisquare(df))
    beta = estimate + sigma * (linalg.cholesky(bread, lower=True) @ rng.standard_normal(len(estimate)))
    fitted, wanted = there @ estimate, gone @ beta
    order = np.argsort(fitted, kind="stable")
    place = np.searchsorted(fitted[order], wanted)
    # The nearest five are among the five on either side.
    around = np.clip(place[:, None] + np.arange(-_DONORS, _DONORS), 0, len(y) - 1)
    distance = np.abs(fitted[order][around] - wanted[:, None])
    # Places at the ends come several times; only the first counts.
    distance[:, 1:][around[:, 1:] == around[:, :-1]] = np.inf
    nearest = np.take_along_axis(around, np.argsort(distance, axis=1, kind="stable")[:, :_DONORS], axis=1)
    n_donors = min(_DONORS, len(y))
    chosen = nearest[np.arange(len(gone)), rng.integers(0, n_donors, len(gone))]
    return np.asarray(y[order][chosen])


def _chances(y: Floats, there: Floats, gone: Floats, rng: np.random.Generator) -> Floats:
    """Return the chance of 1 of each missing row, by logistic regression, parameters drawn."""
    beta = np.zeros(there.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = special.expit(there @ beta)
        information = (there * (p * (1 - p))[:, None]).T @ there
        information[np.diag_indices_from(information)] += _RIDGE * len(y)
        step = linalg.solve(information, there.T @ (y - p) - _RIDGE * len(y) * beta, assume_a="pos")
        beta = beta + step
        if np.abs(step).max() < 1e-8:
            break
    spread = linalg.cholesky(linalg.inv(information), lower=True)
    return np.asarray(special.expit(gone @ (beta + spread @ rng.standard_normal(len(beta)))))
