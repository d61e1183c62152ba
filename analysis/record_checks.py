"""What the tables of a study say of each other: people in common, names never seen, unknown dates.

Each function looks at the tables of `analysis.record_tables` in DuckDB, and at nobody who is
withdrawn or excluded unless it says so.
"""

from __future__ import annotations

from typing import Final

import duckdb
import pandas as pd

from analysis.followup_rules import FollowUpRules
from analysis.identifiers import refuse_strangers

RELEASE: Final = "release of the follow-up ends"
"""What reports call the labels of `releases`."""

# Not the deaths: in a small cohort nobody may have died.
_TABLES: Final = {
    "all_ecgs": "predictions",
    "event_people": "events",
    "encounters": "encounters",
    "history_starts": "history_starts",
}
_UNKNOWN_DATES: Final = {
    ("recorded_at", "placeholder"): "all_ecgs WHERE date_is_placeholder",
    ("recorded_at", "missing"): "all_ecgs WHERE recorded_at IS NULL",
    ("birth_date", "placeholder"): "persons WHERE birth_is_placeholder",
    ("birth_date", "missing"): "persons WHERE birth_date IS NULL AND NOT birth_is_placeholder",
    ("birth_date", "day_assumed"): "persons WHERE birth_day_assumed",
}


def refuse_unrelated_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Refuse a table whose people are all others than the participants, excluded ones included.

    Raises:
        TableRefused: ids of the two are written in different ways, or are of different people.
    """
    there = {row[0] for row in connection.execute("SHOW TABLES").fetchall()}
    for table, called in _TABLES.items():
        if table in there:
            refuse_strangers(connection, table, "persons", called=called, calls="participants")


def unknown_dates(connection: duckdb.DuckDBPyConnection, rules: FollowUpRules) -> pd.DataFrame:
    """Return how many people of the cohort have dates that are not known, apart from events.

    Returns:
        column ("recorded_at", and "birth_date" where age is the time scale), why ("placeholder",
        "missing"; "day_assumed": of a birth only month and year are known, a row where there are
        such births), n_people, n_rows.
    """
    rows = []
    for (column, why), source in _UNKNOWN_DATES.items():
        if column == "birth_date" and rules.time_scale != "attained_age":
            continue
        if why == "day_assumed" and not _is_any(connection, source):
            continue
        found = connection.execute(
            f"SELECT count(DISTINCT participant_id), count(*) FROM (FROM {source}) "
            "SEMI JOIN cohort USING (participant_id)"
        ).fetchall()
        rows.append((column, why, *found[0]))
    return pd.DataFrame(rows, columns=["column", "why", "n_people", "n_rows"])


def assumed_births(connection: duckdb.DuckDBPyConnection, rules: FollowUpRules) -> list[str]:
    """Return a sentence where births of month and year are read as a day and give ages."""
    if rules.time_scale != "attained_age":
        return []
    if not _is_any(connection, _UNKNOWN_DATES["birth_date", "day_assumed"]):
        return []
    return [
        "births of which only month and year are known are read as the 15th of the month, as the "
        "layout of the participants says; ages from them are off by up to half a month"
    ]


def _is_any(connection: duckdb.DuckDBPyConnection, source: str) -> bool:
    found = connection.execute(f"SELECT count(*) FROM (FROM {source})").fetchall()
    return bool(found[0][0])


def names_never_seen(connection: duckdb.DuckDBPyConnection, rules: FollowUpRules) -> list[str]:
    """Return a sentence for each source of the rules that no record has.

    A source without a record may be one that nobody has, or a name that is written otherwise.
    """
    seen = [row[0] for row in connection.execute("SELECT DISTINCT source FROM events").fetchall()]
    there = ", ".join(sorted(filter(None, seen))) or "none"
    told = []
    for setting in ("incident_sources", "prevalent_sources"):
        named = sorted({one for outcome in rules.outcomes for one in getattr(outcome, setting)})
        told += [
            f"no record has the source {name!r} of {setting}, so that it finds nobody; is it "
            f"written alike? Sources of the records: {there}"
            for name in named
            if name not in seen
        ]
    return told


def unknown_regions(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return a sentence where no participant is of a region that has an end of records."""
    listed = [
        {row[0] for row in connection.execute(f"SELECT DISTINCT region FROM {table}").fetchall()} - {None, ""}
        for table in ("persons", "ends")
    ]
    ours, ends = listed
    if not ours or ours & ends:
        return []
    return [
        "no participant is of a region with an end of records, so that nobody is followed; are "
        "regions written alike? Participants have "
        f"{min(ours)!r}, the ends {min(ends, default='')!r}"
    ]


def deaths_of_others(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return a sentence where a table of deaths has rows, and none of a participant."""
    there = {row[0] for row in connection.execute("SHOW TABLES").fetchall()}
    if "deaths" not in there:
        return []
    found = connection.execute(
        "SELECT count(*), count(p.participant_id) FROM deaths AS d LEFT JOIN persons AS p USING (participant_id)"
    ).fetchall()
    n_rows, n_ours = found[0]
    if n_rows == 0 or n_ours > 0:
        return []
    return ["no participant is in the table of deaths, so that nobody dies or is lost; are identifiers written alike?"]


def releases(connection: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
    """Return the release labels of the follow-up ends, each once; () where none is given."""
    rows = connection.execute(
        "SELECT DISTINCT release FROM ends WHERE release IS NOT NULL AND release <> '' ORDER BY 1"
    ).fetchall()
    return tuple(row[0] for row in rows)
