"""Judging predicted risks: calibration, Brier score, AUC at a horizon, and what goes with them.

All of it expects probabilities at the horizon, not scores, and counts competing events as events
that rule out the one of interest. Harrell's C is in `analysis.concordance`, net benefit of an
uncensored outcome in `analysis.net_benefit`.
"""

from analysis.e_value import EValue, e_value
from analysis.pseudo_values import pseudo_values
from analysis.reclassification import CategoryNri, category_nri
from analysis.risk_calibration import GroupCalibration, ObservedExpected, calibration_by_group, observed_expected
from analysis.smooth_calibration import SmoothCalibration, smooth_calibration
from analysis.time_dependent_accuracy import BrierScore, TimeDependentAuc, auc_at, brier_score

__all__ = [
    "BrierScore",
    "CategoryNri",
    "EValue",
    "GroupCalibration",
    "ObservedExpected",
    "SmoothCalibration",
    "TimeDependentAuc",
    "auc_at",
    "brier_score",
    "calibration_by_group",
    "category_nri",
    "e_value",
    "observed_expected",
    "pseudo_values",
    "smooth_calibration",
]
