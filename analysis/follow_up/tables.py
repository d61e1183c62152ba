"""The tables of a study in DuckDB: columns there, identifiers as text, dates of one format."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.follow_up.crosswalk import Crosswalk
from analysis.follow_up.loading import (
    LoadedTable,
    Source,
    is_placeholder,
    load_table,
    nothing_in_common,
    quoted,
    refuse_repeated,
)
from analysis.follow_up.people import births, codes, column, days
from analysis.follow_up.rules import WIDE_QRS_MS, EcgFinding, FollowUpRules
from analysis.statistics.columns import TableRefused
from lvm_core.signal.ecg import Conduction, Rhythm
from lvm_core.signal.quality import QualityFlag
from lvm_core.tables import PLACEHOLDER_DATES, People, system_key


def read_tables(
    connection: duckdb.DuckDBPyConnection,
    people: People,
    sources: Mapping[str, Source],
    rules: FollowUpRules,
    *,
    date_formats: Mapping[str, str],
    columns: Mapping[str, Mapping[str, str]],
    crosswalk: Crosswalk | None = None,
) -> None:
    """Make the tables of which follow-up is built.

    These are persons, events, event_people, ends, encounters, history_starts, observation_periods
    (the last three empty where they are not given), placeholders, all_ecgs and usable_ecgs.
    Arguments and refusals are those of `build_follow_up`; `sources` are its other tables, by name,
    where they are given.
    """

    def load(name: str, called: str, wanted: Sequence[str], optional: Collection[str] = ()) -> LoadedTable:
        own, date_format = columns.get(name), date_formats.get(name)
        source = sources[name]
        return load_table(connection, called, source, wanted, optional=optional, own=own, date_format=date_format)

    placeholders = pd.DataFrame({"date": pd.to_datetime(list(PLACEHOLDER_DATES))})
    connection.register("placeholders", placeholders)
    connection.register("crosswalk", (crosswalk or Crosswalk({})).as_frame())
    _read_persons(connection, people, rules)
    for name, kind in _KINDS.items():
        if name in sources:
            _keep(load(name, name, [*kind.texts, *kind.dates], kind.optional), kind)
        elif name in _EMPTY:
            connection.execute(_EMPTY[name])
    if "deaths" in sources:
        _join_deaths(connection)
    connection.execute("CREATE TEMP TABLE event_people AS SELECT DISTINCT participant_id FROM events")
    optional = [name for name in _AF_COLUMNS if name not in _columns_of_findings(rules)]
    _keep_ecgs(load("predictions", "ecgs", _columns_of_ecgs(rules), optional), rules)
    for name, called in OF_PEOPLE.items():
        _refuse_strangers(connection, name, called)


@dataclass(frozen=True, slots=True)
class _Kind:
    """Columns of a table; `optional` ones may be absent, `needed` dates are no placeholders."""

    dates: tuple[str, ...]
    texts: tuple[str, ...]
    optional: tuple[str, ...] = ()
    key: str | None = None
    needed: tuple[str, ...] = ()


_PERSON: Final = "participant_id"
_AF_COLUMNS: Final = ("af_on_ecg", "rhythm")
"""Of the predictions; one of them says whether AF is stated on an ECG."""
_CODED_FINDINGS: Final = {
    EcgFinding.PACED: ("rhythm", Rhythm.PACED),
    EcgFinding.LBBB: ("conduction", Conduction.LBBB),
    EcgFinding.RBBB: ("conduction", Conduction.RBBB),
    EcgFinding.OTHER_BLOCK: ("conduction", Conduction.OTHER),
}
_CODES: Final = {"rhythm": Rhythm, "conduction": Conduction}
_QRS: Final = "qrs_duration_ms"
_ENDED: Final = ("death_date", "ltfu_date")
_PERIOD: Final = ("start_date", "end_date")
_KINDS: Final = {
    "events": _Kind(("date", "reported_date"), (_PERSON, "code", "system", "source"), ("reported_date",)),
    "ends": _Kind(
        ("end_date",), ("region", "source", "release"), ("release",), "region || ' ' || source", ("end_date",)
    ),
    "deaths": _Kind(_ENDED, (_PERSON,), _ENDED, _PERSON, _ENDED),
    "encounters": _Kind(("date",), (_PERSON,)),
    "history_starts": _Kind(("start_date",), (_PERSON,), key=_PERSON),
    "observation_periods": _Kind(_PERIOD, (_PERSON,), needed=_PERIOD),
}
# Written as `lvm_core.tables` writes the codes and systems of a code list.
_COMPARABLE: Final = {
    "code": "upper(regexp_replace(code::VARCHAR, '[.\\s]', '', 'g'))",
    "release": "trim(release::VARCHAR)",
}
_EMPTY: Final = {
    "encounters": "CREATE TEMP TABLE encounters (participant_id VARCHAR, date DATE)",
    "history_starts": "CREATE TEMP TABLE history_starts (participant_id VARCHAR, start_date DATE)",
    "observation_periods": "CREATE TEMP TABLE observation_periods (participant_id VARCHAR, start_date DATE, "
    "end_date DATE)",
}
# Not the deaths: in a small cohort nobody may have died.
OF_PEOPLE: Final = {
    "all_ecgs": "predictions",
    "event_people": "events",
    "encounters": "encounters",
    "history_starts": "history_starts",
    "observation_periods": "observation_periods",
}
"""Tables of people, with their names in messages."""


def _read_persons(connection: duckdb.DuckDBPyConnection, people: People, rules: FollowUpRules) -> None:
    is_by_size = rules.max_days_body_size is not None
    is_by_age = rules.time_scale == "attained_age"
    raw = LoadedTable(connection, "persons", {})
    needed = [_PERSON, "region"]
    needed += ["body_size_date"] if is_by_size else []
    needed += ["birth_date"] if is_by_age and column(people, "birth_year") is None else []
    absent = {our: people.layout.names_of(our)[0] for our in needed if column(people, our) is None}
    raw.refuse_columns(absent, people.raw.names)
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
    raw.refuse_rows(f"{_PERSON} IS NULL", f"no {_PERSON}", "one in each row")
    for name in _ENDED:
        raw.refuse_placeholders(name, name)
    connection.execute("CREATE TEMP TABLE persons AS SELECT * EXCLUDE (row_number) FROM raw_persons")
    connection.execute("DROP TABLE raw_persons")
    refuse_repeated(connection, "persons", _PERSON)


def _keep(raw: LoadedTable, kind: _Kind) -> None:
    """Make the table of a loaded one, its columns read."""
    connection, name = raw.connection, raw.name
    taken = {text: _COMPARABLE.get(text) or raw.identifier(text) for text in kind.texts}
    if "system" in taken:
        taken["system"] = _systems(raw)
    if _PERSON in taken:
        taken[_PERSON] = person_of(taken[_PERSON])
    for day in kind.dates:
        taken[day] = raw.date(day)
        if day in kind.needed:
            raw.refuse_placeholders(day, taken[day])
    chosen = ", ".join(f"{expression} AS {its}" for its, expression in taken.items())
    # Several record numbers of a person give the same row several times, and no more than that.
    has_crosswalk = connection.execute("SELECT count(*) FROM crosswalk").fetchall()[0][0]
    distinct = "DISTINCT" if kind.key == _PERSON and has_crosswalk else ""
    connection.execute(f"CREATE TEMP TABLE {name} AS SELECT {distinct} {chosen} FROM raw_{name}")
    connection.execute(f"DROP TABLE raw_{name}")
    if kind.key is not None:
        refuse_repeated(connection, name, kind.key)


def person_of(identifier: str) -> str:
    """Return the SQL of the person of an identifier, by the crosswalk; without one it is itself."""
    return (
        f"coalesce((SELECT c.person_of_number FROM crosswalk c WHERE c.number_of_person = {identifier}), {identifier})"
    )


def _systems(raw: LoadedTable) -> str:
    """Return the SQL of coding systems by the one name of each, of which a table has a few."""
    found = raw.connection.execute(f"SELECT DISTINCT system::VARCHAR FROM raw_{raw.name} WHERE system IS NOT NULL")
    given = pd.Series([row[0] for row in found.fetchall()], dtype=str)
    raw.connection.register("named_systems", pd.DataFrame({"given": given, "key": given.map(system_key)}))
    return "(SELECT key FROM named_systems WHERE given = system::VARCHAR)"


def _join_deaths(connection: duckdb.DuckDBPyConnection) -> None:
    for column_name in _ENDED:
        known = [
            connection.execute(f"SELECT count({column_name}) FROM {table}").fetchall()[0][0]
            for table in ("persons", "deaths")
        ]
        if all(known):
            raise TableRefused(
                f"table persons has dates of death or loss ({column_name}) in {known[0]} rows, and so has table "
                "deaths; expected them in one of the two"
            )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE persons AS SELECT p.* EXCLUDE (death_date, ltfu_date), "
        "coalesce(p.death_date, d.death_date) AS death_date, coalesce(p.ltfu_date, d.ltfu_date) AS ltfu_date "
        "FROM persons p LEFT JOIN deaths d USING (participant_id)"
    )


def _columns_of_ecgs(rules: FollowUpRules) -> list[str]:
    needed = [_PERSON, "ecg_id", "recorded_at", "lvm_pred_g", rules.exposure]
    needed += ["quality_flags"] if rules.exclude_flags else []
    needed += _AF_COLUMNS if _needs_af(rules) else ()
    return list(dict.fromkeys([*needed, *_columns_of_findings(rules)]))


def _columns_of_findings(rules: FollowUpRules) -> list[str]:
    """Return the columns that say whether an ECG has the findings for which people are left out."""
    return list(dict.fromkeys(_CODED_FINDINGS[one][0] if one in _CODED_FINDINGS else _QRS for one in rules.exclude_ecg))


def _needs_af(rules: FollowUpRules) -> bool:
    return any(outcome.af_on_ecg for outcome in rules.outcomes)


def _af_on_ecg(raw: LoadedTable, rules: FollowUpRules) -> str:
    """Return the SQL of whether AF is stated on an ECG: its own column wins over the rhythm."""
    if not _needs_af(rules):
        return "NULL::BOOLEAN"
    own, rhythm = (name in raw.types for name in _AF_COLUMNS)
    if own:
        return raw.yes_no("af_on_ecg")
    if not rhythm:
        raw.refuse_columns({"af_on_ecg": "af_on_ecg"}, list(raw.types))
    return f"nullif(trim(rhythm::VARCHAR), '{Rhythm.UNKNOWN}') = '{Rhythm.AF_FLUTTER}'"


def _findings(raw: LoadedTable, rules: FollowUpRules) -> tuple[str, str]:
    """Return the SQL of the first finding of an ECG, null for none, and of the unknown ones.

    The latter is a list with a null for each finding that is known.
    """
    is_found: dict[EcgFinding, str] = {}
    columns = _columns_of_findings(rules)
    words = {name: raw.word(name, _known_codes(name)) for name in _CODES if name in columns}
    for finding in (one for one in EcgFinding if one in rules.exclude_ecg):
        if finding in _CODED_FINDINGS:
            name, code = _CODED_FINDINGS[finding]
            is_found[finding] = f"({words[name]}) = '{code}'"
        else:
            qrs_ms = raw.number(_QRS)
            is_found[finding] = f"CASE WHEN isfinite({qrs_ms}) AND {qrs_ms} > 0 THEN {qrs_ms} >= {WIDE_QRS_MS} END"
    if not is_found:
        return "NULL::VARCHAR", "[]::VARCHAR[]"
    cases = " ".join(f"WHEN {sql} THEN '{finding}'" for finding, sql in is_found.items())
    unknown = ", ".join(f"CASE WHEN ({sql}) IS NULL THEN '{finding}' END" for finding, sql in is_found.items())
    return f"CASE {cases} END", f"[{unknown}]"


def _known_codes(name: str) -> dict[str, str]:
    return {str(code): str(code) for code in _CODES[name] if code != "unknown"}


def _keep_ecgs(raw: LoadedTable, rules: FollowUpRules) -> None:
    """Make the tables of all ECGs and of the usable ones."""
    connection = raw.connection
    day, mass = raw.date("recorded_at"), raw.number("lvm_pred_g")
    finding, unknown_findings = _findings(raw, rules)
    connection.execute(
        f"CREATE TEMP TABLE all_ecgs AS SELECT {person_of(raw.identifier('participant_id'))} AS participant_id, "
        f"{raw.identifier('ecg_id')} AS ecg_id, {day} AS recorded_at, "
        f"{is_placeholder(day)} AS date_is_placeholder, "
        f"coalesce({mass}, 'nan'::DOUBLE) AS mass, "
        f"{_has_exposure(raw, rules)} AS has_exposure, {_af_on_ecg(raw, rules)} AS af_on_ecg, "
        f"{finding} AS ecg_finding, {unknown_findings} AS unknown_findings, "
        f"{_flagged(raw, rules.exclude_flags) if rules.exclude_flags else 'false'} AS flagged FROM raw_ecgs"
    )
    refuse_repeated(connection, "all_ecgs", "ecg_id")
    connection.execute(
        "CREATE TEMP TABLE usable_ecgs AS SELECT participant_id, ecg_id, recorded_at AS "
        "index_date, has_exposure, af_on_ecg, ecg_finding, unknown_findings FROM all_ecgs "
        "WHERE isfinite(mass) AND NOT flagged AND recorded_at IS NOT NULL AND NOT date_is_placeholder"
    )


def _has_exposure(raw: LoadedTable, rules: FollowUpRules) -> str:
    if rules.exposure_is_yes_no:
        return f"({raw.yes_no(quoted(rules.exposure))}) IS NOT NULL"
    return f"isfinite(coalesce(try_cast({quoted(rules.exposure)} AS DOUBLE), 'nan'::DOUBLE))"


def _flagged(raw: LoadedTable, flags: tuple[str, ...]) -> str:
    """Return the SQL of whether an ECG has one of the flags; refuse a flag that nobody knows."""
    raw.connection.register("excluded_flags", pd.DataFrame({"flag": list(flags)}, dtype=str))
    own = "quality_flags"
    if not raw.types[own].endswith("[]"):
        own = r"string_split(regexp_replace(quality_flags::VARCHAR, '[\s\[\]'']', '', 'g'), ',')"
    seen = raw.connection.execute(
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


def _refuse_strangers(connection: duckdb.DuckDBPyConnection, table: str, called: str) -> None:
    """Refuse a table whose people are all others than the participants; an empty one passes."""
    found = connection.execute(
        f"SELECT (SELECT min(participant_id) FROM {table}), (SELECT min(participant_id) FROM persons), "
        f"EXISTS (SELECT 1 FROM {table} SEMI JOIN persons USING (participant_id))"
    ).fetchall()
    one, other, is_shared = found[0]
    if one is not None and other is not None and not is_shared:
        raise TableRefused(nothing_in_common(f"tables {called} and participants", _PERSON, one, other))
