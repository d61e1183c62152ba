"""Names in a study file: of columns that tables may map, of outcomes, of covariates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from lvm_core import schemas
from lvm_core.tables.layout import OF_STUDIES, READ

FILE_NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,59}"
"""What the name of an outcome must be, so that files can be called after it anywhere."""

PREDICTED: Final = frozenset(
    column.name for table in (schemas.PREDICTIONS, schemas.RECALIBRATED) for column in table.columns
)
"""Columns of the predictions."""

_PERSON: Final = frozenset({"participant_id"})
COLUMNS: Final[Mapping[str, frozenset[str]]] = {
    "predictions": PREDICTED | {"af_on_ecg"},
    "persons": frozenset((*READ, *OF_STUDIES)),
    "events": _PERSON | {"date", "code", "system", "source", "reported_date"},
    "ends": frozenset({"region", "source", "end_date", "release"}),
    "deaths": _PERSON | {"death_date", "ltfu_date"},
    "cmr": _PERSON | {"cmr_date", "lvm_cmr_g"},
    "encounters": _PERSON | {"date"},
    "history_starts": _PERSON | {"start_date"},
}
"""What is read of each table, by our names; participants have their covariates besides."""

# Columns that the analysis adds to the rows of people, whose names no covariate may have.
_MADE: Final = frozenset(
    {
        "exposure",
        "mass_g",
        "index_g_m2",
        "lvh",
        "lvh_group",
        "quartile",
        "quartile_median",
        "exposure_in_sd_of_sex",
        "age_band",
        "bmi_class",
        "lvm_ecg_only_g",
        "lvmi_cmr_g_m2",
        "household_id",
        "person",
        "group",
        "index_date",
        "eligible",
        "history_days",
        "body_size_far",
        "entry_age_days",
        "exit_age_days",
        "time_days",
        "years",
        "exit_date",
        "outcome",
        "excluded",
        "status",
        "status_code",
        "event",
        "end_reason",
        "placeholder_date",
        "event_after_death",
        "af_on_ecg",
        "imaged",
    }
)
_NUMBERED: Final = re.compile(r"(product|level)_\d+")


def is_taken(name: str) -> bool:
    """Return whether a covariate of that name would meet a column that is there already."""
    return name in PREDICTED | _MADE or _NUMBERED.fullmatch(name) is not None
