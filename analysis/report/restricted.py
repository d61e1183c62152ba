"""What stays where the data are: follow-up by person, exact results, and what check.R reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

import pandas as pd

from analysis.csv_files import write_csv
from analysis.design import Category
from analysis.outcome_models import columns_of, models_of
from analysis.outcome_rows import CLUSTER, time_columns
from analysis.report.aggregates import Aggregate
from analysis.report.build import results_of
from analysis.report.study_data import StudyData
from analysis.study_settings import Study

NOTICE: Final = """\
RESTRICTED: rows of single people and exact counts. Nothing of this folder may leave where the data
are; what may leave is in ../export. ../export/check.R reads it.
"""


def write_restricted(folder: Path, data: StudyData, aggregates: Sequence[Aggregate]) -> None:
    """Write `restricted/`.

    Args:
        folder: to make.
        data: of the study.
        aggregates: exact.
    """
    known = {"provenance": dict(data.provenance), "sd": dict(data.sd)}
    write_follow_up(folder, data.study, data.follow_up, data.flow, known)
    rows = results_of(aggregates)
    own = rows["model_id"].where(rows["model_id"] != "", data.about.model_id)
    write_csv(rows.assign(model_id=own), folder / "results.csv")
    if data.study.hazard_ratios:
        ratios = next(one.rows for one in aggregates if one.key == "results_hazard_ratios")
        write_csv(ratios, folder / "hazard_ratios.csv")
        write_csv(_analysis_data(data), folder / "analysis_data.csv")
        write_csv(_model_terms(data), folder / "models.csv")


def write_follow_up(
    folder: Path, study: Study, people: pd.DataFrame, flow: pd.DataFrame, known: Mapping[str, object] | None = None
) -> None:
    """Write follow-up by person, its flow, and the settings.

    Args:
        folder: to make.
        study: settings.
        people: of `FollowUp`.
        flow: of `FollowUp`.
        known: what else study.json says.
    """
    folder.mkdir(parents=True)
    (folder / "README.txt").write_text(NOTICE, encoding="utf-8")
    people.to_parquet(folder / "follow_up.parquet", index=False)
    write_csv(flow, folder / "flow.csv")
    settings = {"study": study.model_dump(mode="json"), **(known or {})}
    (folder / "study.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def check_script() -> str:
    """Return check.R."""
    return files("analysis").joinpath("check.R").read_text(encoding="utf-8")


def _analysis_data(data: StudyData) -> pd.DataFrame:
    """What the Cox models read: analysed rows of all outcomes, people and clusters as numbers."""
    covariates = [name for model in models_of(data.study) for name in columns_of(model.covariates)]
    names = ["outcome", "participant_id", "time_days", "status", "exposure"]
    names += ["exposure_in_sd_of_sex", "lvh", "quartile", "model_id", *covariates]
    wanted = list(dict.fromkeys([*names, *time_columns(data.study).values(), CLUSTER]))
    parts = [data.analysed(one.name) for one in data.study.outcomes]
    own = pd.concat([part[[name for name in wanted if name in part]] for part in parts], ignore_index=True)
    person = pd.factorize(own["participant_id"])[0]
    return own.drop(columns="participant_id").assign(person=person)


def _model_terms(data: StudyData) -> pd.DataFrame:
    rows = [
        {
            "model": model.number,
            "term": one if isinstance(one, str) else one.column,
            "kind": "category" if isinstance(one, Category) else "number",
            "reference": one.reference if isinstance(one, Category) else "",
        }
        for model in models_of(data.study)
        for one in model.covariates
    ]
    return pd.DataFrame(rows, columns=["model", "term", "kind", "reference"])
