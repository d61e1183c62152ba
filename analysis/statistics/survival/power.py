"""The smallest hazard ratio that a number of events can find."""

from __future__ import annotations

import math

from scipy import stats


def minimum_detectable_hazard_ratio(
    n_events: int, variance: float, *, explained: float = 0.0, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Return the smallest hazard ratio above 1 of one unit that a Cox model finds with this power.

    Args:
        n_events: events.
        variance: of the exposure, in its unit squared; p (1 - p) of a yes/no.
        explained: share of it that the other covariates explain (R squared), 0 or more, below 1.
        alpha: two-sided level of the test.
        power: chance to find it.

    Returns:
        The ratio; its inverse is the largest one below 1. Infinite without events.

    Raises:
        ValueError: an argument is outside its values.

    Source:
        Hsieh FY, Lavori PW, Control Clin Trials 2000;21:552, formula 1 with its factor
        1 / (1 - R squared); Schoenfeld DA, Biometrics 1983;39:499 for yes/no.
        R: `exp((qnorm(1 - alpha / 2) + qnorm(power)) / sqrt(n_events * variance * (1 - R2)))`
    """
    if n_events < 0 or not variance > 0 or not 0 <= explained < 1:
        raise ValueError(
            f"n_events is {n_events}, variance {variance}, explained {explained}; expected 0 or more events, "
            "a variance above 0 and a share of 0 or more, below 1"
        )
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError(f"alpha is {alpha} and power {power}, expected above 0 and below 1")
    if not n_events:
        return math.inf
    reach = stats.norm.isf(alpha / 2) + stats.norm.ppf(power)
    return float(math.exp(reach / math.sqrt(n_events * variance * (1 - explained))))
