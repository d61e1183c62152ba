"""The files of the folder `manuscript/`: Markdown, Word and a bibliography."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from docx import Document

from analysis.report.manuscript import Manuscript, markdown, source_text
from analysis.report.references import bibliography
from analysis.report.word import save_document, set_up
from analysis.study.data import About


def write_manuscript(
    folder: Path, made: Manuscript, title: str, notices: Sequence[str], about: About, sections: Sequence[str]
) -> None:
    """Write manuscript.md, manuscript.docx and references.bib; `notices` stand at the beginning."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manuscript.md").write_text(markdown(made, title, notices), encoding="utf-8")
    (folder / "references.bib").write_text(bibliography(sections), encoding="utf-8")
    _write_word(folder / "manuscript.docx", made, title, notices, about)


def _write_word(path: Path, made: Manuscript, title: str, notices: Sequence[str], about: About) -> None:
    document = Document()
    set_up(document, about, "manuscript")
    document.add_heading(title, 0)
    for text in notices:
        document.add_paragraph(text).runs[0].bold = True
    document.add_heading("Methods", 1)
    for text in made.methods:
        document.add_paragraph(text)
    document.add_heading("Results", 1)
    notes: list[str] = []
    for head, statements in made.results:
        document.add_heading(head, 2)
        paragraph = document.add_paragraph()
        for one in statements:
            notes.append(source_text(one, made))
            paragraph.add_run(one.text)
            paragraph.add_run(str(len(notes))).font.superscript = True
            paragraph.add_run(" ")
    document.add_heading("Captions", 1)
    for text in made.captions:
        document.add_paragraph(text)
    document.add_heading("Where each number is", 1)
    for place, text in enumerate(notes, 1):
        document.add_paragraph(f"{place}. {text}")
    save_document(document, path)
