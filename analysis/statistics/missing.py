"""Multiple imputation: Rubin's rules for fits of imputed tables, and for single figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.statistics.limits import normal_quantile

# Least share of variance due to missingness for the degrees of freedom, as in mice.
_LEAST_LAMBDA: Final = 1e-4

Floats = NDArray[np.float64]


class Fit(Protocol):
    """What is pooled, such as a `CoxFit`."""

    @property
    def estimates(self) -> pd.DataFrame:
        """One row per term, with columns term and coef."""

    @property
    def covariance(self) -> pd.DataFrame:
        """Covariance of the coefficients; index and columns are the terms."""

    @property
    def n(self) -> int:
        """Rows used."""


@dataclass(frozen=True, slots=True)
class PooledScalar:
    """A figure pooled over imputed tables.

    Attributes:
        n_imputations: number of imputed tables.
        estimate: mean of the estimates.
        se: root of the total variance.
        within: mean of the variances.
        between: variance of the estimates.
        df: degrees of freedom of Barnard and Rubin.
        lo: lower t limit.
        hi: upper t limit.
        riv: relative increase in variance due to missingness.
        lambda_: share of the total variance due to missingness.
        fmi: fraction of missing information.
        complete_df: degrees of freedom that complete data would have had.
        confidence: of the limits.
    """

    n_imputations: int
    estimate: float
    se: float
    within: float
    between: float
    df: float
    lo: float
    hi: float
    riv: float
    lambda_: float
    fmi: float
    complete_df: float
    confidence: float


@dataclass(frozen=True, slots=True)
class PooledFit:
    """Fits of imputed tables, pooled.

    Attributes:
        estimates: one row per term: term, coef, se, t, df, p, lo, hi, riv (relative increase in
            variance due to missingness), lambda (its share of the total variance), fmi (fraction
            of missing information); and hr, hr_lo, hr_hi where every fit has hazard ratios.
        covariance: total, (p, p) with the terms as index and columns.
        within: mean of the covariances of the fits.
        between: covariance of the coefficients over the fits.
        n: rows of each fit.
        n_imputations: number of fits.
        complete_df: degrees of freedom that complete data would have had.
        confidence: of all limits.
        warnings: what a reader must know.
    """

    estimates: pd.DataFrame
    covariance: pd.DataFrame
    within: pd.DataFrame
    between: pd.DataFrame
    n: int
    n_imputations: int
    complete_df: float
    confidence: float
    warnings: tuple[str, ...]


def pool_rubin(fits: Sequence[Fit], *, complete_df: float | None = None, confidence: float = 0.95) -> PooledFit:
    """Pool fits of the same model to imputed tables by Rubin's rules.

    Args:
        fits: one for each imputed table, at least 2, all of the same rows and terms. The order of
            terms may differ.
        complete_df: degrees of freedom that complete data would have had, above 0; infinite for
            Rubin's of 1987. By default those of mice: events less terms where the fits count
            events (`n_events`; the least of them), else rows less terms, and at least 1.
        confidence: of the limits, between 0 and 1.

    Returns:
        The pooled coefficients, in the order of the first fit, with t tests on the degrees of
        freedom of Barnard and Rubin.

    Raises:
        TypeError: `fits` is no sequence of fits.
        ValueError: fewer than 2 fits, another number of rows, other terms, a coefficient without
            an estimate, a variance of 0 or less, or an argument outside its range.

    Source:
        Rubin DB, Multiple Imputation for Nonresponse in Surveys, 1987; Barnard J, Rubin DB,
        Biometrika 1999;86:948-955. As in mice, the share of variance due to missingness is taken
        as 1e-4 at least for the degrees of freedom.
        R: summary(mice::pool(fits, dfcom = complete_df), "all", conf.int = TRUE);
        mitools::MIcombine for the covariance.
    """
    normal_quantile(confidence)
    made = _checked_fits(fits)
    terms = [str(term) for term in made[0].estimates["term"]]
    _check_same_model(made, terms)
    coefs = np.array([fit.estimates.set_index("term")["coef"].loc[terms] for fit in made], float)
    covariances = np.array([fit.covariance.loc[terms, terms] for fit in made], float)
    _check_estimated(coefs, covariances, terms)
    if complete_df is None:
        complete_df = max(min(_event_counts(made), default=int(made[0].n)) - len(terms), 1)
    df = _checked_df(complete_df)
    m = len(made)
    within = covariances.mean(axis=0)
    deviations = coefs - coefs.mean(axis=0)
    between = deviations.T @ deviations / (m - 1)
    coef = np.asarray(coefs.mean(axis=0))
    pooled = _rubin(coef, np.diagonal(within), np.diagonal(between), m, df, confidence)
    estimates = pd.DataFrame({"term": terms, **pooled})
    if all("hr" in fit.estimates for fit in made):
        for name, source in (("hr", "coef"), ("hr_lo", "lo"), ("hr_hi", "hi")):
            estimates[name] = np.exp(pooled[source])

    def framed(matrix: Floats) -> pd.DataFrame:
        return pd.DataFrame(matrix, index=terms, columns=terms)

    return PooledFit(
        estimates=estimates,
        covariance=framed(within + (1 + 1 / m) * between),
        within=framed(within),
        between=framed(between),
        n=int(made[0].n),
        n_imputations=m,
        complete_df=df,
        confidence=confidence,
        warnings=_warnings(made, terms, pooled["lambda"]),
    )


def pool_scalar(
    estimates: Sequence[float], *, variances: Sequence[float], complete_df: float = math.inf, confidence: float = 0.95
) -> PooledScalar:
    """Pool a figure and its variance over imputed tables by Rubin's rules.

    The figure should be about normal: pool a C-statistic near 1 on the logit scale, a correlation
    on Fisher's z.

    Args:
        estimates: (m,) the figure in each imputed table, at least 2.
        variances: (m,) squares of its standard errors, above 0.
        complete_df: degrees of freedom that complete data would have had, above 0.
        confidence: of the limits, between 0 and 1.

    Returns:
        The pooled figure.

    Raises:
        ValueError: fewer than 2 estimates, another number of variances, values that are not
            finite, or an argument outside its range.

    Source:
        As `pool_rubin`.
        R: mice::pool.scalar(estimates, variances, n = complete_df + 1, k = 1).
    """
    normal_quantile(confidence)
    values, squares = np.asarray(estimates, float), np.asarray(variances, float)
    if values.ndim != 1 or values.size < 2 or values.shape != squares.shape:
        raise ValueError(
            f"{values.size} estimates and {squares.size} variances, expected as many of both, and at least 2"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"estimates are {values.tolist()}, expected finite numbers")
    if not (np.isfinite(squares) & (squares > 0)).all():
        raise ValueError(f"variances are {squares.tolist()}, expected finite numbers above 0")
    df, m = _checked_df(complete_df), values.size
    mean, within = values.mean(keepdims=True), squares.mean(keepdims=True)
    between = values.var(ddof=1, keepdims=True)
    pooled = _rubin(mean, within, between, m, df, confidence)
    figures = {name: float(pooled[name][0]) for name in ("se", "df", "lo", "hi", "riv", "fmi")}
    return PooledScalar(
        n_imputations=m,
        estimate=float(mean[0]),
        within=float(within[0]),
        between=float(between[0]),
        lambda_=float(pooled["lambda"][0]),
        complete_df=df,
        confidence=confidence,
        **figures,
    )


def _checked_df(complete_df: float) -> float:
    if not complete_df > 0:
        raise ValueError(f"complete_df is {complete_df!r}, expected a number above 0 or infinity")
    return float(complete_df)


def _checked_fits(fits: Sequence[Fit]) -> list[Fit]:
    if isinstance(fits, str) or not isinstance(fits, Sequence):
        raise TypeError(f"fits is a {type(fits).__name__}, expected a list of fits")
    for place, fit in enumerate(fits):
        absent = [name for name in ("estimates", "covariance", "n") if not hasattr(fit, name)]
        if absent:
            raise TypeError(
                f"fit {place} is a {type(fit).__name__} without {', '.join(absent)}, expected a "
                "fit with estimates, covariance and n"
            )
    if len(fits) < 2:
        raise ValueError(f"{len(fits)} fits, expected at least 2, one for each imputed table")
    return list(fits)


def _check_same_model(fits: Sequence[Fit], terms: list[str]) -> None:
    counts = [int(fit.n) for fit in fits]
    if len(set(counts)) > 1:
        raise ValueError(
            f"fits have {', '.join(map(str, counts))} rows, expected the same in all; impute every "
            "used column, and drop the same people from every imputed table"
        )
    for place, fit in enumerate(fits):
        own = [str(term) for term in fit.estimates["term"]]
        for found, where in (
            (own, "estimates"),
            (list(fit.covariance.index), "rows of the covariance"),
            (list(fit.covariance.columns), "columns of the covariance"),
        ):
            if sorted(found) != sorted(terms) or len(set(found)) < len(found):
                raise ValueError(
                    f"fit {place} has {', '.join(map(str, found))} as terms of the {where}, "
                    f"expected {', '.join(terms)} as in the first, each once"
                )


def _check_estimated(coefs: Floats, covariances: Floats, terms: list[str]) -> None:
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    lacking = ~(np.isfinite(coefs) & np.isfinite(covariances).all(axis=2))
    for bad, problem in ((lacking, "no estimate"), (~(variances > 0), "no variance above 0")):
        if bad.any():
            place, term = np.argwhere(bad)[0]
            raise ValueError(
                f"{terms[term]!r} has {problem} in fit {place} ({bad[:, term].sum()} of "
                f"{len(coefs)} fits), expected one in every fit; leave the term out of the model "
                "or merge levels"
            )


def _event_counts(fits: Sequence[Any]) -> list[int]:
    counts = [getattr(fit, "n_events", None) for fit in fits]
    return [int(count) for count in counts if count is not None]


def _rubin(
    coef: Floats, within: Floats, between: Floats, m: int, complete_df: float, confidence: float
) -> dict[str, Floats]:
    """Return the pooled figures of each of p coefficients."""
    extra = (1 + 1 / m) * between
    total = within + extra
    share = extra / total
    df = _barnard_rubin(np.maximum(share, _LEAST_LAMBDA), m, complete_df)
    riv, se = extra / within, np.sqrt(total)
    half = stats.t.ppf(0.5 + confidence / 2, df) * se
    t = coef / se
    return {
        "coef": coef,
        "se": se,
        "t": t,
        "df": df,
        "p": 2 * stats.t.sf(np.abs(t), df),
        "lo": coef - half,
        "hi": coef + half,
        "riv": riv,
        "lambda": share,
        "fmi": (riv + 2 / (df + 3)) / (riv + 1),
    }


def _barnard_rubin(share: Floats, m: int, complete_df: float) -> Floats:
    """Return degrees of freedom from the share of variance due to missingness."""
    large = (m - 1) / share**2
    if math.isinf(complete_df):
        return large
    observed = (complete_df + 1) / (complete_df + 3) * complete_df * (1 - share)
    return large * observed / (large + observed)


def _warnings(fits: Sequence[Fit], terms: Sequence[str], share: Floats) -> tuple[str, ...]:
    warnings = []
    events = _event_counts(fits)
    if len(set(events)) > 1:
        warnings.append(
            f"fits have {min(events)} to {max(events)} events; complete_df rests on the least unless it was given"
        )
    worst = int(np.argmax(share))
    advised = math.ceil(100 * share[worst])
    if len(fits) < advised:
        warnings.append(
            f"{len(fits)} imputations, and {share[worst]:.0%} of the variance of {terms[worst]!r} "
            f"is due to missingness; at least {advised} are advised (White IR et al., Stat Med "
            "2011;30:377-399), so that a repetition gives about the same"
        )
    return tuple(warnings)
