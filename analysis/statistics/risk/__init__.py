"""Judging predicted risks: calibration, Brier score, AUC at a horizon, and what goes with them.

All of it expects probabilities at the horizon, not scores, and counts competing events as events
that rule out the one of interest. Harrell's C is in `analysis.statistics.accuracy`.
"""

from analysis.statistics.risk.calibration import (
    GroupCalibration,
    ObservedExpected,
    SmoothCalibration,
    calibration_by_group,
    observed_expected,
    smooth_calibration,
)
from analysis.statistics.risk.decision_curve import DecisionCurve, decision_curve
from analysis.statistics.risk.e_value import EValue, e_value
from analysis.statistics.risk.outcome import pseudo_values
from analysis.statistics.risk.time_dependent_accuracy import BrierScore, TimeDependentAuc, auc_at, brier_score

__all__ = [
    "BrierScore",
    "DecisionCurve",
    "EValue",
    "GroupCalibration",
    "ObservedExpected",
    "SmoothCalibration",
    "TimeDependentAuc",
    "auc_at",
    "brier_score",
    "calibration_by_group",
    "decision_curve",
    "e_value",
    "observed_expected",
    "pseudo_values",
    "smooth_calibration",
]
