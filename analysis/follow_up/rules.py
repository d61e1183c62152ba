"""The rules of follow-up as data: index ECG, outcomes, exclusions. What they mean: follow_up.md."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import duckdb
import pandas as pd

from analysis.follow_up.people import refuse_strangers

_LATEST_ON_OR_BEFORE: Final = ("last_on_or_before", "nearest_on_or_before")
_KINDS: Final = ("first", *_LATEST_ON_OR_BEFORE, "all")
_TIME_SCALES: Final = ("follow_up", "attained_age")


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
        kind: "first" (on or after `date`, if given), "last_on_or_before" a `date`,
            "nearest_on_or_before" a `date` within `max_days`, or "all": each usable ECG (on or
            after `date`, if given) opens a follow-up of its own.
        date: bound of the kinds that have one.
        max_days: how long before the date at most; "nearest_on_or_before" needs it.
    """

    kind: str = "first"
    date: dt.date | None = None
    max_days: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(
                f"index ECG is {self.kind!r}, expected {', '.join(_KINDS[:-1])} or all; a plain "
                "last ECG or the nearest on either side of a date uses the future"
            )
        if self.is_latest and self.date is None:
            raise ValueError(f"index ECG {self.kind} needs a date")
        if self.kind == "nearest_on_or_before" and self.max_days is None:
            raise ValueError(
                "index ECG nearest_on_or_before needs max_days, how long before the date at most; "
                "without such a limit ask for last_on_or_before"
            )
        if self.max_days is not None and (not self.is_latest or self.max_days < 0):
            raise ValueError(
                f"max_days is {self.max_days} for {self.kind}, expected 0 or more days before the "
                f"date of {' or '.join(_LATEST_ON_OR_BEFORE)}"
            )

    @property
    def is_latest(self) -> bool:
        """Whether the latest ECG on or before the date is taken, and not the earliest."""
        return self.kind in _LATEST_ON_OR_BEFORE


@dataclass(frozen=True, slots=True)
class OutcomeRule:
    """What counts as an outcome.

    Attributes:
        name: in the `outcome` column of the code list.
        incident_sources: sources whose dates open an event during follow-up.
        prevalent_sources: further sources that count for disease at the index only.
        af_on_ecg: atrial fibrillation that the device stated on the index ECG (`af_on_ecg` of the
            predictions) counts as prevalent.
    """

    name: str
    incident_sources: tuple[str, ...]
    prevalent_sources: tuple[str, ...] = ()
    af_on_ecg: bool = False

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
        max_days_body_size: how far height and weight may be from the index ECG; None: not looked
            at.
        min_history_days: records must reach back this far before an ECG for it to be the index.
        min_encounters: days with an encounter that must come before an ECG for it to be the index.
        grace_days: of hospital cohorts: follow-up ends this long after the last encounter.
        time_scale: "follow_up", or "attained_age": then birth dates are read and must be exact.
    """

    outcomes: tuple[OutcomeRule, ...]
    index: IndexRule = IndexRule()
    exposure: str = "lvm_pred_g"
    exclude_flags: tuple[str, ...] = ()
    prevalent_window_days: int | None = None
    latency_days: int = 0
    max_days_body_size: int | None = None
    min_history_days: int = 0
    min_encounters: int = 0
    grace_days: int = 0
    time_scale: str = "follow_up"

    def __post_init__(self) -> None:
        names = [outcome.name for outcome in self.outcomes]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"outcomes are {names}, expected one or more, each once")
        if self.time_scale not in _TIME_SCALES:
            raise ValueError(f"time_scale is {self.time_scale!r}, expected {_TIME_SCALES}")
        numbers = {
            "latency_days": self.latency_days,
            "prevalent_window_days": self.prevalent_window_days,
            "max_days_body_size": self.max_days_body_size,
            "min_history_days": self.min_history_days,
            "min_encounters": self.min_encounters,
            "grace_days": self.grace_days,
        }
        for name, value in numbers.items():
            if value is not None and value < 0:
                raise ValueError(f"{name} is {value}, expected 0 or more")

    @property
    def exposure_is_index(self) -> bool:
        """Whether the exposure is a mass index (g/m2), which needs height and weight."""
        return self.exposure.endswith("_g_m2")

    @property
    def incident_sources(self) -> tuple[str, ...]:
        """The incident sources of all outcomes, each once."""
        return tuple(sorted({one for outcome in self.outcomes for one in outcome.incident_sources}))


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
