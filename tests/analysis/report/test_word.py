"""Word files, read back."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from docx import Document
from docx.enum.section import WD_ORIENT
from docx.oxml.ns import qn

from analysis.report.document import ReadTable
from analysis.report.layout import WIDE_COLUMNS
from analysis.report.word import write_word
from tests.analysis.report.sample_report import ABOUT

SMALL = ReadTable(
    "small", "A small table", pd.DataFrame({"Group": ["Q1", "Q2"], "Events": ["120", "*"]}), notes=("A note.",)
)
WIDE = ReadTable(
    "wide",
    "A wide table",
    pd.DataFrame([["a"] * (WIDE_COLUMNS + 1)], columns=[f"c{n}" for n in range(WIDE_COLUMNS + 1)]),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.docx"


def test_write_word__cells_caption_and_notes_are_there(path: Path) -> None:
    write_word([SMALL], ABOUT, path)
    document = Document(str(path))
    cells = [[cell.text for cell in row.cells] for row in document.tables[0].rows]
    assert cells == [["Group", "Events"], ["Q1", "120"], ["Q2", "*"]]
    texts = [one.text for one in document.paragraphs]
    assert texts[:2] == ["A small table", "A note."]
    assert "is a hidden number" in texts[2]
    assert "not for clinical use" in document.sections[0].footer.paragraphs[0].text


def test_write_word__head_is_repeated_and_rows_are_not_cut(path: Path) -> None:
    write_word([SMALL], ABOUT, path)
    rows = Document(str(path)).tables[0]._tbl.tr_lst
    assert [row.find(f".//{qn('w:tblHeader')}") is not None for row in rows] == [True, False, False]
    assert all(row.find(f".//{qn('w:cantSplit')}") is not None for row in rows)


def test_write_word__only_wide_tables_lie_on_their_side(path: Path) -> None:
    write_word([SMALL, WIDE, SMALL], ABOUT, path)
    sections = Document(str(path)).sections
    assert [one.orientation for one in sections] == [WD_ORIENT.PORTRAIT, WD_ORIENT.LANDSCAPE, WD_ORIENT.PORTRAIT]
    width, height = sections[1].page_width, sections[1].page_height
    assert width is not None
    assert height is not None
    assert width > height


def test_write_word__several_tables_are_numbered(path: Path) -> None:
    write_word([SMALL, WIDE], ABOUT, path)
    texts = [one.text for one in Document(str(path)).paragraphs]
    assert "Table 1. A small table" in texts
    assert "Table 2. A wide table" in texts


def test_write_word__no_table_is_wider_than_its_page(path: Path) -> None:
    long = ReadTable("l", "L", pd.DataFrame([["x" * 80] * 12], columns=[f"c{n}" for n in range(12)]))
    write_word([SMALL, long], ABOUT, path)
    document = Document(str(path))
    for table, section in zip(document.tables, document.sections, strict=True):
        assert section.page_width is not None
        assert section.left_margin is not None
        widths = [cell.width or 0 for cell in table.rows[0].cells]
        assert sum(widths) <= section.page_width - 2 * section.left_margin + 1000


def test_write_word__control_characters_do_not_break_the_file(path: Path) -> None:
    write_word([ReadTable("c", "a\x0bb", pd.DataFrame({"a\x00": ["\x1b[0m"]}))], ABOUT, path)
    assert Document(str(path)).tables[0].cell(1, 0).text == "\ufffd[0m"


def test_write_word__same_bytes_twice(tmp_path: Path) -> None:
    for name in ("a.docx", "b.docx"):
        write_word([SMALL, WIDE], ABOUT, tmp_path / name)
    assert (tmp_path / "a.docx").read_bytes() == (tmp_path / "b.docx").read_bytes()


def test_write_word__an_empty_table_is_a_head_alone(path: Path) -> None:
    write_word([ReadTable("e", "E", pd.DataFrame({"a": [], "b": []}))], ABOUT, path)
    assert len(Document(str(path)).tables[0].rows) == 1
