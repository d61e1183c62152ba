"""Tables as journals print them: groups of rows, indented labels, headings above columns, signs.

A `ReadTable` is long, so that machines can read its CSV: each row names its outcome. `laid_out`
turns it into what people read, once for HTML, Word and LaTeX: what names several rows is a row of
its own, what is the same in all of them (people, events) stands there once, columns of one kind
have a heading above them, and a note about one column has a sign at it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from analysis.report.document import ReadTable
from analysis.report.journals import footnote_sign
from analysis.report.words import sentence

# A table with more columns, or with more letters across, is printed on a landscape page.
WIDE_COLUMNS: Final = 8
_WIDE_LETTERS: Final = 108
_LABEL_LETTERS: Final = 30
_GAP_LETTERS: Final = 2
_ONCE: Final = ("People", "ECGs", "Events", "Deaths", "Person-years", "Horizon, years")
_NUMBER: Final = re.compile(r"\s*([-−+<>≥≤]?\s*[\d.·]|\*|–|$)")
_INTERVAL: Final = re.compile(r"([^()]+) (\([^()]+\))")


@dataclass(frozen=True, slots=True)
class Line:
    """A row: its label, how far that is indented, and its cells."""

    label: str
    indent: int
    cells: tuple[str, ...]
    is_group: bool = False  # whether it names the rows below it

    @property
    def is_alone(self) -> bool:
        """Whether it is a label and nothing else, which may run over all columns."""
        return self.is_group and not any(self.cells)


@dataclass(frozen=True, slots=True)
class Head:
    """The name of a column, with the sign of a note about it, and the heading above it or ""."""

    text: str
    sign: str = ""
    above: str = ""


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A table as it is printed; the first column names the rows."""

    stub: Head
    heads: tuple[Head, ...]
    lines: tuple[Line, ...]
    is_number: tuple[bool, ...]  # of the columns after the first
    notes: tuple[tuple[str, str], ...]  # sign or "", and text
    is_wide: bool

    def spans(self) -> list[tuple[str, int]]:
        """Return the headings above columns, each with how many it spans; [] without any."""
        made: list[tuple[str, int]] = []
        for head in self.heads:
            if made and head.above and made[-1][0] == head.above:
                made[-1] = (head.above, made[-1][1] + 1)
            else:
                made.append((head.above, 1))
        return made if any(text for text, _ in made) else []


def laid_out(table: ReadTable) -> LaidOut:
    """Return a table as it is printed."""
    cells = table.cells.astype(str)
    n_labels = table.n_label_columns
    names = [str(name) for name in cells.columns]
    notes, signs = _notes(table, names)
    heads = _heads(names[n_labels:], signs, table.above)
    lines = _lines(cells, n_labels)
    stub_names = [name for name in names[:n_labels] if name]
    stub = Head(", ".join([*stub_names[:1], *(one[:1].lower() + one[1:] for one in stub_names[1:])]))
    numeric = tuple(all(_NUMBER.match(line.cells[place]) for line in lines) for place in range(len(names) - n_labels))
    return LaidOut(stub, heads, lines, numeric, notes, _is_wide(heads, lines))


def split_interval(text: str) -> tuple[str, str]:
    """Return "1.53" and "(1.27 to 1.84)" of a text, which may stand on two lines, or all and ""."""
    found = _INTERVAL.fullmatch(text)
    return (found[1], found[2]) if found else (text, "")


def letters(heads: Sequence[Head], lines: Sequence[Line]) -> list[int]:
    """Return the letters that each column needs, labels first; words and intervals stay whole."""
    label = max((len(line.label) + 2 * line.indent for line in lines if not line.is_alone), default=0)
    made = [min(label, _LABEL_LETTERS)]
    for place, head in enumerate(heads):
        words = [len(word) for word in head.text.split()]
        words += [len(word) for line in lines for word in _words(line.cells[place])]
        made.append(max(words, default=0))
    return [one + _GAP_LETTERS for one in made]


def _words(text: str) -> list[str]:
    before, interval = split_interval(text)
    return [*before.split(), *([interval] if interval else [])]


def _is_wide(heads: Sequence[Head], lines: Sequence[Line]) -> bool:
    return len(heads) >= WIDE_COLUMNS or sum(letters(heads, lines)) > _WIDE_LETTERS


def _notes(table: ReadTable, names: Sequence[str]) -> tuple[tuple[tuple[str, str], ...], dict[str, str]]:
    """Notes that begin with the name of a column get a sign; the others come first."""
    signs: dict[str, str] = {}
    own: list[tuple[str, str]] = []
    for text in table.notes:
        name, colon, _ = text.partition(": ")
        if colon and name in names[table.n_label_columns :]:
            signs[name] = footnote_sign(len(signs))
            own.append((signs[name], text))
    others = [("", text) for text in table.notes if all(text != note for _, note in own)]
    return (*others, *own), signs


def _heads(names: Sequence[str], signs: Mapping[str, str], above: Mapping[str, str]) -> tuple[Head, ...]:
    """Columns "Cause: a" and "Cause: b" beside each other share the heading "Cause"."""
    parts = [name.partition(": ") for name in names]
    shared = [before if colon else "" for before, colon, _ in parts]
    made = []
    for place, (name, (before, colon, after)) in enumerate(zip(names, parts, strict=True)):
        beside = (shared[place - 1] if place else "", shared[place + 1] if place + 1 < len(names) else "")
        is_shared = bool(colon) and before in beside
        own = above.get(name, before if is_shared else "")
        made.append(Head(_headed(after if is_shared else name), signs.get(name, ""), own))
    return tuple(made)


def _headed(text: str) -> str:
    """A heading with a capital, unless it is a letter such as q."""
    return sentence(text) if len(text) > 2 and not text.startswith("q,") else text


def _lines(cells: pd.DataFrame, n_labels: int) -> tuple[Line, ...]:
    rows = [tuple(row) for row in cells.itertuples(index=False, name=None)]
    if n_labels < 2:
        n_labels = min(n_labels, 1)
        return tuple(Line(row[0] if n_labels else "", 0, row[n_labels:]) for row in rows)
    labels = _filled([row[:n_labels] for row in rows])
    n_levels = n_labels - 1
    while n_levels and not _is_shared(labels, n_levels):
        n_levels -= 1
    once = _once(cells, labels, n_labels) if n_levels else {}
    lines: list[Line] = []
    before: tuple[str, ...] = ()
    for row, own in zip(rows, labels, strict=True):
        groups = own[:n_levels]
        depth = 0
        for level, text in enumerate(groups):
            is_new = groups[: level + 1] != before[: level + 1]
            if text and is_new:
                shown = once.get(own[0], {}) if level == 0 else {}
                values = tuple(shown.get(place, "") for place in range(n_labels, len(row)))
                lines.append(Line(sentence(text), depth, values, is_group=True))
            depth += bool(text)
        leaf = ", ".join(text for text in own[n_levels:] if text)
        hidden_here = once.get(own[0], {})
        values = tuple("" if place in hidden_here else row[place] for place in range(n_labels, len(row)))
        lines.append(Line(sentence(leaf), depth, values))
        before = groups
    return tuple(lines)


def _filled(labels: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """A blank first label continues the row above."""
    made: list[tuple[str, ...]] = []
    for own in labels:
        first = own[0] or (made[-1][0] if made else "")
        made.append((first, *own[1:]))
    return made


def _is_shared(labels: Sequence[tuple[str, ...]], n_levels: int) -> bool:
    """Whether any two rows share these labels; if none do, they need no row of their own."""
    keys = [own[:n_levels] for own in labels]
    return len(set(keys)) < len(keys)


def _once(cells: pd.DataFrame, labels: Sequence[tuple[str, ...]], n_labels: int) -> dict[str, dict[int, str]]:
    """Counts that are the same in all rows of every outcome, by outcome and column."""
    outcomes = [own[0] for own in labels]
    places = [place for place, name in enumerate(cells.columns) if place >= n_labels and name in _ONCE]
    made: dict[str, dict[int, str]] = {one: {} for one in outcomes}
    for place in places:
        values = cells.iloc[:, place].groupby(outcomes).unique()
        sizes = pd.Series(outcomes).value_counts()
        if all(len(own) == 1 for own in values) and sizes.max() > 1:
            for outcome, own in values.items():
                made[str(outcome)][place] = str(own[0])
    return made
