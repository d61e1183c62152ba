"""What a study takes from an extract: people and records, in the form of follow-up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from analysis.follow_up import FollowUp
from analysis.follow_up.crosswalk import Crosswalk, read_crosswalk
from analysis.follow_up.ehr import PATIENTS, ehr_tables
from analysis.follow_up.extracts import CohortTables, Extract
from analysis.follow_up.omop import omop_people, omop_tables, with_descendants
from analysis.follow_up.ukb_rap import PARTICIPANT, ukb_rap_tables
from analysis.study.settings import Study
from lvm_core.errors import UsageError
from lvm_core.tables.codes import DESCENDANTS

_MOST_UNMATCHED: Final = 0.2
"""Largest share of people with ECGs who may be no participants; the project's own limit. Records of
everybody beside a part of the participants are common; ECGs are scored of people to study."""
_MANY: Final = 0.5


def open_extract(study: Study) -> Extract | None:
    """Return the extract of a study; None where it has none."""
    return None if study.inputs.extract is None else Extract(study.inputs.extract)


def people_source(study: Study, extract: Extract | None) -> pd.DataFrame | Path | Mapping[str, pd.DataFrame]:
    """Return where the participants are: their own table, or those of the extract."""
    if study.inputs.participants is not None:
        return study.inputs.participants
    assert extract is not None, "settings ask for participants or an extract"
    if study.shape == "omop":
        return omop_people(extract)
    return extract.require(*(PARTICIPANT if study.shape == "ukb-rap" else PATIENTS))


def expanded_codes(codes: pd.DataFrame, study: Study, extract: Extract | None) -> pd.DataFrame:
    """Return the code list with the descendants of its concepts; they are refused without OMOP."""
    if not (codes["match"] == DESCENDANTS).any():
        return codes
    if extract is None or study.shape != "omop":
        raise UsageError(
            "the code list has rows with the match descendants, which need the tables of shape omop; expected exact "
            "codes, or `shape: omop` with inputs.extract"
        )
    return with_descendants(codes, extract)


def cohort_tables(study: Study, extract: Extract | None, codes: pd.DataFrame) -> CohortTables | None:
    """Return the records of the extract of a study; None where all its tables are named."""
    if extract is None:
        return None
    if study.shape == "ukb-rap":
        return ukb_rap_tables(extract)
    if study.shape == "ehr":
        return ehr_tables(extract, study.time_zone)
    return omop_tables(extract, frozenset(codes["system"]))


def crosswalk_of(study: Study, cohort: CohortTables | None) -> Crosswalk | None:
    """Return the record numbers of people, of their own table or of the extract."""
    if study.inputs.crosswalk is not None:
        return read_crosswalk(study.inputs.crosswalk, study.columns.crosswalk)
    return None if cohort is None or cohort.crosswalk is None else read_crosswalk(cohort.crosswalk)


def refuse_unmatched(study: Study, found: FollowUp) -> tuple[str, ...]:
    """Refuse ECGs of which many are of no participant, and return sentences about other tables."""
    shares = found.matches.assign(share=found.matches["n_unmatched"] / found.matches["n_people"].clip(lower=1))
    rows = {str(row["table"]): row for _, row in shares.iterrows()}
    ecgs = rows.pop("predictions")
    if ecgs["share"] > _MOST_UNMATCHED and not study.allow_unmatched:
        raise UsageError(
            f"{ecgs['share']:.0%} of the people with ECGs are not among the participants, so that they would drop out. "
            f"{_cause(ecgs)}. Have people several record numbers? Then name a table of participant_id and record_id as "
            "inputs.crosswalk. Where the participants are meant to be a part of the people with ECGs, write "
            "`allow_unmatched: true` in the study file"
        )
    return tuple(
        f"more than half of the people of {name} are not among the participants. {_cause(row)}"
        for name, row in rows.items()
        if row["share"] > _MANY and row["form_unmatched"] != row["form_matched"]
    )


def _cause(row: pd.Series[Any]) -> str:
    """Return how identifiers that match nobody differ from those that do, in their forms."""
    if row["form_unmatched"] == row["form_matched"]:
        return "Their identifiers are of the same form as those of participants"
    return (
        f"Most of their identifiers are of the form {row['form_unmatched']}, those that match of {row['form_matched']} "
        "(A a letter, 9 a digit)"
    )
