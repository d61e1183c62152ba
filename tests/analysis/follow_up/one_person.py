"""Follow-up of one person, built from what a case changes; for cases written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.follow_up import FollowUp, FollowUpRules, OutcomeRule, build_follow_up
from analysis.follow_up.people import people_of
from lvm_core.tables import ParticipantsLayout

CODES = pd.DataFrame(
    [
        ("I48", "icd10", "prefix", "af"),
        ("427.3", "ICD-9", "prefix", "af"),
        ("I21", "icd10", "prefix", "mi"),
        ("1471", "self-report", "exact", "af"),
    ],
    columns=["code", "system", "match", "outcome"],
)
AF = OutcomeRule("af", ("hes", "death"), ("self",))
RULES = FollowUpRules((AF,))
INDEX = "2016-01-01"
END = "2022-10-31"


def build(
    *,
    events: Sequence[tuple[Any, ...]] = (),
    rules: FollowUpRules = RULES,
    ecgs: list[dict[str, Any]] | None = None,
    layout: ParticipantsLayout | None = None,
    **changes: Any,
) -> FollowUp:
    """One person, a, with one ECG on 2016-01-01, unless said otherwise."""
    person = {"participant_id": "a", "region": "England", "death_date": None, "ltfu_date": None}
    ecg = {"participant_id": "a", "ecg_id": "1", "recorded_at": f"{INDEX}T23:59:59", "lvm_pred_g": 100.0}
    ends = [("England", source, END) for source in ("hes", "death")]
    columns = ["participant_id", "date", "code", "system", "source", "reported_date"]
    records = pd.DataFrame([(*e, None) if len(e) == 5 else e for e in events], columns=columns)
    persons = pd.DataFrame([person | changes.pop("person", {})]).astype(object)
    return build_follow_up(
        predictions=pd.DataFrame([ecg | row for row in ecgs or [{}]]),
        persons=people_of(persons, layout or ParticipantsLayout()),
        events=records.astype(object),
        ends=changes.pop("ends", pd.DataFrame(ends, columns=["region", "source", "end_date"])),
        code_list=changes.pop("code_list", CODES),
        rules=rules,
        **changes,
    )


def the_row(**arguments: Any) -> pd.Series:
    """The only row of `build`."""
    people = build(**arguments).people
    assert len(people) == 1
    return people.iloc[0]


def hes(date: str | None, code: str = "I48", system: str = "icd10", source: str = "hes") -> tuple[Any, ...]:
    """A record of person a."""
    return ("a", date, code, system, source)
