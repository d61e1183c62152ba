"""From ECGs and coded records to follow-up: index ECG, exclusions, time and status, by outcome.

What each rule means is written in docs/follow_up.md. DuckDB does the work, so that ten million
records take seconds; the order of rows in any input does not matter.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import duckdb
import pandas as pd

from analysis.code_lists import code_key, system_key
from analysis.columns import TableRefused
from analysis.record_tables import RecordTables, read_tables
from lvm_core.unknowns import PLACEHOLDER_DATES


class Exclusion(StrEnum):
    """Why somebody is not followed for an outcome, in the order in which reasons are looked for.

    The list is closed; the first that holds is the one that is counted. The last three are of one
    outcome's codes.
    """

    NOT_IN_COHORT = "not_in_cohort"
    WITHDRAWN = "withdrawn"
    EXCLUDED_BY_LIST = "excluded_by_list"
    NO_USABLE_ECG = "no_usable_ecg"
    MISSING_EXPOSURE = "missing_exposure"
    UNKNOWN_REGION = "unknown_region"
    DEATH_BEFORE_INDEX = "death_before_index"
    INDEX_AFTER_ADMIN_END = "index_after_admin_end"
    LOST_BEFORE_INDEX = "lost_before_index"
    PREVALENT = "prevalent"
    UNKNOWN_EVENT_DATE = "unknown_event_date"
    NO_FOLLOW_UP_TIME = "no_follow_up_time"


@dataclass(frozen=True, slots=True)
class IndexRule:
    """Which ECG opens follow-up.

    A plain last ECG, or the nearest to a date on either side, uses the future and cannot be asked
    for.

    Attributes:
        kind: "first" (on or after `date`, if given), "last_on_or_before" a `date`, or "all": each
            usable ECG opens a follow-up of its own.
        date: bound of the kinds that have one.
        max_days: for "last_on_or_before": how long before the date at most.
    """

    kind: str = "first"
    date: dt.date | None = None
    max_days: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("first", "last_on_or_before", "all"):
            raise ValueError(
                f"index ECG is {self.kind!r}, expected first, last_on_or_before or all; a plain "
                "last or a nearest ECG uses the future"
            )
        if self.kind == "last_on_or_before" and self.date is None:
            raise ValueError("index ECG last_on_or_before needs a date")
        if self.max_days is not None and (self.kind != "last_on_or_before" or self.max_days < 0):
            raise ValueError(
                f"max_days is {self.max_days} for {self.kind}, expected 0 or more days before the "
                "date of last_on_or_before"
            )


@dataclass(frozen=True, slots=True)
class OutcomeRule:
    """What counts as an outcome.

    Attributes:
        name: in the `outcome` column of the code list.
        incident_sources: sources whose dates open an event during follow-up.
        prevalent_sources: further sources that count for disease at the index only.
    """

    name: str
    incident_sources: tuple[str, ...]
    prevalent_sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.incident_sources:
            raise ValueError(f"outcome {self.name!r} has no incident source, expected one or more")


@dataclass(frozen=True, slots=True)
class FollowUpRules:
    """Everything that decides a follow-up table.

    Attributes:
        outcomes: one or more.
        index: which ECG opens follow-up.
        exposure: column of the predictions that must be known on the index ECG.
        exclude_flags: quality flags with which an ECG is not usable.
        prevalent_window_days: how far back an outcome counts as prevalent; None for all history.
        latency_days: landmark L: events, deaths and ends up to L days drop the person, and the
            clock starts at L.
    """

    outcomes: tuple[OutcomeRule, ...]
    index: IndexRule = IndexRule()
    exposure: str = "lvm_pred_g"
    exclude_flags: tuple[str, ...] = ()
    prevalent_window_days: int | None = None
    latency_days: int = 0

    def __post_init__(self) -> None:
        names = [outcome.name for outcome in self.outcomes]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"outcomes are {names}, expected one or more, each once")
        if self.latency_days < 0:
            raise ValueError(f"latency_days is {self.latency_days}, expected 0 or more")
        if self.prevalent_window_days is not None and self.prevalent_window_days < 0:
            raise ValueError(
                f"prevalent_window_days is {self.prevalent_window_days}, expected 0 or more"
            )


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Follow-up of each person and outcome.

    Attributes:
        people: one row a person (with "all" a person and ECG) and outcome: participant_id, ecg_id,
            index_date, outcome, excluded (a reason or null), status (0 censored, 1 outcome, 2
            death), time_days from the clock's start, exit_date, placeholder_date, event_after_death
            (the record is not counted, death stands).
        flow: outcome, reason ("all", each exclusion in order, "analysed"), n_people, n_rows; the
            people and rows of the exclusions and of "analysed" add up to "all".
    """

    people: pd.DataFrame
    flow: pd.DataFrame


def build_follow_up(
    *,
    predictions: pd.DataFrame | Path,
    persons: pd.DataFrame | Path,
    events: pd.DataFrame | Path,
    ends: pd.DataFrame | Path,
    code_list: pd.DataFrame,
    rules: FollowUpRules,
    deaths: pd.DataFrame | Path | None = None,
    withdrawn: Sequence[str] = (),
    excluded: Sequence[str] = (),
    date_formats: Mapping[str, str] | None = None,
    columns: Mapping[str, Mapping[str, str]] | None = None,
) -> FollowUp:
    """Build the follow-up table of a study.

    Args:
        predictions: participant_id, ecg_id, recorded_at, lvm_pred_g, the exposure, and
            quality_flags where they are excluded. A table, or a CSV or Parquet file.
        persons: participant_id, region, and death_date and ltfu_date unless there are `deaths`.
        events: participant_id, date, code, system, source, and reported_date where an undated
            self-report has the date at which it was made.
        ends: region, source, end_date: the last day of records.
        code_list: of `read_code_list`.
        rules: index ECG, outcomes, latency.
        deaths: participant_id, death_date, ltfu_date of those who have one.
        withdrawn: people who withdrew.
        excluded: people to leave out, such as those whom the model was trained on.
        date_formats: for each table whose dates are not ISO their one strptime format.
        columns: for each table the names of its own that differ, as {"region": "nation"}.

    Returns:
        Follow-up of each person and outcome, and the flow.

    Raises:
        TableRefused: a column is missing, a date is of another format, a person is there twice,
            a source that an outcome needs has no end of records.
        ValueError: an outcome is not in the code list.

    Source:
        The rules are those of the study; none of them is a formula of a paper.
    """
    known = set(code_list["outcome"])
    unknown = [outcome.name for outcome in rules.outcomes if outcome.name not in known]
    if unknown:
        raise ValueError(
            f"outcome {unknown[0]!r} is not in the code list, which has {', '.join(sorted(known))}"
        )
    with duckdb.connect() as connection:
        tables = RecordTables(
            predictions, persons, events, ends, deaths, date_formats or {}, columns or {}
        )
        read_tables(connection, tables, rules.exposure, rules.exclude_flags)
        _register_lists(connection, code_list, withdrawn, excluded)
        _refuse_missing_ends(connection, rules)
        connection.execute(_index_sql(rules.index))
        connection.execute(_MATCHED)
        parts = [_of_outcome(connection, outcome, rules) for outcome in rules.outcomes]
        people = pd.concat(parts, ignore_index=True)
    return FollowUp(people, _flow(people, [outcome.name for outcome in rules.outcomes]))


def _refuse_missing_ends(connection: duckdb.DuckDBPyConnection, rules: FollowUpRules) -> None:
    """Refuse a region without an end of records in a source that an outcome needs."""
    needed = sorted({source for outcome in rules.outcomes for source in outcome.incident_sources})
    lacking = connection.execute(
        "SELECT r.region, n.source FROM (SELECT DISTINCT region FROM ends) r "
        "CROSS JOIN (SELECT unnest($needed) AS source) n "
        "ANTI JOIN ends e ON e.region = r.region AND e.source = n.source ORDER BY ALL",
        {"needed": needed},
    ).fetchall()
    if lacking:
        region, source = lacking[0]
        raise TableRefused(
            f"table ends has no last day of records of source {source!r} in region {region!r} (and "
            f"{len(lacking) - 1} more), expected one for each region and incident source"
        )


def _register_lists(
    connection: duckdb.DuckDBPyConnection,
    code_list: pd.DataFrame,
    withdrawn: Sequence[str],
    excluded: Sequence[str],
) -> None:
    codes = code_list.assign(
        code=code_key(code_list["code"]), system=system_key(code_list["system"])
    )
    connection.register("code_list", codes[["code", "system", "match", "outcome"]])
    for name, ids in (("withdrawn", withdrawn), ("excluded", excluded)):
        frame = pd.DataFrame({"participant_id": pd.Series(list(ids), dtype=str)}).drop_duplicates()
        connection.register(name, frame)
    placeholders = pd.DataFrame({"date": pd.to_datetime(list(PLACEHOLDER_DATES))})
    connection.register("placeholders", placeholders)


def _index_sql(rule: IndexRule) -> str:
    """The index ECGs: one a person, or with "all" every usable one."""
    bounds = {"first": ">=", "all": ">=", "last_on_or_before": "<="}
    where = f"WHERE index_date {bounds[rule.kind]} DATE '{rule.date}'" if rule.date else ""
    if rule.max_days is not None:
        where += f" AND index_date >= DATE '{rule.date}' - {rule.max_days}"
    pick = {
        "first": "QUALIFY row_number() OVER (PARTITION BY participant_id "
        "ORDER BY index_date, ecg_id) = 1",
        "last_on_or_before": "QUALIFY row_number() OVER (PARTITION BY participant_id "
        "ORDER BY index_date DESC, ecg_id) = 1",
        "all": "",
    }[rule.kind]
    return f"CREATE TEMP TABLE index_ecgs AS SELECT * FROM usable_ecgs {where} {pick}"


# Codes are compared once for each distinct one, not for each record.
_MATCHED: Final = """
CREATE TEMP TABLE matched AS
WITH distinct_codes AS (SELECT DISTINCT system, code FROM events),
hits AS (
    SELECT DISTINCT d.system, d.code, l.outcome
    FROM distinct_codes d JOIN code_list l ON l.system = d.system AND (
        (l.match = 'exact' AND d.code = l.code)
        OR (l.match = 'prefix' AND starts_with(d.code, l.code))
    )
)
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
base AS (
    SELECT b.participant_id, i.ecg_id, i.index_date, i.has_exposure,
        p.participant_id IS NOT NULL AS in_cohort, a.admin_end, p.death_date, p.ltfu_date
    FROM everybody b LEFT JOIN persons p USING (participant_id)
    LEFT JOIN index_ecgs i USING (participant_id) LEFT JOIN admin a ON a.region = p.region
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
        WHEN NOT has_exposure THEN 'missing_exposure'
        WHEN admin_end IS NULL THEN 'unknown_region'
        WHEN death_date < index_date THEN 'death_before_index'
        WHEN admin_end < index_date THEN 'index_after_admin_end'
        WHEN ltfu_date < index_date THEN 'lost_before_index'
        WHEN prevalent THEN 'prevalent'
        WHEN undated THEN 'unknown_event_date'
        WHEN date_diff('day', index_date, exit_date) <= $latency THEN 'no_follow_up_time'
    END AS excluded,
    CASE WHEN has_event THEN 1 WHEN death_date = exit_date THEN 2 ELSE 0 END AS status,
    date_diff('day', index_date, exit_date) - $latency AS time_days,
    exit_date, coalesce(placeholder_date, false) AS placeholder_date,
    coalesce(event_date > death_date, false) AS event_after_death
FROM happened ORDER BY participant_id, index_date, ecg_id
"""


def _of_outcome(
    connection: duckdb.DuckDBPyConnection, outcome: OutcomeRule, rules: FollowUpRules
) -> pd.DataFrame:
    prevalent = sorted({*outcome.incident_sources, *outcome.prevalent_sources})
    arguments = {
        "incident": list(outcome.incident_sources),
        "prevalent": prevalent,
        "outcome": outcome.name,
        "window": rules.prevalent_window_days,
        "latency": rules.latency_days,
    }
    found = connection.execute(_OF_OUTCOME, arguments).df()
    out = found["excluded"].notna()
    found["status"] = found["status"].astype("Int64").mask(out)
    found["time_days"] = found["time_days"].astype("Int64").mask(out)
    return found


def _flow(people: pd.DataFrame, outcomes: Sequence[str]) -> pd.DataFrame:
    rows = []
    for outcome in outcomes:
        own = people[people["outcome"] == outcome]
        reasons = own["excluded"].fillna("analysed")
        parts = [("all", own), *((r, own[reasons == r]) for r in [*Exclusion, "analysed"])]
        rows += [
            (outcome, str(reason), part["participant_id"].nunique(), len(part))
            for reason, part in parts
        ]
    return pd.DataFrame(rows, columns=["outcome", "reason", "n_people", "n_rows"])
