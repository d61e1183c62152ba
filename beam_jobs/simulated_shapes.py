"""A synthetic cohort again, in the shapes in which cohorts come: UK Biobank's platform, EHR, OMOP.

Each shape is made by SQL from the tables that `simulated_cohort` has written, and from them alone,
so that an analysis of either must give the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from beam_jobs.reading import local_files

SHAPES: Final = ("ukb-rap", "ehr", "omop")
"""Shapes of extracts."""
_OWN: Final = ("participants", "events", "deaths", "cmr", "follow_up_ends")
_LAST_SEEN: Final = "DATE '2022-10-31'"  # of people who neither died nor were lost
_ZONE: Final = "America/New_York"
_PLACEHOLDERS: Final = "'1900-01-01', '1901-01-01', '1902-02-02', '1903-03-03', '1909-09-09', '2037-07-07'"

# Texts of the files; days; and codes without dots, blanks or the X that fills up a code of ICD-10.
_PREPARED: Final = f"""
CREATE TABLE people AS
SELECT p.*, t.recorded_at::TIMESTAMP AS recorded_at, t.recorded_at::DATE AS visit,
    try_cast(nullif(d.death_date, '') AS DATE) AS death_date, try_cast(nullif(d.ltfu_date, '') AS DATE) AS ltfu_date,
    row_number() OVER (ORDER BY p.participant_id) AS number
FROM participants p JOIN truth t USING (participant_id) LEFT JOIN deaths d USING (participant_id);
CREATE TABLE records AS
WITH plain AS (
    SELECT participant_id, try_cast(nullif(date, '') AS DATE) AS day, system, source,
        upper(replace(code, '.', '')) AS code FROM events
)
SELECT DISTINCT participant_id, day, system, source,
    CASE WHEN system = 'icd10' AND regexp_full_match(code, '[A-Z][0-9][0-9]X') THEN left(code, 3) ELSE code END AS code
FROM plain;
CREATE TABLE contacts AS
SELECT DISTINCT participant_id, day FROM (
    SELECT participant_id, day FROM records WHERE source = 'hes' AND day::VARCHAR NOT IN ({_PLACEHOLDERS})
    UNION ALL SELECT participant_id, visit FROM people
    UNION ALL SELECT participant_id, coalesce(least(ltfu_date, death_date), {_LAST_SEEN}) FROM people
);
"""

# The platform's extract. Centres are of the first visit: one of each nation.
_FIRST_OCCURRENCES: Final = {"I21": 131298, "I22": 131300, "I48": 131350, "I50": 131354}
_N_ARRAYS: Final = 6
_HESIN: Final = """
CREATE TABLE episodes AS
SELECT *, row_number() OVER (PARTITION BY participant_id ORDER BY day, system, code) AS ins_index
FROM records WHERE source = 'hes'
"""


def _participant_sql() -> str:
    centre = "CASE region WHEN 'Wales' THEN '11003' WHEN 'Scotland' THEN '11004' ELSE '11010' END"
    told = ", ".join(
        f"coalesce(s.codes[{i + 1}], '') AS \"participant.p20002_i2_a{i}\", "
        f"coalesce(s.years[{i + 1}], '') AS \"participant.p20008_i2_a{i}\""
        for i in range(_N_ARRAYS)
    )
    causes = ", ".join(f"coalesce(c.codes[{i + 2}], '') AS \"participant.p40002_i0_a{i}\"" for i in range(_N_ARRAYS))
    first = ", ".join(
        f"coalesce(f{field}.day, '') AS \"participant.p{field}\", "
        f"coalesce(f{field}.reporter, '') AS \"participant.p{field + 1}\""
        for field in _FIRST_OCCURRENCES.values()
    )
    joins = " ".join(
        f"LEFT JOIN first_reports f{field} ON f{field}.participant_id = p.participant_id AND f{field}.code = '{code}'"
        for code, field in _FIRST_OCCURRENCES.items()
    )
    return f"""
SELECT p.participant_id AS "participant.eid", CASE sex WHEN 'female' THEN '0' ELSE '1' END AS "participant.p31",
    birth_date[:4] AS "participant.p34", birth_date[6:7]::INTEGER::VARCHAR AS "participant.p52",
    {centre} AS "participant.p54_i0", visit::VARCHAR AS "participant.p53_i2",
    date_diff('year', birth_date::DATE, visit)::VARCHAR AS "participant.p21003_i2",
    height_cm AS "participant.p50_i2", weight_kg AS "participant.p21002_i2", sbp_mmhg AS "participant.p4080_i2_a0",
    coalesce(ltfu_date::VARCHAR, '') AS "participant.p191",
    coalesce(death_date::VARCHAR, '') AS "participant.p40000_i0",
    coalesce(c.codes[1], '') AS "participant.p40001_i0", {causes}, {told},
    coalesce(h.codes, '') AS "participant.p41270", {{dates}}, {first},
    coalesce(m.lvm_cmr_g, '') AS "participant.p24105_i2"
FROM people p LEFT JOIN told s USING (participant_id) LEFT JOIN causes c USING (participant_id)
LEFT JOIN summaries h USING (participant_id) LEFT JOIN cmr m USING (participant_id) {joins} ORDER BY 1
"""


_SUMMARIES: Final = f"""
CREATE TABLE told AS
SELECT participant_id, list(code ORDER BY day, code) AS codes, list(CASE WHEN day IS NULL THEN '-1'
    ELSE printf('%.5f', year(day) + (dayofyear(day) - 0.5) / dayofyear(make_date(year(day), 12, 31))) END
    ORDER BY day, code) AS years
FROM records WHERE source = 'self_report' GROUP BY participant_id;
CREATE TABLE causes AS
SELECT participant_id, list(DISTINCT code ORDER BY code) AS codes
FROM records WHERE source = 'death' GROUP BY participant_id;
CREATE TABLE first_days AS
SELECT participant_id, code, min(day) AS day FROM records
WHERE source = 'hes' AND system = 'icd10' AND day IS NOT NULL GROUP BY participant_id, code;
CREATE TABLE summaries AS
SELECT participant_id, '[' || string_agg('"' || code || '"', ',' ORDER BY code) || ']' AS codes,
    list(day::VARCHAR ORDER BY code) AS days
FROM first_days GROUP BY participant_id;
CREATE TABLE first_reports AS
SELECT participant_id, left(code, 3) AS code, min(day)::VARCHAR AS day,
    CASE arg_min(source, (day, source <> 'hes')) WHEN 'hes' THEN '40' ELSE '20' END AS reporter
FROM records WHERE system = 'icd10' AND day IS NOT NULL AND day::VARCHAR NOT IN ({_PLACEHOLDERS})
GROUP BY participant_id, left(code, 3);
"""


def _ukb_rap(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, str]]:
    connection.execute(_HESIN)
    connection.execute(_SUMMARIES)
    most = connection.execute("SELECT coalesce(max(len(days)), 1) FROM summaries").fetchall()[0][0]
    dates = ", ".join(f"coalesce(h.days[{i + 1}], '') AS \"participant.p41280_a{i}\"" for i in range(most))
    yield "participant", _participant_sql().format(dates=dates)
    # Of every third episode only the day of admission is known.
    written = "coalesce(strftime(day, '%d/%m/%Y'), '')"
    yield (
        "hesin",
        f"SELECT participant_id AS eid, ins_index, CASE WHEN ins_index % 3 = 0 THEN '' ELSE {written} END AS epistart, "
        f"{written} AS admidate FROM episodes ORDER BY 1, 2",
    )
    icd = ", ".join(f"CASE system WHEN '{one}' THEN code ELSE '' END AS diag_{one}" for one in ("icd9", "icd10"))
    yield (
        "hesin_diag",
        f"SELECT participant_id AS eid, ins_index, 0 AS arr_index, 1 AS level, {icd} FROM episodes "
        "WHERE system <> 'opcs4' ORDER BY 1, 2",
    )
    yield (
        "hesin_oper",
        f"SELECT participant_id AS eid, ins_index, 0 AS arr_index, 1 AS level, {written} AS opdate, code AS oper4 "
        "FROM episodes WHERE system = 'opcs4' ORDER BY 1, 2",
    )


def _ehr(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, str]]:
    number = "CASE WHEN {} % 2 = 0 THEN 'A' ELSE 'B' END || right(participant_id, 7)"
    yield (
        "patients",
        "SELECT participant_id AS empi, CASE sex WHEN 'female' THEN 'F' ELSE 'M' END AS sex, "
        "birth_date AS date_of_birth, height_cm, weight_kg, region, coalesce(death_date::VARCHAR, '') AS date_of_death "
        "FROM people ORDER BY 1",
    )
    yield (
        "crosswalk",
        "SELECT participant_id AS empi, "
        "unnest(['A' || right(participant_id, 7), 'B' || right(participant_id, 7)]) AS mrn "
        "FROM people ORDER BY ALL",
    )
    # At half past eleven in the evening in New York it is the next day in UTC.
    late = f"timezone('{_ZONE}', {{}}::TIMESTAMP + INTERVAL 23 HOUR + INTERVAL 30 MINUTE)"
    utc = f"coalesce(strftime(timezone('UTC', {late}), '%Y-%m-%dT%H:%M:%SZ'), '')"
    days = "epoch_ms(day::TIMESTAMP) // 86400000"
    yield (
        "encounters",
        f"SELECT row_number() OVER (ORDER BY participant_id, day) AS encounter_id, {number.format(days)} AS mrn, "
        f'{utc.format("day")} AS start, {utc.format("day")} AS "end" FROM contacts ORDER BY participant_id, day',
    )
    names = (
        "CASE system WHEN 'icd10' THEN 'ICD10CM' WHEN 'icd9' THEN 'ICD-9-CM' WHEN 'opcs4' THEN 'OPCS-4' ELSE system END"
    )
    dotted = (
        "CASE WHEN length(code) > 3 AND system LIKE 'icd%' AND ascii(right(participant_id, 1)) % 2 = 0 "
        "THEN left(code, 3) || '.' || code[4:] ELSE code END"
    )
    source = "CASE source WHEN 'hes' THEN 'ehr' ELSE source END"
    for name, condition in {"diagnoses": "<>", "procedures": "="}.items():
        yield (
            name,
            f"SELECT {number.format(f'coalesce({days}, 0)')} AS mrn, {utc.format('day')} AS date, {dotted} AS code, "
            f"{names} AS code_type, {source} AS source FROM records WHERE system {condition} 'opcs4' "
            "ORDER BY participant_id, day, code, source",
        )
    yield "follow_up_ends", _ENDS


_ENDS: Final = (
    "SELECT region, CASE source WHEN 'hes' THEN 'ehr' ELSE source END AS source, end_date, release FROM follow_up_ends"
)

_CONCEPTS: Final = """
CREATE TABLE concepts AS
SELECT 2000000000 + row_number() OVER (ORDER BY system, code) AS concept_id, system, code,
    CASE WHEN (system = 'icd10' AND code LIKE 'I48%') OR (system = 'icd9' AND code LIKE '4273%')
        OR (system = 'self-report' AND code IN ('1471', '1483')) THEN 313217 ELSE 0 END AS standard
FROM (SELECT DISTINCT system, code FROM records);
CREATE TABLE coded AS
SELECT r.*, c.concept_id, c.standard, p.number AS person_id, row_number() OVER (
    PARTITION BY r.participant_id, source ORDER BY r.code) AS place
FROM records r JOIN concepts c ON c.system = r.system AND c.code = r.code JOIN people p USING (participant_id)
"""


def _omop(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, str]]:
    connection.execute(_CONCEPTS)
    yield (
        "person",
        "SELECT participant_id AS person_id, CASE sex WHEN 'female' THEN 8532 ELSE 8507 END AS gender_concept_id, "
        "birth_date[:4] AS year_of_birth, birth_date[6:7] AS month_of_birth, birth_date[9:10] AS day_of_birth, "
        "CASE region WHEN 'England' THEN 1 WHEN 'Scotland' THEN 2 ELSE 3 END AS location_id FROM people ORDER BY 1",
    )
    yield "location", "SELECT * FROM (VALUES (1, 'England'), (2, 'Scotland'), (3, 'Wales')) t (location_id, state)"
    # The register's first cause is in the table death, further ones are conditions of its kind.
    kind = "CASE source WHEN 'self_report' THEN 32865 WHEN 'death' THEN 32815 ELSE 32817 END"
    for name, condition in {"condition": "<>", "procedure": "="}.items():
        date = "condition_start_date" if name == "condition" else "procedure_date"
        yield (
            f"{name}_occurrence",
            f"SELECT row_number() OVER (ORDER BY participant_id, day, code, source) AS {name}_occurrence_id, "
            f"participant_id AS person_id, standard AS {name}_concept_id, coalesce(day::VARCHAR, '') AS {date}, "
            f"{kind} AS {name}_type_concept_id, code AS {name}_source_value, concept_id AS {name}_source_concept_id "
            f"FROM coded WHERE system {condition} 'opcs4' AND NOT (source = 'death' AND place = 1) "
            "ORDER BY participant_id, day, code, source",
        )
    yield (
        "death",
        "SELECT p.participant_id AS person_id, death_date, 32815 AS death_type_concept_id, coalesce(standard, 0) AS "
        "cause_concept_id, coalesce(concept_id, 0) AS cause_source_concept_id FROM people p LEFT JOIN coded c ON "
        "c.participant_id = p.participant_id AND c.source = 'death' AND place = 1 "
        "WHERE death_date IS NOT NULL ORDER BY 1",
    )
    ended = "coalesce(least(ltfu_date, death_date), DATE '2030-12-31')"
    period = (
        "SELECT participant_id AS person_id, {} AS observation_period_start_date, {} AS observation_period_end_date"
    )
    early = period.format("visit - 5000", "visit - 3000")
    own = period.format(f"least(visit, {ended}) - 400", ended)
    yield "observation_period", f"{early} FROM people WHERE number % 3 = 0 UNION ALL {own} FROM people ORDER BY 1, 2"
    yield (
        "visit_occurrence",
        "SELECT row_number() OVER (ORDER BY participant_id, day) AS visit_occurrence_id, participant_id AS person_id, "
        "day AS visit_start_date, day AS visit_end_date FROM contacts ORDER BY participant_id, day",
    )
    sizes = (
        "SELECT participant_id AS person_id, {} AS measurement_concept_id, body_size_date AS measurement_date, "
        "{} AS value_as_number, {} AS unit_concept_id FROM people"
    )
    height, weight = sizes.format(3036277, "height_cm", 8582), sizes.format(3025315, "weight_kg", 9529)
    yield "measurement", f"{height} UNION ALL {weight} ORDER BY 1, 2"
    vocabulary = (
        "CASE system WHEN 'icd10' THEN 'ICD10CM' WHEN 'icd9' THEN 'ICD9CM' WHEN 'opcs4' THEN 'OPCS4' ELSE system END"
    )
    yield (
        "concept",
        f"SELECT concept_id, {vocabulary} AS vocabulary_id, code AS concept_code FROM concepts "
        "UNION ALL SELECT 313217, 'SNOMED', '49436004' ORDER BY 1",
    )
    yield "concept_ancestor", "SELECT 313217 AS ancestor_concept_id, 313217 AS descendant_concept_id"
    yield "follow_up_ends", _ENDS


_TABLES: Final = {"ukb-rap": _ukb_rap, "ehr": _ehr, "omop": _omop}


def write_shape(folder: Path, shape: str) -> dict[str, int]:
    """Write the cohort of a folder again in a shape, below it; return the rows of each file.

    With the shape `ehr`, also `encounters.csv` of the cohort itself, and where there are drawn
    predictions, those with record numbers. The same tables give the same bytes.
    """
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.execute("SET TimeZone = 'UTC'")
        for name in _OWN:
            connection.execute(f"CREATE TABLE {name} AS FROM read_csv('{_sql(folder / name)}.csv', all_varchar = true)")
        connection.execute(
            "CREATE TABLE truth AS SELECT participant_id, recorded_at "
            f"FROM read_parquet('{_sql(folder)}/truth.parquet')"
        )
        connection.execute(_PREPARED)
        (folder / shape).mkdir(exist_ok=True)
        made = {name: connection.sql(query).to_arrow_table() for name, query in _TABLES[shape](connection)}
        counts = {f"{shape}/{name}.csv": _write(table, folder / shape / f"{name}.csv") for name, table in made.items()}
        if shape == "ehr":
            seen = connection.sql("SELECT participant_id, day AS date FROM contacts ORDER BY ALL").to_arrow_table()
            counts["encounters.csv"] = _write(seen, folder / "encounters.csv")
            counts |= _with_record_numbers(folder)
    return counts


def _sql(path: Path) -> str:
    return str(path).replace("'", "''")


def _write(table: pa.Table, path: Path) -> int:
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(table, sink, pa_csv.WriteOptions(quoting_style="needed", quoting_header="needed"))
    local_files.write_whole(path, bytes(sink.getvalue()), private=False)
    return int(table.num_rows)


def _with_record_numbers(folder: Path) -> Mapping[str, int]:
    drawn = folder / "predictions_drawn.parquet"
    if not drawn.is_file():
        return {}
    table = pq.read_table(drawn)
    numbers = [f"{'AB'[place % 2]}{one[-7:]}" for place, one in enumerate(table["participant_id"].to_pylist())]
    column = table.schema.get_field_index("participant_id")
    renamed = table.set_column(column, table.schema.field(column), pa.array(numbers, pa.string()))
    sink = pa.BufferOutputStream()
    pq.write_table(renamed, sink, compression="zstd")
    local_files.write_whole(folder / "ehr" / "predictions.parquet", bytes(sink.getvalue()), private=False)
    return {"ehr/predictions.parquet": table.num_rows}
