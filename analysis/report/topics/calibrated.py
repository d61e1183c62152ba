"""The hazard ratio corrected for the error of the prediction, from a CMR subset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from analysis.disclosure import meanings
from analysis.disclosure.aggregates import Aggregate, count, label, result, results
from analysis.disclosure.masking import Masked
from analysis.report.document import ReadTable, Section, Topic
from analysis.report.topics.cmr_pairs import imaged_of, on_or_after
from analysis.report.words import estimate_texts, row_counts, row_labels
from analysis.statistics.agreement.measurement_error import CalibratedExposure, calibrate_exposure
from analysis.statistics.columns import TableRefused
from analysis.study.cmr import pair_with_cmr
from analysis.study.data import About, StudyData
from analysis.study.outcomes import cluster_of, complete_rows, followed, models_of, time_columns, without_constant_sex

_NAIVE: Final = "hazard ratio, naive"
_CALIBRATED: Final = "hazard ratio, calibrated"
FEWEST_DRAWS: Final = 100
_ROWS_OF_ALL_DRAWS: Final = 50_000_000


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return naive and calibrated hazard ratios per 10 g/m2 of the primary outcome, model 2."""
    study = data.study
    if data.cmr is None or study.cmr is None or study.exposure != study.index_column:
        return []
    if study.bootstrap < FEWEST_DRAWS:
        return []
    rows: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    assumptions: tuple[str, ...] = ()
    for part in data.by_prediction_model():
        found, with_cmr, told = _calibrated(part)
        rows += found
        people.append(with_cmr)
        assumptions = told or assumptions
    notes = pd.DataFrame({"assumption": list(assumptions)})
    return [
        results("calibrated", rows),
        _people_aggregate(people),
        Aggregate("calibrated", notes, (label("assumption", "what must hold"),)),
    ]


def _calibrated(data: StudyData) -> tuple[list[dict[str, Any]], dict[str, Any], tuple[str, ...]]:
    """Both hazard ratios, how many people have a CMR, and the assumptions."""
    study, outcome = data.study, data.study.primary_outcome
    table = _with_cmr(data, data.analysed(outcome))
    complete = complete_rows(table, study, ["exposure"], kept=["lvmi_cmr_g_m2"])
    complete = complete.reset_index(drop=True)
    model = without_constant_sex(models_of(study)[1], complete)
    known = followed(complete, study) | {
        **data.keys(outcome),
        "counted": meanings.analysed(outcome, data.model_id),
        "exposure": study.exposure,
        "contrast": "per 10",
        "unit": "g/m2",
        "unit_value": 10.0,
        "model": 2,
        "adjustment": model.adjustment,
        "n_dropped_missing": len(table) - len(complete),
    }
    measured = complete.loc[complete["lvmi_cmr_g_m2"].notna(), "participant_id"].nunique()
    people = {
        "outcome": outcome,
        "model_id": data.model_id,
        "n_people": known["n_people"],
        "n_cmr": measured,
        "n_no_cmr": known["n_people"] - measured,
    }
    draws = min(study.bootstrap, max(FEWEST_DRAWS, _ROWS_OF_ALL_DRAWS // max(len(complete), 1)))
    try:
        found = calibrate_exposure(
            complete,
            exposure="exposure",
            reference="lvmi_cmr_g_m2",
            event="event",
            seed=study.seed,
            covariates=list(model.covariates),
            unit=10.0,
            n_bootstrap=draws,
            person=cluster_of(complete, study),
            **time_columns(study),
        )
    except TableRefused as error:
        empty = result("calibrated", _CALIBRATED, **known, warnings=str(error))
        return [empty], people, ()
    return _rows(found, known), people, found.assumptions


def _rows(found: CalibratedExposure, known: dict[str, Any]) -> list[dict[str, Any]]:
    errors = known["se_type"]
    bootstrap = f"bootstrap {'by person' if errors == 'model' else errors}"
    rows = []
    for row in found.estimates.to_dict("records"):
        # The naive errors are the Cox model's, the others of the bootstrap.
        own = known | {"se_type": errors if row["exposure"] == "naive" else bootstrap}
        rows.append(
            result(
                "calibrated",
                f"hazard ratio, {row['exposure']}",
                **own,
                estimate=row["hr"],
                se=row["se"],
                lo=row["hr_lo"],
                hi=row["hr_hi"],
            )
        )
    return rows


def _people_aggregate(rows: list[dict[str, Any]]) -> Aggregate:
    columns = (
        label("outcome", "of the code list"),
        label("model_id", "of the predictions where they are of several"),
        count("n_people", "people in the Cox model"),
        count("n_cmr", "of them, people with a CMR near enough to the index ECG"),
        count("n_no_cmr", "people without"),
    )
    table = pd.DataFrame(rows, columns=[column.name for column in columns])
    return Aggregate("calibrated_people", table, columns, counts=meanings.calibrated_people(table))


def _with_cmr(data: StudyData, table: pd.DataFrame) -> pd.DataFrame:
    """Add the CMR index of the people whose index ECG has a CMR near enough.

    Not of people who may be of the training set: there the prediction errs less.
    """
    assert data.cmr is not None
    assert data.study.cmr is not None
    ecgs = data.ecgs[["ecg_id", "participant_id", "recorded_at", "lvm_pred_g"]]
    pairs = pair_with_cmr(ecgs, data.cmr, max_days=data.study.cmr.max_days_ecg_cmr)
    date = data.study.training.exclude_imaged_before
    if date is not None:
        pairs = pairs[imaged_of(data, pairs["participant_id"]) == on_or_after(date)]
    measured = pairs.set_index("ecg_id")["lvm_cmr_g"]
    return table.assign(lvmi_cmr_g_m2=table["ecg_id"].map(measured) / table["bsa_m2"])


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the two hazard ratios and the assumptions."""
    found = masked.get("results_calibrated")
    if found is None or not len(found.rows):
        return None
    people = masked["calibrated_people"]
    with_cmr = dict(zip(people.rows["model_id"], people.shown("n_cmr"), strict=True))
    labels, rows = row_labels(found, about), found.rows
    cells: dict[str, Any] = labels | {
        "Exposure": rows["measure"].map(
            {_NAIVE: "predicted index, as it is", _CALIBRATED: "CMR index expected from it"}
        ),
        "Hazard ratio per 10 g/m2 (95 % interval)": estimate_texts(found),
        **row_counts(found, about),
        "People with CMR": rows["model_id"].map(with_cmr),
    }
    notes = masked["calibrated"].rows["assumption"].tolist() if "calibrated" in masked else []
    table = ReadTable(
        "calibrated",
        "Hazard ratio corrected for the error of the prediction",
        pd.DataFrame(cells).reset_index(drop=True),
        len(labels) + 1,
        tuple(notes),
    )
    paragraph = (
        "Regression calibration: CMR index regressed on predicted index and the same covariates "
        "where both are known, expected for everybody, and the Cox model fitted to that; both "
        "steps bootstrapped by person (by household where households are known)."
    )
    return Section("calibrated", "Error of the prediction", (paragraph,), (table,))


TOPIC: Final = Topic("calibrated", aggregates, present)
