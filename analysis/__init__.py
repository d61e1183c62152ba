"""Analysis of predictions: CMR agreement, follow-up, survival models, the report."""

from lvm_core.moved import keep_old_names

# Modules of version 0.1 by where their public names are now.
_OLD_MODULES = {
    "statistics.accuracy": ("concordance", "roc"),
    "statistics.agreement": ("agreement", "measurement_error", "repeatability"),
    "statistics.columns": ("columns",),
    "statistics.design": ("design",),
    "statistics.missing": ("missing",),
    "statistics.risk": ("risk",),
    "statistics.survival": ("competing", "cox", "kaplan_meier", "rates", "splines"),
}
keep_old_names({f"analysis.{old}": f"analysis.{new}" for new, names in _OLD_MODULES.items() for old in names})
