"""Tables as Word files, as journals print them: three rules, heads on every page, wide ones lie."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final

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
from analysis.report.layout import LaidOut, laid_out
from analysis.report.page import NOT_CLINICAL, has_hidden, hidden_text, mark
from analysis.study.data import About

_SHORT_MM: Final = 210
_LONG_MM: Final = 297
_MARGIN_MM: Final = 15
_TEXT_PT: Final = 9.0
_WIDE_TEXT_PT: Final = 8.0
_MOST_LETTERS: Final = 30
_CELL_MARGIN_MM: Final = 1.0
_INDENT_MM: Final = 3.0
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
    set_up(document, about, "tables")
    for place, table in enumerate(tables):
        section = document.add_section(WD_SECTION.NEW_PAGE) if place else document.sections[0]
        body = laid_out(table)
        _set_page(section, is_wide=body.is_wide)
        _add_table(document, table.title, body, f"Table {place + 1}. " if len(tables) > 1 else "")
        for sign, text in (*body.notes, *([("", hidden_text(about))] if has_hidden(table) else [])):
            note = document.add_paragraph()
            _add_sign(note, sign)
            note.add_run(_clean(text))
            for run in note.runs:
                run.font.size = Pt(_WIDE_TEXT_PT)
            note.paragraph_format.space_before = Pt(3)
    save_document(document, path)


def set_up(document: WordDocument, about: About, what: str) -> None:
    """Give a document its font, its footer, and properties that tell no time and no person."""
    style = document.styles["Normal"]
    style.font.name, style.font.size = "Arial", Pt(_TEXT_PT)
    style.paragraph_format.space_after = Pt(2)
    properties = document.core_properties
    properties.title, properties.author = _clean(f"{about.name}: {what}"), "LVM-AI"
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


def _add_table(document: WordDocument, title: str, body: LaidOut, number: str) -> None:
    caption = _add_paragraph(document, number + title)
    caption.runs[0].bold = True
    caption.paragraph_format.keep_with_next = True
    spans = body.spans()
    n_heads = 2 if spans else 1
    made = document.add_table(rows=n_heads + len(body.lines), cols=1 + len(body.heads))
    _describe(made._tbl.tblPr, title)
    size = Pt(_WIDE_TEXT_PT if body.is_wide else _TEXT_PT)
    widths = _widths_mm(body)
    for column, width_mm in zip(made.columns, widths, strict=True):
        column.width = Mm(width_mm)
    # `made.rows[i].cells` walks the whole table each time; this reads each row once.
    rows = made._tbl.tr_lst
    for row in rows:
        for own, width_mm in zip(row.tc_lst, widths, strict=True):
            own.width = Mm(width_mm)
    heads = [(body.stub.text, body.stub.sign), *((one.text, one.sign) for one in body.heads)]
    _set_row(rows[n_heads - 1], is_head=True)
    for own, (text, sign), is_number in zip(rows[n_heads - 1].tc_lst, heads, (False, *body.is_number), strict=True):
        _write_cell(_Cell(own, made), text, size, bold=True, right=is_number, sign=sign)
        _rule(own, "bottom", 8)
    _write_lines(made, rows[n_heads:], body, size)
    if spans:
        _set_row(rows[0], is_head=True)
        _write_spans(made, rows[0], spans, size)
    for own in rows[0].tc_lst:
        _rule(own, "top", 12)
    for own in rows[-1].tc_lst:
        _rule(own, "bottom", 8)


def _write_lines(made: Any, rows: Any, body: LaidOut, size: Any) -> None:
    for row, line in zip(rows, body.lines, strict=True):
        _set_row(row, is_head=False)
        first = _Cell(row.tc_lst[0], made)
        if line.is_alone:
            first = first.merge(_Cell(row.tc_lst[-1], made))
        _write_cell(first, line.label, size, bold=line.is_group and line.indent == 0)
        first.paragraphs[0].paragraph_format.left_indent = Mm(_INDENT_MM * line.indent)
        first.paragraphs[0].paragraph_format.keep_with_next = line.is_group
        for own, text, is_number in zip(row.tc_lst[1:], line.cells, body.is_number, strict=not line.is_alone):
            _write_cell(_Cell(own, made), text, size, right=is_number)


def _write_spans(made: Any, row: Any, spans: list[tuple[str, int]], size: Any) -> None:
    """Write headings above columns, from the right, so that places stay as they are."""
    starts = [1]
    for _, n in spans[:-1]:
        starts.append(starts[-1] + n)
    for (text, n), start in reversed(list(zip(spans, starts, strict=True))):
        first = _Cell(row.tc_lst[start], made)
        cell = first.merge(_Cell(row.tc_lst[start + n - 1], made)) if n > 1 else first
        if text:
            _write_cell(cell, text, size, bold=True, centre=True)
            _rule(cell._tc, "bottom", 4)


def _write_cell(
    cell: _Cell, text: str, size: Any, *, bold: bool = False, right: bool = False, centre: bool = False, sign: str = ""
) -> None:
    paragraph = cell.paragraphs[0]
    paragraph.paragraph_format.space_before = Pt(2)
    run = paragraph.add_run(_clean(text))
    run.font.size, run.bold = size, bold
    _add_sign(paragraph, sign)
    if right or centre:
        paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT if right else WD_ALIGN_PARAGRAPH.CENTER


def _add_sign(paragraph: Paragraph, sign: str) -> None:
    if sign:
        paragraph.add_run(sign).font.superscript = True


def _widths_mm(body: LaidOut) -> list[float]:
    """Share a page's width: no number and no word is broken as long as that fits."""
    page_mm = (_LONG_MM if body.is_wide else _SHORT_MM) - 2 * _MARGIN_MM
    letter_mm = _LETTER_MM * (_WIDE_TEXT_PT if body.is_wide else _TEXT_PT)
    labels = [" " * 2 * line.indent + line.label for line in body.lines if not line.is_alone]
    columns = [(body.stub.text, labels, False)]
    for place, (head, is_number) in enumerate(zip(body.heads, body.is_number, strict=True)):
        columns.append((head.text, [line.cells[place] for line in body.lines], is_number))
    least, wished = [], []
    for name, texts, is_number in columns:
        whole = max(map(len, texts), default=0)
        words = [float(len(one)) for text in texts for one in text.split()]
        words += [_BOLD * len(one) for one in name.split()]
        word = max(words, default=0)
        needed = min(max(word, whole if is_number else 0), _MOST_LETTERS)
        least.append(needed * letter_mm + 2 * _CELL_MARGIN_MM)
        wish = max(needed, min(max(whole, len(name) / 2), _MOST_LETTERS))
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


def save_document(document: WordDocument, path: Path) -> None:
    """Write a document with one fixed time for all that is packed in it."""
    packed, again = BytesIO(), BytesIO()
    document.save(packed)
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(again, "w") as new:
        for name in old.namelist():
            entry = zipfile.ZipInfo(name, _ZIP_DAY)
            entry.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(entry, old.read(name))
    path.write_bytes(again.getvalue())
