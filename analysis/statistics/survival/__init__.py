"""Survival analysis: curves, rates, Cox models, competing events.

The public functions, their results, and `CoxSamples` for a bootstrap of Cox models.
"""

from analysis.statistics.survival.aalen_johansen import CumulativeIncidence, cumulative_incidence, gray_test
from analysis.statistics.survival.cause_specific import predict_cumulative_incidence
from analysis.statistics.survival.cox import CoxSamples, fit_cox
from analysis.statistics.survival.cox_fit import ChiSquareTest, CoxFit, LogLikelihood
from analysis.statistics.survival.fine_gray import FineGrayFit, fit_fine_gray
from analysis.statistics.survival.kaplan_meier import (
    LogRankTest,
    SurvivalCurve,
    follow_up_curve,
    logrank_test,
    survival_curve,
)
from analysis.statistics.survival.proportional_hazards import (
    proportional_hazards_test,
    scaled_schoenfeld,
    split_follow_up,
)
from analysis.statistics.survival.rates import IncidenceRates, incidence_rates
from analysis.statistics.survival.splines import (
    RestrictedCubicSpline,
    nonlinearity_test,
    restricted_cubic_spline,
    spline_contrast,
)

__all__ = [
    "ChiSquareTest",
    "CoxFit",
    "CoxSamples",
    "CumulativeIncidence",
    "FineGrayFit",
    "IncidenceRates",
    "LogLikelihood",
    "LogRankTest",
    "RestrictedCubicSpline",
    "SurvivalCurve",
    "cumulative_incidence",
    "fit_cox",
    "fit_fine_gray",
    "follow_up_curve",
    "gray_test",
    "incidence_rates",
    "logrank_test",
    "nonlinearity_test",
    "predict_cumulative_incidence",
    "proportional_hazards_test",
    "restricted_cubic_spline",
    "scaled_schoenfeld",
    "spline_contrast",
    "split_follow_up",
    "survival_curve",
]
