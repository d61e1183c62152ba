"""Estimates of several cohorts pooled: random effects by REML, and a fixed effect beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

_MOST_STEPS: Final = 1000
_CLOSE: Final = 1e-12
_FEWEST_FOR_PREDICTION: Final = 3

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pooled:
    """The mean of cohorts, on the scale of their estimates (logarithms of hazard ratios)."""

    n_cohorts: int
    estimate: float  # random-effects mean
    se: float  # of Hartung and Knapp, at least the usual one
    low: float  # 95 % limits, t distribution with n_cohorts - 1 degrees of freedom
    high: float
    p: float
    tau2: float  # variance between cohorts, by restricted maximum likelihood
    q: float  # Cochran's
    p_heterogeneity: float
    i2: float  # share of Q beyond chance, 0 to 1
    prediction_low: float  # 95 % limits of the effect in a further cohort; NaN with two cohorts
    prediction_high: float
    fixed: float  # inverse-variance mean
    fixed_se: float


def pool(estimates: _Floats, se: _Floats) -> Pooled:
    """Pool (n,) estimates with (n,) standard errors, n at least 2.

    The variance between cohorts is by restricted maximum likelihood (Viechtbauer W, J Educ Behav
    Stat 2005;30:261-93). The error of the mean is that of Hartung and Knapp (Stat Med
    2001;20:3875-89), and never below the usual one, to which it may fall when cohorts agree by
    chance (Roever C et al., BMC Med Res Methodol 2015;15:99). The prediction interval has n - 2
    degrees of freedom (Higgins JPT et al., J R Stat Soc A 2009;172:137-59), and I2 is that of
    Higgins and Thompson (Stat Med 2002;21:1539-58).
    """
    y, v = np.asarray(estimates, dtype=float), np.asarray(se, dtype=float) ** 2
    n = len(y)
    if n < 2 or len(v) != n or not (np.isfinite(y).all() and np.isfinite(v).all() and (v > 0).all()):
        raise ValueError(f"expected two or more estimates with standard errors above 0, got {n}")
    fixed, fixed_variance = _mean(y, 1 / v)
    q = float(((y - fixed) ** 2 / v).sum())
    tau2 = _reml(y, v)
    weights = 1 / (v + tau2)
    mean, variance = _mean(y, weights)
    scale = max(1.0, float((weights * (y - mean) ** 2).sum()) / (n - 1))
    error = float(np.sqrt(scale * variance))
    reach = float(stats.t.ppf(0.975, n - 1)) * error
    spread = np.nan
    if n >= _FEWEST_FOR_PREDICTION:
        spread = float(stats.t.ppf(0.975, n - 2)) * float(np.sqrt(tau2 + variance))
    return Pooled(
        n_cohorts=n,
        estimate=mean,
        se=error,
        low=mean - reach,
        high=mean + reach,
        p=float(2 * stats.t.sf(abs(mean) / error, n - 1)),
        tau2=tau2,
        q=q,
        p_heterogeneity=float(stats.chi2.sf(q, n - 1)),
        i2=max(0.0, (q - (n - 1)) / q) if q > 0 else 0.0,
        prediction_low=mean - spread,
        prediction_high=mean + spread,
        fixed=fixed,
        fixed_se=float(np.sqrt(fixed_variance)),
    )


def _mean(y: _Floats, weights: _Floats) -> tuple[float, float]:
    """Return the weighted mean and its variance."""
    total = float(weights.sum())
    return float((weights * y).sum()) / total, 1 / total


def _reml(y: _Floats, v: _Floats) -> float:
    """Return the variance between cohorts that maximises the restricted likelihood, 0 or more.

    Fisher scoring, as in Viechtbauer 2005; a step that would go below 0 is halved. It begins at the
    moment estimator of Hedges.
    """
    tau2 = max(0.0, float(y.var(ddof=1) - v.mean()))
    for _ in range(_MOST_STEPS):
        weights = 1 / (v + tau2)
        projection = np.diag(weights) - np.outer(weights, weights) / weights.sum()
        residual = projection @ y
        step = float((residual @ residual - np.trace(projection)) / (projection * projection).sum())
        while tau2 + step < 0 and abs(step) > _CLOSE:
            step /= 2
        tau2 = max(0.0, tau2 + step)
        if abs(step) < _CLOSE:
            break
    return tau2
