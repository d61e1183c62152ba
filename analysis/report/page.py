"""The report as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.report.checklists import Checklist, checklists
from analysis.report.document import About, ReadFigure, ReadTable, Section
from analysis.report.inline_svg import inline_svg
from analysis.report.masking import HIDDEN

NOT_CLINICAL: Final = "Research software, not for clinical use."
# A table with more columns is printed on a page turned on its side.
WIDE_COLUMNS: Final = 8
# A wide table with more letters across than fit beside the contents at 1,280 px is set smaller.
_TIGHT_LETTERS: Final = 138
_GAP_LETTERS: Final = 2
# Labels and numbers that long or shorter are not broken into lines.
_SHORT_LETTERS: Final = 12
_NUMBER: Final = re.compile(r"\s*([-−+<>≥≤]?\s*[\d.]|\*|–|$)")
_INTERVAL: Final = re.compile(r"([^()]+) (\([^()]+\))")
_OWN_SECTIONS: Final = {"methods": "Methods", "versions": "Versions and checksums"}
_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("analysis.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the page shows; all of it is masked already.

    Attributes:
        title: of the page.
        about: the study.
        sections: in order.
        methods: paragraphs.
        warnings: of the study as a whole; those of sections are added to them.
        versions: of software, by name.
        checksums: SHA-256 of inputs, by name.
        banners: what nobody may overlook, as "Synthetic data", "Masking is off".
    """

    title: str
    about: About
    sections: tuple[Section, ...]
    methods: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    banners: tuple[str, ...] = ()

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
        return [item for one in self.sections for item in one.items if isinstance(item, ReadTable)]

    def figures(self) -> list[ReadFigure]:
        """Return the figures of all sections, in order."""
        return [item for one in self.sections for item in one.items if isinstance(item, ReadFigure)]


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell; `interval` is the part in brackets that may go to a second line, as a whole."""

    text: str
    is_head: bool
    classes: str
    interval: str = ""


@dataclass(frozen=True, slots=True)
class _Table:
    """A table for the template."""

    id: str
    label: str
    title: str
    heads: list[_Cell]
    rows: list[list[_Cell]]
    notes: tuple[str, ...]
    is_wide: bool
    is_tight: bool


@dataclass(frozen=True, slots=True)
class _Figure:
    """A figure for the template."""

    id: str
    label: str
    title: str
    svg: Markup
    notes: tuple[str, ...]
    is_wide: bool = False


@dataclass(frozen=True, slots=True)
class _Part:
    """A section for the template."""

    id: str
    title: str
    paragraphs: tuple[str, ...]
    warnings: tuple[str, ...]
    entries: list[_Table | _Figure]


def render(report: Report) -> str:
    """Return the report as one self-contained HTML5 page.

    Args:
        report: masked already; figures are drawn into the page.

    Returns:
        The page. It asks for nothing over the network and forbids it, has no script, and every
        text of it is escaped.
    """
    parts = _parts(report.sections)
    places = {section.key: (section.title, part.id) for section, part in zip(report.sections, parts, strict=True)}
    places |= {key: (title, slug("section", key)) for key, title in _OWN_SECTIONS.items()}
    return _ENVIRONMENT.get_template("page.html.j2").render(
        report=report,
        about=report.about,
        parts=parts,
        warnings=_warnings(report),
        hidden_text=hidden_text(report.about),
        checklists=[(one, _checklist_rows(one, places)) for one in checklists()],
        not_clinical=NOT_CLINICAL,
    )


def render_table(table: ReadTable, about: About) -> str:
    """Return one table as a small page of its own."""
    text = hidden_text(about) if has_hidden(table) else ""
    return _ENVIRONMENT.get_template("table.html.j2").render(
        table=_table(table, ""), about=about, hidden_text=text, not_clinical=NOT_CLINICAL
    )


def hidden_text(about: About) -> str:
    """Return what a hidden cell means, in words; empty where masking is off."""
    if about.k < 2 and about.base < 2:
        return ""
    parts = []
    if about.k > 1:
        parts.append(
            f"{HIDDEN} stands for what is hidden: a number of 1 to {about.k - 1}, what rests on "
            "one, or what would tell one."
        )
    if about.base > 1:
        parts.append(f"Other counts are rounded to multiples of {about.base}.")
    if about.k > 1:
        parts.append("±20 stands beside one that is rounded more, and tells how far it may be off.")
    return " ".join(parts)


def has_hidden(table: ReadTable) -> bool:
    """Return whether a table has a hidden cell."""
    return bool((table.cells.to_numpy() == HIDDEN).any())


def _label_kind(texts: Iterable[str]) -> str:
    return "label short" if all(len(text) <= _SHORT_LETTERS for text in texts) else "label"


def numeric_columns(table: ReadTable) -> list[bool]:
    """Return for each column whether its cells are numbers (or begin with one), set to the right.

    Columns that name the rows never are.
    """
    cells = table.cells.astype(str)
    return [
        place >= table.n_label_columns and all(map(_NUMBER.match, cells.iloc[:, place]))
        for place in range(cells.shape[1])
    ]


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
    told = [*report.warnings, *(text for one in report.sections for text in one.warnings)]
    return [(text, *where.get(text, ("", ""))) for text in dict.fromkeys(told)]


def _parts(sections: Iterable[Section]) -> list[_Part]:
    n_tables = n_figures = 0
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
    return _Figure(name, label, figure.title, svg, figure.notes)


def _table(table: ReadTable, label: str) -> _Table:
    cells = table.cells.astype(str)
    n_columns = cells.shape[1]
    kinds = [
        _label_kind(cells.iloc[:, place]) if place < table.n_label_columns else "number" if is_number else "text"
        for place, is_number in enumerate(numeric_columns(table))
    ]
    heads = [_Cell(str(name), True, kind) for name, kind in zip(cells.columns, kinds, strict=True)]
    rows: list[list[_Cell]] = []
    before: list[str | None] = [None] * n_columns
    for texts in cells.itertuples(index=False, name=None):
        rows.append(_row(texts, before, kinds))
        before = list(texts)
    is_wide = n_columns > WIDE_COLUMNS
    return _Table(
        slug("table", table.key),
        label,
        table.title,
        heads,
        rows,
        table.notes,
        is_wide,
        is_wide and _narrowest(table) > _TIGHT_LETTERS,
    )


def _narrowest(table: ReadTable) -> int:
    """Letters across when every column is as narrow as its longest word; intervals are words."""
    cells = table.cells.astype(str)
    heads = [max(map(len, str(name).split()), default=0) for name in cells]
    longest = [
        max((len(word) for text in cells.iloc[:, place] for word in _words(text)), default=0)
        for place in range(cells.shape[1])
    ]
    return sum(max(pair) + _GAP_LETTERS for pair in zip(heads, longest, strict=True))


def _words(text: str) -> list[str]:
    split = _INTERVAL.fullmatch(text)
    return [*split[1].split(), split[2]] if split else text.split()


def _row(texts: tuple[str, ...], before: list[str | None], kinds: list[str]) -> list[_Cell]:
    """Cells of a row; labels that only repeat the row above are marked, to be drawn lighter."""
    cells, same = [], True
    for text, last, kind in zip(texts, before, kinds, strict=True):
        is_label = kind.startswith("label")
        same = same and is_label and text == last
        split = None if is_label else _INTERVAL.fullmatch(text)
        before_it, interval = split.groups() if split else (text, "")
        is_long = not is_label and (bool(interval) or len(text) > _SHORT_LETTERS)
        more = " again" if same else " split" if is_long else ""
        cells.append(_Cell(before_it, is_label, f"{kind}{more}", interval))
    return cells


def _checklist_rows(
    checklist: Checklist, places: Mapping[str, tuple[str, str]]
) -> list[tuple[str, str, str, list[tuple[str, str]], str]]:
    """Item number, topic, text, links (title, id), and what to say beside them."""
    rows = []
    for item in checklist.items:
        links = [places[key] for key in item.sections if key in places]
        rows.append((item.number, item.topic, item.text, links, item.where(places.keys())))
    return rows
