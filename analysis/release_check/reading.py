"""The files of an export as tables of text and as running text."""

from __future__ import annotations

import csv
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import pyarrow.parquet as pq

from analysis.release_check.grid import Spanning, plain
from lvm_core.errors import LvmError

_WORD: Final = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_COMMENT: Final = re.compile(r"<!--(.*?)-->", re.DOTALL)
# Written by hand or by our own code in check.R and the like: looked at as text.
TEXTS: Final = frozenset({".txt", ".md", ".r", ".tex", ".bib", ".yaml", ".yml", ""})


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text."""

    file: str  # relative to the export
    name: str  # of the table in the file
    heads: list[str]
    rows: list[list[str]]


@dataclass(slots=True)
class Content:
    """What a file holds."""

    tables: list[Table] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)  # place and text
    comments: list[str] = field(default_factory=list)  # that no reader sees
    is_known: bool = True  # whether the kind of file can be read


def files_of(folder: Path) -> list[Path]:
    """Return the files of an export in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def content_of(path: Path, file: str) -> Content:
    """Read a file of an export; `file` is its name in findings."""
    kind = path.suffix.lower()
    if kind == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream))
        return Content([Table(file, "", rows[0], rows[1:])] if rows else [])
    if kind == ".parquet":
        return _parquet(path, file)
    if kind == ".json":
        return _json(path, file)
    if kind in (".html", ".htm"):
        return _html(path.read_text(encoding="utf-8"), file)
    if kind == ".svg":
        text = path.read_text(encoding="utf-8")
        return Content(texts=[("text of the figure", one) for one in svg_texts(text)])
    if kind == ".docx":
        return _word(path, file)
    if kind == ".png":
        return Content()
    if kind in TEXTS:
        return Content(texts=[("text", path.read_text(encoding="utf-8", errors="replace"))])
    return Content(is_known=False)


def svg_texts(text: str) -> list[str]:
    """Return the texts of a figure; letters drawn as outlines have them in comments."""
    found = [re.sub(r"<[^>]*>", "", one) for one in re.findall(r"<text[^>]*>(.*?)</text>", text, re.DOTALL)]
    found += re.findall(r'aria-label="([^"]*)"', text)
    found += re.findall(r"<(?:title|desc)[^>]*>(.*?)</", text, re.DOTALL)
    return [one.strip() for one in (*found, *_COMMENT.findall(text)) if one.strip()]


def _parquet(path: Path, file: str) -> Content:
    table = pq.read_table(path)
    rows = [["" if value is None else str(value) for value in row.values()] for row in table.to_pylist()]
    known = table.schema.metadata or {}
    texts = [("metadata", f"{key.decode()} {value.decode(errors='replace')}") for key, value in known.items()]
    return Content([Table(file, "", table.schema.names, rows)], texts)


def _json(path: Path, file: str) -> Content:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LvmError(f"{path} is not JSON: {error}") from error
    pairs = list(_leaves(tree, ""))
    tables = [Table(file, "", [name.rpartition(".")[2]], [[value]]) for name, value in pairs]
    return Content(tables, [(name, value) for name, value in pairs])


def _leaves(tree: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, f"{name}.{key}".strip("."))
    elif isinstance(tree, list):
        for value in tree:
            yield from _leaves(value, name)
    elif tree is not None:
        yield name, str(tree)


class _Page(HTMLParser):
    """Tables, visible text, texts for screen readers, and what is hidden."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.content = Content()
        self._file = file
        self._rows: list[list[Spanning]] | None = None
        self._n_heads = 0
        self._in_head = False
        self._span = (1, 1)
        self._cell: list[str] | None = None
        self._text: list[str] = []
        self._skipped = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in ("style", "script"):
            self._skipped = tag
        hidden = "hidden" in given or re.search(r"display:\s*none|visibility:\s*hidden", given.get("style", ""))
        if hidden or tag == "script":
            self.content.comments.append(f"hidden <{tag}>")
        for name in ("alt", "aria-label", "title"):
            if given.get(name):
                self.content.texts.append((f"{name} of <{tag}>", given[name]))
        self.content.texts += [
            (f"{name} of <{tag}>", value) for name, value in given.items() if name.startswith("data-")
        ]
        if tag == "table":
            self._rows, self._n_heads = [], 0
        elif tag == "thead":
            self._in_head = True
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
            self._n_heads += self._in_head
        elif tag in ("td", "th") and self._rows:
            self._cell = []
            self._span = (int(given.get("rowspan") or 1), int(given.get("colspan") or 1))
        elif tag in ("p", "li", "figcaption", "h1", "h2", "h3", "caption"):
            self._end_text()

    def handle_endtag(self, tag: str) -> None:
        if tag == self._skipped:
            self._skipped = ""
        if tag in ("td", "th") and self._cell is not None and self._rows:
            self._rows[-1].append(Spanning(" ".join("".join(self._cell).split()), *self._span))
            self._cell = None
        elif tag == "thead":
            self._in_head = False
        elif tag == "table" and self._rows:
            self.content.tables.append(Table(self._file, "", *plain(self._rows, self._n_heads or 1)))
            self._rows = None
        elif tag in ("p", "li", "figcaption", "h1", "h2", "h3", "caption", "body"):
            self._end_text()

    def _end_text(self) -> None:
        text = " ".join("".join(self._text).split())
        if text:
            self.content.texts.append(("text", text))
        self._text = []

    def handle_data(self, data: str) -> None:
        if self._skipped:
            return
        (self._text if self._cell is None else self._cell).append(data)

    def handle_comment(self, data: str) -> None:
        self.content.comments.append(data.strip())


def _html(text: str, file: str) -> Content:
    page = _Page(file)
    page.feed(text)
    page.close()
    return page.content


def _word_cell(cell: ElementTree.Element) -> Spanning:
    span = cell.find(f"{_WORD}tcPr/{_WORD}gridSpan")
    text = "".join(text.text or "" for text in cell.iter(f"{_WORD}t"))
    return Spanning(text, n_columns=1 if span is None else int(span.get(f"{_WORD}val", "1")))


def _word(path: Path, file: str) -> Content:
    with zipfile.ZipFile(path) as archive:
        tree = ElementTree.fromstring(archive.read("word/document.xml"))
    made = Content()
    for table in tree.iter(f"{_WORD}tbl"):
        lines = list(table.iter(f"{_WORD}tr"))
        n_heads = sum(line.find(f"{_WORD}trPr/{_WORD}tblHeader") is not None for line in lines)
        rows = [[_word_cell(cell) for cell in line.iter(f"{_WORD}tc")] for line in lines]
        made.tables += [Table(file, "", *plain(rows, n_heads or 1))] if rows else []
    for paragraph in tree.iter(f"{_WORD}p"):
        words = "".join(text.text or "" for text in paragraph.iter(f"{_WORD}t"))
        made.texts += [("text", words)] if words else []
    return made
