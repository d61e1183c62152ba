from __future__ import annotations

from pathlib import Path

import pytest
from docx import Document

from analysis.release_check.counts import complements, differences_between, small_in_text
from analysis.release_check.reading import Table, content_of

HEADS = ["Outcome, contrast", "Events", "Hazard ratio Model 1", "Hazard ratio Model 2"]
GROUPED = [["Atrial fibrillation", "Per SD", "447", "1.44", "1.59"], ["Heart failure", "Per SD", "348", "1.65", "1.72"]]


def test_html__heads_of_two_rows_and_groups_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(
        "<table><thead><tr><th rowspan=2>Outcome, contrast</th><th rowspan=2>Events</th><th colspan=2>Hazard ratio</th>"
        "</tr><tr><th>Model 1</th><th>Model 2</th></tr></thead><tbody><tr><th colspan=4>Atrial fibrillation</th></tr>"
        "<tr><th>Per SD</th><td>447</td><td>1.44</td><td>1.59</td></tr><tr><th colspan=4>Heart failure</th></tr>"
        "<tr><th>Per SD</th><td>348</td><td>1.65</td><td>1.72</td></tr></tbody></table>"
    )
    (table,) = content_of(path, "report.html").tables
    assert table.heads == ["group of rows", *HEADS]
    assert table.rows == GROUPED


def test_word__heads_of_two_rows_and_groups_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "tables.docx"
    document = Document()
    made = document.add_table(rows=4, cols=4)
    for row in made.rows[:2]:
        row._tr.get_or_add_trPr().append(row._tr.makeelement(f"{{{row._tr.nsmap['w']}}}tblHeader", {}))
    made.cell(0, 2).merge(made.cell(0, 3)).text = "Hazard ratio"
    for place, text in enumerate(["Outcome, contrast", "Events", "Model 1", "Model 2"]):
        made.cell(1, place).text = text
    made.cell(2, 0).merge(made.cell(2, 3)).text = "Atrial fibrillation"
    for place, text in enumerate(GROUPED[0][1:]):
        made.cell(3, place).text = text
    document.save(str(path))
    (table,) = content_of(path, "tables.docx").tables
    assert table.heads == ["group of rows", *HEADS]
    assert table.rows == GROUPED[:1]


def test_csv__a_row_that_is_too_short_is_no_failure() -> None:
    table = Table("a.csv", "", ["group", "people", "events"], [["all"], ["men", "100", "97"]])
    (found,) = complements(table, 10)
    assert found.value == "100 - 97 = 3"


@pytest.mark.parametrize("text", ["<table><tr><td>1</td></tr></table>", "<table></table>"])
def test_html__tables_without_a_head(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.html"
    path.write_text(text)
    assert all(not table.rows for table in content_of(path, "a.html").tables)


HEADS_OF_RESULTS = ["analysis", "outcome", "contrast", "strata", "level", "n_people"]


def test_results__quartiles_are_other_people_and_contrasts_of_all_are_not() -> None:
    rows = [
        ["hazard_ratios", "af", "per SD", "", "", "4824"],
        ["hazard_ratios", "af", "quartile 1 (reference)", "", "", "1206"],
        ["hazard_ratios", "af", "quartile 2 against 1", "", "", "1201"],
    ]
    quartiles = Table("data/results.csv", "", HEADS_OF_RESULTS, rows)
    assert not list(differences_between([quartiles], 10))
    lvh = ["hazard_ratios", "af", "LVH", "", "", "4826"]
    (found,) = differences_between([Table("data/results.csv", "", HEADS_OF_RESULTS, [*rows, lvh])], 10)
    assert found.value == "2"


def test_text__the_name_of_a_quartile_is_no_count() -> None:
    assert not list(small_in_text("a", "text", "4,317 Q4 Events 0 * 11", 10))
    assert list(small_in_text("a", "text", "there were 4 events", 10))
