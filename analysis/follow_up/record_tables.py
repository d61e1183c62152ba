"""The tables of a study, read into DuckDB: columns there, ids as text, dates of one format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.follow_up.people import births, codes, column, days, identifier
from analysis.follow_up.record_reading import (
    dates,
    is_placeholder,
    load,
    numbers,
    quoted,
    refuse_missing,
    refuse_placeholders,
    refuse_repeated,
    refuse_rows,
    yes_no,
)
from analysis.follow_up.rules import FollowUpRules
from analysis.statistics.columns import TableRefused
from lvm_core.signal.quality import QualityFlag
from lvm_core.tables import PLACEHOLDER_DATES, People

_Source = pd.DataFrame | Path


@dataclass(frozen=True, slots=True)
class RecordTables:
    """Tables as given: pandas, or a CSV or Parquet file.

    Attributes:
        predictions: one row an ECG.
        persons: the participants, read; one row a person.
        events: one row a record.
        ends: one row a region and source.
        deaths: one row for those who died or were lost; None where `persons` has these columns.
        encounters: one row an encounter, of hospital cohorts.
        history_starts: one row a person, with the first day of the person's records.
        date_formats: strptime format of a table whose dates are not ISO, by its name.
        columns: by table, the table's own name of a column that has another one.
    """

    predictions: _Source
    persons: People
    events: _Source
    ends: _Source
    deaths: _Source | None = None
    encounters: _Source | None = None
    history_starts: _Source | None = None
    date_formats: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Kind:
    """Columns of a table; `optional` ones are null where they are not there.

    Without the `needed` dates nobody can be followed: those that are placeholders are refused.
    """

    dates: tuple[str, ...]
    texts: tuple[str, ...]
    optional: tuple[str, ...] = ()
    key: str | None = None
    needed: tuple[str, ...] = ()


_PERSON: Final = "participant_id"
_ENDED: Final = ("death_date", "ltfu_date")
_KINDS: Final = {
    "events": _Kind(("date", "reported_date"), (_PERSON, "code", "system", "source"), ("reported_date",)),
    "ends": _Kind(
        ("end_date",), ("region", "source", "release"), ("release",), "region || ' ' || source", ("end_date",)
    ),
    "deaths": _Kind(_ENDED, (_PERSON,), _ENDED, _PERSON, _ENDED),
    "encounters": _Kind(("date",), (_PERSON,)),
    "history_starts": _Kind(("start_date",), (_PERSON,), key=_PERSON),
}


def read_tables(connection: duckdb.DuckDBPyConnection, tables: RecordTables, rules: FollowUpRules) -> None:
    """Make the tables of which follow-up is built.

    These are persons, events, event_people, ends, encounters, history_starts (the last two empty
    where they are not given), placeholders, all_ecgs and usable_ecgs. Codes and coding systems are
    made comparable, as `lvm_core.tables` makes those of lists.

    Args:
        connection: to DuckDB.
        tables: as given.
        rules: they say which columns are needed.

    Raises:
        TableRefused: a file cannot be read, a column is missing, a date is of another format, an
            id is a fraction or missing, a person is there twice, or deaths are in two tables.
    """
    placeholders = pd.DataFrame({"date": pd.to_datetime(list(PLACEHOLDER_DATES))})
    connection.register("placeholders", placeholders)
    _read_persons(connection, tables.persons, rules)
    for name in ("events", "ends"):
        _read(connection, name, getattr(tables, name), tables)
    if tables.deaths is not None:
        _read(connection, "deaths", tables.deaths, tables)
        _join_deaths(connection)
    for name, made in _EMPTY.items():
        given = getattr(tables, name)
        if given is None:
            connection.execute(made)
        else:
            _read(connection, name, given, tables)
    connection.execute("CREATE TEMP TABLE event_people AS SELECT DISTINCT participant_id FROM events")
    _read_ecgs(connection, tables, rules)


_COMPARABLE: Final = {
    "code": "upper(regexp_replace(code::VARCHAR, '[.\\s]', '', 'g'))",
    "system": "lower(regexp_replace(system::VARCHAR, '[\\s.\\-]', '', 'g'))",
    "release": "trim(release::VARCHAR)",
}
_EMPTY: Final = {
    "encounters": "CREATE TEMP TABLE encounters (participant_id VARCHAR, date DATE)",
    "history_starts": "CREATE TEMP TABLE history_starts (participant_id VARCHAR, start_date DATE)",
}


def _read_persons(connection: duckdb.DuckDBPyConnection, people: People, rules: FollowUpRules) -> None:
    is_by_size = rules.max_days_body_size is not None
    is_by_age = rules.time_scale == "attained_age"
    needed = [_PERSON, "region"]
    needed += ["body_size_date"] if is_by_size else []
    needed += ["birth_date"] if is_by_age and column(people, "birth_year") is None else []
    absent = {our: people.layout.names_of(our)[0] for our in needed if column(people, our) is None}
    refuse_missing("persons", absent, people.raw.names)
    born, is_placeholder_birth, is_assumed = births(people)
    no_days = pa.nulls(people.raw.n_rows, pa.date32())
    table = {
        "row_number": pa.array(np.arange(1, people.raw.n_rows + 1)),
        _PERSON: people.table[_PERSON],
        "region": codes(people, "region"),
        **{name: days(people, name) for name in _ENDED},
        "body_size_date": days(people, "body_size_date") if is_by_size else no_days,
        "birth_date": born if is_by_age else no_days,
        "birth_is_placeholder": is_placeholder_birth,
        "birth_day_assumed": is_assumed,
    }
    connection.register("given_persons", pa.table(table))
    connection.execute("CREATE TEMP TABLE raw_persons AS FROM given_persons")
    refuse_rows(connection, "persons", f"{_PERSON} IS NULL", f"no {_PERSON}", "one in each row")
    for name in _ENDED:
        refuse_placeholders(connection, "persons", name, name)
    connection.execute("CREATE TEMP TABLE persons AS SELECT * EXCLUDE (row_number) FROM raw_persons")
    connection.execute("DROP TABLE raw_persons")
    refuse_repeated(connection, "persons", _PERSON)


def _read(connection: duckdb.DuckDBPyConnection, name: str, source: _Source, tables: RecordTables) -> None:
    kind, date_format = _KINDS[name], tables.date_formats.get(name)
    own = tables.columns.get(name, {})
    found = load(connection, name, source, [*kind.texts, *kind.dates], kind.optional, own)
    taken = {c: _text(connection, name, c, found[c]) for c in kind.texts}
    for day in kind.dates:
        taken[day] = dates(connection, name, day, found[day], date_format)
        if day in kind.needed:
            refuse_placeholders(connection, name, day, taken[day])
    chosen = ", ".join(f"{expression} AS {its}" for its, expression in taken.items())
    connection.execute(f"CREATE TEMP TABLE {name} AS SELECT {chosen} FROM raw_{name}")
    connection.execute(f"DROP TABLE raw_{name}")
    if kind.key is not None:
        refuse_repeated(connection, name, kind.key)


def _text(connection: duckdb.DuckDBPyConnection, name: str, its: str, kind: str) -> str:
    if its in _COMPARABLE:
        return _COMPARABLE[its]
    return identifier(connection, f"raw_{name}", its, kind, called=name)


def _join_deaths(connection: duckdb.DuckDBPyConnection) -> None:
    known = connection.execute(
        "SELECT count(*) FROM persons WHERE death_date IS NOT NULL OR ltfu_date IS NOT NULL"
    ).fetchone()
    if known and known[0]:
        raise TableRefused(
            f"table persons has dates of death or loss in {known[0]} rows, and so has table "
            "deaths; expected them in one of the two"
        )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE persons AS SELECT p.* EXCLUDE (death_date, ltfu_date), "
        "d.death_date, d.ltfu_date FROM persons p LEFT JOIN deaths d USING (participant_id)"
    )


def _read_ecgs(connection: duckdb.DuckDBPyConnection, tables: RecordTables, rules: FollowUpRules) -> None:
    af = any(outcome.af_on_ecg for outcome in rules.outcomes)
    needed = ["participant_id", "ecg_id", "recorded_at", "lvm_pred_g", rules.exposure]
    needed += ["quality_flags"] if rules.exclude_flags else []
    needed += ["af_on_ecg"] if af else []
    own, date_format = tables.columns.get("predictions", {}), tables.date_formats.get("predictions")
    found = load(connection, "ecgs", tables.predictions, needed, (), own)
    day = dates(connection, "ecgs", "recorded_at", found["recorded_at"], date_format)
    ids = [f"{_text(connection, 'ecgs', c, found[c])} AS {c}" for c in ("participant_id", "ecg_id")]
    mass = numbers(connection, "ecgs", "lvm_pred_g", found["lvm_pred_g"])
    flagged = "false"
    if rules.exclude_flags:
        flagged = _flagged(connection, found["quality_flags"], rules.exclude_flags)
    connection.execute(
        f"CREATE TEMP TABLE all_ecgs AS SELECT {', '.join(ids)}, {day} AS recorded_at, "
        f"{is_placeholder(day)} AS date_is_placeholder, "
        f"coalesce({mass}, 'nan'::DOUBLE) AS mass, "
        f"isfinite(coalesce(try_cast({quoted(rules.exposure)} AS DOUBLE), 'nan'::DOUBLE)) "
        f"AS has_exposure, {yes_no(connection, 'ecgs', 'af_on_ecg') if af else 'NULL::BOOLEAN'} "
        f"AS af_on_ecg, {flagged} AS flagged FROM raw_ecgs"
    )
    refuse_repeated(connection, "all_ecgs", "ecg_id")
    connection.execute(
        "CREATE TEMP TABLE usable_ecgs AS SELECT participant_id, ecg_id, recorded_at AS "
        "index_date, has_exposure, af_on_ecg FROM all_ecgs WHERE isfinite(mass) AND NOT flagged "
        "AND recorded_at IS NOT NULL AND NOT date_is_placeholder"
    )


def _flagged(connection: duckdb.DuckDBPyConnection, kind: str, flags: tuple[str, ...]) -> str:
    """Return the expression that tells whether an ECG has one of the flags.

    Raises:
        TableRefused: a flag is neither one of ours nor there in the table.
    """
    connection.register("excluded_flags", pd.DataFrame({"flag": list(flags)}, dtype=str))
    own = "quality_flags"
    if not kind.endswith("[]"):
        own = r"string_split(regexp_replace(quality_flags::VARCHAR, '[\s\[\]'']', '', 'g'), ',')"
    seen = connection.execute(
        f"SELECT DISTINCT unnest({own}) AS flag FROM raw_ecgs WHERE quality_flags IS NOT NULL"
    ).fetchall()
    known = sorted({*map(str, QualityFlag), *(row[0] for row in seen if row[0])})
    unknown = [flag for flag in flags if flag not in known]
    if unknown:
        raise TableRefused(
            f"exclude_flags names {', '.join(unknown)}, which no ECG has and which is no flag of "
            f"lvm-ai score; expected some of {', '.join(known)}"
        )
    return f"coalesce(list_has_any({own}, (SELECT list(flag) FROM excluded_flags)), false)"
