"""The result of a Cox model: estimates, covariance, tests between models, survival."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, stats

from analysis.statistics.columns import Columns, TableRefused, used_columns
from analysis.statistics.design import Design
from analysis.statistics.limits import Z95
from analysis.statistics.survival.cox_likelihood import Likelihood, ordered_product, sums_of_means
from analysis.statistics.survival.risk_sets import RiskRanges, Ties, step_values

_HIGHEST: Final = 700.0  # exp of more is infinite


@dataclass(frozen=True, slots=True)
class Baseline:
    """Cumulative hazard of one stratum, for covariates at their means.

    Attributes:
        times: (J,) distinct event times.
        steps: (J,) increments of the hazard.
        variances: (J,) variance of each increment, coefficients known.
        means: (J, p) increments weighted by the mean covariates of the risk sets.
    """

    times: Floats
    steps: Floats
    variances: Floats
    means: Floats


def baseline_hazards(ranges: RiskRanges, at: Likelihood) -> tuple[Baseline, ...]:
    """Return the baseline hazard of each stratum, with ties as in the fit.

    Args:
        ranges: who is at risk when.
        at: the likelihood at its maximum.

    Returns:
        One for each stratum, in the order of the codes.
    """
    steps = ranges.sums_of_events(at.hazard)
    variances = ranges.sums_of_events(at.hazard / at.risk_sum)
    means = sums_of_means(ranges, at, at.hazard).T
    bounds = zip(ranges.strata_ends[:-1], ranges.strata_ends[1:], strict=True)
    return tuple(Baseline(ranges.times[a:b], steps[a:b], variances[a:b], means[a:b]) for a, b in bounds)


def relative_risk(x: Floats, coefficients: Floats) -> Floats:
    """Return exp(linear predictor).

    Args:
        x: (n, p) covariates, less the means of the fit.
        coefficients: (p,).

    Returns:
        (n,) hazard ratios against a person at the means.

    Raises:
        TableRefused: one of them is beyond the range of numbers.
    """
    predictor = ordered_product(x.T, coefficients)
    far = np.flatnonzero(predictor > _HIGHEST)
    if len(far):
        raise TableRefused(
            f"{len(far)} rows (the first: {far[0]}) have covariates so far from those of the fit "
            f"that the log hazard ratio is {predictor[far[0]]:.3g}; expected values in the range "
            "of the fit and in the same unit"
        )
    return np.exp(predictor)


def cumulative_hazards(
    baseline: Baseline, x: Floats, coefficients: Floats, covariance: Floats, times: Floats
) -> tuple[Floats, Floats]:
    """Return cumulative hazards of people, and their standard errors.

    Args:
        baseline: of their stratum.
        x: (n, p) covariates, less the means of the fit.
        coefficients: (p,).
        covariance: (p, p) of the coefficients.
        times: (T,) times.

    Returns:
        (n, T) hazards, and (n, T) standard errors that include the coefficients'.
    """

    def read(increments: Floats) -> Floats:
        return step_values(baseline.times, np.cumsum(increments), times, start=0.0)

    hazard = read(baseline.steps)
    variance = read(baseline.variances)
    means = np.column_stack([read(column) for column in baseline.means.T])
    risk = relative_risk(x, coefficients)
    error = np.empty((len(x), len(times)))
    for index in range(len(times)):
        pull = means[index] - x * hazard[index]
        spread = np.einsum("ij,jk,ik->i", pull, covariance, pull)
        error[:, index] = risk * np.sqrt(variance[index] + spread)
    return np.outer(risk, hazard), error


Floats = NDArray[np.float64]
_EVENTS_PER_PARAMETER: Final = 10


class LogLikelihood(NamedTuple):
    """Logarithm of the partial likelihood with all coefficients 0, and at the estimates."""

    null: float
    fitted: float


class ChiSquareTest(NamedTuple):
    """A chi-square statistic with its degrees of freedom and P value."""

    chi2: float
    df: int
    p: float


def chi_square_test(chi2: float, df: int) -> ChiSquareTest:
    """Return a statistic with its P value."""
    return ChiSquareTest(chi2, df, float(stats.chi2.sf(chi2, df)))


def estimate_table(terms: Sequence[str], coef: Floats, se: Floats, se_model: Floats) -> pd.DataFrame:
    """Return coefficients with errors, tests and hazard ratios, one row a term.

    Args:
        terms: the p names.
        coef: (p,) log hazard ratios.
        se: (p,) their standard errors, on which z, p and the 95 % limits rest.
        se_model: (p,) from the information alone.

    Returns:
        term, coef, se, se_model, z, p, hr, hr_lo, hr_hi.
    """
    z = coef / se
    with np.errstate(over="ignore"):  # per unit of a tiny covariate the ratio may be infinite
        hr, lo, hi = np.exp(coef), np.exp(coef - Z95 * se), np.exp(coef + Z95 * se)
    return pd.DataFrame(
        {
            "term": list(terms),
            "coef": coef,
            "se": se,
            "se_model": se_model,
            "z": z,
            "p": 2 * stats.norm.sf(np.abs(z)),
            "hr": hr,
            "hr_lo": lo,
            "hr_hi": hi,
        }
    )


def sandwich(influence: Floats, clusters: NDArray[np.int64] | None) -> Floats:
    """Return the robust covariance of estimates.

    Args:
        influence: (n, p) what each row adds to the estimates, with its weight.
        clusters: (n,) codes of those whose rows belong together, or None.

    Returns:
        (p, p) sum over clusters of the products of their influences.
    """
    if clusters is not None:
        influence = np.column_stack([np.bincount(clusters, column) for column in influence.T])
    return np.asarray(influence.T @ influence)


def few_events(n_events: int, n_parameters: int) -> tuple[str, ...]:
    """Return a warning where there are fewer than 10 events per parameter, else nothing."""
    if n_events >= _EVENTS_PER_PARAMETER * n_parameters:
        return ()
    return (
        f"{n_events} events for {n_parameters} parameters, fewer than {_EVENTS_PER_PARAMETER} "
        "each: estimates are unstable and limits too narrow",
    )


@dataclass(frozen=True, slots=True)
class FitState:
    """What later computations need of the data of a fit.

    Rows are in the order of `risk_order`, which depends on event and strata; `in_table_order`
    makes rows of two fits comparable.

    Attributes:
        ranges: who is at risk when.
        x: (p, n) covariates of the estimated terms, less `means`.
        means: (p,) subtracted.
        at: the likelihood at its maximum.
        exits: (n,) end of follow-up.
        entries: (n,) start of follow-up, or None.
        events: (n,) bool.
        estimated: for each term whether it has an estimate.
        fixed_values: for each term without an estimate, its value in all rows of the likelihood.
        strata: columns that make strata.
        stratum_labels: label of each code of `ranges.stratum`.
        clusters: (n,) codes of people or households, or None.
        rows: (n,) row numbers of the table.
    """

    ranges: RiskRanges
    x: Floats
    means: Floats
    at: Likelihood
    exits: Floats
    entries: Floats | None
    events: NDArray[np.bool_]
    estimated: NDArray[np.bool_]
    fixed_values: Floats
    strata: tuple[str, ...]
    stratum_labels: tuple[object, ...]
    clusters: NDArray[np.int64] | None
    rows: NDArray[np.int64]

    def in_table_order(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return (n,) values in the order of the table's rows."""
        place = np.full(self.rows.max() + 1, -1)
        place[self.rows] = np.arange(len(self.rows))
        order = place[place >= 0]
        if len(order) < len(self.rows):  # a row is there several times
            order = np.argsort(self.rows, kind="stable")
        return values[order]


@dataclass(frozen=True, slots=True)
class CoxFit:
    """A fitted Cox model.

    Attributes:
        estimates: one row a term: term, coef (log hazard ratio), se, se_model, z, p, hr, hr_lo,
            hr_hi (95 %). `se` is the robust or clustered one where asked for, and z, p and limits
            follow it. Terms without an estimate are NaN and told in `warnings`.
        covariance: (p, p) DataFrame, of `se`.
        log_likelihood: null and fitted.
        n: rows in the fit.
        n_events: events.
        n_clusters: clusters behind the errors, or None.
        n_dropped_missing: rows left out because a used column was missing.
        ties: "efron" or "breslow".
        robust: whether `se` is the sandwich estimate.
        warnings: what a reader of the result must know; empty when all is well.
        design: the covariates, as fixed by these data.
        state: for the functions of this package.
    """

    estimates: pd.DataFrame
    covariance: pd.DataFrame
    log_likelihood: LogLikelihood
    n: int
    n_events: int
    n_clusters: int | None
    n_dropped_missing: int
    ties: Ties
    robust: bool
    warnings: tuple[str, ...]
    design: Design
    state: FitState = field(repr=False)

    @property
    def coefficients(self) -> Floats:
        """Return the estimated coefficients, without the terms that have none."""
        return self.estimates["coef"].to_numpy()[self.state.estimated]

    @property
    def estimated_covariance(self) -> Floats:
        """Return the covariance of `coefficients`."""
        keep = self.state.estimated
        return np.asarray(self.covariance.to_numpy()[np.ix_(keep, keep)])

    def linear_predictor(self, table: pd.DataFrame) -> Floats:
        """Return the log hazard ratio of each row against a person at the means of the fit.

        Args:
            table: rows with the covariates of the fit, complete.

        Returns:
            (n,) values. R: `predict(fit, table, type = "lp", reference = "sample")` for numbers.

        Raises:
            TableRefused: a covariate is missing or of another kind, or a row has a level without
                an estimate.
        """
        columns = used_columns(table, self.design.columns)
        return ordered_product(self._centred(columns).T, self.coefficients)

    def predict_survival(self, table: pd.DataFrame, times: ArrayLike) -> pd.DataFrame:
        """Predict survival of people at given times, with 95 % log-log limits.

        Beyond the last event the curve stays where it is. With competing events this is no
        probability: use `analysis.statistics.survival.competing.predict_cumulative_incidence`.

        Args:
            table: rows with the covariates and strata of the fit, complete.
            times: times, on the scale of the fit.

        Returns:
            row (number of the row, from 0), time, survival, se, survival_lo, survival_hi, all of
            a row together.

        Raises:
            TableRefused: a column cannot be used, a stratum was not in the fit, or a row is so far
                from the fit that its hazard ratio is no number.
            ValueError: the times are negative or not finite.

        Source:
            Hazard with Efron's or Breslow's ties as in the fit, variance by Tsiatis AA, Ann Stat
            1981;9:93. R: `summary(survfit(fit, newdata, conf.type = "log-log"), times)`.
        """
        at = np.atleast_1d(np.asarray(times, dtype=np.float64))
        if at.ndim != 1 or not len(at) or not (np.isfinite(at) & (at >= 0)).all():
            raise ValueError(f"times are {times!r}, expected finite times of 0 or above")
        columns = used_columns(table, [*self.design.columns, *self.state.strata])
        x = self._centred(columns)
        hazard = np.empty((columns.n, len(at)))
        error = np.empty((columns.n, len(at)))
        baselines = baseline_hazards(self.state.ranges, self.state.at)
        strata = self._strata_of(columns)
        for code in np.unique(strata):
            rows = strata == code
            hazard[rows], error[rows] = cumulative_hazards(
                baselines[code], x[rows], self.coefficients, self.estimated_covariance, at
            )
        return _survival_frame(at, hazard, error)

    def relative_risks(self, table: pd.DataFrame) -> tuple[Floats, NDArray[np.int64]]:
        """Return the hazard ratio of each row against a person at the means, and its stratum.

        Args:
            table: rows with the covariates and strata of the fit, complete.

        Returns:
            (n,) hazard ratios, and (n,) codes of strata: rows of `baseline_steps`.
        """
        columns = used_columns(table, [*self.design.columns, *self.state.strata])
        return (relative_risk(self._centred(columns), self.coefficients), self._strata_of(columns))

    def baseline_steps(self, times: Floats) -> Floats:
        """Return the steps of the cumulative hazard of a person at the means.

        Args:
            times: (T,) ascending times that include all event times of the fit up to the last.

        Returns:
            (strata, T) steps, 0 where the stratum has no event.
        """
        baselines = baseline_hazards(self.state.ranges, self.state.at)
        steps = np.zeros((len(baselines), len(times)))
        for own, baseline in zip(steps, baselines, strict=True):
            within = np.searchsorted(baseline.times, times[-1:], side="right").sum()
            own[np.searchsorted(times, baseline.times[:within])] = baseline.steps[:within]
        return steps

    def likelihood_ratio_test(self, other: CoxFit) -> ChiSquareTest:
        """Test a model against one nested in it, on the same rows.

        Args:
            other: the smaller or the larger model.

        Returns:
            Twice the gain in log-likelihood, its degrees of freedom and P value.

        Raises:
            ValueError: the models are not nested, not of the same rows, ties and strata, or have
                robust errors, under which twice the gain is not chi-square.

        Source:
            R: `anova(smaller, larger)`.
        """
        small, large = sorted((self, other), key=lambda fit: len(fit.estimates))
        extra = set(large.estimates["term"]) - set(small.estimates["term"])
        if len(extra) != len(large.estimates) - len(small.estimates) or not extra:
            raise ValueError(
                f"the models are not nested: {list(small.estimates['term'])} and "
                f"{list(large.estimates['term'])}; expected one to have all terms of the other "
                "and more"
            )
        same = (
            small.ties == large.ties
            and small.n_events == large.n_events
            and np.array_equal(np.sort(small.state.rows), np.sort(large.state.rows))
            and np.isclose(small.log_likelihood.null, large.log_likelihood.null, rtol=1e-10, atol=0)
        )
        if not same:
            raise ValueError(
                f"the models are not of the same data: {small.n} and {large.n} rows, "
                f"{small.n_events} and {large.n_events} events, null log-likelihoods "
                f"{small.log_likelihood.null} and {large.log_likelihood.null}; expected the same "
                "rows, strata and ties. Drop rows with missing values before both fits"
            )
        if small.robust or large.robust:
            raise ValueError(
                "twice the gain in log-likelihood is not chi-square with clusters or weights, for "
                "which the robust errors were asked; use wald_test"
            )
        gain = 2 * (large.log_likelihood.fitted - small.log_likelihood.fitted)
        df = int(large.state.estimated.sum() - small.state.estimated.sum())
        return chi_square_test(gain, df)

    def wald_test(self, terms: Sequence[str]) -> ChiSquareTest:
        """Test whether several coefficients are all 0, with the errors of the fit.

        Args:
            terms: names of `estimates`.

        Returns:
            The Wald statistic, its degrees of freedom and P value.

        Raises:
            ValueError: a term is unknown or has no estimate.

        Source:
            R: `rms::anova.rms`, or `coef %*% solve(vcov) %*% coef`.
        """
        names = list(self.estimates["term"])
        estimated = set(self.estimates["term"][self.state.estimated])
        unknown = [t for t in terms if t not in estimated]
        if unknown or not terms:
            raise ValueError(f"{unknown or 'no term'} has no estimate; expected some of {names}")
        part = self.covariance.loc[list(terms), list(terms)].to_numpy()
        coef = self.estimates.set_index("term").loc[list(terms), "coef"].to_numpy()
        return chi_square_test(float(coef @ linalg.solve(part, coef, assume_a="pos")), len(coef))

    def _centred(self, columns: Columns) -> Floats:
        matrix = self.design.matrix(columns)
        keep = self.state.estimated
        constants = matrix[:, ~keep]
        strange = np.flatnonzero((constants != self.state.fixed_values).any(axis=1))
        if len(strange):
            raise TableRefused(
                f"{len(strange)} rows (the first: {columns.row_numbers[strange[0]]}) have a level "
                "without an estimate, since nobody with it had an event; leave them out"
            )
        return np.asarray(matrix[:, keep] - self.state.means)

    def _strata_of(self, columns: Columns) -> NDArray[np.int64]:
        codes, labels = columns.groups(self.state.strata)
        known = {label: code for code, label in enumerate(self.state.stratum_labels)}
        unknown = [label for label in labels if label not in known]
        if unknown:
            raise TableRefused(
                f"strata {', '.join(self.state.strata)}: {unknown[0]!r} was not in the fit; "
                f"expected one of {', '.join(map(repr, known))}"
            )
        return np.array([known[label] for label in labels], dtype=np.int64)[codes]


def _survival_frame(times: Floats, hazard: Floats, error: Floats) -> pd.DataFrame:
    survival = np.exp(-hazard)
    ratio = np.divide(Z95 * error, hazard, out=np.zeros_like(hazard), where=hazard > 0)
    with np.errstate(over="ignore"):  # where next to nothing is known the lower limit is 0
        lo, hi = np.exp(-hazard * np.exp(ratio)), np.exp(-hazard * np.exp(-ratio))
    n, size = hazard.shape
    return pd.DataFrame(
        {
            "row": np.repeat(np.arange(n), size),
            "time": np.tile(times, n),
            "survival": survival.ravel(),
            "se": (survival * error).ravel(),
            "survival_lo": lo.ravel(),
            "survival_hi": hi.ravel(),
        }
    )
