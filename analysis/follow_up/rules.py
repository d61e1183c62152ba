"""The rules of follow-up: index ECG, outcomes, exclusions. docs/follow_up.md explains them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_LATEST_ON_OR_BEFORE: Final = ("last_on_or_before", "nearest_on_or_before")
_KINDS: Final = ("first", *_LATEST_ON_OR_BEFORE, "all")
_HISTORY: Final = ("min_history_days", "min_encounters", "grace_days")
_TIME_SCALES: Final = ("follow_up", "attained_age")


class Exclusion(StrEnum):
    """Why a person is not followed for an outcome.

    The list is closed. The first reason that holds is counted; the last three are about the codes
    of the outcome.
    """

    NOT_IN_COHORT = "not_in_cohort"
    WITHDRAWN = "withdrawn"
    EXCLUDED_BY_LIST = "excluded_by_list"
    NO_USABLE_ECG = "no_usable_ecg"
    EXCLUDED_BY_ECG = "excluded_by_ecg"
    MISSING_EXPOSURE = "missing_exposure"
    UNKNOWN_REGION = "unknown_region"
    DEATH_BEFORE_INDEX = "death_before_index"
    INDEX_AFTER_ADMIN_END = "index_after_admin_end"
    LOST_BEFORE_INDEX = "lost_before_index"
    PREVALENT = "prevalent"
    UNKNOWN_EVENT_DATE = "unknown_event_date"
    NO_FOLLOW_UP_TIME = "no_follow_up_time"


class EcgFinding(StrEnum):
    """What leaves a person out if the index ECG shows it; the first that holds is counted."""

    PACED = "paced"
    LBBB = "lbbb"
    RBBB = "rbbb"
    OTHER_BLOCK = "other_block"
    QRS_120 = "qrs_120"


WIDE_QRS_MS: Final = 120.0
"""A QRS of this duration or more is wide (`EcgFinding.QRS_120`).

Surawicz B et al., AHA/ACCF/HRS recommendations for the standardization and interpretation of the
electrocardiogram, part III, J Am Coll Cardiol 2009;53:976-981: complete bundle branch block in
adults.
"""


@dataclass(frozen=True, slots=True)
class IndexRule:
    """Which ECG opens follow-up.

    A plain last ECG, or the ECG nearest to a date on either side, uses the future: neither can be
    chosen.
    """

    # "first" (on or after `date`, if given), "last_on_or_before" a `date`, "nearest_on_or_before"
    # a `date` within `max_days`, or "all": each usable ECG (on or after `date`, if given) opens a
    # follow-up of its own.
    kind: str = "first"
    date: dt.date | None = None  # bound of the kinds that have one
    max_days: int | None = None  # the most days before the date; "nearest_on_or_before" needs it

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
    """What counts as an outcome."""

    name: str  # in the `outcome` column of the code list
    incident_sources: tuple[str, ...]  # sources whose dates are events of follow-up
    prevalent_sources: tuple[str, ...] = ()  # further sources, which count for disease at the index only
    # Atrial fibrillation that the device stated on the index ECG (`af_on_ecg` of the predictions)
    # counts as prevalent.
    af_on_ecg: bool = False

    def __post_init__(self) -> None:
        if not self.incident_sources:
            raise ValueError(f"outcome {self.name!r} has no incident source, expected one or more")


@dataclass(frozen=True, slots=True)
class FollowUpRules:
    """Everything that decides a follow-up table."""

    outcomes: tuple[OutcomeRule, ...]  # one or more
    index: IndexRule = IndexRule()  # which ECG opens follow-up
    exposure: str = "lvm_pred_g"  # column of the predictions that must be known on the index ECG
    exposure_is_yes_no: bool = False  # and not a number
    exclude_flags: tuple[str, ...] = ()  # quality flags that make an ECG unusable
    # Findings for which a person leaves after the index ECG was chosen: no other ECG takes its
    # place. People whose finding is unknown stay.
    exclude_ecg: tuple[EcgFinding, ...] = ()
    prevalent_window_days: int | None = None  # how far back an outcome counts as prevalent; None for all history
    # Landmark L: events, deaths and ends up to L days drop the person, and the clock starts at L.
    latency_days: int = 0
    max_days_body_size: int | None = None  # how far height and weight may be from the index ECG; None: any distance
    min_history_days: int = 0  # records must begin this long before an ECG that opens follow-up
    min_encounters: int = 0  # days with an encounter before an ECG that opens follow-up
    grace_days: int = 0  # in hospital cohorts, follow-up ends this long after the last encounter
    time_scale: str = "follow_up"  # "follow_up", or "attained_age": then birth dates are read and must be exact

    def __post_init__(self) -> None:
        names = [outcome.name for outcome in self.outcomes]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"outcomes are {names}, expected one or more, each once")
        if self.time_scale not in _TIME_SCALES:
            raise ValueError(f"time_scale is {self.time_scale!r}, expected {_TIME_SCALES}")
        for name in ("latency_days", "prevalent_window_days", "max_days_body_size", *_HISTORY):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} is {value}, expected 0 or more")

    @property
    def incident_sources(self) -> tuple[str, ...]:
        """The incident sources of all outcomes, each once."""
        return tuple(sorted({one for outcome in self.outcomes for one in outcome.incident_sources}))
