"""Confidence limits: normal quantiles, and limits of a probability on several scales."""

from __future__ import annotations

import math
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

CiKind = Literal["log-log", "log", "plain"]
Floats = NDArray[np.float64]

Z95: Final = float(stats.norm.ppf(0.975))
_CI_KINDS: Final = ("log-log", "log", "plain")


def normal_quantile(confidence: float) -> float:
    """Return the normal quantile of a two-sided interval, 1.96 for 0.95; refuse 0, 1 and beyond."""
    if not (0 < confidence < 1 and math.isfinite(confidence)):
        raise ValueError(f"confidence is {confidence}, expected above 0 and below 1, as in 0.95")
    return float(stats.norm.ppf((1 + confidence) / 2))


def check_ci(ci: str) -> None:
    """Refuse an unknown kind of confidence limits."""
    if ci not in _CI_KINDS:
        raise ValueError(f"ci is {ci!r}, expected one of {', '.join(map(repr, _CI_KINDS))}")


def confidence_limits(probability: Floats, se: Floats, *, ci: CiKind, confidence: float) -> tuple[Floats, Floats]:
    """Return pointwise confidence limits of a probability, within 0 and 1.

    They are symmetric on the scale of log(-log), of log, or of the probability. They are NaN for a
    probability of 0 or 1 (log-log) or of 0 (log), where the scale has no value.

    Source:
        Kalbfleisch JD, Prentice RL, The Statistical Analysis of Failure Time Data, 2002, 1.4.
        R: `survfit(..., conf.type = ci)`
    """
    z = normal_quantile(confidence)
    if ci == "plain":
        return np.clip(probability - z * se, 0, None), np.clip(probability + z * se, None, 1)
    open_low = probability > 0 if ci == "log" else (probability > 0) & (probability < 1)
    inside = np.where(open_low, probability, np.nan)
    width = z * se / inside
    if ci == "log":
        return inside * np.exp(-width), np.minimum(inside * np.exp(width), 1)
    factor = np.exp(-width / np.log(inside))
    return inside**factor, inside ** (1 / factor)


def logit_limits(share: float, se: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return confidence limits of a concordance or an AUC, symmetric on the logit scale.

    They stay within 0 and 1 however few the events are. They are NaN at 0 and 1, where the logit
    has no value, as after a handful of events that are ranked without a mistake.

    Source:
        Pepe MS, The Statistical Evaluation of Medical Tests, 2003, 5.2.
        R: `plogis(qlogis(share) + c(-1, 1) * 1.96 * se / (share * (1 - share)))`
    """
    z = normal_quantile(confidence)
    if not 0 < share < 1:
        return math.nan, math.nan
    middle, width = math.log(share / (1 - share)), z * se / (share * (1 - share))
    lo, hi = (float(special.expit(middle + side * width)) for side in (-1, 1))
    return lo, hi
