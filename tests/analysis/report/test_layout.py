"""How journals print tables; expected rows are written by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.report.document import ReadTable
from analysis.report.latex import escaped, latex_table
from analysis.report.layout import Line, laid_out, split_interval

RATIOS = ReadTable(
    "ratios",
    "Ratios",
    pd.DataFrame(
        [
            ["heart failure", "per SD", "100", "12", "1.20 (1.00 to 1.40)", "1.10 (0.90 to 1.30)", "0.05"],
            ["heart failure", "LVH", "100", "12", "1.50 (1.00 to 2.00)", "*", "0.01"],
            ["stroke", "per SD", "90", "7", "1.30 (1.10 to 1.50)", "1.00 (0.80 to 1.20)", "<0.001"],
            ["stroke", "LVH", "90", "7", "1.00 (0.50 to 2.00)", "–", "0.99"],
        ],
        columns=["Outcome", "Contrast", "People", "Events", "Hazard ratio: Model 1", "Hazard ratio: Model 2", "q"],
    ),
    2,
    ("Limits are 95%.", "q: Benjamini and Hochberg."),
)


def test_laid_out__an_outcome_is_named_once_with_its_people_and_events() -> None:
    lines = laid_out(RATIOS).lines
    assert lines[0] == Line("Heart failure", 0, ("100", "12", "", "", ""), is_group=True)
    assert lines[1] == Line("Per SD", 1, ("", "", "1.20 (1.00 to 1.40)", "1.10 (0.90 to 1.30)", "0.05"))
    assert [line.label for line in lines] == ["Heart failure", "Per SD", "LVH", "Stroke", "Per SD", "LVH"]


def test_laid_out__counts_that_differ_stay_on_their_rows() -> None:
    cells = RATIOS.cells.assign(Events=["12", "11", "7", "7"])
    lines = laid_out(ReadTable("r", "R", cells, 2)).lines
    assert lines[0].cells[:2] == ("100", "")
    assert [line.cells[1] for line in lines[1:3]] == ["12", "11"]


def test_laid_out__columns_of_one_kind_share_a_heading() -> None:
    body = laid_out(RATIOS)
    assert [head.text for head in body.heads] == ["People", "Events", "Model 1", "Model 2", "q"]
    assert body.spans() == [("", 1), ("", 1), ("Hazard ratio", 2), ("", 1)]


def test_laid_out__headings_above_columns_may_be_given() -> None:
    cells = pd.DataFrame({"Outcome": ["af"], "Model 1": ["1.2"], "Model 2": ["1.3"], "P": ["0.5"]})
    body = laid_out(ReadTable("t", "T", cells, 1, (), {"Model 1": "Hazard ratio", "Model 2": "Hazard ratio"}))
    assert body.spans() == [("Hazard ratio", 2), ("", 1)]


def test_laid_out__a_note_about_a_column_has_a_sign_at_it() -> None:
    body = laid_out(RATIOS)
    assert body.notes == (("", "Limits are 95%."), ("†", "q: Benjamini and Hochberg."))
    assert body.heads[-1].sign == "†"


def test_laid_out__rows_that_share_no_label_need_no_row_above_them() -> None:
    cells = pd.DataFrame({"Outcome": ["af", "mi"], "Contrast": ["LVH", "LVH"], "n": ["1", "2"]})
    assert [line.label for line in laid_out(ReadTable("t", "T", cells, 2)).lines] == ["Af, LVH", "Mi, LVH"]


def test_laid_out__three_labels_are_indented_twice_and_blank_ones_are_skipped() -> None:
    cells = pd.DataFrame(
        [["af", "", "everybody", "9"], ["af", "Sex", "female", "5"], ["af", "Sex", "male", "4"]],
        columns=["Outcome", "Group", "Level", "n"],
    )
    lines = laid_out(ReadTable("t", "T", cells, 3)).lines
    assert [(line.label, line.indent, line.is_alone) for line in lines] == [
        ("Af", 0, True),
        ("Everybody", 1, False),
        ("Sex", 1, True),
        ("Female", 2, False),
        ("Male", 2, False),
    ]


def test_laid_out__a_blank_first_label_continues_the_row_above() -> None:
    cells = pd.DataFrame({"Characteristic": ["Age", ""], "": ["mean (SD)", "median"], "All": ["63", "62"]})
    assert [line.label for line in laid_out(ReadTable("t", "T", cells, 2)).lines] == ["Age", "Mean (SD)", "Median"]


def test_laid_out__an_empty_table_is_a_head_alone() -> None:
    body = laid_out(ReadTable("t", "T", pd.DataFrame({"a": [], "b": [], "c": []}), 2))
    assert body.lines == ()
    assert [head.text for head in body.heads] == ["c"]


@pytest.mark.parametrize(
    ("text", "parts"), [("1.2 (1.0 to 1.4)", ("1.2", "(1.0 to 1.4)")), ("12", ("12", "")), ("*", ("*", ""))]
)
def test_split_interval(text: str, parts: tuple[str, str]) -> None:
    assert split_interval(text) == parts


def test_escaped__nothing_is_a_command() -> None:
    assert escaped(r"5% & \x_y <0.001 {a}") == r"5\% \& \textbackslash{}x\_y \textless{}0.001 \{a\}"


def test_latex_table__rows_headings_and_signs_of_the_same_layout() -> None:
    text = latex_table(RATIOS, "A last note.")
    assert r"\begin{tabular}{lrrrrr}" in text
    assert r"\multicolumn{2}{c}{Hazard ratio}" in text
    assert r"\cmidrule(lr){4-5}" in text
    assert r"Outcome, contrast & People & Events & Model 1 & Model 2 & q\textsuperscript{\dag{}} \\" in text
    assert r"\textbf{Heart failure} & 100 & 12 &  &  &  \\" in text
    assert r"\hspace{1em}LVH &  &  & 1.50 (1.00 to 2.00) & * & 0.01 \\" in text
    assert text.index("Limits are 95") < text.index("q: Benjamini") < text.index("A last note.")
