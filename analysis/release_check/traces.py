"""What files carry beside their content: identifiers, paths, authors, comments, hidden text."""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from analysis.release_check.findings import Finding, Worst
from analysis.release_check.reading import Content, Table

_PATH: Final = re.compile(
    r"(?<![\w.:/])(/(?:home|Users|mnt|media|data|tmp|work|opt|srv|root|var|scratch|projects?|lustre|gpfs|nfs)/[^\s\"'<>)]+)"
    r"|(?<!\w)([A-Za-z]:\\[^\s\"'<>]+)|(\\\\\w[\w.-]*\\[^\s\"'<>]+)|(file:///?[^\s\"'<>]+)"
)
_MAIL: Final = re.compile(r"\b[\w.+-]+@[\w-]+\.[\w.]*\w\b")
_NHS: Final = re.compile(r"(?<![\d.,])\d{3}[ -]\d{3}[ -]\d{4}(?![\d.,])")
_ID_HEAD: Final = re.compile(
    r"(participant_?id|person_?id|patient_?id|subject_?id|eid|mrn|empi|nhs_?number|ecg_?id|(birth|death)_?date|dob|iid|fid)",
    re.IGNORECASE,
)
_LONG: Final = re.compile(r"\d{6,}")
_OUR_NAMES: Final = frozenset({"", "LVM-AI", "python-docx"})
_PARTS_OF_WORD: Final = {
    "word/comments.xml": "comments",
    "docProps/custom.xml": "custom properties",
    "word/people.xml": "names of reviewers",
}
_IN_WORD: Final = {"<w:vanish": "hidden text", "<w:ins ": "tracked insertion", "<w:del ": "tracked deletion"}
_CORE: Final = re.compile(r"<(?:dc|cp|dcterms):(creator|lastModifiedBy|revision|lastPrinted|description)[^>]*>([^<]*)<")
_TEXT_CHUNKS: Final = (b"tEXt", b"iTXt", b"zTXt", b"eXIf")
_FEWEST_PEOPLE: Final = 5


def check_text(file: str, place: str, text: str) -> Iterator[Finding]:
    """Yield absolute paths, e-mail addresses and numbers of patients in a text."""
    for one in _PATH.finditer(text):
        yield Finding(Worst.TRACE, file, place, one[0], "absolute path")
    for one in _MAIL.finditer(text):
        yield Finding(Worst.TRACE, file, place, one[0], "e-mail address")
    for one in _NHS.finditer(text):
        yield Finding(Worst.PERSON, file, place, one[0], "looks like an NHS number")


def check_table(table: Table) -> Iterator[Finding]:
    """Yield columns that identify people, and texts of cells."""
    for place, head in enumerate(table.heads):
        cells = [row[place] for row in table.rows if place < len(row)]
        if _ID_HEAD.fullmatch(head.strip()) and any(cells):
            yield Finding(Worst.PERSON, table.file, head, f"{len(cells)} rows", "identifiers or dates of people")
        elif len(set(cells)) == len(cells) >= _FEWEST_PEOPLE and all(_LONG.fullmatch(cell) for cell in cells):
            yield Finding(Worst.PERSON, table.file, head, f"{len(cells)} rows", "long numbers, all different")
        for cell in dict.fromkeys(cells):
            yield from check_text(table.file, head, cell)


def check_hidden(file: str, content: Content) -> Iterator[Finding]:
    """Yield comments and hidden elements of a page."""
    for text in content.comments:
        yield Finding(Worst.TRACE, file, "source of the page", text[:80], "comment or hidden element")
    if not content.is_known:
        yield Finding(Worst.TRACE, file, "file", Path(file).suffix, "a kind of file that is not read here")


def check_word(file: str, path: Path) -> Iterator[Finding]:
    """Yield what a Word file says of its authors and its history."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        core = archive.read("docProps/core.xml").decode(errors="replace") if "docProps/core.xml" in names else ""
        body = archive.read("word/document.xml").decode(errors="replace")
    for name, value in _CORE.findall(core):
        is_own = value.strip() in _OUR_NAMES if name != "revision" else value.strip() in ("", "0", "1", "2")
        if name == "description":
            yield from check_text(file, "description", value)
        elif not is_own:
            yield Finding(Worst.TRACE, file, f"properties: {name}", value, "metadata of a Word file")
    for part, what in _PARTS_OF_WORD.items():
        if part in names:
            yield Finding(Worst.TRACE, file, part, what, "metadata of a Word file")
    for name in names:
        if name.startswith("word/embeddings/"):
            yield Finding(Worst.TRACE, file, name, "embedded file", "metadata of a Word file")
    for mark, what in _IN_WORD.items():
        if mark in body:
            yield Finding(Worst.TRACE, file, "text", what, "hidden or tracked text of a Word file")


def check_png(file: str, path: Path) -> Iterator[Finding]:
    """Yield texts that a picture carries."""
    content, at = path.read_bytes(), 8
    while at + 8 <= len(content):
        (length,), kind = struct.unpack(">I", content[at : at + 4]), content[at + 4 : at + 8]
        if kind in _TEXT_CHUNKS:
            text = content[at + 8 : at + 8 + length].decode("latin-1").replace("\0", " ")
            yield Finding(Worst.TRACE, file, kind.decode(), text[:80], "metadata of a picture")
        at += 12 + length
