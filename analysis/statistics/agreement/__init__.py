"""Agreement of two measurements of one quantity, and measurement error."""

from analysis.statistics.agreement.bland_altman import MEASURES, PROPORTIONAL_BIAS_REMARK, Agreement, agreement
from analysis.statistics.agreement.measurement_error import (
    CalibratedExposure,
    Repeatability,
    calibrate_exposure,
    repeatability,
)
from analysis.statistics.agreement.regression import StructuralLine, deming_regression, passing_bablok

__all__ = [
    "MEASURES",
    "PROPORTIONAL_BIAS_REMARK",
    "Agreement",
    "CalibratedExposure",
    "Repeatability",
    "StructuralLine",
    "agreement",
    "calibrate_exposure",
    "deming_regression",
    "passing_bablok",
    "repeatability",
]
