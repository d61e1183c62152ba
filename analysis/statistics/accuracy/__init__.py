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
    NetBenefit,
    Within,
    diagnostic_accuracy,
    mcnemar_test,
    net_benefit,
    wilson_limits,
)
from analysis.statistics.accuracy.roc import (
    AveragePrecision,
    Discrimination,
    DiscriminationComparison,
    RocCurve,
    auroc,
    average_precision,
    binary_c_statistic,
    compare_auroc,
    compare_binary_c_statistic,
    roc_curve,
)

__all__ = [
    "AveragePrecision",
    "Concordance",
    "ConcordanceDifference",
    "DiagnosticAccuracy",
    "Discrimination",
    "DiscriminationComparison",
    "McnemarTest",
    "NetBenefit",
    "RocCurve",
    "Within",
    "auroc",
    "average_precision",
    "binary_c_statistic",
    "compare_auroc",
    "compare_binary_c_statistic",
    "concordance",
    "delta_concordance",
    "diagnostic_accuracy",
    "mcnemar_test",
    "net_benefit",
    "roc_curve",
    "uno_concordance",
    "wilson_limits",
]
