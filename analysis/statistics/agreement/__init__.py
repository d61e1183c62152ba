"""Agreement of two measurements of one quantity, and measurement error."""

from analysis.statistics.agreement.bland_altman import agreement
from analysis.statistics.agreement.measurement_error import calibrate_exposure
from analysis.statistics.agreement.regression import deming_regression, passing_bablok
from analysis.statistics.agreement.repeatability import repeatability

__all__ = ["agreement", "calibrate_exposure", "deming_regression", "passing_bablok", "repeatability"]
