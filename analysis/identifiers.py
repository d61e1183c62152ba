"""Identifiers in the tables that DuckDB reads, by the rules of `lvm_core.tables`."""

from __future__ import annotations

from typing import Final

import duckdb
import pandas as pd

from analysis.columns import TableRefused
from lvm_core.errors import form_of
from lvm_core.tables import UNKNOWN_TEXTS
from lvm_core.tables.values import SCIENTIFIC, WHOLE

_FLOATS: Final = {"DOUBLE": 2**53, "FLOAT": 2**24}
_UNKNOWN: Final = ", ".join(f"'{word}'" for word in sorted(UNKNOWN_TEXTS))


def identifier(connection: duckdb.DuckDBPyConnection, table: str, column: str, kind: str, *, called: str) -> str:
    """Return the SQL expression of a column of identifiers as text; null where it is unknown.

    The same column gives the same identifiers as `lvm_core.tables.values.identifiers`: text loses
    the blanks around it, and a table that was read with gaps has whole numbers as floats, or as
    texts such as 1000001.0 in every row: these lose the point and what is behind it.

    Args:
        connection: to DuckDB.
        table: of the column.
        column: of identifiers.
        kind: its DuckDB type.
        called: the table's name in messages.

    Raises:
        TableRefused: an identifier is a fraction, larger than floats can tell apart, in scientific
            notation, or only some of the identifiers end in .0.
    """
    if kind in _FLOATS:
        _refuse_fractions(connection, table, column, kind, called)
        return f"CASE WHEN isfinite({column}) THEN {column}::BIGINT::VARCHAR END"
    text = f"trim({column}::VARCHAR)"
    if kind.endswith("INT"):
        return text
    known = f"CASE WHEN lower({text}) NOT IN ({_UNKNOWN}) THEN {text} END"
    if _are_whole(connection, table, column, known, called):
        return rf"regexp_replace({known}, '\.0+$', '')"
    return known


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
            f"tables {called} and {calls} have no participant_id in common: the first of the "
            f"former is of the form {form_of(one)}, of the latter {form_of(other)} (A a letter, "
            "9 a digit); expected the same identifiers, compared as text (007 is not 7)"
        )


def refuse_other_people(table: pd.DataFrame, others: pd.DataFrame, *, called: str, calls: str) -> None:
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


def _refuse_fractions(connection: duckdb.DuckDBPyConnection, table: str, column: str, kind: str, called: str) -> None:
    found = connection.execute(
        f"SELECT count(*) FILTER ({column} <> floor({column})), "
        f"count(*) FILTER (abs({column}) > {_FLOATS[kind]}) FROM {table} WHERE isfinite({column})"
    ).fetchall()
    fractions, large = found[0]
    if fractions or large:
        what = (
            f"fractions in {fractions} rows"
            if fractions
            else (f"numbers above {_FLOATS[kind]:,} in {large} rows, which floats do not tell apart")
        )
        raise TableRefused(
            f"table {called}: {column} holds {what}; expected text or whole numbers. Read the column as text"
        )


def _are_whole(connection: duckdb.DuckDBPyConnection, table: str, column: str, known: str, called: str) -> bool:
    """Return whether every identifier ends in .0; refuse it of some, and scientific notation."""
    # LIKE is cheap; most tables have no identifier for which a regular expression is needed.
    found = connection.execute(
        f"SELECT count(*) FILTER (regexp_matches(id, '{WHOLE}')), "
        f"count(*) FILTER (regexp_matches(id, '{SCIENTIFIC}')) "
        f"FROM (SELECT {known} AS id FROM {table}) WHERE id LIKE '%.0%' OR id ILIKE '%e%'"
    ).fetchall()
    whole, scientific = found[0]
    if scientific:
        raise TableRefused(
            f"table {called}: {column} holds {scientific} numbers in scientific notation, which a "
            "spreadsheet writes and which lose digits; expected identifiers as text. Export the "
            "column as text"
        )
    if not whole:
        return False
    counted = connection.execute(f"SELECT count({known}) FROM {table}").fetchall()
    if counted[0][0] != whole:
        raise TableRefused(
            f"table {called}: {column} holds {whole} identifiers with a decimal point (as 1001.0) "
            f"among {counted[0][0]}; expected all of them with or all without. Write the column as "
            "text"
        )
    return True
