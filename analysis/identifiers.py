"""Identifiers: compared as text without blanks around; whole numbers that went through floats."""

from __future__ import annotations

from typing import Final

import duckdb
import pandas as pd

from analysis.columns import TableRefused

_FLOATS: Final = {"DOUBLE": 2**53, "FLOAT": 2**24}
_WHOLE: Final = r"^-?\d+\.0+$"


def identifier(
    connection: duckdb.DuckDBPyConnection, table: str, column: str, kind: str, *, called: str
) -> str:
    """Return the SQL expression of a column of identifiers as text; null where it is null.

    Text loses the blanks around it. A table that was read with gaps has whole numbers as floats,
    or as texts such as 1000001.0 in every row: these lose the point and what is behind it.

    Args:
        connection: to DuckDB.
        table: of the column.
        column: of identifiers.
        kind: its DuckDB type.
        called: the table's name in messages.

    Raises:
        TableRefused: an identifier is a fraction, or larger than floats can tell apart.
    """
    text = f"trim({column}::VARCHAR)"
    if kind in _FLOATS:
        _refuse_fractions(connection, table, column, kind, called)
        return f"CASE WHEN isfinite({column}) THEN {column}::BIGINT::VARCHAR END"
    if not kind.endswith("INT") and _are_whole(connection, table, text):
        return rf"regexp_replace({text}, '\.0+$', '')"
    return text


def identifiers_of(values: pd.Series, *, called: str) -> list[str]:
    """Return the identifiers of a list, each as `identifier` reads it, without empty ones.

    Args:
        values: of any type.
        called: the list's name in messages.

    Raises:
        TableRefused: see `identifier`.
    """
    with duckdb.connect() as connection:
        given = values.dropna().to_frame("id")
        if not len(given):
            return []
        connection.register("given", given)
        kind = connection.execute("DESCRIBE SELECT id FROM given").fetchall()[0][1]
        text = identifier(connection, "given", "id", kind, called=called)
        rows = connection.execute(f"SELECT {text} FROM given").fetchall()
    return [row[0] for row in rows if row[0]]


def refuse_strangers(
    connection: duckdb.DuckDBPyConnection, table: str, others: str, *, called: str, calls: str
) -> None:
    """Refuse two tables of people that have nobody in common; an empty one is not looked at.

    Args:
        connection: to DuckDB.
        table: with participant_id as text.
        others: with participant_id as text.
        called: name of `table` in the message.
        calls: name of `others` in the message.

    Raises:
        TableRefused: both have people, and none of them are the same.
    """
    found = connection.execute(
        f"SELECT (SELECT min(participant_id) FROM {table}), "
        f"(SELECT min(participant_id) FROM {others}), "
        f"EXISTS (SELECT 1 FROM {table} SEMI JOIN {others} USING (participant_id))"
    ).fetchall()
    one, other, is_shared = found[0]
    if one is not None and other is not None and not is_shared:
        raise TableRefused(
            f"tables {called} and {calls} have no participant_id in common: the former has for "
            f"example {one!r}, the latter {other!r}; expected the same identifiers, compared as "
            "text (007 is not 7)"
        )


def refuse_other_people(
    table: pd.DataFrame, others: pd.DataFrame, *, called: str, calls: str
) -> None:
    """Refuse two tables of people that have nobody in common, as `refuse_strangers` does.

    Args:
        table: with participant_id as text.
        others: with participant_id as text.
        called: name of `table` in the message.
        calls: name of `others` in the message.

    Raises:
        TableRefused: both have people, and none of them are the same.
    """
    with duckdb.connect() as connection:
        connection.register("given", table[["participant_id"]])
        connection.register("given_others", others[["participant_id"]])
        refuse_strangers(connection, "given", "given_others", called=called, calls=calls)


def _refuse_fractions(
    connection: duckdb.DuckDBPyConnection, table: str, column: str, kind: str, called: str
) -> None:
    found = connection.execute(
        f"SELECT count(*) FILTER ({column} <> floor({column})), "
        f"count(*) FILTER (abs({column}) > {_FLOATS[kind]}) FROM {table} WHERE isfinite({column})"
    ).fetchall()
    fractions, large = found[0]
    if fractions or large:
        what = f"fractions in {fractions} rows" if fractions else (
            f"numbers above {_FLOATS[kind]:,} in {large} rows, which floats do not tell apart"
        )  # fmt: skip
        raise TableRefused(
            f"table {called}: {column} holds {what}; expected text or whole numbers. Read the "
            "column as text"
        )


def _are_whole(connection: duckdb.DuckDBPyConnection, table: str, text: str) -> bool:
    """Whether every identifier ends in .0; the first that is there mostly tells that none does."""
    known = f"FROM (SELECT {text} AS id FROM {table}) WHERE id <> ''"
    first = connection.execute(f"SELECT regexp_matches(id, '{_WHOLE}') {known} LIMIT 1").fetchall()
    if not first or not first[0][0]:
        return False
    every = connection.execute(f"SELECT bool_and(regexp_matches(id, '{_WHOLE}')) {known}")
    return bool(every.fetchall()[0][0])
