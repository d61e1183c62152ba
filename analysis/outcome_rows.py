"""The rows that the models of a study are fitted to, and what the results say of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.design import Category
from analysis.outcome_models import columns_of, models_of
from analysis.study_settings import Study
from lvm_core.units import DAYS_PER_YEAR

# Of StudyData.analysed: whose rows belong together; by household where there are households.
CLUSTER: Final = "error_cluster"
HOUSEHOLD: Final = "household_id"
FOLLOW_UP_TIME: Final = "days since the index ECG"
_SCALES: Final = {"follow_up": FOLLOW_UP_TIME, "attained_age": "attained age, days"}
_ALWAYS: Final = ("participant_id", "ecg_id", "event", "status_code", "time_days", "years", CLUSTER, HOUSEHOLD)


def time_columns(study: Study) -> dict[str, Any]:
    """Return the columns of times of the study's Cox models, by argument of `fit_cox`."""
    if study.time_scale == "attained_age":
        return {"duration": "exit_age_days", "entry": "entry_age_days"}
    return {"duration": "time_days"}


def read_columns(table: pd.DataFrame, study: Study, kept: Sequence[str]) -> pd.DataFrame:
    """Return the columns that models of the study read, and others by name where they are there.

    A study has some seventy columns; each selection of rows would copy all of them.
    """
    wanted = dict.fromkeys([*_ALWAYS, *_needed(study, ()), *kept])
    return table[[name for name in wanted if name in table.columns]]


def _needed(study: Study, columns: Sequence[str]) -> list[str]:
    covariates = [one for model in models_of(study) for one in model.covariates]
    return list(dict.fromkeys([*columns, *columns_of(covariates), *time_columns(study).values()]))


def complete_rows(
    table: pd.DataFrame, study: Study, columns: Sequence[str], *, kept: Sequence[str] = ()
) -> pd.DataFrame:
    """Return the rows that every model of the study can take.

    So all models, and all analyses that vary the main one, are of the same people. On the scale
    of attained age a row without an age at entry or exit is not complete.

    Args:
        table: of `StudyData.analysed`, or a variant of it.
        study: models, time scale.
        columns: that must be known too, as the exposure.
        kept: further columns to keep, known or not.

    Returns:
        The complete rows in their order, with the columns that models read; text that is a
        category has pandas' type for it.
    """
    needed = _needed(study, columns)
    names = [name for name in _ALWAYS if name in table.columns]
    own = table[list(dict.fromkeys([*names, *needed, *kept]))]
    absent = np.any([own[name].isna().to_numpy() for name in needed], axis=0)
    if absent.any():
        own = own[~absent]
    covariates = [one for model in models_of(study) for one in model.covariates]
    categories = {one.column for one in covariates if isinstance(one, Category)}
    return own.astype(dict.fromkeys(categories, "category"))


def cluster_of(table: pd.DataFrame, study: Study) -> str | None:
    """Return the column of those whose rows are not independent, or None."""
    if CLUSTER in table.columns:
        return CLUSTER
    return "participant_id" if study.index.rule == "all" else None


def se_type_of(table: pd.DataFrame, study: Study) -> str:
    """Return what the errors of a Cox model allow for; people are nested in households."""
    if HOUSEHOLD in table.columns:
        return "by household"
    return "by person" if study.index.rule == "all" else "model"


def people_with_event(table: pd.DataFrame, study: Study) -> int:
    """Return how many people have the event: several ECGs of a person are one."""
    own = table.loc[table["event"], "participant_id"]
    return int(own.nunique()) if study.index.rule == "all" else len(own)


def fewest_with_event(table: pd.DataFrame, study: Study, by: str) -> int:
    """Return the people with the event in the group that has fewest but some."""
    groups = table[table["event"]].groupby(by, observed=True)["participant_id"]
    return fewest(groups.nunique() if study.index.rule == "all" else groups.size())


def fewest(arms: pd.Series[Any]) -> int:
    """Return the events of the arm that has fewest but some; an arm without any hides nothing."""
    some = arms[arms > 0]
    return int(some.min()) if len(some) else 0


def followed(table: pd.DataFrame, study: Study) -> dict[str, Any]:
    """Return what the results say of the rows of a Cox model on the study's time scale."""
    repeated = study.index.rule == "all"
    return {
        "n_people": table["participant_id"].nunique() if repeated else len(table),
        "n_ecgs": len(table),
        "n_events": people_with_event(table, study),
        "person_years": float(table["time_days"].sum() / DAYS_PER_YEAR),
        "ties": "efron",
        "se_type": se_type_of(table, study),
        "time_scale": _SCALES[study.time_scale],
    }
