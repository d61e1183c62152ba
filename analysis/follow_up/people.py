"""Participants of a study: columns beside those that every command reads."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.statistics.columns import TableRefused
from lvm_core.errors import UsageError, form_of
from lvm_core.tables import PLACEHOLDER_DATES, UNKNOWN_TEXTS, ParticipantsLayout, People, read_people
from lvm_core.tables.layout import OWN_LAYOUT
from lvm_core.tables.people import table_files
from lvm_core.tables.values import PLACEHOLDER_MONTHS, SCIENTIFIC, WHOLE, date_meaning, identifiers, parse_column

_OPTION: Final = "--participants-layout"
_SETTING: Final = "`columns: persons` of the study"
_PRESETS: Final = "`columns: {persons: ukb}` or `{persons: ukb-rap}` in the study"


def people_of(source: People | pd.DataFrame | Path, layout: ParticipantsLayout = OWN_LAYOUT) -> People:
    """Return the participants of a study.

    Args:
        source: participants, a table, a file, or the folder of the preset `omop`.
        layout: what the columns mean.

    Raises:
        UsageError: the table cannot be read, or a value is not what its column means.
    """
    if isinstance(source, People):
        return source
    try:
        if isinstance(source, pd.DataFrame):
            stream = io.BytesIO()
            pq.write_table(pa.Table.from_pandas(source, preserve_index=False), stream)
            return read_people(stream.getvalue(), "participants", layout, needs_demographics=False)
        if source.is_dir():
            return read_people(_tables_of(source), source.name, layout, needs_demographics=False)
        return read_people(source.read_bytes(), source.name, layout, needs_demographics=False)
    except OSError as error:
        raise UsageError(f"participants {source} cannot be read: {error}") from error
    except UsageError as error:
        raise UsageError(in_words_of_studies(str(error))) from error


def in_words_of_studies(message: str) -> str:
    """Return a message about a layout with the setting of a study in place of the option."""
    return message.replace(f"{_OPTION} ukb or ukb-rap", _PRESETS).replace(_OPTION, _SETTING)


def _tables_of(folder: Path) -> dict[str, tuple[str, bytes]]:
    """Return the tables of a folder by their names."""
    files = table_files([one.name for one in folder.iterdir()], folder.name)
    return {table: (file, (folder / file).read_bytes()) for table, file in files.items()}


def column(people: People, our: str) -> tuple[str, pa.Array] | None:
    """Return a column as the file has it, with its own name; None where there is none.

    Args:
        people: of a study.
        our: our name, or that of a covariate.
    """
    return people.raw.find_first(people.layout.names_of(our))


def codes(people: People, our: str) -> pa.Array:
    """Return a column that is there, such as the region, as text; null where it is unknown."""
    found = column(people, our)
    assert found is not None, "callers look for it first"
    own, cells = found
    texts, _ = identifiers(cells, column_name=own, table=people.raw.name)
    is_missing = pc.is_in(texts, pa.array(sorted(people.layout.missing_codes), pa.string()))
    return pc.if_else(is_missing, pa.scalar(None, pa.string()), texts)


def days(people: People, our: str) -> pa.Array:
    """Return a column of dates; null where a date is unknown or the column is not there.

    Raises:
        UsageError: a value is no date, or dates have a time zone.
    """
    found = column(people, our)
    if found is None:
        return pa.nulls(people.raw.n_rows, pa.date32())
    own, cells = found
    return parse_column(
        cells,
        date_meaning(people.layout.date_format),
        column_name=own,
        table=people.raw.name,
        missing=people.layout.missing_codes,
    )


def births(people: People) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Return births, whether each is a placeholder (then it is null), and whether on the 15th."""
    born = people.table["birth_date"].combine_chunks()
    assumed = pc.fill_null(people.table["birth_day_assumed"].combine_chunks(), False)
    is_day = pc.is_in(born, pa.array(PLACEHOLDER_DATES, pa.date32()))
    is_month = pc.and_(assumed, pc.is_in(born, pa.array(PLACEHOLDER_MONTHS, pa.date32())))
    unknown = pc.or_(is_day, is_month)
    known = pc.if_else(unknown, pa.scalar(None, pa.date32()), born)
    return known, unknown, pc.and_(assumed, pc.is_valid(known))


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
