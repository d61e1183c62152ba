"""Follow-up from dated records: index ECG, exclusions, time and status for each outcome.

docs/follow_up.md says what each rule means. DuckDB does the work, so that ten million records take
seconds; the order of rows in the tables does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import duckdb
import pandas as pd

from analysis.follow_up.crosswalk import Crosswalk
from analysis.follow_up.loading import Source
from analysis.follow_up.people import people_of
from analysis.follow_up.rules import EcgFinding, Exclusion, FollowUpRules, IndexRule, OutcomeRule
from analysis.follow_up.tables import OF_PEOPLE, read_tables
from analysis.statistics.columns import TableRefused
from lvm_core.tables import People, code_key, system_key
from lvm_core.tables.codes import RANGE, without_filler


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Follow-up of the cohort: participants who are neither withdrawn nor excluded by a list."""

    # One row per person (with "all" a person and ECG) and outcome: participant_id, ecg_id,
    # index_date, outcome, excluded (a reason or null), status (0 censored, 1 outcome, 2 death),
    # end_reason (outcome, death, lost, administrative_end), time_days from the clock's start,
    # exit_date, placeholder_date, event_after_death (the event is not counted, the death is),
    # body_size_far (height and weight are further from the index ECG than allowed, or of an
    # unknown day), ecg_finding (of the index ECG, for which the rules leave people out; null for
    # none), history_days (observed before the index; null if unknown), entry_age_days and
    # exit_age_days (of the people who are analysed, where attained age is the time scale and the
    # birth is known).
    people: pd.DataFrame
    # Outcome, reason ("all", each exclusion in order, "analysed"), n_people, n_rows; the rows of
    # the exclusions and of "analysed" add up to "all", and so do the people where each has one
    # index ECG.
    flow: pd.DataFrame
    # Step ("cohort", "usable_ecg", "min_history", "min_encounters", "index_rule"), n_people and
    # n_ecgs that are left after it. People who are lost between the first and the last step are
    # excluded as `no_usable_ecg`.
    eligibility: pd.DataFrame
    # Body_size ("near", "far", "unknown_date": height and weight against the index ECG),
    # n_people, n_ecgs of the cohort; no rows without a limit of the distance.
    body_size: pd.DataFrame
    # The code list with n_records and n_people of the cohort that each code found; a repeated
    # record counts once.
    code_hits: pd.DataFrame
    # Outcome, system and code as the records of the cohort have it (without dots), n_records,
    # n_people: everything that the code list caught.
    codes_caught: pd.DataFrame
    outcomes_without_records: tuple[str, ...]  # of the code list: no record of anybody has their codes
    # System, n_records and the most frequent codes of all records, whoever they are of.
    records: pd.DataFrame
    # Table ("predictions", "events" ...), n_people, n_unmatched (who are not among the
    # participants), form_unmatched and form_matched: the most frequent form of their identifiers.
    matches: pd.DataFrame
    usable_ecgs: pd.Series[str]  # identifiers of the usable ECGs of the cohort, in order
    # Findings for which the rules leave people out, by the usable ECG of the cohort that has one.
    ecg_findings: pd.Series[str]
    # Finding (each that the rules ask for), n_people and n_ecgs of the cohort: index ECGs that stay
    # although it is not known whether they have the finding.
    unknown_findings: pd.DataFrame
    # Column ("recorded_at", and "birth_date" where age is the time scale), why ("placeholder",
    # "missing"; "day_assumed", a row where only month and year of some births are known),
    # n_people, n_rows of the cohort.
    unknown_dates: pd.DataFrame
    releases: tuple[str, ...] = ()  # release labels of the ends of records, each once
    notes: tuple[str, ...] = ()  # sentences about the inputs that a reader must see; no numbers and no people


def build_follow_up(
    *,
    predictions: Source,
    persons: People | Source,
    events: Source,
    ends: Source,
    code_list: pd.DataFrame,
    rules: FollowUpRules,
    deaths: Source | None = None,
    encounters: Source | None = None,
    history_starts: Source | None = None,
    observation_periods: Source | None = None,
    crosswalk: Crosswalk | None = None,
    withdrawn: Sequence[str] = (),
    excluded: Sequence[str] = (),
    date_formats: Mapping[str, str] | None = None,
    columns: Mapping[str, Mapping[str, str]] | None = None,
) -> FollowUp:
    """Build the follow-up table of a study, and count what happens on the way.

    Tables are data frames, or CSV or Parquet files, with these columns:
        predictions: participant_id, ecg_id, recorded_at, lvm_pred_g, the exposure, quality_flags
            where they are excluded, af_on_ecg (yes or no) where an outcome needs it, and rhythm,
            conduction and qrs_duration_ms where people are left out by them.
        persons: participant_id, region, death_date and ltfu_date unless there are `deaths`,
            body_size_date and birth_date where the rules need them. Participants of another layout
            are read by `lvm_core.tables.read_people` first.
        events: participant_id, date, code, system, source, and reported_date, the date at which an
            undated self-report was made.
        ends: region, source, end_date: the last day of records; release, a label, where known.
        code_list: of `lvm_core.tables.read_code_table`.
        deaths: participant_id, death_date, ltfu_date of the people who have one.
        encounters: participant_id, date, of hospital cohorts: follow-up then ends `grace_days`
            after the last encounter, and ltfu_date is not used.
        history_starts: participant_id, start_date: the first day of each person's records.
        observation_periods: participant_id, start_date, end_date, several of a person: an ECG
            outside of all cannot open follow-up, and follow-up ends with the period of its ECG.
            Periods that overlap or follow upon each other are one.

    `crosswalk` says which record numbers in these tables are of one person, as persons names it.
    `withdrawn` and `excluded` are identifiers. `date_formats` are strptime formats where dates are
    not ISO, and `columns` own names of columns by ours, both by table, but for persons.

    Raises:
        TableRefused: a column is missing, a date is of another format, a person is there twice,
            a source that an outcome needs has no end of records, a rule needs a table or column
            that is not there, an ECG is from before its person's birth, two tables have nobody in
            common, a death, a loss or an end of records is at a placeholder date.
        ValueError: an outcome is not in the code list, or `columns` or `date_formats` names
            persons.
    """
    known = set(code_list["outcome"])
    unknown = [outcome.name for outcome in rules.outcomes if outcome.name not in known]
    if unknown:
        raise ValueError(f"outcome {unknown[0]!r} is not in the code list, which has {', '.join(sorted(known))}")
    if "persons" in {**(date_formats or {}), **(columns or {})}:
        raise ValueError("columns and dates of persons are given by a layout: use read_people")
    people = people_of(persons)
    sources = {"predictions": predictions, "events": events, "ends": ends}
    further = {
        "deaths": deaths,
        "encounters": encounters,
        "history_starts": history_starts,
        "observation_periods": observation_periods,
    }
    sources |= {name: table for name, table in further.items() if table is not None}
    _refuse_missing_tables(sources, rules)
    with duckdb.connect() as connection:
        read_tables(
            connection,
            people,
            sources,
            rules,
            date_formats=date_formats or {},
            columns=columns or {},
            crosswalk=crosswalk,
        )
        _register_lists(connection, code_list, withdrawn, excluded)
        _refuse_missing_ends(connection, rules)
        _choose_index_ecgs(connection, rules, sources)
        _refuse_ecgs_before_birth(connection)
        return _follow_up(connection, code_list, rules, is_hospital="encounters" in sources)


def _follow_up(
    connection: duckdb.DuckDBPyConnection, code_list: pd.DataFrame, rules: FollowUpRules, *, is_hospital: bool
) -> FollowUp:
    """Return the follow-up of the people whose index ECGs are chosen."""
    connection.execute(_CODE_MATCHES)
    connection.execute(_MATCHED)
    followed = [_of_outcome(connection, one, rules, is_hospital=is_hospital) for one in rules.outcomes]
    rows = pd.concat(followed, ignore_index=True)
    return FollowUp(
        people=rows,
        flow=_flow(rows, [outcome.name for outcome in rules.outcomes]),
        eligibility=_eligibility(connection),
        body_size=connection.execute(_BODY_SIZES).df(),
        code_hits=_code_hits(connection, code_list),
        codes_caught=connection.execute(_CODES_CAUGHT).df(),
        outcomes_without_records=tuple(row[0] for row in connection.execute(_NEVER_SEEN).fetchall()),
        records=connection.execute(_RECORDS).df(),
        matches=_matches(connection),
        usable_ecgs=connection.execute(_USABLE).df()["ecg_id"],
        ecg_findings=connection.execute(_FOUND).df().set_index("ecg_id")["ecg_finding"],
        unknown_findings=_unknown_findings(connection, rules),
        unknown_dates=_unknown_dates(connection, rules),
        releases=tuple(row[0] for row in connection.execute(_RELEASES).fetchall()),
        notes=(
            *_sources_without_records(connection, rules),
            *_unknown_regions(connection),
            *_deaths_of_others(connection),
            *_assumed_births(connection, rules),
        ),
    )


def _refuse_missing_tables(sources: Mapping[str, Source], rules: FollowUpRules) -> None:
    """Refuse rules about encounters or history without the table that they need."""
    hospital = {"min_encounters": rules.min_encounters, "grace_days": rules.grace_days}
    asked = [f"{name} is {value}" for name, value in hospital.items() if value]
    if asked and "encounters" not in sources:
        raise TableRefused(f"{' and '.join(asked)}, but there is no table encounters")
    if rules.min_history_days and not {"history_starts", "encounters", "observation_periods"} & set(sources):
        raise TableRefused(
            f"min_history_days is {rules.min_history_days}, but there is neither a table "
            "history_starts nor encounters nor observation_periods; with events alone, only people who were ill "
            "would have a history"
        )


def _refuse_ecgs_before_birth(connection: duckdb.DuckDBPyConnection) -> None:
    found = connection.execute(
        "SELECT count(*) FROM index_ecgs JOIN persons USING (participant_id) "
        "SEMI JOIN cohort USING (participant_id) WHERE birth_date > index_date"
    ).fetchone()
    if found and found[0]:
        raise TableRefused(f"{found[0]} index ECGs are from before their person's birth_date, expected none")


def _refuse_missing_ends(connection: duckdb.DuckDBPyConnection, rules: FollowUpRules) -> None:
    """Refuse a region without an end of records in a source that an outcome needs."""
    lacking = connection.execute(
        "SELECT r.region, n.source FROM (SELECT DISTINCT region FROM ends) r "
        "CROSS JOIN (SELECT unnest($needed) AS source) n "
        "ANTI JOIN ends e ON e.region = r.region AND e.source = n.source ORDER BY ALL",
        {"needed": list(rules.incident_sources)},
    ).fetchall()
    if lacking:
        region, source = lacking[0]
        raise TableRefused(
            f"table ends has no last day of records of source {source!r} in region {region!r} (and "
            f"{len(lacking) - 1} more), expected one for each region and incident source"
        )


def _register_lists(
    connection: duckdb.DuckDBPyConnection, code_list: pd.DataFrame, withdrawn: Sequence[str], excluded: Sequence[str]
) -> None:
    system = code_list["system"].map(system_key)
    written = code_list["code"].where(code_list["match"] == RANGE, code_list["code"].map(code_key))
    bounds = written.str.split("-", n=1).where(code_list["match"] == RANGE, written.map(lambda code: [code]))
    codes = pd.DataFrame(
        {
            "code": [without_filler(own[0], its) for own, its in zip(bounds, system, strict=True)],
            "last_code": [own[-1] for own in bounds],
            "system": system,
            "match": code_list["match"],
            "outcome": code_list["outcome"],
            "list_row": range(len(code_list)),
        }
    )
    connection.register("code_list", codes)
    for name, ids in (("withdrawn", withdrawn), ("excluded", excluded)):
        frame = pd.DataFrame({"participant_id": pd.Series(list(ids), dtype=str)}).drop_duplicates()
        connection.register(name, frame)


# Without a table of first days, records begin with the first known date in an incident source or
# among the encounters; what a person remembers (self-report) is no observed history.
_ELIGIBLE: Final = """
CREATE TEMP TABLE eligible_ecgs AS
WITH known AS (
    SELECT participant_id, start_date AS date FROM history_starts
    UNION ALL SELECT participant_id, date FROM events
    WHERE NOT $has_starts AND source IN (SELECT unnest($incident))
    UNION ALL SELECT participant_id, date FROM encounters WHERE NOT $has_starts
),
starts AS (
    SELECT participant_id, min(date) AS start_date FROM known
    WHERE date NOT IN (SELECT date FROM placeholders) GROUP BY participant_id
),
visits AS (
    SELECT u.ecg_id, count(DISTINCT e.date) AS n_encounters
    FROM usable_ecgs u JOIN encounters e
        ON e.participant_id = u.participant_id AND e.date < u.index_date
    WHERE e.date NOT IN (SELECT date FROM placeholders) GROUP BY u.ecg_id
)
SELECT u.*, coalesce(v.n_encounters, 0) AS n_encounters, o.end_date AS period_end,
    CASE WHEN $has_periods THEN date_diff('day', o.start_date, u.index_date)
        WHEN s.start_date IS NOT NULL
        THEN greatest(date_diff('day', s.start_date, u.index_date), 0) END AS history_days,
    (o.start_date IS NOT NULL OR NOT $has_periods)
        AND ($min_history = 0 OR coalesce(history_days >= $min_history, false)) AS has_history,
    coalesce(v.n_encounters, 0) >= $min_encounters AS has_encounters
FROM usable_ecgs u LEFT JOIN starts s USING (participant_id) LEFT JOIN visits v USING (ecg_id)
LEFT JOIN periods o
    ON o.participant_id = u.participant_id AND u.index_date BETWEEN o.start_date AND o.end_date
"""

# Periods that overlap, or of which one begins on the day after the other, are one.
_PERIODS: Final = """
CREATE TEMP TABLE periods AS
WITH begun AS (
    SELECT *, coalesce(start_date > 1 + max(end_date) OVER (
        PARTITION BY participant_id ORDER BY start_date, end_date
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), true) AS is_new
    FROM observation_periods
),
numbered AS (
    SELECT *, sum(is_new::INTEGER) OVER (
        PARTITION BY participant_id ORDER BY start_date, end_date
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS number
    FROM begun
)
SELECT participant_id, min(start_date) AS start_date, max(end_date) AS end_date
FROM numbered GROUP BY participant_id, number
"""

_COHORT: Final = """
CREATE TEMP TABLE cohort AS SELECT participant_id FROM persons
WHERE participant_id NOT IN (SELECT participant_id FROM withdrawn)
    AND participant_id NOT IN (SELECT participant_id FROM excluded)
"""

_BODY_SIZE: Final = """
CREATE OR REPLACE TEMP TABLE index_ecgs AS
SELECT i.*, CASE
        WHEN $max_days IS NULL THEN 'not_looked_at'
        WHEN p.body_size_date IS NULL
            OR p.body_size_date IN (SELECT date FROM placeholders) THEN 'unknown_date'
        WHEN abs(date_diff('day', p.body_size_date, i.index_date)) > $max_days THEN 'far'
        ELSE 'near'
    END AS body_size
FROM index_ecgs i LEFT JOIN persons p USING (participant_id)
"""


def _choose_index_ecgs(
    connection: duckdb.DuckDBPyConnection, rules: FollowUpRules, sources: Mapping[str, Source]
) -> None:
    """Make index_ecgs, one a person or with "all" every eligible one, and the table cohort."""
    connection.execute(_COHORT)
    connection.execute(_PERIODS)
    connection.execute(
        _ELIGIBLE,
        {
            "has_starts": "history_starts" in sources,
            "has_periods": "observation_periods" in sources,
            "incident": list(rules.incident_sources),
            "min_history": rules.min_history_days,
            "min_encounters": rules.min_encounters,
        },
    )
    connection.execute(_picked(rules.index))
    connection.execute(_BODY_SIZE, {"max_days": rules.max_days_body_size})


def _picked(rule: IndexRule) -> str:
    where = "WHERE has_history AND has_encounters"
    if rule.date is not None:
        where += f" AND index_date {'<=' if rule.is_latest else '>='} DATE '{rule.date}'"
    if rule.max_days is not None:
        where += f" AND index_date >= DATE '{rule.date}' - {rule.max_days}"
    order = f"index_date {'DESC' if rule.is_latest else 'ASC'}, ecg_id"
    pick = f"QUALIFY row_number() OVER (PARTITION BY participant_id ORDER BY {order}) = 1"
    return f"CREATE TEMP TABLE index_ecgs AS SELECT * FROM eligible_ecgs {where} {'' if rule.kind == 'all' else pick}"


# Codes are compared once for each distinct one, not for each record. I48X is I48: hospital records
# fill codes of three signs up. A range holds both of its ends with everything below them.
_CODE_MATCHES: Final = """
CREATE TEMP TABLE code_matches AS
WITH distinct_codes AS (
    SELECT DISTINCT system, code,
        CASE WHEN system = 'icd10' AND regexp_full_match(code, '[A-Z][0-9][0-9A-Z]X')
            THEN left(code, 3) ELSE code END AS plain
    FROM events
)
SELECT l.list_row, l.outcome, d.system, d.code
FROM distinct_codes d JOIN code_list l ON l.system = d.system AND (
    (l.match = 'exact' AND d.plain = l.code)
    OR (l.match = 'prefix' AND starts_with(d.plain, l.code))
    OR (l.match = 'range' AND left(d.plain, length(l.code)) >= l.code
        AND left(d.plain, length(l.last_code)) <= l.last_code)
)
"""

_MATCHED: Final = """
CREATE TEMP TABLE matched AS
WITH hits AS (SELECT DISTINCT system, code, outcome FROM code_matches)
SELECT DISTINCT e.participant_id, h.outcome, e.source, e.reported_date,
    CASE WHEN e.date IN (SELECT date FROM placeholders) THEN NULL ELSE e.date END AS date,
    coalesce(e.date IN (SELECT date FROM placeholders), false) AS is_placeholder
FROM events e JOIN hits h ON h.system = e.system AND h.code = e.code
"""

_OF_OUTCOME: Final = """
WITH admin AS (
    SELECT region, min(end_date) AS admin_end FROM ends
    WHERE source IN (SELECT unnest($incident)) GROUP BY region
),
everybody AS (
    SELECT participant_id FROM persons UNION SELECT participant_id FROM all_ecgs
    UNION SELECT participant_id FROM event_people
),
last_seen AS (
    SELECT participant_id, max(date) + $grace::INTEGER AS last_date FROM encounters
    WHERE date NOT IN (SELECT date FROM placeholders) GROUP BY participant_id
),
base AS (
    SELECT b.participant_id, i.ecg_id, i.index_date, i.has_exposure, i.history_days,
        coalesce(i.body_size IN ('far', 'unknown_date'), false) AS body_size_far,
        $af AND coalesce(i.af_on_ecg, false) AS has_af_on_ecg, i.ecg_finding,
        p.participant_id IS NOT NULL AS in_cohort, p.birth_date, a.admin_end, p.death_date,
        least(CASE WHEN $is_hospital THEN s.last_date ELSE p.ltfu_date END, i.period_end) AS ltfu_date,
        $is_hospital AND s.last_date IS NULL AS never_seen
    FROM everybody b LEFT JOIN persons p USING (participant_id)
    LEFT JOIN index_ecgs i USING (participant_id) LEFT JOIN admin a ON a.region = p.region
    LEFT JOIN last_seen s USING (participant_id)
),
own AS (
    SELECT b.participant_id, b.ecg_id,
        bool_or(coalesce(m.date, m.reported_date) <= b.index_date AND (
            $window IS NULL OR coalesce(m.date, m.reported_date) >= b.index_date - $window::INTEGER
        )) AS prevalent,
        bool_or(m.date IS NULL) AS undated,
        bool_or(m.is_placeholder) AS placeholder_date,
        min(m.date) FILTER (m.source IN (SELECT unnest($incident)) AND m.date > b.index_date)
            AS event_date
    FROM base b JOIN matched m USING (participant_id)
    WHERE m.outcome = $outcome AND m.source IN (SELECT unnest($prevalent))
    GROUP BY b.participant_id, b.ecg_id
),
ended AS (
    SELECT b.*, o.* EXCLUDE (participant_id, ecg_id),
        least(b.admin_end, coalesce(b.death_date, b.admin_end), coalesce(b.ltfu_date, b.admin_end))
            AS end_date
    FROM base b LEFT JOIN own o
        ON o.participant_id = b.participant_id AND o.ecg_id IS NOT DISTINCT FROM b.ecg_id
),
happened AS (
    SELECT *, coalesce(event_date <= end_date, false) AS has_event,
        CASE WHEN event_date <= end_date THEN event_date ELSE end_date END AS exit_date
    FROM ended
)
SELECT participant_id, ecg_id, index_date, $outcome AS outcome,
    CASE
        WHEN NOT in_cohort THEN 'not_in_cohort'
        WHEN participant_id IN (SELECT participant_id FROM withdrawn) THEN 'withdrawn'
        WHEN participant_id IN (SELECT participant_id FROM excluded) THEN 'excluded_by_list'
        WHEN ecg_id IS NULL THEN 'no_usable_ecg'
        WHEN ecg_finding IS NOT NULL THEN 'excluded_by_ecg'
        WHEN NOT has_exposure OR (body_size_far AND $exposure_is_index) THEN 'missing_exposure'
        WHEN admin_end IS NULL THEN 'unknown_region'
        WHEN death_date < index_date THEN 'death_before_index'
        WHEN admin_end < index_date THEN 'index_after_admin_end'
        WHEN ltfu_date < index_date OR never_seen THEN 'lost_before_index'
        WHEN prevalent OR has_af_on_ecg THEN 'prevalent'
        WHEN undated THEN 'unknown_event_date'
        WHEN date_diff('day', index_date, exit_date) <= $latency THEN 'no_follow_up_time'
    END AS excluded,
    CASE WHEN has_event THEN 1 WHEN death_date = exit_date THEN 2 ELSE 0 END AS status,
    CASE WHEN has_event THEN 'outcome' WHEN death_date = exit_date THEN 'death'
        WHEN ltfu_date = exit_date THEN 'lost' ELSE 'administrative_end' END AS end_reason,
    date_diff('day', index_date, exit_date) - $latency AS time_days,
    exit_date, coalesce(placeholder_date, false) AS placeholder_date,
    coalesce(event_date > death_date, false) AS event_after_death,
    body_size_far, ecg_finding, history_days,
    date_diff('day', birth_date, index_date) + $latency AS entry_age_days,
    date_diff('day', birth_date, exit_date) AS exit_age_days
FROM happened ORDER BY participant_id, index_date, ecg_id
"""
_OF_ANALYSED: Final = ("status", "time_days", "entry_age_days", "exit_age_days")


def _of_outcome(
    connection: duckdb.DuckDBPyConnection, outcome: OutcomeRule, rules: FollowUpRules, *, is_hospital: bool
) -> pd.DataFrame:
    arguments = {
        "incident": list(outcome.incident_sources),
        "prevalent": sorted({*outcome.incident_sources, *outcome.prevalent_sources}),
        "outcome": outcome.name,
        "af": outcome.af_on_ecg,
        "window": rules.prevalent_window_days,
        "latency": rules.latency_days,
        "exposure_is_index": rules.exposure.endswith("_g_m2"),
        "is_hospital": is_hospital,
        "grace": rules.grace_days,
    }
    found = connection.execute(_OF_OUTCOME, arguments).df()
    out = found["excluded"].notna()
    for name in _OF_ANALYSED:
        found[name] = found[name].astype("Int64").mask(out)
    found["end_reason"] = found["end_reason"].mask(out)
    found["history_days"] = found["history_days"].astype("Int64")
    return found


def _flow(people: pd.DataFrame, outcomes: Sequence[str]) -> pd.DataFrame:
    rows = []
    for outcome in outcomes:
        own = people[people["outcome"] == outcome]
        reasons = own["excluded"].fillna("analysed")
        parts = [("all", own), *((r, own[reasons == r]) for r in [*Exclusion, "analysed"])]
        rows += [(outcome, str(reason), part["participant_id"].nunique(), len(part)) for reason, part in parts]
    return pd.DataFrame(rows, columns=["outcome", "reason", "n_people", "n_rows"])


# Each step keeps a part of the ECGs that the step before has kept.
_STEPS: Final = {
    "cohort": "all_ecgs",
    "usable_ecg": "eligible_ecgs",
    "min_history": "eligible_ecgs WHERE has_history",
    "min_encounters": "eligible_ecgs WHERE has_history AND has_encounters",
    "index_rule": "index_ecgs",
}
_BODY_SIZES: Final = """
SELECT body_size, count(DISTINCT participant_id) AS n_people, count(*) AS n_ecgs
FROM index_ecgs SEMI JOIN cohort USING (participant_id)
WHERE body_size <> 'not_looked_at' GROUP BY body_size
ORDER BY list_position(['near', 'far', 'unknown_date'], body_size)
"""
_USABLE: Final = "SELECT ecg_id FROM usable_ecgs SEMI JOIN cohort USING (participant_id) ORDER BY ecg_id"
_FOUND: Final = (
    "SELECT ecg_id, ecg_finding FROM usable_ecgs SEMI JOIN cohort USING (participant_id) "
    "WHERE ecg_finding IS NOT NULL ORDER BY ecg_id"
)
_RELEASES: Final = "SELECT DISTINCT release FROM ends WHERE release IS NOT NULL AND release <> '' ORDER BY 1"
_CODE_HITS: Final = """
WITH found AS (
    SELECT DISTINCT m.list_row, e.*
    FROM events e JOIN code_matches m ON m.system = e.system AND m.code = e.code
    SEMI JOIN cohort c ON c.participant_id = e.participant_id
)
SELECT l.list_row, count(f.list_row) AS n_records, count(DISTINCT f.participant_id) AS n_people
FROM code_list l LEFT JOIN found f ON f.list_row = l.list_row
GROUP BY l.list_row ORDER BY l.list_row
"""
_CODES_CAUGHT: Final = """
WITH hits AS (SELECT DISTINCT system, code, outcome FROM code_matches),
found AS (
    SELECT DISTINCT h.outcome, e.* FROM events e JOIN hits h ON h.system = e.system AND h.code = e.code
    SEMI JOIN cohort c ON c.participant_id = e.participant_id
)
SELECT outcome, system, code, count(*) AS n_records, count(DISTINCT participant_id) AS n_people
FROM found GROUP BY ALL ORDER BY min(outcome), system, code
"""
_NEVER_SEEN: Final = (
    "SELECT outcome FROM code_list ANTI JOIN code_matches USING (outcome) GROUP BY 1 ORDER BY min(list_row)"
)
_RECORDS: Final = """
WITH counted AS (SELECT system, code, count(*) AS n FROM events GROUP BY ALL)
SELECT system, sum(n)::BIGINT AS n_records, list(code ORDER BY n DESC, code)[:5] AS codes
FROM counted GROUP BY system ORDER BY n_records DESC, system
"""
_UNKNOWN_DATES: Final = {
    ("recorded_at", "placeholder"): "all_ecgs WHERE date_is_placeholder",
    ("recorded_at", "missing"): "all_ecgs WHERE recorded_at IS NULL",
    ("birth_date", "placeholder"): "persons WHERE birth_is_placeholder",
    ("birth_date", "missing"): "persons WHERE birth_date IS NULL AND NOT birth_is_placeholder",
    ("birth_date", "day_assumed"): "persons WHERE birth_day_assumed",
}


def _unknown_findings(connection: duckdb.DuckDBPyConnection, rules: FollowUpRules) -> pd.DataFrame:
    asked = [str(one) for one in EcgFinding if one in rules.exclude_ecg]
    where = "index_ecgs WHERE ecg_finding IS NULL AND list_contains(unknown_findings, '{}')"
    rows = [(one, *_counts(connection, where.format(one))) for one in asked]
    return pd.DataFrame(rows, columns=["finding", "n_people", "n_ecgs"])


def _eligibility(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    rows = [(step, *_counts(connection, source)) for step, source in _STEPS.items()]
    # Some people of the cohort may have no ECG at all.
    rows[0] = ("cohort", connection.execute("SELECT count(*) FROM cohort").fetchall()[0][0], rows[0][2])
    return pd.DataFrame(rows, columns=["step", "n_people", "n_ecgs"])


def _counts(connection: duckdb.DuckDBPyConnection, source: str) -> tuple[int, int]:
    """Return the people and the rows of the cohort in a table, or in some of its rows."""
    people, rows = connection.execute(
        f"SELECT count(DISTINCT participant_id), count(*) FROM (FROM {source}) SEMI JOIN cohort USING (participant_id)"
    ).fetchall()[0]
    return people, rows


def _code_hits(connection: duckdb.DuckDBPyConnection, code_list: pd.DataFrame) -> pd.DataFrame:
    found = connection.execute(_CODE_HITS).df()
    return code_list.reset_index(drop=True).assign(n_records=found["n_records"], n_people=found["n_people"])


_MATCHES: Final = """
WITH people AS (
    SELECT DISTINCT t.participant_id, p.participant_id IS NOT NULL AS is_known,
        regexp_replace(regexp_replace(t.participant_id, '[0-9]', '9', 'g'), '[A-Za-z]', 'A', 'g') AS form
    FROM {table} t LEFT JOIN persons p USING (participant_id)
)
SELECT '{called}' AS "table", count(*) AS n_people, count(*) FILTER (NOT is_known) AS n_unmatched,
    mode(form) FILTER (NOT is_known) AS form_unmatched, mode(form) FILTER (is_known) AS form_matched
FROM people
"""


def _matches(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    queries = [_MATCHES.format(table=table, called=called) for table, called in OF_PEOPLE.items()]
    return pd.concat([connection.execute(query).df() for query in queries], ignore_index=True)


def _unknown_dates(connection: duckdb.DuckDBPyConnection, rules: FollowUpRules) -> pd.DataFrame:
    rows = []
    for (column, why), source in _UNKNOWN_DATES.items():
        if column == "birth_date" and rules.time_scale != "attained_age":
            continue
        if why == "day_assumed" and not _has_rows(connection, source):
            continue
        rows.append((column, why, *_counts(connection, source)))
    return pd.DataFrame(rows, columns=["column", "why", "n_people", "n_rows"])


def _has_rows(connection: duckdb.DuckDBPyConnection, source: str) -> bool:
    return bool(connection.execute(f"SELECT count(*) FROM (FROM {source})").fetchall()[0][0])


def _assumed_births(connection: duckdb.DuckDBPyConnection, rules: FollowUpRules) -> list[str]:
    """Return a sentence where ages rest on births of which only month and year are known."""
    is_needed = rules.time_scale == "attained_age"
    if not (is_needed and _has_rows(connection, _UNKNOWN_DATES["birth_date", "day_assumed"])):
        return []
    return [
        "births of which only month and year are known are read as the 15th of the month, as the "
        "layout of the participants says; ages from them are off by up to half a month"
    ]


def _sources_without_records(connection: duckdb.DuckDBPyConnection, rules: FollowUpRules) -> list[str]:
    """Return a sentence for each source of the rules that no record has; it may be misspelt."""
    seen = [row[0] for row in connection.execute("SELECT DISTINCT source FROM events").fetchall()]
    there = ", ".join(sorted(filter(None, seen))) or "none"
    return [
        f"no record has the source {name!r} of {setting}, so that it finds nobody; is the name "
        f"written in the same way? Sources of the records: {there}"
        for setting in ("incident_sources", "prevalent_sources")
        for name in sorted({one for outcome in rules.outcomes for one in getattr(outcome, setting)})
        if name not in seen
    ]


def _unknown_regions(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return a sentence where no participant is of a region that has an end of records."""
    ours, ends = (
        {row[0] for row in connection.execute(f"SELECT DISTINCT region FROM {table}").fetchall()} - {None, ""}
        for table in ("persons", "ends")
    )
    if not ours or ours & ends:
        return []
    return [
        "no participant is of a region with an end of records, so that nobody is followed; are "
        "regions written in the same way? Participants have "
        f"{min(ours)!r}, the ends {min(ends, default='')!r}"
    ]


def _deaths_of_others(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return a sentence where a table of deaths has rows, and none of a participant."""
    if ("deaths",) not in connection.execute("SHOW TABLES").fetchall():
        return []
    if not _has_rows(connection, "deaths") or _has_rows(connection, "deaths SEMI JOIN persons USING (participant_id)"):
        return []
    return [
        "no participant is in the table of deaths, so that nobody dies or is lost; are identifiers "
        "written in the same way?"
    ]
