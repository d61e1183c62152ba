"""Average precision: how pure the top of a ranking is when the label is rare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from analysis.columns import Missing, used_columns
from analysis.limits import normal_quantile
from analysis.markers import DIRECTION, Flags, Floats, check_roles, two_class_label

LOGIT_INTERVAL: Final = "logit"


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """Average precision of a marker.

    Attributes:
        average_precision: 0 to 1; a marker without information has about the prevalence.
        average_precision_lo: lower limit; NaN where the estimate is 1.
        average_precision_hi: upper limit; NaN where the estimate is 1.
        prevalence: share of positives.
        n_positive: people with the label.
        n_negative: people without.
        interval: name of the interval.
        confidence: of the limits.
        n_dropped_missing: rows left out because a used column was missing.
        warnings: what a reader must know.
        direction: which end of the marker means positive.
    """

    average_precision: float
    average_precision_lo: float
    average_precision_hi: float
    prevalence: float
    n_positive: int
    n_negative: int
    interval: str
    confidence: float
    n_dropped_missing: int
    warnings: tuple[str, ...]
    direction: str = DIRECTION


def average_precision(
    table: pd.DataFrame, *, label: str, marker: str, confidence: float = 0.95, missing: Missing = "refuse"
) -> AveragePrecision:
    """Return the average precision: precision at each distinct value, weighted by recall gained.

    The step-wise sum, without interpolation, as scikit-learn's `average_precision_score`; people of
    one value are taken together. The interval is the logit interval, symmetric on that scale with
    the error (n_positive p (1 - p)) ** -0.5. It depends on the prevalence; do not compare between
    cohorts.

    Args:
        table: one row a person; rows must be independent.
        label: column of yes/no or 0/1; 1 is positive.
        marker: column of numbers; higher means positive.
        confidence: of the limits, between 0 and 1.
        missing: "refuse", or "drop" rows where label or marker is missing.

    Returns:
        Estimate and limits; limits NaN, with a warning, where every positive is above every
        negative.

    Raises:
        TableRefused: a missing or wrong value, or one class only.
        ValueError: `confidence` is no share, or label and marker are the same column.

    Source:
        Boyd K et al., ECML PKDD 2013, LNCS 8190:451-466 (logit interval).
        R: no package here; sum(diff(c(0, recall)) * precision) over the distinct values,
        descending.
    """
    z = normal_quantile(confidence)
    check_roles(label, [marker])
    columns = used_columns(table, [label, marker], missing=missing)
    positive = two_class_label(columns, label)
    n_positive = int(positive.sum())
    estimate = _stepwise(columns.numbers(marker), positive)
    lo = hi = np.nan
    warnings: tuple[str, ...] = ()
    if estimate < 1:
        half = z / np.sqrt(n_positive * estimate * (1 - estimate))
        lo, hi = expit(logit(estimate) + np.array([-half, half])).tolist()
    else:
        warnings = (f"marker {marker!r} separates the classes completely, no limits are estimated",)
    return AveragePrecision(
        estimate,
        lo,
        hi,
        n_positive / columns.n,
        n_positive,
        columns.n - n_positive,
        LOGIT_INTERVAL,
        confidence,
        columns.n_dropped_missing,
        warnings,
    )


def _stepwise(values: Floats, positive: Flags) -> float:
    _, place = np.unique(-values, return_inverse=True)
    gained = np.bincount(place, weights=positive)
    precision = np.cumsum(gained) / np.cumsum(np.bincount(place))
    return float(min(1.0, gained @ precision / gained.sum()))
