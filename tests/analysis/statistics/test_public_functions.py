"""What holds for every public function of the statistics."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "statistics.md").read_text(encoding="utf-8")
# The public functions of each subject.
CONTRACT = {
    "statistics.survival": [
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
    ],
    "statistics.accuracy": [
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
    ],
    "statistics.agreement": ["agreement", "calibrate_exposure", "deming_regression", "passing_bablok", "repeatability"],
    "statistics.risk": [
        "auc_at",
        "brier_score",
        "calibration_by_group",
        "decision_curve",
        "e_value",
        "observed_expected",
        "pseudo_values",
        "smooth_calibration",
    ],
    "statistics.missing": ["pool_rubin", "pool_scalar"],
}
# Names of version 0.1, which work for one more release.
OLD_NAMES = [
    ("cox", "fit_cox"),
    ("kaplan_meier", "survival_curve"),
    ("competing", "fit_fine_gray"),
    ("concordance", "delta_concordance"),
    ("rates", "incidence_rates"),
    ("repeatability", "repeatability"),
    ("splines", "restricted_cubic_spline"),
    ("missing", "pool_rubin"),
    ("agreement", "deming_regression"),
    ("measurement_error", "calibrate_exposure"),
    ("risk", "auc_at"),
    ("roc", "auroc"),
    ("design", "Category"),
    ("columns", "TableRefused"),
]
FUNCTIONS = [(module, name) for module, names in CONTRACT.items() for name in names]


def _function(module: str, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(import_module(f"analysis.{module}"), name)
    return found


@pytest.mark.parametrize(("module", "name"), OLD_NAMES)
def test_old_name__works_and_warns(module: str, name: str) -> None:
    old = f"analysis.{module}"
    subjects = {function: subject for subject, function in FUNCTIONS}
    new = subjects.get(name, f"statistics.{module}")
    sys.modules.pop(old, None)
    with pytest.warns(FutureWarning, match=rf"{old} has moved to analysis\.{new}"):
        assert _function(module, name) is _function(new, name)


@pytest.mark.parametrize("subject", ["survival", "accuracy", "agreement", "risk"])
def test_subject__lists_its_functions_and_their_results(subject: str) -> None:
    module = import_module(f"analysis.statistics.{subject}")
    assert set(CONTRACT[f"statistics.{subject}"]) <= set(module.__all__)
    returned = {
        inspect.signature(getattr(module, name)).return_annotation for name in CONTRACT[f"statistics.{subject}"]
    }
    ours = {name for name in returned if not name.startswith("pd.")}
    assert ours <= set(module.__all__)


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
    # Two fits, or fits, a table and times, have a natural order.
    in_order = {"delta_concordance": 2, "predict_cumulative_incidence": 3}
    for parameter in parameters[in_order.get(name, 1) :]:
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter.name


@pytest.mark.parametrize(("module", "name"), FUNCTIONS)
def test_page__has_every_function(module: str, name: str) -> None:
    assert re.search(rf"`(\w+\.)?{name}`", PAGE), name
