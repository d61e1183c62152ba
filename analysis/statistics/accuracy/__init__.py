"""Accuracy of a marker: ROC curves, diagnostic tables, net benefit, concordance."""

from analysis.statistics.accuracy.concordance import (
    Concordance,
    ConcordanceDifference,
    concordance,
    delta_concordance,
    uno_concordance,
)
from analysis.statistics.accuracy.diagnostic import (
    DiagnosticAccuracy,
    McnemarTest,
    Within,
    diagnostic_accuracy,
    mcnemar_test,
    wilson_limits,
)
from analysis.statistics.accuracy.roc import (
    Discrimination,
    DiscriminationComparison,
    RocCurve,
    auroc,
    binary_c_statistic,
    compare_auroc,
    compare_binary_c_statistic,
    roc_curve,
)

__all__ = [
    "Concordance",
    "ConcordanceDifference",
    "DiagnosticAccuracy",
    "Discrimination",
    "DiscriminationComparison",
    "McnemarTest",
    "RocCurve",
    "Within",
    "auroc",
    "binary_c_statistic",
    "compare_auroc",
    "compare_binary_c_statistic",
    "concordance",
    "delta_concordance",
    "diagnostic_accuracy",
    "mcnemar_test",
    "roc_curve",
    "uno_concordance",
    "wilson_limits",
]
