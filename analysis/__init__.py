"""Analysis of predictions: CMR agreement, follow-up, survival models, the report."""

from lvm_core.moved import keep_old_names

_OLD_STATISTICS = {
    "accuracy": ("concordance", "roc"),
    "agreement": ("agreement", "measurement_error", "repeatability"),
    "risk": ("risk",),
    "survival": ("competing", "cox", "kaplan_meier", "rates", "splines"),
}
keep_old_names(
    {
        "analysis.design": "analysis.statistics.design",
        "analysis.missing": "analysis.statistics.missing",
        **{
            f"analysis.{module}": f"analysis.statistics.{subject}"
            for subject, modules in _OLD_STATISTICS.items()
            for module in modules
        },
    }
)
