"""A Cox model from checked rows to its result: estimates, covariance, tests between models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, stats

from analysis.statistics.columns import Columns, TableRefused, used_columns
from analysis.statistics.design import Design
from analysis.statistics.limits import Z95
from analysis.statistics.survival.cox_likelihood import (
    Likelihood,
    RiskRanges,
    Ties,
    find_separated,
    likelihood,
    maximise,
    ordered_product,
    risk_ranges,
    score_residuals,
)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_EVENTS_PER_PARAMETER: Final = 10
_HIGHEST: Final = 700.0  # exp of more is infinite


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


@dataclass(frozen=True, slots=True)
class CoxRows:
    """Checked rows of a Cox model, in the order of `risk_order`."""

    n_dropped_missing: int  # rows left out because a used column was missing
    row_numbers: Integers  # (n,) of the table
    design: Design  # of the covariates
    x: Floats  # (p, n) covariates
    exits: Floats  # (n,) end of follow-up
    entries: Floats | None  # (n,) start of follow-up, or None
    events: NDArray[np.bool_]  # (n,) whether it ends with the event
    weights: Floats | None  # (n,) case weights, or None
    stratum: Integers  # (n,) codes
    strata: tuple[str, ...]  # columns that make strata
    stratum_labels: tuple[object, ...]  # label of each code
    clusters: Integers | None  # (n,) codes of people or households, or None
    ties: Ties  # "efron" or "breslow"
    robust: bool  # whether errors are by the sandwich

    def taken(self, rows: Integers, terms: NDArray[np.bool_] | None = None) -> CoxRows:
        """Return some rows, in the order given, and some terms of x."""
        names = ("exits", "entries", "events", "weights", "stratum", "clusters", "row_numbers")
        chosen: dict[str, Any] = {
            name: None if (values := getattr(self, name)) is None else values[rows] for name in names
        }
        x = np.stack([values[rows] for values in (self.x if terms is None else self.x[terms])])
        return replace(self, x=x, **chosen)

    def in_table_order(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return (n,) values in the order of the table, so that two fits can be compared."""
        place = np.full(self.row_numbers.max() + 1, -1)
        place[self.row_numbers] = np.arange(len(self.row_numbers))
        order = place[place >= 0]
        if len(order) < len(self.row_numbers):  # a row is there several times
            order = np.argsort(self.row_numbers, kind="stable")
        return values[order]


@dataclass(frozen=True, slots=True)
class FitState:
    """What later computations need of the data of a fit."""

    rows: CoxRows  # of the likelihood; `x` holds the estimated terms, less `means`
    ranges: RiskRanges  # who is at risk when
    at: Likelihood  # the likelihood at its maximum
    means: Floats  # (p,) of the covariates
    estimated: NDArray[np.bool_]  # for each term whether it has an estimate
    fixed_values: Floats  # of each term without an estimate, in all rows of the likelihood
    # Rows of people whose level has no event, as a fit has them in the limit: never at the event,
    # and of a lower risk than all others. None where there are none.
    left_out: CoxRows | None = None


@dataclass(frozen=True, slots=True)
class CoxFit:
    """A fitted Cox model.

    Attributes:
        estimates: one row per term: term, coef (log hazard ratio), se, se_model, z, p, hr, hr_lo,
            hr_hi (95 %). `se` is the robust or clustered one where asked for, and z, p and limits
            follow it. Terms without an estimate are NaN and named in `warnings`.
        covariance: (p, p) DataFrame, of `se`.
        log_likelihood: null and fitted; where a term has no estimate, fitted is the limit.
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
    def row_numbers(self) -> Integers:
        """Return the (n,) numbers of the rows of the table, ascending; a row may be there twice."""
        parts = [self.state.rows.row_numbers]
        if self.state.left_out is not None:
            parts.append(self.state.left_out.row_numbers)
        return np.sort(np.concatenate(parts))

    def likelihood_ratio_test(self, other: CoxFit) -> ChiSquareTest:
        """Test a model against one nested in it, on the same rows.

        A term without an estimate, of a level without events, counts as a degree of freedom: the
        likelihood has a limit where the coefficient has none.

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
            and np.array_equal(small.row_numbers, large.row_numbers)
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
                "twice the gain in log-likelihood is not chi-square with the robust errors of "
                "clusters, weights or robust=True; use wald_test"
            )
        gain = 2 * (large.log_likelihood.fitted - small.log_likelihood.fitted)
        return chi_square_test(gain, len(extra))

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

    def relative_risks(self, table: pd.DataFrame, *, in_limit: bool = False) -> tuple[Floats, Integers]:
        """Return (n,) hazard ratios against a person at the means, and (n,) codes of strata.

        With `in_limit` the hazard ratio of a level without events is 0, the limit that R's comes
        close to; without, such rows are refused.

        Raises:
            TableRefused: a column cannot be used, a row has a level without an estimate or a
                stratum that was not in the fit, or its hazard ratio is beyond the range of numbers.
        """
        state = self.state
        columns = used_columns(table, [*self.design.columns, *state.rows.strata])
        matrix = self.design.matrix(columns)
        if not in_limit:
            refuse_unestimated(matrix, state.estimated, state.fixed_values, columns)
        ratios = relative_risk(np.asarray(matrix[:, state.estimated] - state.means), self.coefficients)
        is_free = (matrix[:, ~state.estimated] != state.fixed_values).any(axis=1)
        return np.where(is_free, 0.0, ratios), self._strata_of(columns)

    def _strata_of(self, columns: Columns) -> Integers:
        rows = self.state.rows
        codes, labels = columns.groups(rows.strata)
        known = {label: code for code, label in enumerate(rows.stratum_labels)}
        unknown = [label for label in labels if label not in known]
        if unknown:
            raise TableRefused(
                f"strata {', '.join(rows.strata)}: {unknown[0]!r} was not in the fit; "
                f"expected one of {', '.join(map(repr, known))}"
            )
        return np.array([known[label] for label in labels], dtype=np.int64)[codes]

    def baseline_steps(self, times: Floats) -> Floats:
        """Return (strata, T) steps of the cumulative hazard of a person at the means.

        The (T,) ascending times include all event times of the fit up to the last of them.
        """
        ranges = self.state.ranges
        hazards = ranges.sums_of_events(self.state.at.hazard)
        steps = np.zeros((len(ranges.strata_ends) - 1, len(times)))
        for own, begin, end in zip(steps, ranges.strata_ends[:-1], ranges.strata_ends[1:], strict=True):
            events = ranges.times[begin:end]
            within = np.searchsorted(events, times[-1:], side="right").sum()
            own[np.searchsorted(times, events[:within])] = hazards[begin:end][:within]
        return steps


def fit_rows(data: CoxRows) -> CoxFit:
    """Fit a Cox model to checked rows; refuse rows in which no covariate has an estimate."""
    separated = find_separated(data.design, data.x, data.events)
    if separated.terms.all():
        raise TableRefused("; ".join(separated.messages) + "; no covariate has an estimate")
    estimated, kept, left_out = ~separated.terms, data, None
    if separated.terms.any():
        kept = data.taken(np.flatnonzero(~separated.rows), estimated)
        left_out = data.taken(np.flatnonzero(separated.rows), estimated)
    ranges = _ranges_of(kept)
    means = np.average(kept.x, axis=1, weights=kept.weights)
    kept = replace(kept, x=kept.x - means[:, None])
    terms = pd.Index(data.design.terms)
    best = maximise(ranges, kept.x, terms[estimated].tolist())
    covariance = best.covariance
    if kept.robust:
        covariance = sandwich(score_residuals(ranges, kept.x, best.at) @ covariance, kept.clusters)
    full = np.full((len(terms), len(terms)), np.nan)
    full[np.ix_(estimated, estimated)] = covariance
    coef, se_model = np.full(len(terms), np.nan), np.full(len(terms), np.nan)
    coef[estimated] = best.coefficients
    se_model[estimated] = np.sqrt(np.diagonal(best.covariance))
    n_events = int(data.events.sum())
    return CoxFit(
        estimates=estimate_table(data.design.terms, coef, np.sqrt(np.diagonal(full)), se_model),
        covariance=pd.DataFrame(full, terms, terms),
        log_likelihood=LogLikelihood(
            best.log_likelihood_null if left_out is None else _null_log_likelihood(data), best.at.log_likelihood
        ),
        n=len(data.exits),
        n_events=n_events,
        n_clusters=None if data.clusters is None else len(np.unique(data.clusters)),
        n_dropped_missing=data.n_dropped_missing,
        ties=data.ties,
        robust=data.robust,
        warnings=(*separated.messages, *few_events(n_events, len(best.coefficients))),
        design=data.design,
        state=FitState(
            rows=kept,
            ranges=ranges,
            at=best.at,
            means=means,
            estimated=estimated,
            fixed_values=data.x[separated.terms][:, np.argmin(separated.rows)],
            left_out=left_out,
        ),
    )


def _ranges_of(data: CoxRows) -> RiskRanges:
    return risk_ranges(
        data.exits,
        data.events,
        entries=data.entries,
        stratum=data.stratum,
        n_strata=len(data.stratum_labels),
        weights=data.weights,
        ties=data.ties,
    )


def _null_log_likelihood(data: CoxRows) -> float:
    """Return the log-likelihood of all rows with all coefficients 0."""
    return likelihood(_ranges_of(data), np.zeros((0, len(data.exits))), np.zeros(0)).log_likelihood


def estimate_table(terms: Sequence[str], coef: Floats, se: Floats, se_model: Floats) -> pd.DataFrame:
    """Return the `estimates` of a fit: z, P, hazard ratios and their limits rest on `se`."""
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


def sandwich(influence: Floats, clusters: Integers | None) -> Floats:
    """Return the robust (p, p) covariance: products of (n, p) influences, summed by cluster."""
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


def prediction_times(times: ArrayLike) -> Floats:
    """Return times of predictions as float64, refusing those that are negative or not finite."""
    at = np.atleast_1d(np.asarray(times, dtype=np.float64))
    if at.ndim != 1 or not len(at) or not (np.isfinite(at) & (at >= 0)).all():
        raise ValueError(f"times are {times!r}, expected finite times of 0 or above")
    return at


def refuse_unestimated(matrix: Floats, estimated: NDArray[np.bool_], fixed_values: Floats, columns: Columns) -> None:
    """Refuse to predict for rows of a level without events, whose hazard ratio has no estimate."""
    strange = np.flatnonzero((matrix[:, ~estimated] != fixed_values).any(axis=1))
    if len(strange):
        raise TableRefused(
            f"{len(strange)} rows (the first: {columns.row_numbers[strange[0]]}) have a level "
            "without an estimate, since nobody with it had an event; leave them out"
        )


def relative_risk(x: Floats, coefficients: Floats) -> Floats:
    """Return (n,) hazard ratios against a person at the means; `x` is (n, p), less these means."""
    predictor = ordered_product(x.T, coefficients)
    far = np.flatnonzero(predictor > _HIGHEST)
    if len(far):
        raise TableRefused(
            f"{len(far)} rows (the first: {far[0]}) have covariates so far from those of the fit "
            f"that the log hazard ratio is {predictor[far[0]]:.3g}; expected values in the range "
            "of the fit and in the same unit"
        )
    return np.exp(predictor)
