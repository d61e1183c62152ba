"""Indexes of archives: tables that say which file a record is in, whose it is, and of when."""

from __future__ import annotations

import datetime as dt
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, field_validator

from lvm_core.errors import UsageError
from lvm_core.settings_text import StrictSettings, parse_settings
from lvm_core.signal.ecg import RhythmCodes
from lvm_core.tables import schemas
from lvm_core.tables.layout import READ, ParticipantsLayout
from lvm_core.tables.people import read_columns
from lvm_core.tables.raw import RawTable, read_raw
from lvm_core.tables.values import Meaning, cell_texts, identifiers, number_meaning, parse_column

CodesOf = Callable[[Iterable[str]], RhythmCodes]
"""Gives rhythm and conduction by the statements of a device, one a text."""

# Durations outside are no measurement: a missing onset or end is given as a number beyond the
# recording. An aberrant beat lasts 300 ms at most; the limits are wide.
_QRS_RANGE_MS: Final = (20.0, 500.0)
_ROWS_AT_ONCE: Final = 8192
_TEMPLATES: Final = ("path", "ecg_id", "recorded_at")


class IndexLayout(StrictSettings):
    """What an index means where it does not follow our names and units.

    In a template, `{column}` stands for the cell of a column: `{path}.hea`.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    preset: Literal["mimic-iv-ecg", "ptb-xl", "code-15", "echonext", "finngen"] | None = None
    """Begin with a preset; what else is given replaces its settings."""
    path: str | None = None
    """Template of the path of a record's file below `--input`; without a suffix it finds the file
    whatever its suffix. In a file of many ECGs the record is the one with the `ecg_id`. Without
    a path, records are known by `ecg_id` alone."""
    ecg_id: str | None = None
    """Template of the key of the recording."""
    recorded_at: str | None = None
    """Template of the local date and time of the recording."""
    time_format: str | None = None
    """strptime format of `recorded_at`; without it YYYY-MM-DD, perhaps with HH:MM:SS behind it."""
    any_case: bool = False
    """Upper and lower case of paths do not matter."""
    people: ParticipantsLayout = ParticipantsLayout()
    """Person, age, sex and body size, as in a file of `--participants-layout`."""
    qrs_duration_ms: str | tuple[str, str] | None = None
    """Column of the QRS duration, or the columns of its onset and its end, in milliseconds."""
    statements: tuple[str, ...] = ()
    """Columns of the device's statements; they become codes of rhythm and conduction."""

    @field_validator(*_TEMPLATES)
    @classmethod
    def _is_template(cls, text: str | None) -> str | None:
        if text is not None:
            _fields_of(text)
        return text

    def resolved(self) -> IndexLayout:
        """Return the layout with the settings of its preset filled in."""
        if self.preset is None:
            return self
        base = INDEX_PRESETS[self.preset]
        given = {name: getattr(self, name) for name in self.model_fields_set}
        own = self.people
        people = {name: getattr(own, name) for name in own.model_fields_set}
        people["columns"] = {**base.people.columns, **own.columns}
        given["people"] = base.people.model_copy(update=people)
        return base.model_copy(update=given)

    def columns(self) -> list[str]:
        """Return all columns that the layout names, ours where it names none."""
        templates = [getattr(self, name) or f"{{{name}}}" for name in _TEMPLATES]
        found = [name for text in templates for _, name in _fields_of(text) if name is not None]
        people = self.people.resolved()
        found += [own for our in READ for own in people.names_of(our)]
        qrs = self.qrs_duration_ms or ()
        return list(dict.fromkeys([*found, *((qrs,) if isinstance(qrs, str) else qrs), *self.statements]))


def _fields_of(template: str) -> list[tuple[str, str | None]]:
    """Return the parts of a template: a text, and the column whose cell follows it."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"is no template ({error}); expected texts and {{column}}, as {{path}}.hea") from error
    if any(name is not None and (not name or spec or conversion) for _, name, spec, conversion in parts):
        raise ValueError("is no template; expected the name of a column between braces, as {path}.hea")
    return [(text, name) for text, name, _, _ in parts]


def _codes(male: str, female: str) -> dict[str, Literal["female", "male"]]:
    return {male: "male", female: "female"}


# Sources of names and codes: docs/archives/, a page for each.
INDEX_PRESETS: Final[Mapping[str, IndexLayout]] = MappingProxyType(
    {
        "mimic-iv-ecg": IndexLayout(
            path="{path}",
            ecg_id="{study_id}",
            recorded_at="{ecg_time}",
            people=ParticipantsLayout(columns={"participant_id": ("subject_id",)}),
            qrs_duration_ms=("qrs_onset", "qrs_end"),
            statements=tuple(f"report_{i}" for i in range(18)),
        ),
        "ptb-xl": IndexLayout(
            path="{filename_hr}",
            ecg_id="{ecg_id}",
            recorded_at="{recording_date}",
            people=ParticipantsLayout(
                columns={
                    "participant_id": ("patient_id",),
                    "age_years": ("age",),
                    "sex": ("sex",),
                    "height_cm": ("height",),
                    "weight_kg": ("weight",),
                },
                sex=_codes("0", "1"),
                missing=("300",),  # ages above 89
            ),
        ),
        "code-15": IndexLayout(
            path="{trace_file}",
            ecg_id="{exam_id}",
            people=ParticipantsLayout(
                columns={"participant_id": ("patient_id",), "age_years": ("age",), "sex": ("is_male",)},
                sex=_codes("True", "False") | _codes("true", "false") | _codes("1", "0"),
            ),
        ),
        "echonext": IndexLayout(
            ecg_id="{ecg_key}",
            people=ParticipantsLayout(
                columns={"participant_id": ("patient_key",), "age_years": ("age_at_ecg",), "sex": ("sex",)},
                sex=_codes("1", "0"),
            ),
            qrs_duration_ms="qrs_duration",
        ),
        "finngen": IndexLayout(
            path="{FINNGENID}/{FINNGENID}_{MEASID}",
            ecg_id="{FINNGENID}_{MEASID}",
            recorded_at="{APPROX_EVENT_DAY} {TIME}",
            any_case=True,
            people=ParticipantsLayout(columns={"participant_id": ("FINNGENID",), "age_years": ("EVENT_AGE",)}),
        ),
    }
)
"""Layouts that ship with the project, by the name of the data."""


def index_layout_of_file(data: bytes, name: str) -> IndexLayout:
    """Read a layout file; a `UsageError` names all its mistakes, with their lines."""
    return parse_settings(data, IndexLayout, name)


@dataclass(frozen=True)
class Index:
    """The records that an index lists, in the order of its rows.

    `table` has the columns of `schemas.INDEX`, null where unknown; an `ecg_id` may be null or
    repeated. `paths` has the path of each row, null where it is not known; it is None where records
    are known by `ecg_id` alone.
    """

    name: str  # of the file, for messages
    table: pa.Table
    paths: pa.Array | None
    any_case: bool = False
    notes: tuple[str, ...] = ()  # what a user should know of how it was read

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.table.num_rows)


def read_index(tables: Sequence[tuple[str, bytes]], layout: IndexLayout, codes_of: CodesOf) -> Index:
    """Read an index.

    Args:
        tables: name and content of the table that lists records, CSV or Parquet, and of further
            tables, whose columns are added by `ecg_id`.
        layout: what the columns mean.
        codes_of: makes codes of a device's statements, which go nowhere else.

    Raises:
        UsageError: a table cannot be read, a column that the layout needs is missing, a value is
            not what its column means (the first row is 1), or a further table has a key twice.
    """
    full = layout.resolved()
    notes: list[str] = []
    raw, *others = (read_raw(data, name, full.columns()) for name, data in tables)
    for other in others:
        raw = _joined(raw, other, full, notes)
    _refuse_missing(raw, layout, full)
    people, more = read_columns(raw, _present_people(raw, full))
    keys, key_notes = _template(raw, full.ecg_id or "{ecg_id}", as_keys=True)
    filled: dict[str, pa.Array] = {name: people[name] for name in people.column_names}
    filled |= {"ecg_id": keys, "recorded_at": _times(raw, full), "qrs_duration_ms": _qrs_ms(raw, full)}
    filled |= _rhythm(raw, full, codes_of)
    table = pa.table({name: filled[name] for name in schemas.INDEX.names}, schema=schemas.INDEX.arrow)
    said = (*raw.notes, *key_notes, *more, *notes)
    return Index(raw.name, table, _paths(raw, full), full.any_case, tuple(dict.fromkeys(said)))


def _joined(raw: RawTable, other: RawTable, layout: IndexLayout, notes: list[str]) -> RawTable:
    """Return a table with the columns of another added, by the key of the recording."""
    template = layout.ecg_id or "{ecg_id}"
    for one in (raw, other):
        one.require([name for _, name in _fields_of(template) if name is not None])
    own, its = (_template(one, template, as_keys=True)[0] for one in (raw, other))
    known = pc.drop_null(its)
    n_repeated = len(known) - len(pc.unique(known))
    if n_repeated:
        raise UsageError(f"{other.name} has {n_repeated} rows with a key that came earlier; expected one a recording")
    rows = pc.index_in(own, value_set=its, skip_nulls=True)
    n_left = len(known) - (len(rows) - rows.null_count)
    if n_left > 0:
        notes.append(f"{n_left} rows of {other.name} are of no record of {raw.name}")
    added = [(name, column.take(rows)) for name, column in other.columns if raw.find(name) is None]
    return RawTable(raw.name, (*raw.columns, *added), raw.delimiter, (*raw.notes, *other.notes))


def _refuse_missing(raw: RawTable, given: IndexLayout, full: IndexLayout) -> None:
    """Refuse a table that lacks a column that the layout needs; those of a preset may be absent."""
    needed = [name for _, name in _fields_of(full.ecg_id or "{ecg_id}") if name is not None]
    needed += [name for _, name in _fields_of(full.path or "") if name is not None]
    own = [given.recorded_at or ""]
    needed += [name for text in own for _, name in _fields_of(text) if name is not None]
    qrs = given.qrs_duration_ms or ()
    needed += [*((qrs,) if isinstance(qrs, str) else qrs), *given.statements]
    absent = [name for name in dict.fromkeys(needed) if raw.find(name) is None]
    absent += [
        " or ".join(names)
        for our, names in given.people.columns.items()
        if raw.find_first(given.people.names_of(our)) is None
    ]
    if absent:
        presets = ", ".join(INDEX_PRESETS)
        raise UsageError(
            f"{raw.described()}; expected {', '.join(absent)} among them. --index-layout says what the columns of an "
            f"index mean: a YAML file, or one of {presets} (docs/archives.md)"
        )


def _present_people(raw: RawTable, layout: IndexLayout) -> ParticipantsLayout:
    """Return how people are read, without the columns that the table lacks."""
    people = layout.people.resolved()
    there = {our: names for our, names in people.columns.items() if raw.find_first(people.names_of(our)) is not None}
    return people.model_copy(update={"columns": there, "preset": None})


def _template(raw: RawTable, template: str, *, as_keys: bool = False) -> tuple[pa.Array, tuple[str, ...]]:
    """Return a template filled with the cells of each row; null where one of them is unknown.

    `as_keys` reads cells as identifiers, by the rules of tables of people.
    """
    parts: list[Any] = []
    notes: list[str] = []
    for text, name in _fields_of(template):
        parts.append(text)
        column = None if name is None else raw.find(name)
        if name is not None and column is not None:
            if as_keys:
                cells, more = identifiers(column, column_name=name, table=raw.name)
                notes += more
            else:
                cells = pc.utf8_trim_whitespace(cell_texts(column))
                cells = pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells)
            parts.append(cells)
    joined = pc.binary_join_element_wise(*parts, "", null_handling="emit_null")
    return (joined.cast(pa.string()) if isinstance(joined, pa.Array) else pa.nulls(raw.n_rows, pa.string())), (*notes,)


def _paths(raw: RawTable, layout: IndexLayout) -> pa.Array | None:
    """Return the path of each row as inputs are listed: without `./` and with `/` alone."""
    if layout.path is None and raw.find("path") is None:
        return None
    paths = _template(raw, layout.path or "{path}")[0]
    paths = pc.replace_substring(paths, "\\", "/")
    return pc.replace_substring_regex(paths, r"^(\./|/)+", "")


def _times(raw: RawTable, layout: IndexLayout) -> pa.Array:
    template = layout.recorded_at or "{recorded_at}"
    names = [name for _, name in _fields_of(template) if name is not None]
    kind = schemas.INDEX.arrow.field("recorded_at").type
    if any(raw.find(name) is None for name in names):
        return pa.nulls(raw.n_rows, kind)
    given, form = _template(raw, template)[0], layout.time_format

    def parse(text: str) -> dt.datetime:
        try:
            found = dt.datetime.fromisoformat(text) if form is None else dt.datetime.strptime(text, form)
        except ValueError as error:
            raise ValueError("expected YYYY-MM-DD HH:MM:SS; other formats are named in the layout") from error
        return found.replace(tzinfo=None)

    expected = "a date and time" if form is None else f"a date and time as {form}"
    missing = layout.people.missing_codes
    return parse_column(
        given, Meaning(parse, expected, kind), column_name=" ".join(names), table=raw.name, missing=missing
    )


def _qrs_ms(raw: RawTable, layout: IndexLayout) -> pa.Array:
    """Return QRS durations; null where one is not given or is no duration of a QRS complex."""
    names = layout.qrs_duration_ms or ()
    columns = [(name, raw.find(name)) for name in ((names,) if isinstance(names, str) else names)]
    if not columns or any(column is None for _, column in columns):
        return pa.nulls(raw.n_rows, pa.float32())
    meaning, missing = number_meaning(decimal_comma=raw.decimal_comma), layout.people.missing_codes
    read = [
        np.asarray(
            pc.fill_null(parse_column(column, meaning, column_name=name, table=raw.name, missing=missing), np.nan)
        )
        for name, column in columns
    ]
    values = read[0] if len(read) == 1 else read[1] - read[0]
    is_duration = (values >= _QRS_RANGE_MS[0]) & (values <= _QRS_RANGE_MS[1])
    return pa.array(values.astype(np.float32), mask=~is_duration)


def _rhythm(raw: RawTable, layout: IndexLayout, codes_of: CodesOf) -> dict[str, pa.Array]:
    """Return the columns of rhythm and conduction by the statements of each row."""
    columns = [cell_texts(column) for name in layout.statements if (column := raw.find(name)) is not None]
    cached = lru_cache(maxsize=1 << 16)(codes_of)
    codes = [cached(texts) for texts in _rows_of_texts(columns)]
    if not columns:
        return {name: pa.nulls(raw.n_rows, pa.string()) for name in RhythmCodes._fields}
    return {name: pa.array([getattr(one, name) for one in codes], pa.string()) for name in RhythmCodes._fields}


def _rows_of_texts(columns: Sequence[pa.Array]) -> Iterator[tuple[str, ...]]:
    """Yield the texts of each row that are not empty, few rows at a time in memory."""
    n_rows = len(columns[0]) if columns else 0
    for start in range(0, n_rows, _ROWS_AT_ONCE):
        parts = [column.slice(start, _ROWS_AT_ONCE).to_pylist() for column in columns]
        yield from (tuple(text for text in row if text) for row in zip(*parts, strict=True))
