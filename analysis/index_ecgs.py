"""Which ECG opens a person's follow-up, and what is known of the person on that day."""

from __future__ import annotations

from typing import Final

import duckdb
import pandas as pd

from analysis.followup_rules import FollowUpRules, IndexRule

# Without a table of first days, records begin with the first known date in an incident source or
# among the encounters; what somebody remembers (self-report) is no observed history.
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
SELECT u.*, coalesce(v.n_encounters, 0) AS n_encounters,
    CASE WHEN s.start_date IS NOT NULL
        THEN greatest(date_diff('day', s.start_date, u.index_date), 0) END AS history_days,
    $min_history = 0 OR coalesce(history_days >= $min_history, false) AS has_history,
    coalesce(v.n_encounters, 0) >= $min_encounters AS has_encounters
FROM usable_ecgs u LEFT JOIN starts s USING (participant_id) LEFT JOIN visits v USING (ecg_id)
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

# Each step keeps part of what the one before it has kept.
_STEPS: Final = {
    "cohort": "all_ecgs",
    "usable_ecg": "eligible_ecgs",
    "min_history": "(FROM eligible_ecgs WHERE has_history)",
    "min_encounters": "(FROM eligible_ecgs WHERE has_history AND has_encounters)",
    "index_rule": "index_ecgs",
}


def choose_index_ecgs(connection: duckdb.DuckDBPyConnection, rules: FollowUpRules, *, has_starts: bool) -> None:
    """Make index_ecgs, one a person or with "all" every eligible one, and the table cohort.

    Args:
        connection: with the tables of `analysis.record_tables`, withdrawn and excluded.
        rules: of the study.
        has_starts: a table of the first days of records was given.
    """
    connection.execute(_COHORT)
    connection.execute(
        _ELIGIBLE,
        {
            "has_starts": has_starts,
            "incident": list(rules.incident_sources),
            "min_history": rules.min_history_days,
            "min_encounters": rules.min_encounters,
        },
    )
    connection.execute(_picked(rules.index))
    connection.execute(_BODY_SIZE, {"max_days": rules.max_days_body_size})


def eligibility(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """Return how many people and ECGs are left after each step towards the index ECG.

    Returns:
        step ("cohort": who is neither withdrawn nor excluded, "usable_ecg", "min_history",
        "min_encounters", "index_rule"), n_people, n_ecgs. Who is lost between the first and the
        last row is excluded as `no_usable_ecg`.
    """
    counts = [
        f"SELECT '{step}' AS step, count(DISTINCT participant_id) AS n_people, count(*) AS n_ecgs "
        f"FROM {source} SEMI JOIN cohort USING (participant_id)"
        for step, source in _STEPS.items()
    ]
    table = connection.execute(" UNION ALL ".join(counts)).df()
    everybody = connection.execute("SELECT count(*) FROM cohort").fetchone()
    assert everybody is not None
    # Some of the cohort may have no ECG at all.
    table.loc[table["step"] == "cohort", "n_people"] = everybody[0]
    order = {step: place for place, step in enumerate(_STEPS)}
    return table.sort_values("step", key=lambda steps: steps.map(order), ignore_index=True)


def body_sizes(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """Return how many index ECGs have height and weight near enough.

    Returns:
        body_size ("near", "far", "unknown_date"), n_people, n_ecgs, of the cohort; no rows where it
        is not looked at.
    """
    return connection.execute(
        "SELECT body_size, count(DISTINCT participant_id) AS n_people, count(*) AS n_ecgs "
        "FROM index_ecgs SEMI JOIN cohort USING (participant_id) "
        "WHERE body_size <> 'not_looked_at' GROUP BY body_size "
        "ORDER BY list_position(['near', 'far', 'unknown_date'], body_size)"
    ).df()


def _picked(rule: IndexRule) -> str:
    where = "WHERE has_history AND has_encounters"
    if rule.date is not None:
        where += f" AND index_date {'<=' if rule.is_latest else '>='} DATE '{rule.date}'"
    if rule.max_days is not None:
        where += f" AND index_date >= DATE '{rule.date}' - {rule.max_days}"
    order = f"index_date {'DESC' if rule.is_latest else 'ASC'}, ecg_id"
    pick = f"QUALIFY row_number() OVER (PARTITION BY participant_id ORDER BY {order}) = 1"
    return f"CREATE TEMP TABLE index_ecgs AS SELECT * FROM eligible_ecgs {where} {'' if rule.kind == 'all' else pick}"
