"""Index ECG, exclusions and event times, from dated records.

`build_follow_up` does the whole; `event_records` reads coded records in the forms of cohorts. For
the tables beside the records: `loading` (one table in DuckDB) and `people` (participants).
"""

from analysis.follow_up.build import FollowUp, build_follow_up
from analysis.follow_up.event_formats import event_records
from analysis.follow_up.rules import EcgFinding, Exclusion, FollowUpRules, IndexRule, OutcomeRule

__all__ = [
    "EcgFinding",
    "Exclusion",
    "FollowUp",
    "FollowUpRules",
    "IndexRule",
    "OutcomeRule",
    "build_follow_up",
    "event_records",
]
