"""Page one, from masked tables that are written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.disclosure.aggregates import Aggregate, result, results
from analysis.disclosure.masking import Masked, MaskingRule, mask_all
from analysis.report.manuscript import manuscript_of, markdown
from analysis.report.statements import Source, find_result, places_of
from analysis.report.topics import absolute_risk, added_value, cmr_lvh
from analysis.report.topics.key_results import cmr_statements, key_results
from analysis.report.topics.tables import HAZARD_RATIO
from tests.analysis.report.drawn_texts import drawn_texts
from tests.analysis.report.sample_report import ABOUT as SAMPLE

ABOUT = replace(SAMPLE, outcomes={"af": "atrial fibrillation", "mi": "myocardial infarction"}, k=10, base=1)
COUNTS = {"n_people": 5000, "n_ecgs": 5000, "n_events": 200}


def _ratio(outcome: str, contrast: str, model: int, *numbers: float, **more: Any) -> dict[str, Any]:
    estimate, lo, hi = numbers
    known = {"outcome": outcome, "contrast": contrast, "model": model, "estimate": estimate, "lo": lo, "hi": hi}
    return result("hazard_ratios", HAZARD_RATIO, **(COUNTS | known | {"adjustment": "age, sex", "p": 0.004} | more))


RATIOS = [
    _ratio("af", "per SD", 1, 1.5, 1.3, 1.7),
    _ratio("af", "per SD", 2, 1.234, 1.084, 1.404),
    _ratio("af", "LVH", 2, 2.0, 1.25, 3.25),
    _ratio("mi", "per SD", 2, 1.1, 0.9, 1.3),
    _ratio("mi", "LVH", 2, 3.0, 1.0, 9.0, n_events=4, n_events_fewest=4),
]


def _added() -> list[dict[str, Any]]:
    known = {"outcome": "af", "adjustment": "age, sex"} | COUNTS
    name = ABOUT.exposure_name
    return [
        result("added_value", added_value.C, contrast=added_value.WITHOUT, estimate=0.701, lo=0.68, hi=0.72, **known),
        result("added_value", added_value.C, contrast=name, estimate=0.709, lo=0.69, hi=0.73, **known),
        result("added_value", added_value.DELTA, contrast=name, estimate=0.008, lo=0.002, hi=0.014, **known),
        result("added_value", added_value.LIKELIHOOD, contrast=name, estimate=9.7, p=0.0018, **known),
    ]


def _risk() -> list[dict[str, Any]]:
    known = {"outcome": "af", "adjustment": "age, sex, exposure", "unit_value": 5.0} | COUNTS
    return [
        result("absolute_risk", absolute_risk.AUC, estimate=0.712, lo=0.690, hi=0.734, **known),
        result("absolute_risk", absolute_risk.RATIO, estimate=1.02, lo=0.91, hi=1.14, **known),
    ]


def _cmr() -> list[dict[str, Any]]:
    def row(measure: str, contrast: str, *numbers: float, **more: Any) -> dict[str, Any]:
        estimate, lo, hi = numbers
        known = {"contrast": contrast, "estimate": estimate, "lo": lo, "hi": hi, "n_people": 800, "n_ecgs": 800}
        return result("cmr", measure, **(known | more))

    strata = {"strata": cmr_lvh.ALL_THREE}
    return [
        row("pearson", "LV mass", 0.79, 0.76, 0.82),
        row("bias", "LV mass", 1.5, 0.25, 2.75),
        row("lower_limit_of_agreement", "LV mass", -33.25, -35.0, -31.0),
        row("upper_limit_of_agreement", "LV mass", 36.25, 34.0, 38.0),
        row(cmr_lvh.C, "Predicted LVH", 0.653, 0.608, 0.698, **strata),
        row(cmr_lvh.C, "Any of the three ECG rules", 0.618, 0.574, 0.663, **strata),
        row(cmr_lvh.C_DIFFERENCE, cmr_lvh.AGAINST_RULES, 0.035, -0.01, 0.08, p=0.11, **strata),
    ]


@pytest.fixture(scope="module")
def masked() -> dict[str, Masked]:
    tables: list[Aggregate] = [
        results("hazard_ratios", RATIOS),
        results("added_value", _added()),
        results("absolute_risk", _risk()),
        results("cmr", _cmr()),
    ]
    found = mask_all(tables, MaskingRule(0, 1))
    rows = found["results_hazard_ratios"]
    hidden = rows.hidden.copy()
    hidden.loc[4, ["estimate", "lo", "hi", "p"]] = True
    values = rows.rows.copy()
    values.loc[4, ["estimate", "lo", "hi", "p"]] = np.nan
    return found | {"results_hazard_ratios": replace(rows, rows=values, hidden=hidden)}


def test_forest__has_every_outcome_per_sd_and_for_lvh_under_model_2(masked: dict[str, Masked]) -> None:
    figure = key_results(masked, ABOUT).figure
    assert figure is not None
    texts = [text.get_text() for text, _ in drawn_texts(figure.canvas)]
    for text in ("1.23 (1.08 to 1.40)", "2.00 (1.25 to 3.25)", "1.10 (0.90 to 1.30)", "Atrial fibrillation"):
        assert text in texts
    assert "1.50 (1.30 to 1.70)" not in texts  # unadjusted


def test_forest__a_hidden_ratio_is_a_star_and_no_square(masked: dict[str, Masked]) -> None:
    figure = key_results(masked, ABOUT).figure
    assert figure is not None
    assert "*" in [text.get_text() for text, _ in drawn_texts(figure.canvas)]
    squares = [line for line in figure.canvas.axes[0].lines if line.get_label() == "_estimate"]
    assert len(squares) == 3


def test_accuracy__a_row_for_each_outcome_with_what_is_known(masked: dict[str, Masked]) -> None:
    table = key_results(masked, ABOUT).table
    assert table is not None
    assert table.cells.iloc[0].tolist() == [
        "Atrial fibrillation",
        "0.701",
        "0.709",
        "0.008 (0.002 to 0.014)",
        "0.002",
        "0.712 (0.690 to 0.734)",
        "1.02 (0.91 to 1.14)",
    ]
    assert table.cells.iloc[:, 0].tolist() == ["Atrial fibrillation"]


def test_cmr__agreement_and_c_statistic_beside_the_rules(masked: dict[str, Masked]) -> None:
    agreement, lvh = (one.text for one in cmr_statements(masked))
    assert "800 people with CMR: r 0.79 (0.76 to 0.82)" in agreement
    assert "1.5 (0.2 to 2.8) g, 95% limits of agreement -33.2 and 36.2 g" in agreement
    assert "predicted LVH 0.653 (0.608 to 0.698), any of three ECG rules 0.618 (0.574 to 0.663); P=0.11" in lvh


def test_key_results__without_tables_nothing_is_said() -> None:
    key = key_results({}, ABOUT)
    assert key.figure is None
    assert key.table is None
    assert key.cmr == ()
    assert [what for what, _ in key.study] == ["Design", "Exposure", "Outcomes"]


def test_manuscript__hidden_ratios_are_said_to_be_so_and_sources_are_lines(masked: dict[str, Masked]) -> None:
    made = manuscript_of(masked, ABOUT, ("A method.",), (), key_results(masked, ABOUT))
    text = markdown(made, "Title", ("Synthetic.",))
    assert "> Synthetic." in text
    assert "A method." in text
    assert "was 1.23 (95% CI, 1.08 to 1.40; P=0.004) after adjustment for age and sex.[^1]" in text
    assert "[^1]: results.csv, line 3\n" in text  # the head, and a row before it
    assert "is not given, as it rests on few people or events.[^4]" in text
    assert "0.709 with the predicted LV mass index added (difference 0.008; 95% CI, 0.002 to 0.014; P=0.002" in text


def test_places__lines_of_results_go_on_over_tables_and_others_have_their_own(masked: dict[str, Masked]) -> None:
    places = places_of(masked)
    assert places[Source("results_hazard_ratios", 0)] == "results.csv, line 2"
    assert places[Source("results_added_value", 0)] == "results.csv, line 7"  # after five ratios
    other = replace(masked["results_cmr"], key="rates")
    assert places_of({"rates": other})[Source("rates", 1)] == "data/rates.csv, line 3"


def test_find_result__nothing_where_no_row_fits(masked: dict[str, Masked]) -> None:
    assert find_result(masked, "hazard_ratios", outcome="stroke") is None
    assert find_result(masked, "competing") is None
    found = find_result(masked, "hazard_ratios", outcome="mi", contrast="LVH")
    assert found is not None
    assert not found.is_shown
    assert found.p() == ""
    assert pd.isna(found.values["estimate"])
