"""Multiple imputation: Rubin's rules for fits of imputed tables, and for single figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import linalg, stats

_LEAST_LAMBDA: Final = 1e-4
"""Least share of variance due to missingness for the degrees of freedom, as in mice."""

Floats = NDArray[np.float64]


class Fit(Protocol):
    """What is pooled, such as a `CoxFit`."""

    @property
    def estimates(self) -> pd.DataFrame:
        """One row a term, with columns term and coef."""

    @property
    def covariance(self) -> pd.DataFrame:
        """Covariance of the coefficients; index and columns are the terms."""

    @property
    def n(self) -> int:
        """Rows used."""


class PooledWaldTest(NamedTuple):
    """Wald test that several pooled coefficients are all 0.

    Attributes:
        f: the statistic.
        df1: number of coefficients.
        df2: denominator degrees of freedom.
        p: of F(df1, df2).
        riv: average relative increase in variance due to missingness.
        method: where `df2` comes from: "reiter-2007", "li-1991" or, for one term,
            "barnard-rubin-1999".
    """

    f: float
    df1: int
    df2: float
    p: float
    riv: float
    method: str


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
        estimates: one row a term: term, coef, se, t, df, p, lo, hi, riv (relative increase in
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

    def test_terms(self, terms: Sequence[str]) -> PooledWaldTest:
        """Test that several coefficients are all 0 (D1).

        For the indicators of a category, or the terms of a spline. Supposes that missingness
        raises the variance of all these coefficients by the same share.

        Args:
            terms: of the fits. For one term this is the t test of `estimates`.

        Returns:
            The test; denominator by Reiter where terms x (fits - 1) is above 4 and `complete_df`
            is finite, else by Li, Raghunathan and Rubin; infinite where the fits do not differ and
            `complete_df` is infinite.

        Raises:
            TypeError: a text in place of a list.
            ValueError: no term, one twice, an unknown one, terms that depend on each other, or a
                `complete_df` too small for Reiter's formula.

        Source:
            Li KH, Raghunathan TE, Rubin DB, J Am Stat Assoc 1991;86:1065-1073; Reiter JP,
            Biometrika 2007;94:502-508.
            R: mice::D1(fit1, fit0, dfcom = complete_df), but for one term.
        """
        wanted = _known_terms(terms, list(self.covariance.index))
        k, m = len(wanted), self.n_imputations
        coef = self.estimates.set_index("term").loc[wanted, "coef"].to_numpy()
        within = self.within.loc[wanted, wanted].to_numpy()
        between = self.between.loc[wanted, wanted].to_numpy()
        try:
            factor = linalg.cho_factor(within)
        except linalg.LinAlgError as error:
            raise ValueError(f"{', '.join(wanted)} depend on each other, expected terms that do not") from error
        riv = float((1 + 1 / m) * np.trace(linalg.cho_solve(factor, between)) / k)
        f = float(coef @ linalg.cho_solve(factor, coef) / (k * (1 + riv)))
        if k == 1:
            alone = (self.estimates["term"] == wanted[0]).to_numpy()
            df2, method = float(self.estimates["df"].to_numpy()[alone][0]), "barnard-rubin-1999"
        else:
            df2, method = _denominator(riv, k, m, self.complete_df)
        return PooledWaldTest(f, k, df2, float(stats.f.sf(f, k, df2)), riv, method)


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
    _check_confidence(confidence)
    made = _checked_fits(fits)
    terms = [str(term) for term in made[0].estimates["term"]]
    _check_same_model(made, terms)
    coefs = np.array([fit.estimates.set_index("term")["coef"].loc[terms] for fit in made], float)
    covariances = np.array([fit.covariance.loc[terms, terms] for fit in made], float)
    _check_estimated(coefs, covariances, terms)
    df = _default_df(made, len(terms)) if complete_df is None else _checked_df(complete_df)
    m = len(made)
    within = covariances.mean(axis=0)
    deviations = coefs - coefs.mean(axis=0)
    between = deviations.T @ deviations / (m - 1)
    coef = np.asarray(coefs.mean(axis=0))
    pooled = _rubin(coef, np.diagonal(within), np.diagonal(between), m, df, confidence)
    ratios = all("hr" in fit.estimates for fit in made)

    def framed(matrix: Floats) -> pd.DataFrame:
        return pd.DataFrame(matrix, index=terms, columns=terms)

    return PooledFit(
        estimates=_estimate_table(terms, pooled, ratios=ratios),
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
    _check_confidence(confidence)
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


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}, expected a share such as 0.95")


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


def _default_df(fits: Sequence[Fit], n_terms: int) -> float:
    events = _event_counts(fits)
    size = min(events) if events else int(fits[0].n)
    return float(max(size - n_terms, 1))


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


def _denominator(riv: float, k: int, m: int, complete_df: float) -> tuple[float, str]:
    """Return the denominator degrees of freedom of D1 and their source."""
    t = k * (m - 1)
    if math.isfinite(complete_df) and t > 4:
        return _reiter(riv, t, complete_df), "reiter-2007"
    if riv == 0:
        return math.inf, "li-1991"
    if t > 4:
        return 4 + (t - 4) * (1 + (1 - 2 / t) / riv) ** 2, "li-1991"
    return t * (1 + 1 / k) * (1 + 1 / riv) ** 2 / 2, "li-1991"


def _reiter(riv: float, t: int, complete_df: float) -> float:
    """Return Reiter's degrees of freedom; his six terms in a bracket, the squares gathered."""
    a = riv * t / (t - 2)
    v = (complete_df + 1) / (complete_df + 3) * complete_df
    two, four = v - 2 * (1 + a), v - 4 * (1 + a)
    if four <= 0:
        raise ValueError(
            f"complete_df is {complete_df:g} and the variance grows by {riv:.2g} through "
            "missingness: too few degrees of freedom to test several terms; give more rows, or "
            "pool with complete_df=math.inf"
        )
    bracket = two * (1 / (1 + a) + 4 / four) ** 2 + 4 / (1 + a) + 4 / two + 8 / four
    return 4 + 1 / (1 / four + a**2 / four / (t - 4) * bracket)


def _estimate_table(terms: Sequence[str], pooled: dict[str, Floats], *, ratios: bool) -> pd.DataFrame:
    frame = pd.DataFrame({"term": list(terms)} | pooled)
    if ratios:
        for name, source in (("hr", "coef"), ("hr_lo", "lo"), ("hr_hi", "hi")):
            frame[name] = np.exp(pooled[source])
    return frame


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


def _known_terms(terms: Sequence[str], known: Sequence[str]) -> list[str]:
    if isinstance(terms, str):
        raise TypeError(f"terms is the text {terms!r}, expected a list of terms")
    wanted = list(terms)
    strange = [term for term in wanted if term not in known]
    if strange or not wanted or len(set(wanted)) < len(wanted):
        raise ValueError(
            f"terms are {', '.join(map(repr, wanted)) or 'none'}, expected different ones of {', '.join(known)}"
        )
    return wanted
