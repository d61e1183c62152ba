"""Accuracy of a marker: ROC curves, diagnostic tables, net benefit, concordance."""

from analysis.statistics.accuracy.concordance import concordance, delta_concordance, uno_concordance
from analysis.statistics.accuracy.diagnostic import diagnostic_accuracy, mcnemar_test
from analysis.statistics.accuracy.net_benefit import net_benefit
from analysis.statistics.accuracy.roc import (
    auroc,
    average_precision,
    binary_c_statistic,
    compare_auroc,
    compare_binary_c_statistic,
    roc_curve,
)

__all__ = [
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
]
