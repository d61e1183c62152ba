"""The same number stands in text, tables, figures, Word, LaTeX and results.csv.

Expected texts are formatted here, from results.csv, by plain Python: not by the code under test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from docx import Document

from analysis.disclosure.masking import Masked
from analysis.report.build import Rendered, computed, constants_of, report_of, topics_of
from analysis.report.journals import in_journal
from analysis.report.page import Report
from analysis.report.write import write_export
from analysis.study.data import StudyData
from tests.analysis.report.builders import OUTCOMES, study_data

JOURNALS = {"plain": (".", " to "), "lancet": ("·", "–")}
_FOOTNOTE = re.compile(r"\[\^(\d+)\]")


@dataclass(frozen=True)
class Made:
    """An export, and the signs of its journal."""

    folder: Path
    report: Report
    decimal: str
    between: str

    def ratio(self, row: pd.Series) -> str:
        """As "1.23 (1.08 to 1.40)", with the journal's signs."""
        middle, lo, hi = (f"{row[name]:.2f}".replace(".", self.decimal) for name in ("estimate", "lo", "hi"))
        return f"{middle} ({lo}{self.between}{hi})"

    def text(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def computed_study() -> tuple[StudyData, dict[str, Masked]]:
    data = study_data(n=2500, seed=3)
    data = replace(data, provenance={"sha256 of ids and masses": "0", **data.provenance})
    return data, computed(data, lambda _: None)[1]


@pytest.fixture(scope="module", params=["plain", pytest.param("lancet", marks=pytest.mark.slow)])
def made(
    request: pytest.FixtureRequest,
    computed_study: tuple[StudyData, dict[str, Masked]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Made:
    folder = tmp_path_factory.mktemp("export") / "export"
    data, masked = computed_study
    with in_journal(request.param):
        sections = [topic.present(masked, data.about) for topic in topics_of(data)]
        report = report_of(data, masked, tuple(one for one in sections if one is not None))
        write_export(folder, Rendered(masked, report), constants=constants_of(data))
    return Made(folder, report, *JOURNALS[request.param])


def _results(made: Made) -> pd.DataFrame:
    return pd.read_csv(made.folder / "results.csv", keep_default_na=True)


def _main_ratios(made: Made) -> Iterator[tuple[str, str, str]]:
    """Outcome, contrast and the text of each hazard ratio of model 2, as page one has them."""
    rows = _results(made)
    own = rows[(rows["analysis"] == "hazard_ratios") & (rows["model"] == 2) & rows["estimate"].notna()]
    for _, row in own.iterrows():
        if row["contrast"] in ("per SD", "LVH"):
            yield OUTCOMES[row["outcome"]], row["contrast"], made.ratio(row)


class _Cells(HTMLParser):
    """Text of the cells of one table of a page."""

    def __init__(self, page: str, table: str) -> None:
        super().__init__()
        start = page.index(f'id="{table}"')
        self.rows: list[list[str]] = []
        self.feed(page[start : page.index("</table>", start)])

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def _label(contrast: str) -> str:
    return "Per SD" if contrast == "per SD" else contrast


def _is_there(rows: list[list[str]], outcome: str, contrast: str, text: str) -> bool:
    """Whether the row of a contrast below the row of an outcome has a cell with the text."""
    place = next(i for i, row in enumerate(rows) if row and row[0].strip().lower() == outcome)
    after = next(row for row in rows[place + 1 :] if row and row[0].strip() == _label(contrast))
    return text in [cell.strip() for cell in after]


def test_hazard_ratios__are_the_same_in_every_file(made: Made) -> None:
    page = made.text("report.html")
    html = _Cells(page, "table-hazard-ratios").rows
    alone = _Cells(made.text("tables/hazard_ratios.html"), "table-hazard-ratios").rows
    word = [
        [cell.text for cell in row.cells]
        for row in Document(str(made.folder / "tables/hazard_ratios.docx")).tables[0].rows
    ]
    latex = made.text("tables/hazard_ratios.tex").replace(r"\textperiodcentered{}", "·").replace("--", "–")
    tex = [
        re.sub(r"\\(textbf|hspace)\{([^}]*)\}", lambda m: m[2] if m[1] == "textbf" else "", line)
        for line in latex.splitlines()
    ]
    tex_rows = [
        [re.sub(r"\\multicolumn\{\d+\}\{l\}\{(.*)\}", r"\1", cell).strip(" \\") for cell in line.split(" & ")]
        for line in tex
    ]
    csv = pd.read_csv(made.folder / "tables/hazard_ratios.csv", dtype=str, keep_default_na=False)
    figure = re.findall(r">([^<]+)</text>", made.text("figures/key_results.svg"))
    manuscript = made.text("manuscript/manuscript.md")
    known = list(_main_ratios(made))
    assert len(known) == 2 * len(OUTCOMES)
    for outcome, contrast, text in known:
        for rows in (html, alone, word, tex_rows):
            assert _is_there(rows, outcome, contrast, text)
        own = csv[(csv["Outcome"] == outcome) & (csv["Contrast"] == contrast)]
        assert own["Model 2"].tolist() == [text]
        assert text in figure
        sentence = text.replace(" (", " (95% CI, ").rstrip(")")
        assert sentence in manuscript


def test_page_one__events_are_those_of_the_tables(made: Made) -> None:
    rates = pd.read_csv(made.folder / "tables/rates.csv", dtype=str, keep_default_na=False)
    page = made.text("report.html")
    first = page[page.index('id="key-results"') : page.index('<nav class="bar"')]
    for outcome in OUTCOMES.values():
        own = rates[(rates["Outcome"] == outcome) & (rates["Level"] == "everybody")]
        assert f"{outcome} {own['Events'].item()}" in first


def test_forest__events_are_those_of_the_results_with_how_far_they_are_rounded(made: Made) -> None:
    svg = re.findall(r">([^<]+)</text>", made.text("figures/key_results.svg"))
    rows = _results(made)
    own = rows[(rows["analysis"] == "hazard_ratios") & (rows["model"] == 2) & (rows["contrast"] == "per SD")]
    assert len(own) == len(OUTCOMES)
    for _, row in own.iterrows():
        more = re.search(r"n_events(±\d+)", str(row["coarse"]))
        assert f"{row['n_events']:,.0f}{more[1] if more else ''}" in svg


def test_curves__ends_told_in_words_are_those_of_the_data(made: Made) -> None:
    points = pd.read_csv(made.folder / "data/incidence_curves.csv")
    page = made.text("report.html")
    own = points[(points["outcome"] == "af") & (points["classification"] == "Quartile within sex")]
    known = own[pd.to_numeric(own["incidence"], errors="coerce").notna()]
    horizon = made.report.about.horizon_years
    for group, rows in known.groupby("group"):
        last = rows[rows["years"] <= horizon].iloc[-1]
        text = f"{100 * float(last['incidence']):.1f}%".replace(".", made.decimal)
        assert f"{group} {text}" in page


def test_manuscript__every_sentence_names_lines_that_have_its_numbers(made: Made) -> None:
    text = made.text("manuscript/manuscript.md")
    notes = dict(re.findall(r"^\[\^(\d+)\]: (.*)$", text, flags=re.MULTILINE))
    sentences = [line for line in text.splitlines() if _FOOTNOTE.search(line) and not line.startswith("[^")]
    assert len(sentences) >= 10
    for line in sentences:
        numbers = _numbers(_FOOTNOTE.sub("", line), made.decimal)
        lines = [_line(made, one) for one in notes[_FOOTNOTE.findall(line)[-1]].split("; ")]
        assert lines
        assert numbers, line
        known = {form for one in lines for form in _forms(one)}
        missing = [number for number in numbers if number not in known]
        assert missing == [], (line, missing)


def _numbers(line: str, decimal: str) -> list[str]:
    """Numbers of a sentence but levels of confidence, horizons, words as "12-lead" and P values."""
    plain = line.replace(decimal, ".") if decimal != "." else line
    plain = re.sub(r"95% (CI|limits)|\b[Pp][=<][\d.]+|[\d.]+-year|12-lead", " ", plain)
    return [one.rstrip(".").replace(",", "") for one in re.findall(r"(?<![\w.])-?\d[\d,]*\.?\d*", plain)]


def _line(made: Made, source: str) -> dict[str, object]:
    name, line = source.split(", line ")
    table = pd.read_csv(made.folder / name, keep_default_na=True)
    return dict(table.iloc[int(line) - 2])


def _forms(row: dict[str, object]) -> set[str]:
    """A value of a line with 0 to 3 decimals, shares of its counts in per cent, and "±" beside."""
    values = {name: pd.to_numeric(str(value), errors="coerce") for name, value in row.items()}
    counts = {
        name: float(str(value).partition("±")[0])
        for name, value in row.items()
        if re.fullmatch(r"\d+(±\d+)?", str(value))
    }
    known = [float(one) for one in values.values() if pd.notna(one)] + list(counts.values())
    known += [100 * a / b for a in counts.values() for b in counts.values() if 0 < a <= b]
    made = {f"{one + 0.0:.{digits}f}" for one in known for digits in range(4)}
    return made | {found for value in row.values() for found in re.findall(r"±(\d+)", str(value))}
