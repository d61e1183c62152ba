"""Small counts in tables and texts, and small counts that follow by subtraction."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, pairwise
from typing import Final, NamedTuple

from analysis.release_check.findings import Finding, Worst
from analysis.release_check.reading import Table

_HEAD: Final = re.compile(
    r"(n|n_\w+|no\.|number|count|counts|people|persons|participants|patients|events|cases|controls|deaths|died|"
    r"ecgs|censored|at risk|records|tp|fp|tn|fn|with lvh|without lvh|missing|positive|negative|freq\w*)",
    re.IGNORECASE,
)
_NOT_PEOPLE: Final = frozenset({"n_covariates", "n_parameters", "n_knots", "n_bins", "n_draws"})
_CELL: Final = re.compile(r"([\d,]+)(±[\d,]+)?(?:\s*\([<>\d.,\s]+%\))?")
_WITH_SHARE: Final = re.compile(r"([\d,]+)(±[\d,]+)?\s*\([<>\d.,\s]+%\)")
_N_OF_HEAD: Final = re.compile(r"\bn\s*=\s*([\d,]+)", re.IGNORECASE)
_IN_TEXT: Final = re.compile(
    r"(?<![\w.,±-])([1-9]\d{0,2})\s+(?:\w+\s+)?(people|persons|participants|patients|events|deaths|women|men|cases)\b",
    re.IGNORECASE,
)
_IS_A_BOUND: Final = re.compile(
    r"(than|least|most|below|above|under|over|of|to|by|per|every|in steps of|≥|<|>|≤)\s*$", re.IGNORECASE
)
_HIDDEN: Final = frozenset({"*", "–", "", "redacted", "[redacted]", "suppressed", "nan", "NA"})
_SECRET: Final = frozenset({"*", "redacted", "[redacted]", "suppressed"})
_TOTAL: Final = frozenset({"everybody", "all", "total", "overall", "any", "all people", "in any table"})
_TIMES: Final = frozenset({"years", "time", "time, years", "days"})
_OF_A_ROW: Final = ("outcome", "strata", "level")
_IS_A_LEVEL: Final = re.compile(r"quartile \d")
_COMPARED: Final = frozenset({"n_people", "n_events", "n_deaths", "people", "events", "deaths"})
_FEWEST_ROWS: Final = 4
_MOST_COLUMNS: Final = 9


class Cell(NamedTuple):
    """A shown count."""

    value: int
    labels: tuple[str, ...]  # of its row
    column: str
    table: Table


def number_in(text: str) -> int | None:
    """Return the count that a cell shows exactly, else None."""
    found = _CELL.fullmatch(text.strip().removesuffix(".0"))
    return int(found[1].replace(",", "")) if found and not found[2] and found[1].strip(",") else None


def is_count(head: str, cells: Iterable[str]) -> bool:
    """Return whether a column holds numbers of people, by its head or its cells."""
    name = head.strip()
    texts = [cell.strip() for cell in cells if cell.strip() not in _HIDDEN]
    if name.lower() in _NOT_PEOPLE or not texts:
        return False
    whole = all(_CELL.fullmatch(text.removesuffix(".0")) for text in texts)
    if _HEAD.fullmatch(name) and whole:
        return True
    return bool(_N_OF_HEAD.search(name)) or any(_WITH_SHARE.fullmatch(text) for text in texts)


class Counts:
    """The columns of counts of a table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        columns = [[row[place] for row in table.rows if place < len(row)] for place in range(len(table.heads))]
        self.places = [place for place, cells in enumerate(columns) if is_count(table.heads[place], cells)]
        numeric = [all(_is_number(text) for text in cells) for cells in columns]
        self.times = [p for p, head in enumerate(table.heads) if head.strip().lower() in _TIMES]
        self.labels = [
            p for p in range(len(table.heads)) if p not in self.places and (not numeric[p] or p in self.times)
        ]
        names = {table.heads[p].strip().lower(): p for p in self.labels}
        self._contrast: int | None = None
        if "analysis" in names:  # a table of results: other columns say how, not who
            self.labels = [names[name] for name in _OF_A_ROW if name in names]
            self._contrast = names.get("contrast")

    def label(self, row: Sequence[str]) -> tuple[str, ...]:
        """Return the texts that name a row; of results also the quartile that a row is of."""
        own = tuple(row[p].strip() for p in self.labels if p < len(row))
        contrast = "" if self._contrast is None or self._contrast >= len(row) else row[self._contrast].strip()
        return (*own, contrast) if _IS_A_LEVEL.match(contrast) else own

    def cells(self) -> Iterator[Cell]:
        """Yield the shown counts."""
        for row in self.table.rows:
            for place in self.places:
                value = number_in(row[place]) if place < len(row) else None
                if value is not None and (_WITH_SHARE.fullmatch(row[place].strip()) or not self._is_mixed(place)):
                    yield Cell(value, self.label(row), self.table.heads[place], self.table)

    def _is_mixed(self, place: int) -> bool:
        """Whether only cells with a share are counts: others of the column are means."""
        return bool(_N_OF_HEAD.search(self.table.heads[place]))


def _is_number(text: str) -> bool:
    try:
        float(text.strip().replace(",", "") or "0")
    except ValueError:
        return False
    return True


def _place(cell: Cell) -> str:
    return " / ".join([*filter(None, cell.labels), cell.column])


def rounding_of(tables: Sequence[Table]) -> int:
    """Return what all counts of an export are multiples of; 1 for exact counts."""
    values = [cell.value for table in tables for cell in Counts(table).cells() if cell.value]
    return math.gcd(*values) if len(values) > _FEWEST_ROWS else 1


def small_counts(table: Table, k: int) -> Iterator[Finding]:
    """Yield counts of 1 to k - 1 in cells and heads of a table."""
    for cell in Counts(table).cells():
        if 0 < cell.value < k:
            yield Finding(Worst.SMALL, table.file, _place(cell), str(cell.value), f"count of 1 to {k - 1}")
    for head in table.heads:
        found = _N_OF_HEAD.search(head)
        if found and 0 < int(found[1].replace(",", "")) < k:
            yield Finding(Worst.SMALL, table.file, head, found[1], f"count of 1 to {k - 1} in a head")


def small_in_text(file: str, place: str, text: str, k: int) -> Iterator[Finding]:
    """Yield counts of 1 to k - 1 in running text, alternative texts and texts of figures."""
    found = [(one[1], one) for one in _IN_TEXT.finditer(text)]
    found += [(one[1], one) for one in _N_OF_HEAD.finditer(text)]
    for number, one in found:
        if 0 < int(number.replace(",", "")) < k and not _IS_A_BOUND.search(text[: one.start()]):
            near = text[max(one.start() - 40, 0) : one.end() + 20].strip()
            yield Finding(Worst.SMALL, file, f"{place}: ...{near}...", number, f"count of 1 to {k - 1} in text")


def complements(table: Table, k: int) -> Iterator[Finding]:
    """Yield small complements: a column of n and one of events, or a head with n."""
    counts = Counts(table)
    names = {table.heads[place].strip().lower(): place for place in counts.places}
    wholes = [names[name] for name in ("n_people", "people", "n_group", "n") if name in names]
    parts = [names[name] for name in ("n_events", "events", "n_known", "n_lvh") if name in names]
    for row in table.rows:
        for whole in wholes[:1]:
            for part in parts if len(row) == len(table.heads) else ():
                yield from _complement(table, counts.label(row), (row[whole], row[part]), table.heads[part], k)
        for place in counts.places:
            n = _N_OF_HEAD.search(table.heads[place])
            if n and place < len(row) and _WITH_SHARE.fullmatch(row[place].strip()):
                yield from _complement(table, counts.label(row), (n[1], row[place]), table.heads[place], k)


def _complement(
    table: Table, labels: tuple[str, ...], texts: tuple[str, str], column: str, k: int
) -> Iterator[Finding]:
    whole, part = map(number_in, texts)
    if whole is not None and part is not None and 0 < whole - part < k:
        place = " / ".join([*filter(None, labels), column])
        yield Finding(Worst.DERIVED, table.file, place, f"{whole} - {part} = {whole - part}", "small complement")


def differences_within(table: Table, k: int) -> Iterator[Finding]:
    """Yield small counts that follow by subtraction in one table."""
    counts = Counts(table)
    if counts.places:
        yield from _down(counts, k)
        yield from _across(counts, k)
        yield from _along_time(counts, k)


def _down(counts: Counts, k: int) -> Iterator[Finding]:
    """A total less the groups that are shown."""
    for row in counts.table.rows:
        label = counts.label(row)
        whole = [p for p, text in enumerate(label) if text.lower() in _TOTAL]
        if not whole:
            continue
        groups: dict[tuple[str, ...], list[list[str]]] = defaultdict(list)
        for other in counts.table.rows:
            own = counts.label(other)
            same = all(a == b for p, (a, b) in enumerate(zip(label, own, strict=True)) if p not in whole)
            if other is not row and same and all(own[p].lower() not in _TOTAL for p in whole):
                groups[tuple(own[p] for p in whole[:-1])].append(other)
        if len(whole) == 1:  # with one column of labels, rows of several classifications can be mixed
            at = counts.labels[whole[0]]
            groups = groups if counts.table.heads[at].strip().lower() in ("group", "level", "sex", "strata") else {}
        for name, parts in groups.items():
            for place in counts.places:
                yield from _rest(counts, row, parts, place, (*label, *name), k)


def _rest(
    counts: Counts, whole: list[str], parts: list[list[str]], place: int, label: tuple[str, ...], k: int
) -> Iterator[Finding]:
    total, values = number_in(whole[place]), [number_in(part[place]) for part in parts]
    if total is None or any(v is None and p[place].strip() not in _SECRET for v, p in zip(values, parts, strict=True)):
        return
    shown = [value for value in values if value is not None]
    rest = total - sum(shown)
    if len(parts) > 1 and 0 < rest < k:
        name = " / ".join([*dict.fromkeys(filter(None, label)), counts.table.heads[place]])
        text = f"{total} - {sum(shown)} = {rest}"
        n = len(values) - len(shown)
        why = f"total less the groups shown: {n} hidden" if n else "total less the groups: in no group"
        yield Finding(Worst.DERIVED, counts.table.file, name, text, why)


def _across(counts: Counts, k: int) -> Iterator[Finding]:
    """A column that is always the sum of two or three others tells what one of them hides."""
    heads, rows = counts.table.heads, counts.table.rows
    places = counts.places[:_MOST_COLUMNS]
    known = [{p: number_in(row[p]) for p in places if p < len(row)} for row in rows]
    for n in (2, 3):
        for whole in places:
            for parts in combinations([p for p in places if p != whole], n):
                full = [own for own in known if all(own.get(p) is not None for p in (whole, *parts))]
                varied = [own for own in full if sum(bool(own[p]) for p in parts) > 1]
                if len(varied) < _FEWEST_ROWS or any(own[whole] != sum(own[p] or 0 for p in parts) for own in full):
                    continue
                for row, own in zip(rows, known, strict=True):
                    yield from _missing_one(counts, row, own, (whole, *parts), heads, k)


def _missing_one(
    counts: Counts, row: list[str], own: dict[int, int | None], places: tuple[int, ...], heads: list[str], k: int
) -> Iterator[Finding]:
    missing = [p for p in places if own.get(p) is None]
    if len(missing) != 1 or row[missing[0]].strip() not in _SECRET:
        return
    whole, *parts = places
    shown = sum(own[p] or 0 for p in parts)
    rest = shown if missing[0] == whole else (own[whole] or 0) - shown
    if 0 < rest < k:
        name = " / ".join([*filter(None, counts.label(row)), heads[missing[0]]])
        text = f"{heads[whole]} = {' + '.join(heads[p] for p in parts)}, so {rest}"
        yield Finding(Worst.DERIVED, counts.table.file, name, text, "hidden count follows from its row")


def _along_time(counts: Counts, k: int) -> Iterator[Finding]:
    """Counts so far at two times next to each other."""
    if not counts.times:
        return
    at = counts.times[0]
    curves: dict[tuple[str, ...], list[list[str]]] = defaultdict(list)
    for row in counts.table.rows:
        curves[tuple(row[p] for p in counts.labels if p != at)].append(row)
    for label, rows in curves.items():
        for place in counts.places:
            shown = [value for row in rows if (value := number_in(row[place])) is not None]
            if len(shown) < _FEWEST_ROWS or shown not in (sorted(shown), sorted(shown, reverse=True)):
                continue  # not counts so far, nor those left
            for a, b in pairwise(rows):
                before, after = number_in(a[place]), number_in(b[place])
                if before is not None and after is not None and 0 < abs(after - before) < k:
                    name = " / ".join([*filter(None, label), counts.table.heads[place]])
                    text = f"{after} at {b[at]}, {before} at {a[at]}: {abs(after - before)}"
                    yield Finding(Worst.DERIVED, counts.table.file, name, text, "small difference between two times")


def differences_between(tables: Sequence[Table], k: int) -> Iterator[Finding]:
    """Yield small differences between counts of the same name in different places."""
    seen: dict[tuple[frozenset[str], str], dict[int, Cell]] = defaultdict(dict)
    for table in tables:
        if Counts(table).times:
            continue
        own: dict[tuple[frozenset[str], str], list[Cell]] = defaultdict(list)
        for cell in Counts(table).cells():
            who = frozenset(text.lower() for text in cell.labels if text and text.lower() not in _TOTAL)
            if cell.column.strip().lower() in _COMPARED:
                own[who, cell.column.strip().lower().removeprefix("n_")].append(cell)
        for key, there in own.items():
            # Rows of one name in one table are parts, such as bins; in results they are models.
            if len(there) == 1 or _is_of_results(table):
                seen[key] |= {cell.value: cell for cell in there if cell.value not in seen[key]}
    for known in seen.values():
        for a, b in pairwise(sorted(known)):
            one, other = known[a], known[b]
            if 0 < b - a < k and "".join(one.labels + other.labels):
                place = f"{_place(one)}: {a} in {one.table.file}, {b} in {other.table.file}"
                yield Finding(Worst.DERIVED, other.table.file, place, str(b - a), "small difference between two tables")


def _is_of_results(table: Table) -> bool:
    return "analysis" in [head.strip().lower() for head in table.heads]


def differences_of_exports(first: Sequence[Table], second: Sequence[Table], k: int) -> Iterator[Finding]:
    """Yield counts of the same row and column that differ a little between two exports."""
    known: dict[tuple[str, tuple[str, ...], str], set[int]] = defaultdict(set)
    for table in first:
        for cell in Counts(table).cells():
            known[_key(cell)].add(cell.value)
    for table in second:
        for cell in Counts(table).cells():
            before = min(known.get(_key(cell), ()), key=lambda own: abs(own - cell.value), default=cell.value)
            if 0 < abs(cell.value - before) < k:
                text = f"{before} and {cell.value}: {abs(cell.value - before)}"
                yield Finding(Worst.DERIVED, table.file, _place(cell), text, "two exports of nearly the same people")


def _key(cell: Cell) -> tuple[str, tuple[str, ...], str]:
    return cell.table.file, cell.labels, _N_OF_HEAD.sub("n", cell.column)
