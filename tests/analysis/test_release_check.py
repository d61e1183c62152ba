"""`lvm-ai release-check`: silent on clean exports, and finds each kind of planted leak."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from docx import Document

import lvm_ai
from analysis.disclosure.masking import MaskingRule, mask_all
from analysis.disclosure.release import ReleaseRule
from analysis.release_check.command import check
from analysis.release_check.figures import curves_of
from analysis.release_check.findings import Worst
from analysis.report.build import Analysis, analyse, constants_of
from analysis.report.write import write_export, write_rendered
from analysis.study.settings import Release
from tests.analysis.report.builders import study, study_data

K = 10


@pytest.fixture(scope="module")
def found() -> Analysis:
    return analyse(study_data(n=900, seed=7, study=study(release=Release(), bootstrap=0)), lambda _: None)


@pytest.fixture(scope="module")
def export(found: Analysis, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a drawn study under `standard`."""
    folder = tmp_path_factory.mktemp("release") / "export"
    data = study_data(n=60, seed=7)
    write_export(folder, found.export, constants=constants_of(data))
    return folder


@pytest.fixture(scope="module")
def restricted(found: Analysis, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release") / "restricted"
    write_rendered(folder, found.restricted)
    return folder


def test_standard__its_export_has_nothing_to_look_at(export: Path) -> None:
    """Within tables, between tables, texts, alternative texts, coordinates, Word metadata."""
    assert check(export, K) == []


def test_restricted__shows_the_small_counts_that_the_export_hides(restricted: Path) -> None:
    whys = [one.why for one in check(restricted, K)]
    assert whys.count("count of 1 to 9") > 50
    assert any("fewer than 10 people at risk" in why for why in whys)


def test_restricted__is_marked_on_each_page(restricted: Path, export: Path) -> None:
    pages = (restricted / "report.html", restricted / "figures" / "index.html")
    for path in (*pages, *(restricted / "tables").glob("*.html")):
        assert '<p class="mark">Not for release' in path.read_text(encoding="utf-8"), path.name
    for path in (restricted / "tables.docx", *(restricted / "tables").glob("*.docx")):
        assert Document(str(path)).sections[0].header.paragraphs[0].text.startswith("NOT FOR RELEASE"), path.name
    assert "> Not for release" in (restricted / "manuscript" / "manuscript.md").read_text(encoding="utf-8")
    assert "Not for release" not in (export / "report.html").read_text(encoding="utf-8")


def test_export__has_a_sentence_where_a_curve_is_hidden(tmp_path: Path) -> None:
    few = analyse(study_data(n=300, seed=3, study=study(release=Release(), bootstrap=0)), lambda _: None)
    sections = {one.key: one for one in few.export.report.sections}
    rates = sections["rates"]
    texts = [*rates.paragraphs, *(note for item in rates.items for note in item.notes)]
    assert any(text.startswith("No curve of") and text.endswith(": fewer than 10 events.") for text in texts)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [MaskingRule(10, 5), MaskingRule(8, 5, ReleaseRule.STANDARD), MaskingRule(21, 1)])
@pytest.mark.parametrize("n", [120])
def test_rules__a_small_study_has_a_result(rule: MaskingRule, n: int) -> None:
    """More is hidden instead of refusing."""
    found = analyse(study_data(n=n, seed=n, study=study(release=Release(), bootstrap=0)), lambda _: None)
    masked = mask_all(found.aggregates, rule)
    small = [
        value
        for one in masked.values()
        for column in one.bases
        if column in one.rows and not column.endswith("_fewest") and column.startswith("n_")
        for value in one.rows[column].dropna()
        if 0 < value < rule.k
    ]
    assert small == []


@pytest.fixture
def copy(export: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(export, tmp_path / "export"))


def change_csv(path: Path, change: Callable[[pd.DataFrame], None]) -> None:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    change(table)
    table.to_csv(path, index=False)


def whys(folder: Path, other: Path | None = None) -> dict[str, Worst]:
    return {one.why: one.worst for one in check(folder, K, other)}


def test_small_count__in_a_table(copy: Path) -> None:
    change_csv(copy / "data" / "rates.csv", lambda table: table.__setitem__("n_deaths", "7"))
    assert whys(copy)["count of 1 to 9"] == Worst.SMALL


def test_small_count__in_a_html_table_and_a_head(tmp_path: Path) -> None:
    rows = "<tr><th></th><th>LVH (n = 8)</th></tr><tr><td>Diabetes</td><td>3 (37.5 %)</td></tr>"
    (tmp_path / "t.html").write_text(f"<table>{rows}</table>")
    assert {"count of 1 to 9", "count of 1 to 9 in a head"} <= whys(tmp_path).keys()


def test_small_count__in_word(tmp_path: Path) -> None:
    document = Document()
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip([c for row in table.rows for c in row.cells], ["Group", "Events", "LVH", "4"], strict=True):
        cell.text = text
    document.core_properties.author = "LVM-AI"
    document.save(str(tmp_path / "t.docx"))
    assert whys(tmp_path) == {"count of 1 to 9": Worst.SMALL}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.html", "<p>Of these, 6 people died.</p>"),
        ("a.html", '<img alt="LVH: 5 events by 5 years">'),
        ("a.svg", '<svg aria-label="bars, at most 3 events"></svg>'.replace("at most ", "")),
        ("a.svg", "<svg><!-- LVH (n = 4) --></svg>"),
        ("a.md", "The outcome happened in 9 participants."),
        ("a.json", '{"note": "2 deaths"}'),
    ],
)
def test_small_count__in_text(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert "count of 1 to 9 in text" in whys(tmp_path)


@pytest.mark.parametrize("text", ["fewer than 10 events", "at most 5 people", "of 10 events or more", "12 people"])
def test_text__bounds_and_large_numbers_are_fine(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.md").write_text(text)
    assert whys(tmp_path) == {}


def test_small_count__in_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"flow": [{"n_people": 3}]}))
    assert "count of 1 to 9" in whys(tmp_path)


def test_complement__people_less_events(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("group,n_people,n_events\na,500,495\nb,300,120\n")
    assert [one.value for one in check(tmp_path, K)] == ["500 - 495 = 5"]


def test_difference__total_less_the_groups_shown(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("group,n_events\neverybody,118\nLVH,*\nno LVH,117\n")
    assert [one.value for one in check(tmp_path, K)] == ["118 - 117 = 1"]


def test_difference__columns_that_add_up_tell_a_hidden_one(tmp_path: Path) -> None:
    rows = ["17,11,28", "31,12,43", "25,14,39", "19,16,35", "20,*,27"]
    (tmp_path / "t.csv").write_text("\n".join(["level,tp,fp,n_positive", *(f"l{i},{r}" for i, r in enumerate(rows))]))
    assert [one.why for one in check(tmp_path, K)] == ["hidden count follows from its row"]


def test_difference__between_two_times(tmp_path: Path) -> None:
    rows = [f"{year},{events}" for year, events in enumerate([0, 20, 45, 48, 80])]
    (tmp_path / "t.csv").write_text("\n".join(["years,n_events", *rows]))
    assert [one.value for one in check(tmp_path, K)] == ["48 at 3, 45 at 2: 3"]


def test_difference__between_two_tables(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, n in (("a", 480), ("b", 477)):
        (tmp_path / "data" / f"{name}.csv").write_text(f"outcome,n_people\naf,{n}\nmi,{n + 100}\n")
    assert {one.value for one in check(tmp_path, K)} == {"3"}


def test_difference__not_of_rounded_counts(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("group,n_events\neverybody,120\nLVH,*\nno LVH,115\nwomen,60\nmen,55\nold,40\n")
    assert check(tmp_path, K) == []


def test_two_exports__of_nearly_the_same_people(export: Path, copy: Path) -> None:
    assert whys(export, export) == {}

    def two_more(table: pd.DataFrame) -> None:
        shown = table["n_people"].str.isdigit()
        table.loc[shown, "n_people"] = (table.loc[shown, "n_people"].astype(int) + 2).astype(str)

    change_csv(copy / "data" / "rates.csv", two_more)
    assert "two exports of nearly the same people" in whys(export, copy)


def test_figure__steps_of_few_at_risk(export: Path, restricted: Path) -> None:
    """The exact figure has curves that end with few people; that of the export has not."""
    names = sorted(path.name for path in (export / "figures").glob("incidence_*.svg"))
    assert names
    for folder, is_found in ((export, False), (restricted, True)):
        found = [one for one in check(folder, K) if one.worst == Worst.FIGURE and one.file.startswith("figures/")]
        assert bool(found) is is_found


def test_figure__curves_are_read_from_their_coordinates(restricted: Path) -> None:
    """In per cent, by the ticks: as many curves as groups, up to the last value of the table."""
    table = pd.read_csv(restricted / "data" / "incidence_curves.csv")
    own = table[(table["outcome"] == "af") & (table["classification"] == "Predicted LVH")]
    last = sorted(100 * own.groupby("group")["incidence"].max())
    curves = curves_of((restricted / "figures" / "incidence_af_lvh.svg").read_text(encoding="utf-8"))
    assert sorted(curve[-1][1] for curve in curves) == pytest.approx(last, abs=0.05)


def test_figure__clouds_of_points(tmp_path: Path) -> None:
    marks = '<use xlink:href="#m" x="1" y="1"/>' * 150
    (tmp_path / "a.svg").write_text(f'<svg><g id="PathCollection_1"><g>{marks}</g></g></svg>')
    assert whys(tmp_path) == {"a point for each of many people or events": Worst.FIGURE}


def word_with(path: Path, name: str, content: str) -> None:
    """Add or replace a part of a Word file."""
    with zipfile.ZipFile(path) as old:
        parts = {one: old.read(one) for one in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for one, own in (parts | {name: content.encode()}).items():
            new.writestr(one, own)


def test_word__author_reviewers_comments_and_hidden_text(tmp_path: Path) -> None:
    document = Document()
    document.core_properties.author = "Jane Doe"
    document.core_properties.last_modified_by = "John Doe"
    document.core_properties.revision = 12
    document.core_properties.comments = "from /home/jane/secret/study.yaml"
    document.add_paragraph().add_run("seen by nobody").font.hidden = True
    document.save(str(tmp_path / "t.docx"))
    word_with(tmp_path / "t.docx", "word/comments.xml", "<w:comments/>")
    found = [(one.place, one.value) for one in check(tmp_path, K)]
    assert ("properties: creator", "Jane Doe") in found
    assert ("properties: lastModifiedBy", "John Doe") in found
    assert ("properties: revision", "12") in found
    assert ("description", "/home/jane/secret/study.yaml") in found
    assert ("word/comments.xml", "comments") in found
    assert ("text", "hidden text") in found


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.html", "<!-- drawn from P00017 -->", "comment or hidden element"),
        ("a.html", '<td style="display: none">7</td>', "comment or hidden element"),
        ("a.md", "read from /mnt/project/ukb/hesin.csv", "absolute path"),
        ("a.md", r"read from C:\Users\jane\hesin.csv", "absolute path"),
        ("a.md", "ask jane.doe@hospital.org", "e-mail address"),
        ("a.md", "943 476 5919", "looks like an NHS number"),
        ("a.csv", "participant_id,x\nP1,2\n", "identifiers or dates of people"),
        ("a.csv", "key,x\n" + "".join(f"{1000000 + 7 * i},a\n" for i in range(6)), "long numbers, all different"),
        ("a.rds", "binary", "a kind of file that is not read here"),
    ],
)
def test_traces(tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / name).write_text(text)
    assert list(whys(tmp_path)) == [why]


def test_png__texts_that_it_carries(tmp_path: Path) -> None:
    content = b"Author\0Jane Doe"
    chunk = struct.pack(">I", len(content)) + b"tEXt" + content + struct.pack(">I", zlib.crc32(b"tEXt" + content))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    assert [one.value for one in check(tmp_path, K)] == ["Author Jane Doe"]


def test_command__lists_worst_first_and_says_so_in_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "e").mkdir()
    assert lvm_ai.main(["release-check", str(tmp_path / "e")]) == 2
    assert lvm_ai.main(["release-check", str(tmp_path / "e"), "--k", "1"]) == 2
    (tmp_path / "e" / "a.csv").write_text("group,n_people\na,500\n")
    assert lvm_ai.main(["release-check", str(tmp_path / "e")]) == 0
    assert "nothing found" in capsys.readouterr().out
    (tmp_path / "e" / "b.md").write_text("see /home/jane/x; 943 476 5919; 4 deaths")
    assert lvm_ai.main(["release-check", str(tmp_path / "e"), "--json"]) == 1
    assert [one["worst"] for one in json.loads(capsys.readouterr().out)] == ["person", "small", "trace"]
    assert lvm_ai.main(["release-check", str(tmp_path / "e")]) == 1
    assert "  1. looks like an NHS number: 943 476 5919\n     b.md | text" in capsys.readouterr().out
