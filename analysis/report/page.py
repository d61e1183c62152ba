"""The report as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Final
from xml.etree import ElementTree

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from analysis.disclosure.masking import HIDDEN
from analysis.disclosure.release import ReleaseRule
from analysis.report.document import NOT_FOR_RELEASE, ReadFigure, ReadTable, Section
from analysis.report.figures.drawing import svg_bytes
from analysis.report.layout import LaidOut, Line, laid_out, letters, split_interval
from analysis.report.manuscript import Manuscript
from analysis.report.topics.key_results import KeyResults
from analysis.report.words import sentence
from analysis.study.data import About

NOT_CLINICAL: Final = "Research software, not for clinical use."
# A wide table with more letters across than fit beside the contents at 1,280 px is set smaller.
_TIGHT_LETTERS: Final = 138
_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("analysis.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_SVG: Final = "{http://www.w3.org/2000/svg}"
_XLINK_HREF: Final = "{http://www.w3.org/1999/xlink}href"
_URL: Final = re.compile(r"url\(#([^)]+)\)")
_DROPPED: Final = frozenset({f"{_SVG}metadata", f"{_SVG}style"})
_PX_PER_INCH: Final = 96
_NARROW_IN: Final = 4.5
_MM_PER_INCH: Final = 25.4
# Sections that most readers look up and do not read; they are folded when the page opens.
_FOLDED: Final = frozenset(
    {"section-follow-up", "section-code-lists", "section-repeats", "section-proportional-hazards"}
)
_MOST_WARNINGS: Final = 4  # on page one
_OWN_SECTIONS: Final = {"methods": "Methods", "versions": "Versions and checksums"}
# Every section that an item of a checklist may point to; a study has those that apply to it.
_SECTIONS: Final = {
    *_OWN_SECTIONS,
    "flow",
    "follow_up",
    "baseline",
    "rates",
    "hazard_ratios",
    "dose_response",
    "added_value",
    "competing",
    "proportional_hazards",
    "sensitivity",
    "absolute_risk",
    "standardised",
    "calibrated",
    "negative_control",
    "repeats",
    "code_lists",
    "cmr",
}
_CHECKLISTS: Final = {
    "strobe": ("STROBE, cohort studies", "von Elm E and others, Lancet 2007;370:1453; www.strobe-statement.org"),
    "record": (
        "RECORD, routinely collected health data (extends STROBE)",
        "Benchimol EI and others, PLoS Med 2015;12:e1001885; www.record-statement.org",
    ),
    "stard": (
        "STARD 2015, diagnostic accuracy (predicted LVH against CMR)",
        "Bossuyt PM and others, BMJ 2015;351:h5527; www.equator-network.org",
    ),
    "tripod_ai": (
        "TRIPOD+AI, prediction models (evaluation of an existing one)",
        "Collins GS and others, BMJ 2024;385:e078378; www.tripod-statement.org",
    ),
}


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the page shows; all of it is masked already."""

    title: str  # of the page
    about: About  # the study
    sections: tuple[Section, ...]  # in order
    methods: tuple[str, ...]  # paragraphs
    warnings: tuple[str, ...] = ()  # of the study as a whole; those of sections are added to them
    versions: Mapping[str, str] = field(default_factory=dict)  # of software, by name
    checksums: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of inputs, by name
    banners: tuple[str, ...] = ()  # above everything, as "Synthetic data", "Masking is off"
    key: KeyResults | None = None  # page one
    manuscript: Manuscript | None = None  # sentences for authors

    def __post_init__(self) -> None:
        for what, keys in (
            ("section", [one.key for one in self.sections]),
            ("table", [one.key for one in self.tables()]),
            ("figure", [one.key for one in self.figures()]),
        ):
            made = [slug(key) for key in keys]
            twice = sorted({key for key, own in zip(keys, made, strict=True) if made.count(own) > 1})
            if twice:
                raise ValueError(f"{what} keys {twice} are not unique in the report")

    def tables(self) -> list[ReadTable]:
        """Return the tables of all sections, in order."""
        first = () if self.key is None or self.key.table is None else (self.key.table,)
        return [*first, *(item for one in self.sections for item in one.items if isinstance(item, ReadTable))]

    def figures(self) -> list[ReadFigure]:
        """Return the figures of all sections, in order."""
        first = () if self.key is None or self.key.figure is None else (self.key.figure,)
        return [*first, *(item for one in self.sections for item in one.items if isinstance(item, ReadFigure))]


@dataclass(frozen=True, slots=True)
class _Table:
    """A table for the template."""

    id: str
    label: str
    title: str
    body: LaidOut
    rows: list[tuple[Line, list[tuple[str, str, str]]]]  # of each cell: its text, its interval, its class
    is_tight: bool


@dataclass(frozen=True, slots=True)
class _Figure:
    """A figure for the template."""

    id: str
    label: str
    title: str
    svg: Markup
    notes: tuple[str, ...]
    is_narrow: bool  # as wide as one column of a journal


@dataclass(frozen=True, slots=True)
class _First:
    """Page one for the template."""

    study: tuple[tuple[str, str], ...]
    figure: _Figure | None
    table: _Table | None
    cmr: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """A section for the template."""

    id: str
    title: str
    paragraphs: tuple[str, ...]
    warnings: tuple[str, ...]
    entries: list[_Table | _Figure]


def render(report: Report) -> str:
    """Return the report, masked already, as one self-contained HTML5 page.

    The page asks for nothing over the network and forbids it, has no script, and escapes every
    text. Figures are drawn into it.
    """
    first = _page_one(report)
    parts = _parts(report.sections, first)
    places = {section.key: (section.title, part.id) for section, part in zip(report.sections, parts, strict=True)}
    places |= {key: (title, slug("section", key)) for key, title in _OWN_SECTIONS.items()}
    return _ENVIRONMENT.get_template("page.html.j2").render(
        report=report,
        about=report.about,
        parts=parts,
        first=first,
        folded=_FOLDED,
        most_warnings=_MOST_WARNINGS,
        warnings=_warnings(report),
        hidden_text=hidden_text(report.about),
        checklists=[(one, _checklist_rows(one, places)) for one in checklists()],
        not_clinical=NOT_CLINICAL,
        mark=mark(report.about),
    )


def mark(about: About) -> str:
    """Return what stands on each page of a report that must not leave, else ""."""
    return NOT_FOR_RELEASE if about.is_restricted else ""


def render_table(table: ReadTable, about: About) -> str:
    """Return one table as a small page of its own."""
    text = hidden_text(about) if has_hidden(table) else ""
    return _ENVIRONMENT.get_template("table.html.j2").render(
        table=_table(table, ""), about=about, hidden_text=text, not_clinical=NOT_CLINICAL, mark=mark(about)
    )


def render_figures(report: Report) -> str:
    """Return the page of all figures, with their files, to stand beside them."""
    return _ENVIRONMENT.get_template("figures.html.j2").render(
        report=report,
        about=report.about,
        figures=[
            (place, one, _is_narrow(one.canvas), f"{one.canvas.get_size_inches()[0] * _MM_PER_INCH:.0f}")
            for place, one in enumerate(report.figures(), 1)
        ],
        not_clinical=NOT_CLINICAL,
        mark=mark(report.about),
    )


def _is_narrow(canvas: Figure) -> bool:
    return bool(canvas.get_size_inches()[0] < _NARROW_IN)


def hidden_text(about: About) -> str:
    """Return what a hidden cell means, in words; empty where masking is off."""
    if about.k < 2 and about.base < 2:
        return ""
    parts = []
    if about.release == ReleaseRule.STANDARD:
        parts.append(
            f"{HIDDEN} is a hidden number: one of 1 to {about.k - 1}, one of a group with so few people or events, or "
            "one from which such a number would follow by subtraction."
        )
        parts += [f"Other counts are rounded to multiples of {about.base}."] if about.base > 1 else []
        return " ".join(parts)
    if about.k > 1:
        parts.append(
            f"{HIDDEN} is a hidden number: one of 1 to {about.k - 1}, one that is computed from such a "
            "number, or one from which such a number could be worked out."
        )
    if about.base > 1:
        parts.append(f"Other counts are rounded to multiples of {about.base}.")
    if about.k > 1:
        parts.append("A count that is rounded more has, for example, ±20 beside it: it may be off by that much.")
    return " ".join(parts)


def has_hidden(table: ReadTable) -> bool:
    """Return whether a table has a hidden cell."""
    return bool((table.cells.to_numpy() == HIDDEN).any())


def slug(*names: str) -> str:
    """Return names as an id of a page: letters, digits and hyphens."""
    return "-".join(re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower() for name in names)


def _warnings(report: Report) -> list[tuple[str, str, str]]:
    """Every warning once: text, id and title of its section (empty: of the study)."""
    where = {
        text: (slug("section", section.key), section.title)
        for section in reversed(report.sections)
        for text in section.warnings
    }
    texts = [*report.warnings, *(text for one in report.sections for text in one.warnings)]
    return [(sentence(text), *where.get(text, ("", ""))) for text in dict.fromkeys(texts)]


def _page_one(report: Report) -> _First | None:
    if report.key is None:
        return None
    table, figure = report.key.table, report.key.figure
    return _First(
        tuple((what, one.text) for what, one in report.key.study),
        None if figure is None else _figure(figure, "Figure 1"),
        None if table is None else _table(table, "Table 1"),
        tuple(one.text for one in report.key.cmr),
    )


def _parts(sections: Iterable[Section], first: _First | None) -> list[_Part]:
    n_tables = int(first is not None and first.table is not None)
    n_figures = int(first is not None and first.figure is not None)
    parts = []
    for section in sections:
        items: list[_Table | _Figure] = []
        for item in section.items:
            if isinstance(item, ReadTable):
                n_tables += 1
                items.append(_table(item, f"Table {n_tables}"))
            else:
                n_figures += 1
                items.append(_figure(item, f"Figure {n_figures}"))
        parts.append(_Part(slug("section", section.key), section.title, section.paragraphs, section.warnings, items))
    return parts


def _figure(figure: ReadFigure, label: str) -> _Figure:
    name = slug("figure", figure.key)
    # Texts in it were escaped when the XML was written, so it may stand in the page as it is.
    svg = Markup(inline_svg(figure.canvas, name, figure.alt))
    return _Figure(name, label, figure.title, svg, figure.notes, _is_narrow(figure.canvas))


def _table(table: ReadTable, label: str) -> _Table:
    body = laid_out(table)
    rows = [
        (line, [_cell(text, is_number=number) for text, number in zip(line.cells, body.is_number, strict=True)])
        for line in body.lines
    ]
    is_tight = body.is_wide and sum(letters(body.heads, body.lines)) > _TIGHT_LETTERS
    return _Table(slug("table", table.key), label, table.title, body, rows, is_tight)


def _cell(text: str, *, is_number: bool) -> tuple[str, str, str]:
    before, interval = split_interval(text) if is_number else (text, "")
    return before, interval, f"{'number' if is_number else 'text'}{' split' if interval else ''}"


def inline_svg(canvas: Figure, prefix: str, alt: str) -> str:
    """Return a figure as an `<svg>` element without comments and metadata, which repeat its texts.

    `prefix` is put before every id, so that several figures do not share one; `alt` says what there
    is to see and is the accessible name.
    """
    # The file is matplotlib's own, made two lines above: no foreign XML is read here.
    root = ElementTree.fromstring(svg_bytes(canvas))
    for parent in root.iter():
        for child in [child for child in parent if child.tag in _DROPPED]:
            parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib = {
            "href" if name == _XLINK_HREF else name: _renamed(name, value, prefix)
            for name, value in element.attrib.items()
        }
    width, height = (round(_PX_PER_INCH * inches) for inches in canvas.get_size_inches())
    # A style sheet inside an SVG holds for the whole page; matplotlib's two rules are given here.
    root.attrib |= {
        "width": str(width),
        "height": str(height),
        "role": "img",
        "aria-label": alt,
        "style": f"--paper: {width}px; stroke-linejoin: round; stroke-linecap: butt",
    }
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _renamed(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name in ("href", _XLINK_HREF) and value.startswith("#"):
        return f"#{prefix}-{value[1:]}"
    return _URL.sub(rf"url(#{prefix}-\1)", value)


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a checklist."""

    number: str  # as published, as "12d"
    topic: str  # heading of it
    text: str  # what it asks for, short and in our words
    sections: tuple[str, ...]  # keys of sections about it; none: software cannot know
    with_authors: bool  # whether authors have to add something all the same

    def where(self, present: Set[str]) -> str:
        """Return the text beside the links to those of its sections that a report has."""
        parts = []
        if self.sections and not set(self.sections) & present:
            absent = ("CMR" if key == "cmr" else key.replace("_", " ") for key in self.sections)
            parts.append(f"not in this report ({', '.join(absent)})")
        if self.with_authors:
            parts.append("for the authors")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Checklist:
    """A published list, its items in order."""

    key: str
    name: str
    source: str
    items: tuple[Item, ...]


@cache
def checklists() -> tuple[Checklist, ...]:
    """Return STROBE, RECORD, STARD 2015 and TRIPOD+AI."""
    return tuple(Checklist(key, name, source, _items(key)) for key, (name, source) in _CHECKLISTS.items())


def _items(key: str) -> tuple[Item, ...]:
    source = files("analysis.report").joinpath("checklist_items", f"{key}.csv")
    return tuple(map(_item, csv.DictReader(source.read_text(encoding="utf-8").splitlines())))


def _item(row: dict[str, str]) -> Item:
    where = row["where"].split()
    sections = tuple(one for one in where if one != "authors")
    unknown = sorted(set(sections) - _SECTIONS)
    if unknown or not where:
        raise ValueError(
            f"item {row['item']} points to {unknown or 'nothing'}; expected 'authors' or {', '.join(sorted(_SECTIONS))}"
        )
    return Item(row["item"], row["topic"], row["text"], sections, "authors" in where)


def _checklist_rows(
    checklist: Checklist, places: Mapping[str, tuple[str, str]]
) -> list[tuple[str, str, str, list[tuple[str, str]], str]]:
    """Item number, topic, text, links (title, id), and the text beside them."""
    rows = []
    for item in checklist.items:
        links = [places[key] for key in item.sections if key in places]
        rows.append((item.number, item.topic, item.text, links, item.where(places.keys())))
    return rows
