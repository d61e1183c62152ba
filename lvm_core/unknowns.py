"""Values that stand for "unknown" in the tables of cohorts."""

from __future__ import annotations

import datetime as dt
from typing import Final

UNKNOWN_TEXTS: Final = frozenset({"", "na", "n/a", "nan", "null", "none", "unknown", "missing"})
"""In lower case and without spaces around."""

# UK Biobank's special dates, data-coding 272 and 819: they stand for "unknown" here.
PLACEHOLDER_DATES: Final = tuple(
    dt.date.fromisoformat(text)
    for text in (
        "1900-01-01", "1901-01-01", "1902-02-02", "1903-03-03", "1909-09-09", "2037-07-07",
    )
)  # fmt: skip
