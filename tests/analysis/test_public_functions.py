"""What holds for every public function of the statistics."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
# The names of the contract, with what follows the module in `analysis.<module>.<name>`.
CONTRACT = {
    "cox": ["fit_cox", "proportional_hazards_test", "scaled_schoenfeld", "split_follow_up"],
    "kaplan_meier": ["survival_curve", "follow_up_curve", "logrank_test"],
    "competing": ["cumulative_incidence", "gray_test", "fit_fine_gray", "predict_cumulative_incidence"],
    "concordance": ["concordance", "uno_concordance", "delta_concordance"],
    "rates": ["incidence_rates"],
    "repeatability": ["repeatability"],
    "splines": ["restricted_cubic_spline", "nonlinearity_test", "spline_contrast"],
    "missing": ["pool_rubin", "pool_scalar"],
    "agreement": ["agreement", "deming_regression", "passing_bablok"],
    "measurement_error": ["calibrate_exposure"],
    "risk": [
        "auc_at",
        "brier_score",
        "calibration_by_group",
        "category_nri",
        "e_value",
        "observed_expected",
        "pseudo_values",
        "smooth_calibration",
    ],
    "roc": [
        "auroc",
        "average_precision",
        "binary_c_statistic",
        "compare_auroc",
        "compare_binary_c_statistic",
        "diagnostic_accuracy",
        "mcnemar_test",
        "net_benefit",
        "roc_curve",
    ],
}
FUNCTIONS = [(module, name) for module, names in CONTRACT.items() for name in names]


def _function(module: str, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(import_module(f"analysis.{module}"), name)
    return found


@pytest.mark.parametrize(("module", "name"), FUNCTIONS)
def test_docstring__names_the_source_and_the_call_of_r(module: str, name: str) -> None:
    text = inspect.getdoc(_function(module, name)) or ""
    for section in ("Args:", "Returns:", "Raises:", "Source:"):
        assert section in text, section
    assert re.search(r"\bR( \(survival >= 3\))?:\s", text), "which call of R gives the same number?"
    source = text.partition("Source:")[2]
    assert re.search(r"\b(19|20)\d\d\b|R: `|As `", source), "a year, R itself, or another function"


@pytest.mark.parametrize(("module", "name"), FUNCTIONS)
def test_arguments__after_the_first_are_keyword_only(module: str, name: str) -> None:
    parameters = list(inspect.signature(_function(module, name)).parameters.values())
    # Two fits, or fits, a table and times, stand in the order in which one says them.
    said_in_order = {"delta_concordance": 2, "predict_cumulative_incidence": 3}
    for parameter in parameters[said_in_order.get(name, 1) :]:
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter.name


@pytest.mark.parametrize(("module", "name"), FUNCTIONS)
def test_page__has_every_function(module: str, name: str) -> None:
    assert re.search(rf"`(\w+\.)?{name}`", PAGE), name
