"""Measurement error: how far repeats differ, and hazard ratios corrected for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import linalg, stats

from analysis.statistics.columns import Columns, Missing, TableRefused, used_columns
from analysis.statistics.design import Covariate, Design, as_covariates, resolve_design
from analysis.statistics.limits import Z95, normal_quantile
from analysis.statistics.survival import CoxFit, CoxSamples, fit_cox

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ASSUMPTIONS: Final = (
    "people with a measurement are like the others, given the predicted exposure and covariates",
    "the predicted exposure says nothing about the outcome beyond the measured one and covariates",
    "the measured exposure is linear in the predicted one and the covariates",
    "events are rare or the hazard ratio is small, since the expected exposure replaces the measured",
    "the measured exposure spreads as much at high predictions as at low ones; where it spreads "
    "more, as among hypertrophic hearts, the calibrated hazard ratio is too high",
)
_FITTED: Final = "calibrated exposure"
_WEIGHT: Final = "times drawn"
_MAX_FAILED: Final = 0.05
_REPEATABILITY: Final = Z95 * np.sqrt(2.0)


@dataclass(frozen=True, slots=True)
class CalibratedExposure:
    """Hazard ratios for a measured exposure, from its prediction.

    Attributes:
        estimates: two rows, exposure "naive" (the prediction itself) and "calibrated" (the
            measurement expected from it): coef per `unit`, se, hr, hr_lo, hr_hi. The naive errors
            and limits are the Cox model's, the calibrated ones of the bootstrap (percentiles).
        calibration: term, coef, se of the regression of the measurement, with the intercept.
        r2: share of the measurement's variance that the regression explains.
        unit: size of the step of exposure that the estimates are for.
        n: people and rows in the Cox model.
        n_measured: rows with a measurement.
        n_events: events.
        n_bootstrap: samples drawn.
        n_failed: samples without an estimate, left out of errors and limits.
        warnings: what a reader of the result must know.
        assumptions: what must hold for the calibrated estimate to be right.
        samples: (n_bootstrap - n_failed,) calibrated coefficients.
    """

    estimates: pd.DataFrame
    calibration: pd.DataFrame
    r2: float
    unit: float
    n: int
    n_measured: int
    n_events: int
    n_bootstrap: int
    n_failed: int
    warnings: tuple[str, ...]
    assumptions: tuple[str, ...]
    samples: Floats = field(repr=False)


def calibrate_exposure(
    table: pd.DataFrame,
    *,
    exposure: str,
    reference: str,
    duration: str,
    event: str,
    seed: int,
    covariates: Sequence[str | Covariate] = (),
    entry: str | None = None,
    strata: Sequence[str] = (),
    person: str | None = None,
    unit: float = 10.0,
    n_bootstrap: int = 1000,
    on_sample: Callable[[], None] | None = None,
) -> CalibratedExposure:
    """Correct a hazard ratio for the error of a predicted exposure by regression calibration.

    The measurement is regressed on prediction and covariates where it is known, expected from them
    for everybody, and the Cox model fitted to what is expected. Both steps are repeated in samples
    of people drawn with replacement, those with and without a measurement apart. Dividing a
    coefficient by a reliability instead is wrong for predictions, whose error is of Berkson type.

    Args:
        table: one row per person, or several with `person`.
        exposure: column of the predicted exposure, such as lvmi_pred_g_m2.
        reference: column of the measured one, such as lvmi_cmr_g_m2; missing where not measured.
        duration: column of the end of follow-up, as in `fit_cox`.
        event: column of yes/no.
        seed: of the bootstrap.
        covariates: as in `fit_cox`; the same in both steps.
        entry: column of delayed entry.
        strata: columns of strata of the Cox model.
        person: column of the person where rows repeat people, drawn together.
        unit: the hazard ratios are per this much exposure; 10 for "per 10 g/m2".
        n_bootstrap: samples, at least 100.
        on_sample: called after each sample, for a progress bar.

    Returns:
        Naive and calibrated hazard ratios side by side, with the assumptions.

    Raises:
        TableRefused: a column cannot be used; fewer than 10 measurements a parameter of the
            calibration; more than 5 % of the samples have no estimate.
        ValueError: `unit` is not above 0, or fewer than 100 samples are asked for.

    Source:
        Rosner B, Willett WC, Spiegelman D, Stat Med 1989;8:1051; Spiegelman D, McDermott A, Rosner
        B, Am J Clin Nutr 1997;65:1179S. R: `lm(reference ~ exposure + covariates)`, then `coxph`
        on its predictions, both inside `boot::boot`.
    """
    if not unit > 0:
        raise ValueError(f"unit is {unit}, expected a step of exposure above 0")
    if n_bootstrap < 100:
        raise ValueError(f"n_bootstrap is {n_bootstrap}, expected at least 100")
    wanted = as_covariates([exposure, *covariates])
    names = [duration, event, entry, *strata, person, *(one.column for one in wanted)]
    columns = used_columns(table, names)
    design, matrix = resolve_design(wanted, columns)
    measured = _measured(table, reference, len(design.terms))
    problem = _Problem(
        table=columns.table,
        design=design,
        x=np.column_stack([np.ones(columns.n), matrix]),
        measured=measured,
        exposure=exposure,
        covariates=tuple(covariates),
        person=person,
        model={"duration": duration, "event": event, "entry": entry, "strata": tuple(strata)},
    )
    ones = np.ones(columns.n, dtype=np.int64)
    naive = problem.cox(exposure, columns.table[exposure].to_numpy(dtype=float), ones)
    expected = problem.expected(ones)
    calibrated = problem.cox(_FITTED, expected, ones)
    samples = _bootstrap(problem, columns, seed, n_bootstrap, on_sample)
    return _result(problem, naive, calibrated, samples, unit, n_bootstrap)


def _measured(table: pd.DataFrame, reference: str, n_terms: int) -> Floats:
    """Return the measurements, NaN where there is none."""
    known = used_columns(table, [reference], missing="drop")
    values = known.varying_numbers(reference)
    if known.n < 10 * (n_terms + 1):
        raise TableRefused(
            f"column {reference!r} has {known.n} measurements for {n_terms + 1} parameters of the "
            "calibration, expected at least 10 each"
        )
    measured = np.full(len(table), np.nan)
    measured[known.row_numbers] = values
    return measured


@dataclass(frozen=True, slots=True)
class _Problem:
    """The data of both steps; x is (n, 1 + terms) with the intercept first, model that of Cox."""

    table: pd.DataFrame
    design: Design
    x: Floats
    measured: Floats
    exposure: str
    covariates: tuple[str | Covariate, ...]
    person: str | None
    model: dict[str, Any]

    def expected(self, drawn: Integers) -> Floats:
        """Return the measurement expected for each row, from rows drawn so many times."""
        rows = np.isfinite(self.measured) & (drawn > 0)
        root = np.sqrt(drawn[rows])
        coefficients = linalg.lstsq(self.x[rows] * root[:, None], self.measured[rows] * root)[0]
        return np.asarray(self.x @ coefficients)

    def cox(self, name: str, values: Floats, drawn: Integers) -> CoxFit:
        """Fit the Cox model with one exposure or the other, to rows drawn so many times."""
        rows = drawn > 0
        table = self.table.assign(**{name: values, _WEIGHT: drawn})[rows]
        once = bool((drawn == 1).all())
        return fit_cox(
            table,
            covariates=[name, *self.covariates],
            weights=None if once else _WEIGHT,
            cluster=self.person if once else None,
            **self.model,
        )

    def refitted(self, models: CoxSamples, drawn: Integers) -> CoxFit:
        """Fit both steps to rows drawn so many times."""
        expected = self.expected(drawn)
        if self._has_absent_level(models, drawn):
            return self.cox(_FITTED, expected, drawn)  # it leaves the level out
        return models.weighted(drawn, expected)

    def _has_absent_level(self, models: CoxSamples, drawn: Integers) -> bool:
        times = drawn[models.rows.row_numbers]
        levels = [
            place
            for covariate, (_, places) in zip(self.design.covariates, self.design.groups, strict=True)
            if hasattr(covariate, "reference")
            for place in places
        ]
        return any(not times[models.rows.x[place] != 0].any() for place in levels)


def _bootstrap(
    problem: _Problem, columns: Columns, seed: int, n_bootstrap: int, on_sample: Callable[[], None] | None
) -> Floats:
    """Return the calibrated coefficient of each sample, NaN where there is none."""
    if problem.person is None:
        people = np.arange(columns.n)
    else:
        people = columns.groups([problem.person])[0]
    has = np.bincount(people, np.isfinite(problem.measured)) > 0
    generator = np.random.default_rng(seed)
    samples = np.full(n_bootstrap, np.nan)
    # Their first covariate is replaced in each sample.
    models = CoxSamples.of(problem.table, covariates=[problem.exposure, *problem.covariates], **problem.model)
    for index in range(n_bootstrap):
        times = np.zeros(len(has), dtype=np.int64)
        for group in (np.flatnonzero(has), np.flatnonzero(~has)):
            drawn = generator.integers(0, len(group), len(group)) if len(group) else group
            times[group] = np.bincount(drawn, minlength=len(group))
        try:
            samples[index] = problem.refitted(models, times[people]).estimates["coef"].iloc[0]
        except TableRefused:
            pass  # counted by the caller, who refuses more than a few
        if on_sample is not None:
            on_sample()
    return samples


def _result(
    problem: _Problem, naive: CoxFit, calibrated: CoxFit, samples: Floats, unit: float, n_bootstrap: int
) -> CalibratedExposure:
    kept = samples[np.isfinite(samples)]
    n_failed = n_bootstrap - len(kept)
    if n_failed > _MAX_FAILED * n_bootstrap:
        raise TableRefused(
            f"{n_failed} of {n_bootstrap} bootstrap samples have no estimate, expected 5 % at "
            "most; there are too few events or a level that is too rare"
        )
    failed = (f"{n_failed} of {n_bootstrap} bootstrap samples had no estimate",) if n_failed else ()
    calibration, r2 = _calibration(problem)
    lo, hi = np.quantile(kept, [0.025, 0.975])
    first = naive.estimates.iloc[0]
    coef = float(calibrated.estimates["coef"].iloc[0])
    estimates = pd.DataFrame(
        {
            "exposure": ["naive", "calibrated"],
            "coef": np.array([first["coef"], coef]) * unit,
            "se": np.array([first["se"], kept.std(ddof=1)]) * unit,
            "hr": np.exp(np.array([first["coef"], coef]) * unit),
            "hr_lo": [first["hr_lo"] ** unit, float(np.exp(lo * unit))],
            "hr_hi": [first["hr_hi"] ** unit, float(np.exp(hi * unit))],
        }
    )
    return CalibratedExposure(
        estimates,
        calibration,
        r2,
        unit,
        naive.n,
        int(np.isfinite(problem.measured).sum()),
        naive.n_events,
        n_bootstrap,
        n_failed,
        (*naive.warnings, *failed),
        ASSUMPTIONS,
        kept,
    )


def _calibration(problem: _Problem) -> tuple[pd.DataFrame, float]:
    """Return the linear regression of the measurement, and its share of explained variance."""
    rows = np.isfinite(problem.measured)
    x, y = problem.x[rows], problem.measured[rows]
    coefficients = linalg.lstsq(x, y)[0]
    residuals = y - x @ coefficients
    variance = residuals @ residuals / (len(y) - x.shape[1])
    errors = np.sqrt(variance * np.diagonal(linalg.inv(x.T @ x)))
    table = pd.DataFrame({"term": ["intercept", *problem.design.terms], "coef": coefficients, "se": errors})
    return table, float(1 - residuals @ residuals / ((y - y.mean()) ** 2).sum())


@dataclass(frozen=True, slots=True)
class Repeatability:
    """Agreement of repeated measurements.

    Attributes:
        icc: ICC(1,1): the share of the variance that lies between people.
        icc_lo: lower limit; exact where everybody has as many values, else nearly so.
        icc_hi: upper limit.
        within_sd: standard deviation within people, in the unit of the values.
        within_sd_lo: lower limit.
        within_sd_hi: upper limit.
        repeatability: 95 % of the differences of two values of a person lie within plus or minus
            this, 1.96 times the root of 2 times `within_sd`.
        n_people: people with two values or more.
        n_values: their values.
        n_single: people with one value, which says nothing about repeatability.
        confidence: of the limits.
        n_dropped_missing: rows left out because a used column was missing.
    """

    icc: float
    icc_lo: float
    icc_hi: float
    within_sd: float
    within_sd_lo: float
    within_sd_hi: float
    repeatability: float
    n_people: int
    n_values: int
    n_single: int
    confidence: float
    n_dropped_missing: int


def repeatability(
    table: pd.DataFrame, *, value: str, person: str, confidence: float = 0.95, missing: Missing = "refuse"
) -> Repeatability:
    """Estimate intraclass correlation and within-person standard deviation.

    One-way random effects: values of a person are taken as exchangeable. People with one value are
    counted and left out.

    Args:
        table: one row a measurement.
        value: column of numbers.
        person: column of the person measured.
        confidence: of the limits.
        missing: "refuse" or "drop".

    Returns:
        The estimates, in the unit of the values.

    Raises:
        TableRefused: a column cannot be used, fewer than two people have two values, or nothing
            varies within people.
        ValueError: `confidence` is outside 0 and 1.

    Source:
        Shrout PE, Fleiss JL, Psychol Bull 1979;86:420, ICC(1,1); with the mean group size n0 of
        Donner A, Int Stat Rev 1986;54:67 where people have different numbers of values. Bland JM,
        Altman DG, BMJ 1996;313:744 for the within-person standard deviation.
        R: `anova(aov(value ~ factor(person)))`, its mean squares in the formulas.
    """
    normal_quantile(confidence)
    columns = used_columns(table, [value, person], missing=missing)
    values = columns.numbers(value)
    codes, _ = pd.factorize(columns.table[person], sort=False)
    sizes = np.bincount(codes)
    repeated = sizes[codes] > 1
    n_single = int((sizes == 1).sum())
    if (sizes > 1).sum() < 2:
        raise TableRefused(
            f"{int((sizes > 1).sum())} people have two values of {value!r} or more, expected two people at least"
        )
    _, codes = np.unique(codes[repeated], return_inverse=True)
    values = values[repeated]
    sizes = np.bincount(codes).astype(float)
    n, k = values.size, sizes.size
    centred = values - values.mean()
    means = np.bincount(codes, centred) / sizes
    between = float(np.sum(sizes * means**2)) / (k - 1)
    within = float(np.sum((centred - means[codes]) ** 2)) / (n - k)
    if not within > 0:
        raise TableRefused(f"values of {value!r} do not vary within people, expected them to; are the rows copies?")
    n0 = (n - float(np.sum(sizes**2)) / n) / (k - 1)
    tail = 0.5 + confidence / 2
    f = between / within
    lower, upper = f / stats.f.ppf(tail, k - 1, n - k), f * stats.f.ppf(tail, n - k, k - 1)
    icc, lo, hi = ((ratio - 1) / (ratio + n0 - 1) for ratio in (f, lower, upper))
    squares = within * (n - k)
    sd = np.sqrt(within)
    return Repeatability(
        icc=float(icc),
        icc_lo=float(lo),
        icc_hi=float(hi),
        within_sd=float(sd),
        within_sd_lo=float(np.sqrt(squares / stats.chi2.ppf(tail, n - k))),
        within_sd_hi=float(np.sqrt(squares / stats.chi2.ppf(1 - tail, n - k))),
        repeatability=float(_REPEATABILITY * sd),
        n_people=int(k),
        n_values=int(n),
        n_single=n_single,
        confidence=confidence,
        n_dropped_missing=columns.n_dropped_missing,
    )
