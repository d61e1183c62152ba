"""Decision curves of predicted risks at a horizon, with weights for censoring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.statistics.columns import Missing
from analysis.statistics.limits import normal_quantile
from analysis.statistics.risk.outcome import read_outcome
from analysis.statistics.risk.time_dependent_accuracy import censoring_weights, refuse_one_class

Floats = NDArray[np.float64]
TREAT_ALL: Final = "treat_all"


@dataclass(frozen=True, slots=True)
class DecisionCurve:
    """Net benefit of one or several models and of treating everybody; nobody has 0.

    Attributes:
        estimates: one row a strategy and threshold: strategy (the column of the risk, or
            "treat_all"), threshold, net_benefit, se, net_benefit_lo, net_benefit_hi.
        at: the horizon.
        n: people.
        n_dropped_missing: rows left out because a used column was missing.
    """

    estimates: pd.DataFrame
    at: float
    n: int
    n_dropped_missing: int


def decision_curve(
    table: pd.DataFrame,
    *,
    duration: str,
    event: str,
    risk: str | Sequence[str],
    at: float,
    thresholds: Sequence[float],
    event_of_interest: int = 1,
    causes: Sequence[int] = (1, 2),
    confidence: float = 0.95,
    missing: Missing = "refuse",
) -> DecisionCurve:
    """Return the net benefit at a horizon of acting on risks at or above a threshold.

    Net benefit = TP / n - FP / n x t / (1 - t), in true positives per person. True positives have
    the event of interest by the horizon; everybody else whose state is known is negative, people
    with a competing event too. Weights for censoring and errors are as for `brier_score`; limits
    are pointwise, of one threshold fixed before.

    Args:
        table: one row per person.
        duration: column of the exit time, above 0.
        event: column of 0 for censored, else one of the causes.
        risk: column of predicted risks within 0 and 1, not scores, or several.
        at: the horizon, in the unit of `duration`.
        thresholds: risks at which one would act, above 0 and below 1.
        event_of_interest: one of the causes.
        causes: codes of the events; `(1,)` without competing events.
        confidence: of the limits.
        missing: "refuse" or "drop".

    Returns:
        The curves; thresholds ascend.

    Raises:
        TableRefused: a column cannot be used, a risk is outside 0 to 1, or there are no cases or
            no controls by the horizon.
        ValueError: an argument is outside its values, or a risk column is named "treat_all".

    Source:
        Vickers AJ, Elkin EB, Med Decis Making 2006;26:565; Vickers AJ et al., BMC Med Inform Decis
        Mak 2008;8:53 for censored data.
        R: `b <- (risk >= t) * (label - (1 - label) * t / (1 - t)); mean(b)`, error
        `sqrt(mean((b - mean(b))^2) / n)`, without censoring.
    """
    z = normal_quantile(confidence)
    cuts = _checked_thresholds(thresholds)
    columns, outcome, names = read_outcome(table, risk, duration, event, at, event_of_interest, causes, missing)
    if TREAT_ALL in names:
        raise ValueError(f"risk names {TREAT_ALL!r}, which is a strategy; rename the column")
    refuse_one_class(outcome, event)
    censoring = censoring_weights(outcome)
    frames = []
    for name in (*names, TREAT_ALL):
        risks = np.ones(columns.n) if name == TREAT_ALL else columns.risks(name)
        acted = risks >= cuts[:, None]
        gain = np.where(outcome.cases, 1.0, -(cuts / (1 - cuts))[:, None])
        parts = censoring.weights * acted * gain
        benefit = parts.mean(axis=1)
        influence = censoring.with_estimation(parts) - benefit[:, None]
        se = np.sqrt((influence**2).mean(axis=1) / columns.n)
        made = {"strategy": name, "threshold": cuts, "net_benefit": benefit, "se": se}
        frames.append(pd.DataFrame(made | {"net_benefit_lo": benefit - z * se, "net_benefit_hi": benefit + z * se}))
    return DecisionCurve(pd.concat(frames, ignore_index=True), outcome.at, columns.n, columns.n_dropped_missing)


def _checked_thresholds(thresholds: Sequence[float]) -> Floats:
    """Return thresholds of risk in ascending order; each above 0, below 1, and there once."""
    cuts = np.asarray(thresholds, dtype=np.float64)
    if cuts.ndim != 1 or cuts.size == 0:
        raise ValueError(f"thresholds is {thresholds!r}, expected a list of at least one risk")
    bad = cuts[~((cuts > 0) & (cuts < 1))]
    if bad.size:
        raise ValueError(f"thresholds has {bad[0]:g}, expected risks above 0 and below 1")
    if np.unique(cuts).size != cuts.size:
        raise ValueError("thresholds has a risk twice, expected each once")
    return np.sort(cuts)
