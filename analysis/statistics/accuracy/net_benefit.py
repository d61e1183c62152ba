"""Decision curves: the net benefit of acting on a predicted risk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from analysis.statistics.accuracy.diagnostic import Flags, Floats, check_roles, two_class_label
from analysis.statistics.columns import Columns, Missing, named_columns, used_columns
from analysis.statistics.limits import normal_quantile

TREAT_ALL: Final = "treat_all"
TREAT_NONE: Final = "treat_none"


@dataclass(frozen=True, slots=True)
class NetBenefit:
    """Decision curves of one or several models, beside treating everybody and nobody.

    Attributes:
        estimates: one row a strategy and threshold: strategy (the column of the risk, "treat_all",
            "treat_none"), threshold, true_positives, false_positives (counts of people acted on),
            net_benefit, se, net_benefit_lo, net_benefit_hi.
        n: people, all with the label and every risk.
        n_positive: of them positive.
        confidence: of the limits.
        n_dropped_missing: rows left out because a used column was missing.
    """

    estimates: pd.DataFrame
    n: int
    n_positive: int
    confidence: float
    n_dropped_missing: int


def net_benefit(
    table: pd.DataFrame,
    *,
    label: str,
    risk: str | Sequence[str],
    thresholds: Sequence[float],
    confidence: float = 0.95,
    missing: Missing = "refuse",
) -> NetBenefit:
    """Return the net benefit of acting on people whose risk is at or above a threshold.

    Net benefit = TP / n - FP / n x t / (1 - t), in true positives per person. The errors are those
    of one fixed threshold on a random sample of people, with the risks taken as given; limits are
    pointwise. Expects calibrated risks, not scores, and an outcome known for everybody (not
    censored).

    Args:
        table: one row a person; rows must be independent.
        label: column of yes/no or 0/1; 1 is positive.
        risk: column of probabilities, 0 to 1, or several columns for several models.
        thresholds: risks at which one would act, above 0 and below 1.
        confidence: of the limits, between 0 and 1.
        missing: "refuse", or "drop" rows where the label or any risk is missing, so that all
            models are judged on the same people.

    Returns:
        Estimates of each model, of treating everybody, and of treating nobody (0 with no error).

    Raises:
        TableRefused: a missing value, a risk outside 0 to 1, or one class only.
        ValueError: a threshold outside (0, 1) or given twice, no threshold, a risk column named
            as one of the other strategies, or `confidence` is no share.

    Source:
        Vickers AJ, Elkin EB, Med Decis Making 2006;26:565-574; errors as in Marsh TL et
        al., Biometrics 2020;76:843-852, for a cohort (the outcome is random in the sample).
        R: no package here; mean(b) and sqrt(mean((b - mean(b))^2) / n) of
        b = (risk >= t) * (label - (1 - label) * t / (1 - t)).
    """
    z = normal_quantile(confidence)
    risks = named_columns([risk] if isinstance(risk, str) else risk, "risk", at_least=1)
    check_roles(label, risks)
    taken = sorted({TREAT_ALL, TREAT_NONE} & set(risks))
    if taken:
        raise ValueError(f"risk names {taken[0]!r}, which is a strategy; rename the column")
    cuts = _checked_thresholds(thresholds)
    columns = used_columns(table, [label, *risks], missing=missing)
    positive = two_class_label(columns, label)
    n, n_positive = columns.n, int(positive.sum())
    acted = {name: _acted_on(_risks(columns, name), positive, cuts) for name in risks}
    everybody = np.ones_like(cuts)
    acted[TREAT_ALL] = everybody * n_positive, everybody * (n - n_positive)
    acted[TREAT_NONE] = 0 * everybody, 0 * everybody
    frames = [_curve(name, cuts, *counts, n=n, z=z) for name, counts in acted.items()]
    estimates = pd.concat(frames, ignore_index=True)
    return NetBenefit(estimates, n, n_positive, confidence, columns.n_dropped_missing)


def _checked_thresholds(thresholds: Sequence[float]) -> Floats:
    cuts = np.asarray(thresholds, dtype=np.float64)
    if cuts.ndim != 1 or cuts.size == 0:
        raise ValueError(f"thresholds is {thresholds!r}, expected a list of at least one risk")
    bad = cuts[~((cuts > 0) & (cuts < 1))]
    if bad.size:
        raise ValueError(f"thresholds has {bad[0]:g}, expected risks above 0 and below 1")
    if np.unique(cuts).size != cuts.size:
        raise ValueError("thresholds has a risk twice, expected each once")
    return np.sort(cuts)


def _risks(columns: Columns, name: str) -> Floats:
    values = columns.numbers(name)
    columns.refuse(
        name,
        (values < 0) | (values > 1),
        "values outside 0 to 1",
        "risks from 0 to 1; a score must be turned into a calibrated probability first",
    )
    return values


def _acted_on(risk: Floats, positive: Flags, cuts: Floats) -> tuple[Floats, Floats]:
    """Return how many positives and negatives have a risk at or above each threshold."""
    cases, controls = np.sort(risk[positive]), np.sort(risk[~positive])
    tp = cases.size - np.searchsorted(cases, cuts, side="left")
    fp = controls.size - np.searchsorted(controls, cuts, side="left")
    return tp.astype(np.float64), fp.astype(np.float64)


def _curve(name: str, cuts: Floats, tp: Floats, fp: Floats, *, n: int, z: float) -> pd.DataFrame:
    odds = cuts / (1 - cuts)
    benefit = (tp - fp * odds) / n
    # One person contributes 1, -odds or 0.
    variance = (tp + fp * odds**2) / n - benefit**2
    se = np.sqrt(np.clip(variance, 0, None) / n)
    return pd.DataFrame(
        {
            "strategy": name,
            "threshold": cuts,
            "true_positives": tp.astype(np.int64),
            "false_positives": fp.astype(np.int64),
            "net_benefit": benefit,
            "se": se,
            "net_benefit_lo": benefit - z * se,
            "net_benefit_hi": benefit + z * se,
        }
    )
