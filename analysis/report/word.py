"""Tables as Word files: three rules, heading row on every page, landscape pages for wide ones."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pandas as pd
from docx import Document
from docx.document import Document as WordDocument
from docx.enum.section import WD_ORIENT, WD_SECTION
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.section import Section as WordSection
from docx.shared import Mm, Pt
from docx.table import _Cell
from docx.text.paragraph import Paragraph

from analysis.report.document import ReadTable
from analysis.report.page import NOT_CLINICAL, WIDE_COLUMNS, has_hidden, hidden_text, mark, numeric_columns
from analysis.study.data import About

_SHORT_MM: Final = 210
_LONG_MM: Final = 297
_MARGIN_MM: Final = 15
_TEXT_PT: Final = 9.0
_WIDE_TEXT_PT: Final = 8.0
_MOST_LETTERS: Final = 30
_CELL_MARGIN_MM: Final = 1.0
# How much wider bold letters are.
_BOLD: Final = 1.2
# Of a letter of one point: 0.6 of its height, which is 0.353 mm.
_LETTER_MM: Final = 0.6 * 0.353
# Neither a clock nor a name: the same tables make the same bytes.
_DAY: Final = datetime(2000, 1, 1)
_ZIP_DAY: Final = (1980, 1, 1, 0, 0, 0)
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_word(tables: Sequence[ReadTable], about: About, path: Path) -> None:
    """Write masked tables to a `.docx` file, each on a page of its own; several are numbered."""
    document = Document()
    _set_up(document, about)
    for place, table in enumerate(tables):
        section = document.add_section(WD_SECTION.NEW_PAGE) if place else document.sections[0]
        _set_page(section, is_wide=table.cells.shape[1] > WIDE_COLUMNS)
        _add_table(document, table, f"Table {place + 1}. " if len(tables) > 1 else "")
        notes = [*table.notes, *([hidden_text(about)] if has_hidden(table) else [])]
        for text in notes:
            note = _add_paragraph(document, text)
            note.runs[0].font.size = Pt(_WIDE_TEXT_PT)
            note.paragraph_format.space_before = Pt(3)
    path.write_bytes(_same_bytes(document))


def _set_up(document: WordDocument, about: About) -> None:
    style = document.styles["Normal"]
    style.font.name, style.font.size = "Arial", Pt(_TEXT_PT)
    style.paragraph_format.space_after = Pt(2)
    properties = document.core_properties
    properties.title, properties.author = _clean(f"{about.name}: tables"), "LVM-AI"
    properties.comments, properties.language = NOT_CLINICAL, "en"
    properties.created = properties.modified = _DAY
    document.sections[0].footer.paragraphs[0].text = _clean(f"{about.name}. {NOT_CLINICAL}")
    if mark(about):
        document.sections[0].header.paragraphs[0].add_run(mark(about).upper()).bold = True


def _set_page(section: WordSection, *, is_wide: bool) -> None:
    section.orientation = WD_ORIENT.LANDSCAPE if is_wide else WD_ORIENT.PORTRAIT
    width, height = (_LONG_MM, _SHORT_MM) if is_wide else (_SHORT_MM, _LONG_MM)
    section.page_width, section.page_height = Mm(width), Mm(height)
    for side in ("left", "right", "top", "bottom"):
        setattr(section, f"{side}_margin", Mm(_MARGIN_MM))


def _add_table(document: WordDocument, table: ReadTable, number: str) -> None:
    caption = _add_paragraph(document, number + table.title)
    caption.runs[0].bold = True
    caption.paragraph_format.keep_with_next = True
    cells = table.cells.astype(str)
    n_rows, n_columns = cells.shape
    made = document.add_table(rows=n_rows + 1, cols=n_columns)
    _describe(made._tbl.tblPr, table.title)
    size = Pt(_WIDE_TEXT_PT if n_columns > WIDE_COLUMNS else _TEXT_PT)
    numeric = numeric_columns(table)
    widths = _widths_mm(cells, numeric)
    for column, width_mm in zip(made.columns, widths, strict=True):
        column.width = Mm(width_mm)
    # `made.rows[i].cells` walks the whole table each time; this reads each row once.
    for place, row in enumerate(made._tbl.tr_lst):
        texts = list(cells.columns) if place == 0 else list(cells.iloc[place - 1])
        _set_row(row, is_head=place == 0)
        for own, text, is_number, width_mm in zip(row.tc_lst, texts, numeric, widths, strict=True):
            own.width = Mm(width_mm)
            paragraph = _Cell(own, made).paragraphs[0]
            paragraph.paragraph_format.space_before = Pt(2)
            run = paragraph.add_run(_clean(str(text)))
            run.font.size, run.bold = size, place == 0
            if is_number:
                paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT
            if place in (0, n_rows):
                _rule(own, "bottom", 8)
            if place == 0:
                _rule(own, "top", 12)


def _widths_mm(cells: pd.DataFrame, numeric: Sequence[bool]) -> list[float]:
    """Share a page's width: no number and no word is broken as long as that fits."""
    is_wide = cells.shape[1] > WIDE_COLUMNS
    page_mm = (_LONG_MM if is_wide else _SHORT_MM) - 2 * _MARGIN_MM
    letter_mm = _LETTER_MM * (_WIDE_TEXT_PT if is_wide else _TEXT_PT)
    least, wished = [], []
    for place, (name, is_number) in enumerate(zip(cells.columns, numeric, strict=True)):
        texts = [*cells.iloc[:, place]]
        whole = max(map(len, texts), default=0)
        words = [float(len(one)) for text in texts for one in text.split()]
        words += [_BOLD * len(one) for one in str(name).split()]
        word = max(words, default=0)
        needed = min(max(word, whole if is_number else 0), _MOST_LETTERS)
        least.append(needed * letter_mm + 2 * _CELL_MARGIN_MM)
        wish = max(needed, min(max(whole, len(str(name)) / 2), _MOST_LETTERS))
        wished.append(wish * letter_mm + 2 * _CELL_MARGIN_MM)
    if sum(wished) <= page_mm:
        return wished
    if sum(least) > page_mm:
        return [one * page_mm / sum(least) for one in least]
    share = (page_mm - sum(least)) / (sum(wished) - sum(least))
    return [low + share * (high - low) for low, high in zip(least, wished, strict=True)]


def _add_paragraph(document: WordDocument, text: str) -> Paragraph:
    paragraph = document.add_paragraph()
    paragraph.add_run(_clean(text))
    return paragraph


def _set_row(row: Any, *, is_head: bool) -> None:
    """Cut no row between pages, and repeat the first on each."""
    properties = row.get_or_add_trPr()
    properties.append(OxmlElement("w:cantSplit"))
    if is_head:
        properties.append(OxmlElement("w:tblHeader"))


def _describe(properties: Any, title: str) -> None:
    """Give the table narrow cells, and a name for screen readers."""
    margins = OxmlElement("w:tblCellMar")
    for side in ("left", "right"):
        margin = OxmlElement(f"w:{side}")
        margin.set(qn("w:w"), str(round(Mm(_CELL_MARGIN_MM).twips)))
        margin.set(qn("w:type"), "dxa")
        margins.append(margin)
    # The format wants them in this order, margins just before the look.
    look = properties.find(qn("w:tblLook"))
    properties.insert(len(properties) if look is None else properties.index(look), margins)
    named = OxmlElement("w:tblCaption")
    named.set(qn("w:val"), _clean(title))
    properties.append(named)


def _rule(cell: Any, side: str, eighths_pt: int) -> None:
    properties = cell.get_or_add_tcPr()
    borders = properties.find(qn("w:tcBorders"))
    if borders is None:
        borders = OxmlElement("w:tcBorders")
        properties.append(borders)
    line = OxmlElement(f"w:{side}")
    line.set(qn("w:val"), "single")
    line.set(qn("w:sz"), str(eighths_pt))
    # The format wants top before bottom.
    borders.insert(0 if side == "top" else len(borders), line)


def _clean(text: str) -> str:
    """Return text without characters that XML cannot hold."""
    return _NOT_IN_XML.sub("\ufffd", text)


def _same_bytes(document: WordDocument) -> bytes:
    """Return the file with one fixed time for all that is packed in it."""
    packed, again = BytesIO(), BytesIO()
    document.save(packed)
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(again, "w") as new:
        for name in old.namelist():
            entry = zipfile.ZipInfo(name, _ZIP_DAY)
            entry.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(entry, old.read(name))
    return again.getvalue()
