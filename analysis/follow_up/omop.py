"""OMOP's common data model: records as concepts, observation periods, concept sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import duckdb
import pandas as pd

from analysis.follow_up.extracts import EVENT_COLUMNS, CohortTables, Extract, RecordTable, frame_of, joined, table_in
from analysis.statistics.columns import TableRefused
from lvm_core.tables import system_key
from lvm_core.tables.codes import DESCENDANTS, EXACT
from lvm_core.tables.people import BODY_SIZE_CONCEPTS


class _Records(NamedTuple):
    """A table of records: its concept, that of its source, its date and its kind."""

    name: str
    concept: str
    of_source: str
    date: str
    kind: str


_TABLES: Final = (
    _Records(
        "condition_occurrence",
        "condition_concept_id",
        "condition_source_concept_id",
        "condition_start_date",
        "condition_type_concept_id",
    ),
    _Records(
        "procedure_occurrence",
        "procedure_concept_id",
        "procedure_source_concept_id",
        "procedure_date",
        "procedure_type_concept_id",
    ),
    _Records(
        "observation",
        "observation_concept_id",
        "observation_source_concept_id",
        "observation_date",
        "observation_type_concept_id",
    ),
    _Records("death", "cause_concept_id", "cause_source_concept_id", "death_date", "death_type_concept_id"),
)
# Vocabulary Type Concept of Athena: who reported.
_SOURCES: Final = {"32865": "self_report", "45905770": "self_report", "32815": "death"}
SOURCE: Final = "ehr"
"""Source of records of other kinds."""
_EVERYWHERE: Final = "all"
"""Region of people whose location is not known."""


def omop_tables(extract: Extract, systems: frozenset[str]) -> CohortTables:
    """Return the records of a CDM: conditions, procedures, observations and causes of death.

    A record is there once for each code: the concept_id itself (system omop), and the code of its
    concept and of the concept of its source in their vocabularies (ICD10CM, SNOMED ...), as the
    table concept has them. `systems` are those of the code list: of omop and of vocabularies only
    these are returned, all where none of them is there. The source is that of the kind of record:
    self_report, death, or else ehr.

    Raise TableRefused where person, condition_occurrence or a column is missing, or the table
    concept although the code list has codes of another system than omop.
    """
    extract.require("condition_occurrence")
    if systems - {"omop"} and extract.find("concept") is None:
        raise TableRefused(
            f"{extract.path} has no table concept, which says what {', '.join(sorted(systems - {'omop'}))} codes the "
            "concepts have; add it, or write a code list of concept_ids (system omop)"
        )
    with duckdb.connect() as connection:
        _make_concepts(connection, extract, systems)
        parts = [part for one in _TABLES for part in _events(connection, extract, one, systems)]
        return CohortTables(
            events=joined(parts, EVENT_COLUMNS),
            deaths=_deaths(connection, extract),
            encounters=_visits(connection, extract),
            observation_periods=_periods(connection, extract),
        )


def omop_people(extract: Extract) -> dict[str, pd.DataFrame]:
    """Return the tables person, with the column region, and measurement, of body size alone.

    The region is the state of the person's location, where there are locations, or else "all".
    """
    with duckdb.connect() as connection:
        person = RecordTable(connection, "person", extract.require("person"))
        location = extract.find("location")
        if location is None or person.column("location_id") is None:
            region = f"SELECT *, '{_EVERYWHERE}' AS region FROM {person.origin}"
        else:
            place = RecordTable(connection, "location", location)
            region = (
                f"SELECT p.*, coalesce(l.state, '{_EVERYWHERE}') AS region FROM {person.origin} p LEFT JOIN ("
                f"SELECT {place.text('location_id')} AS id, {place.text('state')} AS state FROM {place.origin}) l "
                f"ON l.id = {person.text('location_id')}"
            )
        people = frame_of(connection, region)
        measured = RecordTable(connection, "measurement", extract.require("measurement"))
        concepts = ", ".join(f"'{one}'" for one in sorted(BODY_SIZE_CONCEPTS))
        sizes = frame_of(
            connection,
            f"SELECT * FROM {measured.origin} WHERE {measured.text('measurement_concept_id')} IN ({concepts})",
        )
    return {"person": people, "measurement": sizes}


def _make_concepts(connection: duckdb.DuckDBPyConnection, extract: Extract, systems: frozenset[str]) -> None:
    """Make the table of codes of concepts, of the systems of the code list where they are there."""
    table = table_in(connection, extract, "concept")
    if table is None:
        connection.execute("CREATE TEMP TABLE codes (id VARCHAR, code VARCHAR, system VARCHAR)")
        return
    table.require_all("concept_id", "concept_code", "vocabulary_id")
    found = connection.execute(f"SELECT DISTINCT {table.text('vocabulary_id')} FROM {table.origin}").fetchall()
    named = [(row[0], system_key(row[0])) for row in found if row[0]]
    wanted = [pair for pair in named if pair[1] in systems] or named
    connection.register("vocabularies", pd.DataFrame(wanted, columns=["vocabulary", "system"], dtype=str))
    connection.execute(
        f"CREATE TEMP TABLE codes AS SELECT {table.text('concept_id')} AS id, {table.text('concept_code')} AS code, "
        f"v.system FROM {table.origin} JOIN vocabularies v ON v.vocabulary = {table.text('vocabulary_id')}"
    )


def _events(
    connection: duckdb.DuckDBPyConnection, extract: Extract, one: _Records, systems: frozenset[str]
) -> Iterator[pd.DataFrame]:
    table = table_in(connection, extract, one.name)
    if table is None or (table.column(one.concept) is None and table.column(one.of_source) is None):
        return
    table.require_all("person_id", one.date)
    kinds = " ".join(f"WHEN '{kind}' THEN '{name}'" for kind, name in _SOURCES.items())
    said = "'death'" if one.name == "death" else f"CASE {table.text(one.kind)} {kinds} ELSE '{SOURCE}' END"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE given AS SELECT DISTINCT {table.text('person_id')} AS participant_id, "
        f"{table.day(one.date)} AS date, unnest([{table.text(one.concept)}, {table.text(one.of_source)}]) AS id, "
        f"{said} AS source FROM {table.origin}"
    )
    connection.execute("DELETE FROM given WHERE id IS NULL OR id = '0'")
    columns = "participant_id, date, {} AS code, {} AS system, source, NULL::DATE AS reported_date"
    yield frame_of(connection, f"SELECT {columns.format('c.code', 'c.system')} FROM given JOIN codes c USING (id)")
    if "omop" in systems:
        yield frame_of(connection, f"SELECT {columns.format('id', repr('omop'))} FROM given")


def _deaths(connection: duckdb.DuckDBPyConnection, extract: Extract) -> pd.DataFrame | None:
    table = table_in(connection, extract, "death")
    if table is None:
        return None
    return frame_of(
        connection,
        f"SELECT {table.text('person_id')} AS participant_id, min({table.day('death_date')}) AS death_date "
        f"FROM {table.origin} GROUP BY 1",
    )


def _visits(connection: duckdb.DuckDBPyConnection, extract: Extract) -> pd.DataFrame | None:
    table = table_in(connection, extract, "visit_occurrence")
    if table is None:
        return None
    days = ", ".join(table.day(f"visit_{end}_date") for end in ("start", "end"))
    return frame_of(
        connection,
        f"SELECT DISTINCT participant_id, date FROM (SELECT {table.text('person_id')} AS participant_id, "
        f"unnest([{days}]) AS date FROM {table.origin}) WHERE date IS NOT NULL",
    )


def _periods(connection: duckdb.DuckDBPyConnection, extract: Extract) -> pd.DataFrame | None:
    table = table_in(connection, extract, "observation_period")
    if table is None:
        return None
    start, end = (f"observation_period_{one}_date" for one in ("start", "end"))
    table.require_all("person_id", start, end)
    return frame_of(
        connection,
        f"SELECT {table.text('person_id')} AS participant_id, {table.day(start)} AS start_date, "
        f"{table.day(end)} AS end_date FROM {table.origin}",
    )


def with_descendants(codes: pd.DataFrame, extract: Extract) -> pd.DataFrame:
    """Return a code list whose rows of descendants are concepts that the records hold.

    A row of SNOMED is the concept of its code. Of its descendants in concept_ancestor those are
    kept that a record has; the concept itself is kept in any case.

    Raise TableRefused where concept_ancestor is missing, or concept has no such code of SNOMED.
    """
    is_set = codes["match"] == DESCENDANTS
    if not is_set.any():
        return codes
    with duckdb.connect() as connection:
        ancestors = RecordTable(connection, "concept_ancestor", extract.require("concept_ancestor"))
        connection.execute(
            f"CREATE TEMP TABLE below AS SELECT {ancestors.text('ancestor_concept_id')} AS ancestor, "
            f"{ancestors.text('descendant_concept_id')} AS id FROM {ancestors.origin}"
        )
        _make_held(connection, extract)
        of_snomed = is_set & (codes["system"] != "omop")
        concepts = _concepts_of(connection, extract, sorted(set(codes.loc[of_snomed, "code"].map(str))))
        rows: list[dict[str, Any]] = []
        for row in [{str(name): value for name, value in row.items()} for row in codes.to_dict("records")]:
            if row["match"] != DESCENDANTS:
                rows.append(row)
                continue
            concept = row["code"] if row["system"] == "omop" else concepts[row["code"]]
            found = connection.execute(
                "SELECT DISTINCT id FROM below SEMI JOIN held USING (id) WHERE ancestor = $one ORDER BY 1",
                {"one": concept},
            ).fetchall()
            comment = f"{row['comment']} (descendant of {row['system']} {row['code']})".strip()
            ids = dict.fromkeys([concept, *(one[0] for one in found)])
            rows += [{**row, "code": one, "system": "omop", "match": EXACT, "comment": comment} for one in ids]
    return pd.DataFrame(rows, columns=codes.columns)


def _make_held(connection: duckdb.DuckDBPyConnection, extract: Extract) -> None:
    """Make the table of the concepts that records hold."""
    connection.execute("CREATE TEMP TABLE held (id VARCHAR)")
    for one in _TABLES:
        table = table_in(connection, extract, one.name)
        if table is None:
            continue
        for column in (one.concept, one.of_source):
            connection.execute(f"INSERT INTO held SELECT DISTINCT {table.text(column)} FROM {table.origin}")


def _concepts_of(connection: duckdb.DuckDBPyConnection, extract: Extract, codes: Sequence[str]) -> dict[str, str]:
    """Return the concept of each SNOMED code; the table of concepts is large and is read once."""
    if not codes:
        return {}
    table = RecordTable(connection, "concept", extract.require("concept"))
    made = {}
    for code in codes:
        found = connection.execute(
            f"SELECT {table.text('concept_id')} FROM {table.origin} WHERE {table.text('concept_code')} = $code "
            f"AND upper({table.text('vocabulary_id')}) = 'SNOMED'",
            {"code": code},
        ).fetchall()
        if len(found) != 1:
            raise TableRefused(f"table concept has {len(found)} concepts of SNOMED code {code}, expected 1")
        made[code] = str(found[0][0])
    return made
